#ifndef JT_EXPERT_BIAS_H
#define JT_EXPERT_BIAS_H

#include "junto/moe.h"
#include "tensor/ops.h"

/* Rows of y [plan rows, n] += the bias of their expert, [experts, n]; nothing for an
 * empty one. */
void jt_add_expert_bias(jt_context *ctx, const jt_plan *plan, jt_tensor *y,
                        const jt_tensor *bias);

#endif
