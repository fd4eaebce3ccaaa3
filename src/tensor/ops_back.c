/* Gradients of the operations of ops.c. */
#include <string.h>

#include "tensor/back.h"
#include "tensor/tape.h"

/* ---- norm: dx += ..., dw += dy * xhat ---- */

typedef struct saved_norm {
    jt_tensor y, x, w;
    const float *copy; /* x as it was */
    size_t n;          /* values that are normalised together */
    float eps;
} saved_norm;

/* Rows go in runs; each run sums its own dw, and these are added in order, so the sum
 * does not depend on threads. */
enum { NORM_RUN = 64 };

typedef struct norm_work {
    const jt_kernels *kernels;
    const saved_norm *s;
    float *partial; /* [runs, w_rows * n] */
    size_t rows, w_rows, n;
} norm_work;

static void norm_run(void *arg, size_t run)
{
    const norm_work *w = arg;
    const saved_norm *s = w->s;
    size_t weights = w->w_rows * w->n;
    float *dw = w->partial + run * weights;
    memset(dw, 0, weights * sizeof *dw);
    for (size_t r = run * NORM_RUN; r < (run + 1) * NORM_RUN && r < w->rows; r++) {
        size_t at = r % w->w_rows * w->n;
        const float *weight = s->w.data ? (const float *)s->w.data + at : NULL;
        w->kernels->rms_norm_back(s->x.grad + r * w->n, dw + at, s->y.grad + r * w->n,
                                  s->copy + r * w->n, weight, w->n, s->eps);
    }
}

static void norm_backward(jt_context *ctx, void *saved)
{
    const saved_norm *s = saved;
    size_t n = s->n, rows = jt_rows(&s->x) * jt_cols(&s->x) / n;
    size_t runs = (rows + NORM_RUN - 1) / NORM_RUN, w_rows = jt_rows(&s->w);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    float *partial = jt_scratch(ctx, runs * w_rows * n, sizeof *partial);
    norm_work work = {ctx->kernels, s, partial, rows, w_rows, n};
    if (!jt_failed(ctx)) {
        jt_fresh_zero(ctx, &s->x);
        jt_pool_run(ctx->pool, norm_run, &work, runs);
        for (size_t run = 0; run < runs && s->w.grad; run++)
            ctx->kernels->add(s->w.grad, partial + run * w_rows * n, w_rows * n);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_rms_norm_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                        const float *copy, const jt_tensor *w, size_t n, float eps)
{
    if (!copy)
        return;
    saved_norm saved = {*y, *x, *w, copy, n, eps};
    jt_tape_push(ctx, norm_backward, &saved, sizeof saved);
}

/* ---- constant factors: dx += factor * dy ---- */

typedef struct saved_times {
    jt_tensor y, x;
    const float *factor;
} saved_times;

static void times_row(void *arg, size_t i)
{
    const saved_times *s = arg;
    size_t n = jt_cols(&s->y);
    const float *dy = jt_grad_row(&s->y, i), *factor = s->factor + i * n;
    float *dx = jt_grad_row(&s->x, i);
    for (size_t j = 0; j < n; j++)
        dx[j] += factor[j] * dy[j];
}

static void times_backward(jt_context *ctx, void *saved)
{
    const saved_times *s = saved;
    jt_for_rows(ctx, jt_rows(&s->y), jt_rows(&s->y) * jt_cols(&s->y), times_row, saved);
}

void jt_times_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                     const float *factor)
{
    saved_times saved = {*y, *x, factor};
    if (x->grad)
        jt_tape_push(ctx, times_backward, &saved, sizeof saved);
}

/* ---- sums ---- */

typedef struct saved_pair {
    const jt_kernels *kernels;
    jt_tensor y, x;
} saved_pair;

static void add_row(void *arg, size_t i)
{
    const saved_pair *s = arg;
    size_t n = jt_cols(&s->y);
    if (s->x.grad_fresh)
        memcpy(jt_grad_row(&s->x, i), jt_grad_row(&s->y, i), n * sizeof(float));
    else
        s->kernels->add(jt_grad_row(&s->x, i), jt_grad_row(&s->y, i), n);
}

/* y += x: y's gradient is also x's. */
static void add_backward(jt_context *ctx, void *saved)
{
    const saved_pair *s = saved;
    jt_for_rows(ctx, jt_rows(&s->y), jt_rows(&s->y) * jt_cols(&s->y), add_row, saved);
}

void jt_add_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x)
{
    saved_pair saved = {ctx->kernels, *y, *x};
    jt_tape_push(ctx, add_backward, &saved, sizeof saved);
}

/* y += bias on every row: the bias gets the sum of the rows. */
static void bias_backward(jt_context *ctx, void *saved)
{
    const saved_pair *s = saved;
    for (size_t r = 0; s->x.grad && r < jt_rows(&s->y); r++)
        ctx->kernels->add(s->x.grad, jt_grad_row(&s->y, r), jt_cols(&s->y));
}

void jt_bias_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *bias)
{
    saved_pair saved = {ctx->kernels, *y, *bias};
    jt_tape_push(ctx, bias_backward, &saved, sizeof saved);
}

/* ---- rows of a table ---- */

typedef struct saved_embed {
    const jt_kernels *kernels;
    jt_tensor y, x;
    const int32_t *ids;
    size_t count;
} saved_embed;

enum { COLUMNS = 64 };

/* Several rows may go to the same place: threads share columns, each goes through the
 * rows in order. */
static void scatter_columns(void *arg, size_t i)
{
    const saved_embed *s = arg;
    size_t n = jt_cols(&s->x), first = i * COLUMNS;
    size_t width = n - first < COLUMNS ? n - first : COLUMNS;
    for (size_t r = 0; r < s->count; r++)
        s->kernels->add(jt_grad_row(&s->x, (size_t)s->ids[r]) + first,
                        jt_grad_row(&s->y, r) + first, width);
}

static void embed_backward(jt_context *ctx, void *saved)
{
    const saved_embed *s = saved;
    if (s->x.grad)
        jt_pool_run(ctx->pool, scatter_columns, saved,
                    (jt_cols(&s->x) + COLUMNS - 1) / COLUMNS);
}

void jt_embed_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                     const int32_t *ids, size_t count)
{
    saved_embed saved = {ctx->kernels, *y, *x, ids, count};
    jt_tape_push(ctx, embed_backward, &saved, sizeof saved);
}
