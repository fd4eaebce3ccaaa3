/* Operations value by value, forward and back. */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* ---- products: da += b dy, db += a dy ---- */

typedef struct product {
    jt_tensor y;
    jt_columns a, b;
} product;

static void multiply_row(void *arg, size_t i)
{
    const product *p = arg;
    const float *a = jt_columns_row(&p->a, i), *b = jt_columns_row(&p->b, i);
    float *y = jt_row(&p->y, i);
    for (size_t j = 0; j < jt_cols(&p->y); j++)
        y[j] = a[j] * b[j];
}

static void multiply_back_row(void *arg, size_t i)
{
    const product *p = arg;
    const float *a = jt_columns_row(&p->a, i), *b = jt_columns_row(&p->b, i);
    float *da = jt_columns_grad_row(&p->a, i), *db = jt_columns_grad_row(&p->b, i);
    const float *dy = jt_grad_row(&p->y, i);
    for (size_t j = 0; j < jt_cols(&p->y); j++) {
        da[j] += b[j] * dy[j];
        db[j] += a[j] * dy[j];
    }
}

static void multiply_backward(jt_context *ctx, void *saved)
{
    const jt_tensor *y = &((const product *)saved)->y;
    jt_for_rows(ctx, jt_rows(y), 2 * jt_rows(y) * jt_cols(y), multiply_back_row, saved);
}

jt_tensor jt_multiply(jt_context *ctx, const jt_columns *a, const jt_columns *b)
{
    product p = {jt_new(ctx, jt_rows(&a->of), a->n), *a, *b};
    if (jt_failed(ctx))
        return p.y;
    jt_for_rows(ctx, jt_rows(&p.y), jt_rows(&p.y) * a->n, multiply_row, &p);
    jt_tape_push(ctx, multiply_backward, &p, sizeof p);
    return p.y;
}

/* ---- functions in place, whose slope follows from their value ---- */

typedef struct function {
    const jt_kernels *kernels;
    jt_tensor y;
} function;

static void in_place(jt_context *ctx, jt_tensor *y, jt_pool_fn *row,
                     jt_backward_fn *backward)
{
    function f = {ctx->kernels, *y};
    if (jt_failed(ctx))
        return;
    jt_for_rows(ctx, jt_rows(y), 4 * jt_rows(y) * jt_cols(y), row, &f);
    jt_tape_push(ctx, backward, &f, sizeof f);
}

static void back_rows(jt_context *ctx, const function *f, jt_pool_fn *row)
{
    const jt_tensor *y = &f->y;
    jt_for_rows(ctx, jt_rows(y), 4 * jt_rows(y) * jt_cols(y), row,
                (void *)(uintptr_t)f);
}

static void softplus_row(void *arg, size_t i)
{
    const function *f = arg;
    f->kernels->softplus(jt_row(&f->y, i), jt_row(&f->y, i), jt_cols(&f->y));
}

/* The slope is sigmoid(x) = 1 - exp(-y). */
static void softplus_back_row(void *arg, size_t i)
{
    const function *f = arg;
    const float *y = jt_row(&f->y, i);
    float *dy = jt_grad_row(&f->y, i);
    for (size_t j = 0; j < jt_cols(&f->y); j++)
        dy[j] *= -expm1f(-y[j]);
}

static void softplus_backward(jt_context *ctx, void *saved)
{
    back_rows(ctx, saved, softplus_back_row);
}

void jt_softplus(jt_context *ctx, jt_tensor *y)
{
    in_place(ctx, y, softplus_row, softplus_backward);
}

static void sigmoid_row(void *arg, size_t i)
{
    const function *f = arg;
    float *y = jt_row(&f->y, i);
    for (size_t j = 0; j < jt_cols(&f->y); j++)
        y[j] = 1.0f / (1.0f + expf(-y[j]));
}

static void sigmoid_back_row(void *arg, size_t i)
{
    const function *f = arg;
    const float *y = jt_row(&f->y, i);
    float *dy = jt_grad_row(&f->y, i);
    for (size_t j = 0; j < jt_cols(&f->y); j++)
        dy[j] *= y[j] * (1.0f - y[j]);
}

static void sigmoid_backward(jt_context *ctx, void *saved)
{
    back_rows(ctx, saved, sigmoid_back_row);
}

void jt_sigmoid(jt_context *ctx, jt_tensor *y)
{
    in_place(ctx, y, sigmoid_row, sigmoid_backward);
}

static void relu_row(void *arg, size_t i)
{
    const function *f = arg;
    float *y = jt_row(&f->y, i);
    for (size_t j = 0; j < jt_cols(&f->y); j++)
        y[j] = y[j] > 0.0f ? y[j] : 0.0f;
}

static void relu_back_row(void *arg, size_t i)
{
    const function *f = arg;
    const float *y = jt_row(&f->y, i);
    float *dy = jt_grad_row(&f->y, i);
    for (size_t j = 0; j < jt_cols(&f->y); j++)
        dy[j] = y[j] > 0.0f ? dy[j] : 0.0f;
}

static void relu_backward(jt_context *ctx, void *saved)
{
    back_rows(ctx, saved, relu_back_row);
}

void jt_relu(jt_context *ctx, jt_tensor *y)
{
    in_place(ctx, y, relu_row, relu_backward);
}
