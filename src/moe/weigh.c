#include "moe/weigh.h"

#include <string.h>

#include "tensor/tape.h"

typedef struct weighing {
    const jt_kernels *kernels;
    jt_plan plan;
    jt_tensor y, x;
} weighing;

static void weigh_row(void *arg, size_t r)
{
    const weighing *w = arg;
    w->kernels->scale(jt_row(&w->y, r), w->plan.weight[r],
                      jt_row(&w->x, (size_t)w->plan.token[r]), jt_cols(&w->x));
}

/* dx += weight * dy, dweight += x . dy; each token has its own rows. */
static void back_token(void *arg, size_t t)
{
    const weighing *w = arg;
    size_t k = (size_t)w->plan.k, n = jt_cols(&w->x);
    for (size_t slot = t * k; slot < (t + 1) * k; slot++) {
        int32_t row = w->plan.row[slot];
        if (row < 0)
            continue;
        const float *dy = jt_grad_row(&w->y, (size_t)row);
        w->plan.weight_grad[slot] += w->kernels->dot(jt_row(&w->x, t), dy, n);
        w->kernels->axpy(jt_grad_row(&w->x, t), w->plan.weight[row], dy, n);
    }
}

static void weigh_backward(jt_context *ctx, void *saved)
{
    const weighing *w = saved;
    size_t tokens = (size_t)w->plan.n_tokens;
    jt_for_rows(ctx, tokens, 2 * tokens * (size_t)w->plan.k * jt_cols(&w->x),
                back_token, saved);
}

jt_tensor jt_weigh_rows(jt_context *ctx, const jt_plan *plan, const jt_tensor *x)
{
    size_t rows = (size_t)plan->n_rows, n = jt_cols(x);
    weighing w = {ctx->kernels, *plan, jt_new(ctx, rows, n), *x};
    if (jt_failed(ctx))
        return w.y;
    jt_for_rows(ctx, rows, rows * n, weigh_row, &w);
    jt_tape_push(ctx, weigh_backward, &w, sizeof w);
    return w.y;
}

jt_plan jt_plan_of_rows(jt_context *ctx, const jt_plan *plan)
{
    size_t slots = (size_t)plan->n_tokens * (size_t)plan->k;
    jt_plan rows = *plan;
    rows.token = jt_scratch(ctx, slots, sizeof(int32_t));
    rows.weight = jt_scratch(ctx, slots, sizeof(float));
    rows.weight_grad = jt_scratch(ctx, slots, sizeof(float)); /* nobody wants it */
    if (jt_failed(ctx))
        return rows;
    memset(rows.weight_grad, 0, slots * sizeof(float));
    rows.in_order = true;
    for (int r = 0; r < rows.n_rows; r++) {
        rows.token[r] = r;
        rows.weight[r] = 1.0f;
    }
    return rows;
}
