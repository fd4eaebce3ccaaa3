/* Models by name: what stands on the shelf can be written where a path can. */
#ifndef JUNTO_CLI_NAMES_H
#define JUNTO_CLI_NAMES_H

#include "options.h"

/* The paths that names became; they live as long as the arguments. */
typedef struct cli_names {
    char **paths;
    size_t count;
} cli_names;

/* In `args`, let the arguments that are models, but no files, be the paths of those on
 * the shelf with their names; others stay. JT_E_ARG (several models have the name; one
 * of a hub that was not pulled), JT_E_IO, JT_E_MEMORY. Free in every case. */
jt_status cli_names_resolve(cli_names *names, const cli_verb *verb, void *args,
                            jt_err *err);
void cli_names_free(cli_names *names);

#endif
