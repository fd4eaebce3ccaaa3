/* `junto adapter score` and `junto adapter pick`. */
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

typedef struct adapter_pick_args {
    const char *pool, *out, *model, *samples;
    int first; /* samples; 0: all */
    int count; /* texts */
    float apart;
    int threads;
} adapter_pick_args;

int adapter_pick(cli_context *cli, const adapter_pick_args *args);

#endif
