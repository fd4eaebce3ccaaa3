/* Flags from a file: what a command line would say, for programs that run on their own.
 */
#ifndef JUNTO_CLI_CONFIG_H
#define JUNTO_CLI_CONFIG_H

#include "options.h"

/* The words of a command line, those of its file before them. */
typedef struct cli_words {
    char *text; /* of the file */
    char **list;
    int count;
} cli_words;

/* For verbs with a flag --config: put what the file that it names says before `argv`,
 * whose own flags then win; others get `argv` as it is. A file has lines "NAME = VALUE"
 * for "--NAME VALUE", "NAME" for a flag without a value and "MODEL = VALUE" for
 * operands (in any case); # begins a comment. JT_E_IO, JT_E_FORMAT (names the line),
 * JT_E_MEMORY. Free in every case. */
jt_status cli_config_expand(cli_words *out, const cli_verb *verb, int argc, char **argv,
                            jt_err *err);
void cli_config_free(cli_words *words);

#endif
