#include "tensor/ops.h"

#include <string.h>

#include "tensor/back.h"

jt_tensor jt_linear(jt_context *ctx, jt_input *x, const jt_tensor *w,
                    const jt_tensor *bias)
{
    jt_tensor y = jt_new(ctx, jt_rows(&x->x), jt_rows(w));
    jt_product product = jt_product_rows(&y, w, x, 0, jt_rows(&y));
    jt_products(ctx, &product, 1);
    jt_add_bias(ctx, &y, bias);
    return y;
}

typedef struct norm_args {
    const jt_kernels *kernels;
    float *y, *copy; /* copy: of x, for gradients; or NULL */
    const float *x, *w;
    size_t n, w_rows;
    float eps;
} norm_args;

static void rms_norm_row(void *arg, size_t i)
{
    const norm_args *a = arg;
    const float *x = a->x + i * a->n;
    const float *w = a->w ? a->w + i % a->w_rows * a->n : NULL;
    a->kernels->rms_norm(a->y + i * a->n, x, w, a->n, a->eps);
    if (a->copy)
        memcpy(a->copy + i * a->n, x, a->n * sizeof *x);
}

jt_tensor jt_rms_norm(jt_context *ctx, const jt_tensor *x, const jt_tensor *w,
                      float eps)
{
    jt_tensor y = jt_new(ctx, jt_rows(x), jt_cols(x));
    size_t n = jt_has(w) ? jt_cols(w) : jt_cols(x), values = jt_rows(x) * jt_cols(x);
    bool keeps = ctx->tape && x->grad;
    float *copy = keeps ? jt_scratch(ctx, values, sizeof *copy) : NULL;
    if (jt_failed(ctx))
        return y;
    norm_args args = {ctx->kernels, y.data, copy, x->data, w->data, n, jt_rows(w), eps};
    jt_for_rows(ctx, values / n, values, rms_norm_row, &args);
    jt_rms_norm_record(ctx, &y, x, copy, w, n, eps);
    return y;
}

/* Arguments of a row-wise loop; each operation uses some. */
typedef struct row_args {
    const jt_kernels *kernels;
    float *y;
    const float *x, *w;
    size_t n;
} row_args;

static void times_row(void *arg, size_t i)
{
    const row_args *a = arg;
    for (size_t j = i * a->n; j < (i + 1) * a->n; j++)
        a->y[j] = a->x[j] * a->w[j];
}

jt_tensor jt_times(jt_context *ctx, const jt_tensor *x, const float *factor)
{
    jt_tensor y = jt_new(ctx, jt_rows(x), jt_cols(x));
    if (jt_failed(ctx))
        return y;
    row_args args = {.y = y.data, .x = x->data, .w = factor, .n = jt_cols(x)};
    jt_for_rows(ctx, jt_rows(x), jt_rows(x) * jt_cols(x), times_row, &args);
    jt_times_record(ctx, &y, x, factor);
    return y;
}

static void add_row(void *arg, size_t i)
{
    const row_args *a = arg;
    a->kernels->add(a->y + i * a->n, a->x + i * a->n, a->n);
}

void jt_add_to(jt_context *ctx, jt_tensor *y, const jt_tensor *x)
{
    if (jt_failed(ctx))
        return;
    row_args args = {
        .kernels = ctx->kernels, .y = y->data, .x = x->data, .n = jt_cols(y)};
    jt_for_rows(ctx, jt_rows(y), jt_rows(y) * jt_cols(y), add_row, &args);
    jt_add_record(ctx, y, x);
}

static void bias_row(void *arg, size_t i)
{
    const row_args *a = arg;
    a->kernels->add(a->y + i * a->n, a->x, a->n);
}

void jt_add_bias(jt_context *ctx, jt_tensor *y, const jt_tensor *bias)
{
    if (jt_failed(ctx) || !bias || !jt_has(bias))
        return;
    row_args args = {
        .kernels = ctx->kernels, .y = y->data, .x = bias->data, .n = jt_cols(y)};
    jt_for_rows(ctx, jt_rows(y), jt_rows(y) * jt_cols(y), bias_row, &args);
    jt_bias_record(ctx, y, bias);
}

typedef struct embed_args {
    const jt_kernels *kernels;
    const jt_tensor *table;
    const int32_t *ids;
    float *y;
    size_t row_bytes;
} embed_args;

static void embed_row(void *arg, size_t i)
{
    const embed_args *a = arg;
    size_t n = jt_cols(a->table);
    const char *row = (const char *)a->table->data + (size_t)a->ids[i] * a->row_bytes;
    a->kernels->dequant[a->table->dtype](a->y + i * n, row, n);
}

jt_tensor jt_embed(jt_context *ctx, const jt_tensor *table, const int32_t *ids,
                   size_t count)
{
    size_t n = jt_cols(table);
    jt_tensor y = jt_new(ctx, count, n);
    if (jt_failed(ctx))
        return y;
    embed_args args = {ctx->kernels, table, ids, y.data,
                       jt_dtype_row_bytes(table->dtype, n)};
    jt_for_rows(ctx, count, count * n, embed_row, &args);
    if (table->factor)
        jt_scale(ctx, &y, *table->factor);
    jt_embed_record(ctx, &y, table, ids, count);
    if (ctx->change.on_embed)
        ctx->change.on_embed(ctx->change.self, ctx, table, ids, &y);
    return y;
}
