#include "moe/expert_bias.h"

#include "tensor/tape.h"

typedef struct biasing {
    const jt_kernels *kernels;
    jt_plan plan;
    jt_tensor y, bias;
} biasing;

static void add_to_rows(void *arg, size_t e)
{
    const biasing *b = arg;
    for (int32_t r = b->plan.start[e]; r < b->plan.start[e + 1]; r++)
        b->kernels->add(jt_row(&b->y, (size_t)r), jt_row(&b->bias, e), jt_cols(&b->y));
}

static void add_from_rows(void *arg, size_t e)
{
    const biasing *b = arg;
    for (int32_t r = b->plan.start[e]; r < b->plan.start[e + 1]; r++)
        b->kernels->add(jt_grad_row(&b->bias, e), jt_grad_row(&b->y, (size_t)r),
                        jt_cols(&b->y));
}

static void bias_backward(jt_context *ctx, void *saved)
{
    const biasing *b = saved;
    if (b->bias.grad)
        jt_for_rows(ctx, (size_t)b->plan.n_experts, jt_rows(&b->y) * jt_cols(&b->y),
                    add_from_rows, saved);
}

void jt_add_expert_bias(jt_context *ctx, const jt_plan *plan, jt_tensor *y,
                        const jt_tensor *bias)
{
    if (jt_failed(ctx) || !jt_has(bias))
        return;
    if (plan->n_experts == 1) { /* everyone's: rows are shared out */
        jt_add_bias(ctx, y, bias);
        return;
    }
    biasing b = {ctx->kernels, *plan, *y, *bias};
    jt_for_rows(ctx, (size_t)plan->n_experts, jt_rows(y) * jt_cols(y), add_to_rows, &b);
    jt_tape_push(ctx, bias_backward, &b, sizeof b);
}
