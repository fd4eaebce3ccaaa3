/* What comes next when passes go up the layers of a model and down again, as in tuning:
 * the forward pass asks for the experts of one layer after the other, the backward pass
 * in reverse for the same ones. So on the way down all is known, and on the way up the
 * order of the layers; which experts of them, the pass before tells: a batch of many
 * tokens asks for nearly all. */
#ifndef JT_STORE_SWEEP_H
#define JT_STORE_SWEEP_H

#include "junto/moe.h"
#include "store/policy.h"

typedef struct jt_sweep {
    jt_experts_map map;
    bool *used; /* [experts] when their layer was last asked for any; at first all.
                   NULL: there is no known order */
    int layer;  /* that asked last; -1: none yet */
    bool down;
} jt_sweep;

/* `map` is borrowed. JT_E_MEMORY. */
jt_status jt_sweep_init(jt_sweep *out, const jt_experts_map *map, jt_err *err);
void jt_sweep_free(jt_sweep *sweep); /* {0} is fine */

/* A layer asks for the experts that have tokens in `plan`. Nothing for {0}. */
void jt_sweep_note(jt_sweep *sweep, int layer, const jt_plan *plan);

/* The layer that will ask next; -1: nobody knows. */
int jt_sweep_next(const jt_sweep *sweep);

#endif
