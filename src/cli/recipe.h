/* The parts of `junto recipe`. */
#ifndef JUNTO_CLI_RECIPE_H
#define JUNTO_CLI_RECIPE_H

#include "common.h"

/* The table of what was measured, and the claims, as Markdown on standard output. */
void recipe_print(const jt_recipe_info *info, const jt_recipe_result *result);
/* --json: the object on standard output; gives the exit code. */
int recipe_print_json(cli_context *cli, const jt_recipe_info *info,
                      const jt_recipe_result *result);

#endif
