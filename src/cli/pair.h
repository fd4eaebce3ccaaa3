/* Two models and a text that both read: what diff and compare share. */
#ifndef JUNTO_CLI_PAIR_H
#define JUNTO_CLI_PAIR_H

#include "common.h"

typedef struct cli_pair {
    cli_model a, b;
    char *text;
    jt_tokens tokens; /* of the vocabulary of A */
} cli_pair;

/* Load both and read `file` ("-": standard input). JT_E_ARG: B, which has a vocabulary,
 * cuts the text into other tokens. Call cli_pair_close in every case. */
jt_status cli_pair_open(cli_pair *pair, const char *a, const char *b, const char *file,
                        jt_err *err);
void cli_pair_close(cli_pair *pair);

/* jt_compare_models over the text, in sessions of their own. */
jt_status cli_pair_compare(cli_context *cli, const cli_pair *pair,
                           const jt_session_options *options, int n_ctx, size_t n_flips,
                           jt_comparison *out, jt_err *err);

#endif
