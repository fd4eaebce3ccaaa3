/* Flags for guessing ahead, and who guesses. */
#ifndef JUNTO_CLI_SPECULATE_H
#define JUNTO_CLI_SPECULATE_H

#include "common.h"

typedef struct cli_speculate_args {
    bool lookup;
    const char *model;
    int most;
    float min_p;
} cli_speculate_args;
extern const cli_option cli_speculate_options[];

/* Must stay where it is while .speculation is in use. */
typedef struct cli_speculator {
    jt_speculation speculation; /* of cli_speculate_open, where something guesses */
    bool on;
    cli_model m;
    jt_lookup lookup;
    jt_draft_model draft;
} cli_speculator;

/* After the arguments, for a session on `model` of `n_ctx` tokens; close in any case.
 * JT_E_ARG and what loading the draft model gives. */
jt_status cli_speculate_open(cli_speculator *s, const cli_speculate_args *args,
                             const cli_model *model, const jt_session_options *session,
                             jt_session *beside, jt_err *err);
void cli_speculate_close(cli_speculator *s); /* all zero is fine */

#endif
