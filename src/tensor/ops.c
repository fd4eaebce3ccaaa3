#include "tensor/ops.h"

jt_tensor jt_linear(jt_context *ctx, jt_input *x, const jt_tensor *w,
                    const jt_tensor *bias)
{
    jt_tensor y = jt_new(ctx, jt_rows(&x->x), jt_rows(w));
    jt_product product = {
        .y = y.data, .ldy = jt_cols(&y), .w = *w, .x = x, .tokens = jt_rows(&y)};
    jt_products(ctx, &product, 1);
    jt_add_bias(ctx, &y, bias);
    return y;
}

/* Arguments of a row-wise loop; each operation uses some. */
typedef struct row_args {
    const jt_kernels *kernels;
    float *y;
    const float *x, *w;
    size_t n;
    float eps;
} row_args;

static void rms_norm_row(void *arg, size_t i)
{
    const row_args *a = arg;
    a->kernels->rms_norm(a->y + i * a->n, a->x + i * a->n, a->w, a->n, a->eps);
}

static void rms_norm_into(jt_context *ctx, float *y, const jt_tensor *x,
                          const jt_tensor *w, float eps)
{
    if (jt_failed(ctx))
        return;
    size_t n = jt_cols(w), values = jt_rows(x) * jt_cols(x);
    row_args args = {ctx->kernels, y, x->data, w->data, n, eps};
    jt_for_rows(ctx, values / n, values, rms_norm_row, &args);
}

jt_tensor jt_rms_norm(jt_context *ctx, const jt_tensor *x, const jt_tensor *w,
                      float eps)
{
    jt_tensor y = jt_new(ctx, jt_rows(x), jt_cols(x));
    rms_norm_into(ctx, y.data, x, w, eps);
    return y;
}

void jt_rms_norm_in_place(jt_context *ctx, jt_tensor *x, const jt_tensor *w, float eps)
{
    rms_norm_into(ctx, x->data, x, w, eps);
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
}

static void silu_mul_row(void *arg, size_t i)
{
    const row_args *a = arg;
    float *gate = a->y + i * a->n;
    a->kernels->silu_mul(gate, gate, a->x + i * a->n, a->n);
}

void jt_silu_mul(jt_context *ctx, jt_tensor *gate, const jt_tensor *up)
{
    if (jt_failed(ctx))
        return;
    row_args args = {
        .kernels = ctx->kernels, .y = gate->data, .x = up->data, .n = jt_cols(gate)};
    /* an exponential costs as much as several additions */
    jt_for_rows(ctx, jt_rows(gate), 4 * jt_rows(gate) * jt_cols(gate), silu_mul_row,
                &args);
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
    return y;
}
