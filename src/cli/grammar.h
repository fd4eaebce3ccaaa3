/* Flags for replies in a given form. */
#ifndef JUNTO_CLI_GRAMMAR_H
#define JUNTO_CLI_GRAMMAR_H

#include "common.h"

typedef struct cli_grammar_args {
    const char *grammar, *schema;
} cli_grammar_args;
extern const cli_option cli_grammar_options[];

typedef struct cli_grammar {
    jt_grammar *grammar;
    jt_token_tree *tree;
    jt_constraint *constraint; /* NULL: any text */
} cli_grammar;

/* Close in any case. Errors are blamed on the flag. */
jt_status cli_grammar_open(cli_grammar *out, const cli_grammar_args *args,
                           const jt_tokenizer *tok, jt_err *err);
void cli_grammar_close(cli_grammar *grammar); /* all zero is fine */

#endif
