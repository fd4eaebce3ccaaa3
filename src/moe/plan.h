/* Dispatch, first half: a route turned around into "expert -> tokens". */
#ifndef JT_PLAN_H
#define JT_PLAN_H

#include "junto/moe.h"
#include "tensor/context.h"

/* An empty route for `n_tokens`, slots uninitialised, in scratch. */
jt_route jt_route_new(jt_context *ctx, int n_tokens, int n_experts, int k);

/* Turn a route around by one counting sort, in scratch; the same for one token and for
 * ten thousand. Slots whose expert is outside 0 .. n_experts - 1 are unused. */
jt_plan jt_plan_build(jt_context *ctx, const jt_route *route);

/* The plan of an expert that every token uses (a dense FFN, a shared expert): one
 * expert, row = token, weight 1. */
jt_plan jt_plan_everyone(jt_context *ctx, int n_tokens);

/* The rows of some experts of a plan (`count` ids, ascending), as a plan of its own:
 * its tokens are those of the whole, and nobody asks it for weights or slots. Without a
 * tape only. */
jt_plan jt_plan_of_experts(jt_context *ctx, const jt_plan *plan, const int32_t *experts,
                           int count);

#endif
