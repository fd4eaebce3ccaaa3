/* What selection and combination put on the tape; without one they do nothing. */
#ifndef JT_MOE_BACK_H
#define JT_MOE_BACK_H

#include "moe/router.h"

/* Gradients of the weights in the route (and of the scores, where a loss looks at them)
 * become gradients of the logits. Which experts were chosen has none. */
void jt_select_record(jt_context *ctx, const jt_router *router, const jt_tensor *logits,
                      const jt_tensor *scores, const jt_route *route);

/* y = sum of weight * row: gradients of the rows (fresh ones, of which this is the only
 * reader) and of the weights. */
void jt_combine_record(jt_context *ctx, const jt_plan *plan, const jt_tensor *rows,
                       const jt_tensor *y);

/* Weights of `plan` that are the sigmoid of one logit per token. */
void jt_sigmoid_record(jt_context *ctx, const jt_plan *plan, const jt_tensor *logits);

#endif
