/* Operations on rows and single values, forward and back: what norms and multipliers
 * are made of beside the kernels. */
#include <math.h>
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

/* What y was before has no part in what it is now. */
static void assign_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    copy_backward(ctx, saved);
    memset(w->y.grad, 0, values_of(&w->y) * sizeof(float));
}

void jt_assign(jt_context *ctx, jt_tensor *y, const jt_tensor *x)
{
    row_work w = {ctx->kernels, *y, *x, 0.0f};
    if (jt_failed(ctx))
        return;
    memcpy(y->data, x->data, values_of(x) * sizeof(float));
    if (x->grad)
        jt_tape_push(ctx, assign_backward, &w, sizeof w);
}

/* ---- some rows: dx += dy where they came from, and dy goes no further ---- */

typedef struct putting {
    const jt_kernels *kernels;
    jt_tensor y, x;
    const int32_t *from;
} putting;

/* One after the other: several rows may have come from one. */
static void put_backward(jt_context *ctx, void *saved)
{
    const putting *w = saved;
    size_t cols = jt_cols(&w->y);
    (void)ctx;
    for (size_t i = 0; i < jt_rows(&w->y); i++) {
        float *dy = jt_grad_row(&w->y, i);
        if (w->from[i] < 0)
            continue;
        if (w->x.grad)
            w->kernels->add(jt_grad_row(&w->x, (size_t)w->from[i]), dy, cols);
        memset(dy, 0, cols * sizeof *dy);
    }
}

void jt_put_rows(jt_context *ctx, jt_tensor *y, const jt_tensor *x, const int32_t *from)
{
    putting w = {ctx->kernels, *y, *x, from};
    if (jt_failed(ctx))
        return;
    for (size_t i = 0; i < jt_rows(y); i++) {
        if (from[i] >= 0)
            memcpy(jt_row(y, i), jt_row(x, (size_t)from[i]),
                   jt_cols(y) * sizeof(float));
    }
    jt_tape_push(ctx, put_backward, &w, sizeof w);
}

/* ---- some columns: dx += dy where they came from ---- */

typedef struct taking {
    const jt_kernels *kernels;
    jt_tensor y, x;
    size_t dim, at, n;
} taking;

static void take_row(void *arg, size_t i)
{
    const taking *w = arg;
    const float *x = jt_row(&w->x, i) + w->at;
    float *y = jt_row(&w->y, i);
    for (size_t j = 0; j < jt_cols(&w->y); j += w->n, x += w->dim)
        memcpy(y + j, x, w->n * sizeof *y);
}

static void take_back_row(void *arg, size_t i)
{
    const taking *w = arg;
    const float *dy = jt_grad_row(&w->y, i);
    float *dx = jt_grad_row(&w->x, i) + w->at;
    for (size_t j = 0; j < jt_cols(&w->y); j += w->n, dx += w->dim)
        w->kernels->add(dx, dy + j, w->n);
}

static void take_backward(jt_context *ctx, void *saved)
{
    const taking *w = saved;
    jt_for_rows(ctx, jt_rows(&w->y), values_of(&w->y), take_back_row, saved);
}

jt_tensor jt_take(jt_context *ctx, const jt_tensor *x, size_t dim, size_t at, size_t n)
{
    taking w = {ctx->kernels, {0}, *x, dim, at, n};
    w.y = jt_new(ctx, jt_rows(x), jt_cols(x) / dim * n);
    if (jt_failed(ctx))
        return w.y;
    jt_for_rows(ctx, jt_rows(x), values_of(&w.y), take_row, &w);
    if (x->grad)
        jt_tape_push(ctx, take_backward, &w, sizeof w);
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

/* For operations in place, whose result may change again: let x have values of its own,
 * the same. False when the tape does not want them. */
static bool keep_values(jt_context *ctx, jt_tensor *x)
{
    if (!jt_tape_keeps(ctx))
        return false;
    const void *values = x->data;
    x->data = jt_scratch(ctx, values_of(x), sizeof(float));
    if (!jt_failed(ctx))
        memcpy(x->data, values, values_of(x) * sizeof(float));
    return !jt_failed(ctx);
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
    if (keep_values(ctx, &w.x))
        jt_tape_push(ctx, softcap_backward, &w, sizeof w);
}

/* ---- clamp in place: dy is that of the old value, too, but for those on a border ----
 */

static void clamp_row(void *arg, size_t i)
{
    const row_work *w = arg;
    float *y = jt_row(&w->y, i), limit = w->a;
    for (size_t j = 0; j < jt_cols(&w->y); j++)
        y[j] = y[j] > limit ? limit : y[j] < -limit ? -limit : y[j];
}

static void clamp_back_row(void *arg, size_t i)
{
    const row_work *w = arg;
    const float *y = jt_row(&w->x, i);
    float *dy = jt_grad_row(&w->y, i);
    for (size_t j = 0; j < jt_cols(&w->y); j++)
        dy[j] = fabsf(y[j]) < w->a ? dy[j] : 0.0f;
}

static void clamp_backward(jt_context *ctx, void *saved)
{
    const row_work *w = saved;
    jt_for_rows(ctx, jt_rows(&w->y), values_of(&w->y), clamp_back_row, saved);
}

void jt_clamp(jt_context *ctx, jt_tensor *y, float limit)
{
    row_work w = {.y = *y, .x = *y, .a = limit};
    if (jt_failed(ctx) || !(limit > 0.0f))
        return;
    jt_for_rows(ctx, jt_rows(y), values_of(y), clamp_row, &w);
    if (keep_values(ctx, &w.x))
        jt_tape_push(ctx, clamp_backward, &w, sizeof w);
}
