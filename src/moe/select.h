/* The inside of selection: what selectors share, and the parts themselves. */
#ifndef JT_SELECT_H
#define JT_SELECT_H

#include <math.h>

#include "moe/router.h"

/* One token's side of a choice: rows compete for places by value + bias. */
typedef struct jt_contest {
    const float *logits; /* -infinity: does not take part */
    const float *values;
    const float *bias; /* or NULL */
} jt_contest;

static inline jt_contest jt_contest_of(const jt_choice *choice, size_t t)
{
    return (jt_contest){jt_row(choice->logits, t), jt_row(choice->values, t),
                        choice->bias};
}

static inline bool jt_contest_out(const jt_contest *c, int32_t row)
{
    return c->logits[row] == -INFINITY;
}

static inline float jt_contest_value(const jt_contest *c, int32_t row)
{
    return c->values[row] + (c->bias ? c->bias[row] : 0.0f);
}

/* Make `k` places free (-1). */
void jt_contest_clear(int32_t *chosen, int k);

/* Rows first .. end - 1 try for the places, which are in falling order. Who comes later
 * stays behind an equal one: with rows in rising order the lower wins a tie. */
void jt_contest_enter(const jt_contest *c, int32_t first, int32_t end, int32_t *chosen,
                      int k);

/* Take experts beyond the router's capacity out of the route. Uses route->weight as
 * room. */
void jt_capacity_drop(jt_context *ctx, const jt_router *router, const jt_tensor *scores,
                      jt_route *route);

extern const jt_selector jt_select_topk, jt_select_top_p, jt_select_grouped,
    jt_select_group_limited, jt_select_expert_choice;

#endif
