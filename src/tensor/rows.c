/* Operations on rows and single values, forward and back: what norms and multipliers
 * are made of beside the kernels. */
#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct row_work {
    const jt_kernels *kernels;
    jt_tensor y, x;
    float a;
} row_work;

static size_t values_of(const jt_tensor *t)
{
    return jt_rows(t) * jt_cols(t);
}

/* ---- copying: dx += dy ---- */

static void copy_back_row(void *arg, size_t i)
{
    const row_work *w = arg;
    w->kernels->add(jt_grad_row(&w->x, i), jt_grad_row(&w->y, i), jt_cols(&w->y));
}

static void copy_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    jt_fresh_zero(ctx, &w->x);
    jt_for_rows(ctx, jt_rows(&w->y), values_of(&w->y), copy_back_row, saved);
}

jt_tensor jt_copy(jt_context *ctx, const jt_tensor *x)
{
    row_work w = {ctx->kernels, jt_new(ctx, jt_rows(x), jt_cols(x)), *x, 0.0f};
    if (jt_failed(ctx))
        return w.y;
    memcpy(w.y.data, x->data, values_of(x) * sizeof(float));
    if (x->grad)
        jt_tape_push(ctx, copy_backward, &w, sizeof w);
    return w.y;
}

/* ---- centering: y = x - mean(x), dx += dy - mean(dy) ---- */

/* In double: a mean far from the values must not cost their last bits. */
static float mean_of(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t j = 0; j < n; j++)
        sum += (double)x[j];
    return (float)(sum / (double)n);
}

static void center_row(void *arg, size_t i)
{
    const row_work *w = arg;
    size_t n = jt_cols(&w->y);
    const float *x = jt_row(&w->x, i);
    float *y = jt_row(&w->y, i), mean = mean_of(x, n);
    for (size_t j = 0; j < n; j++)
        y[j] = x[j] - mean;
}

static void center_back_row(void *arg, size_t i)
{
    const row_work *w = arg;
    size_t n = jt_cols(&w->y);
    const float *dy = jt_grad_row(&w->y, i);
    float *dx = jt_grad_row(&w->x, i), mean = mean_of(dy, n);
    for (size_t j = 0; j < n; j++)
        dx[j] += dy[j] - mean;
}

static void center_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    jt_fresh_zero(ctx, &w->x);
    jt_for_rows(ctx, jt_rows(&w->y), 2 * values_of(&w->y), center_back_row, saved);
}

jt_tensor jt_center(jt_context *ctx, const jt_tensor *x)
{
    row_work w = {.y = jt_new(ctx, jt_rows(x), jt_cols(x)), .x = *x};
    if (jt_failed(ctx))
        return w.y;
    jt_for_rows(ctx, jt_rows(x), 2 * values_of(x), center_row, &w);
    if (x->grad)
        jt_tape_push(ctx, center_backward, &w, sizeof w);
    return w.y;
}

/* ---- scaling in place: dy is that of the old value, too, once it is scaled ---- */

static void scale_row(void *arg, size_t i)
{
    const row_work *w = arg;
    w->kernels->scale(jt_row(&w->y, i), w->a, jt_row(&w->y, i), jt_cols(&w->y));
}

static void scale_back_row(void *arg, size_t i)
{
    const row_work *w = arg;
    float *dy = jt_grad_row(&w->y, i);
    w->kernels->scale(dy, w->a, dy, jt_cols(&w->y));
}

static void scale_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    jt_for_rows(ctx, jt_rows(&w->y), values_of(&w->y), scale_back_row, saved);
}

void jt_scale(jt_context *ctx, jt_tensor *y, float factor)
{
    row_work w = {.kernels = ctx->kernels, .y = *y, .a = factor};
    if (jt_failed(ctx) || factor == 1.0f)
        return;
    jt_for_rows(ctx, jt_rows(y), values_of(y), scale_row, &w);
    jt_tape_push(ctx, scale_backward, &w, sizeof w);
}

/* ---- soft cap in place: y = cap tanh(x / cap), dx = dy (1 - (y / cap)^2) ---- */

static void softcap_row(void *arg, size_t i)
{
    const row_work *w = arg;
    w->kernels->softcap(jt_row(&w->y, i), jt_row(&w->y, i), w->a, jt_cols(&w->y));
}

static void softcap_back_row(void *arg, size_t i)
{
    const row_work *w = arg;
    const float *y = jt_row(&w->x, i);
    float *dy = jt_grad_row(&w->y, i);
    for (size_t j = 0; j < jt_cols(&w->y); j++) {
        float share = y[j] / w->a;
        dy[j] *= 1.0f - share * share;
    }
}

static void softcap_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    jt_for_rows(ctx, jt_rows(&w->y), 2 * values_of(&w->y), softcap_back_row, saved);
}

void jt_softcap(jt_context *ctx, jt_tensor *y, float cap)
{
    row_work w = {.kernels = ctx->kernels, .y = *y, .x = *y, .a = cap};
    if (jt_failed(ctx) || !(cap > 0.0f))
        return;
    jt_for_rows(ctx, jt_rows(y), 4 * values_of(y), softcap_row, &w);
    if (!ctx->tape)
        return;
    w.x.data = jt_scratch(ctx, values_of(y), sizeof(float)); /* y may change again */
    if (jt_failed(ctx))
        return;
    memcpy(w.x.data, y->data, values_of(y) * sizeof(float));
    jt_tape_push(ctx, softcap_backward, &w, sizeof w);
}
