/* `junto adapter score`. */
#ifndef ADAPTER_SCORE_H
#define ADAPTER_SCORE_H

#include "common.h"

typedef struct adapter_score_args {
    const cli_list *files; /* adapters, or one folder of them */
    const char *model, *samples;
    int first;             /* samples; 0: all */
    int choose, shortlist; /* adapters of a group (0: no groups), and to look at */
    int threads;
    bool json;
} adapter_score_args;

int adapter_score(cli_context *cli, const adapter_score_args *args);

#endif
