/* Weights on the way in: experts get weight * x (Llama 4). */
#ifndef JT_WEIGH_H
#define JT_WEIGH_H

#include "moe/plan.h"
#include "tensor/ops.h"

/* Rows of the plan, weight * x of their token: [plan rows, d]. */
jt_tensor jt_weigh_rows(jt_context *ctx, const jt_plan *plan, const jt_tensor *x);

/* The same plan over such rows: token = row, all weights 1. */
jt_plan jt_plan_of_rows(jt_context *ctx, const jt_plan *plan);

#endif
