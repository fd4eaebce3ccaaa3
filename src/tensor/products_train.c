/* Matrix products with a tape, y = x w^T, and their gradients: dx += dy w and
 * dw += dy^T x. */
#include <stdint.h>
#include <stdlib.h>

#include "tensor/back.h"
#include "tensor/gemms.h"
#include "tensor/tape.h"

static jt_gemm output_gemm(const jt_product *p)
{
    size_t n = jt_cols(&p->w);
    return (jt_gemm){.c = p->y,
                     .ldc = p->ldy,
                     .a = jt_row(&p->x->x, p->first),
                     .a_row = n,
                     .a_col = 1,
                     .b = p->w.data,
                     .b_row = 1,
                     .b_col = n,
                     .m = p->tokens,
                     .n = jt_rows(&p->w),
                     .k = n};
}

typedef struct saved_products {
    const jt_product *list;
    const jt_tensor *x; /* [count] inputs, as they were */
    size_t count;
} saved_products;

/* dx += dy w, over all rows of x that the product read */
static jt_gemm input_gemm(const jt_product *p, const jt_tensor *x)
{
    size_t n = jt_cols(&p->w);
    return (jt_gemm){.c = x->grad + p->first * n,
                     .ldc = n,
                     .a = p->y_grad,
                     .a_row = p->ldy,
                     .a_col = 1,
                     .b = p->w.data,
                     .b_row = n,
                     .b_col = 1,
                     .m = p->tokens,
                     .n = n,
                     .k = jt_rows(&p->w),
                     .accumulate = true};
}

/* dw += dy^T x */
static jt_gemm weight_gemm(const jt_product *p, const jt_tensor *x)
{
    size_t n = jt_cols(&p->w);
    return (jt_gemm){.c = p->w.grad,
                     .ldc = n,
                     .a = p->y_grad,
                     .a_row = 1,
                     .a_col = p->ldy,
                     .b = jt_row(x, p->first),
                     .b_row = n,
                     .b_col = 1,
                     .m = jt_rows(&p->w),
                     .n = n,
                     .k = p->tokens,
                     .accumulate = true};
}

/* Products that add to the same rows of an input's gradient follow each other and run
 * so; those whose rows only overlap must not run at once. They go into waves, in the
 * order of the list, which also fixes the order of the sums. */
static bool clash(const jt_product *a, const jt_tensor *xa, const jt_product *b,
                  const jt_tensor *xb)
{
    bool same = a->first == b->first && a->tokens == b->tokens;
    return xa->grad == xb->grad && !same && a->first < b->first + b->tokens &&
           b->first < a->first + a->tokens;
}

static void input_waves(jt_context *ctx, const saved_products *s, jt_gemm *list)
{
    for (size_t i = 0, start = 0, n = 0; i < s->count; i++) {
        bool stop = false;
        for (size_t j = start; j < i && !stop; j++)
            stop = clash(&s->list[i], &s->x[i], &s->list[j], &s->x[j]);
        if (stop) {
            jt_gemms(ctx, list, n);
            start = i;
            n = 0;
        }
        if (s->x[i].grad && s->list[i].tokens)
            list[n++] = input_gemm(&s->list[i], &s->x[i]);
        if (i + 1 == s->count)
            jt_gemms(ctx, list, n);
    }
}

static void products_backward(jt_context *ctx, void *saved)
{
    const saved_products *s = saved;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_gemm *list = jt_scratch(ctx, s->count, sizeof *list);
    size_t n = 0;
    if (!jt_failed(ctx)) {
        input_waves(ctx, s, list);
        for (size_t i = 0; i < s->count; i++) {
            if (s->list[i].w.grad && s->list[i].tokens)
                list[n++] = weight_gemm(&s->list[i], &s->x[i]);
        }
        jt_gemms(ctx, list, n);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

static int compare(uintptr_t a, uintptr_t b)
{
    return (a > b) - (a < b);
}

/* By input and rows, otherwise as they came. */
static int by_rows(const void *a, const void *b)
{
    const jt_product *p = *(const jt_product *const *)a;
    const jt_product *q = *(const jt_product *const *)b;
    int order = compare((uintptr_t)p->x, (uintptr_t)q->x);
    order = order ? order : compare(p->first, q->first);
    order = order ? order : compare(p->tokens, q->tokens);
    return order ? order : compare((uintptr_t)p, (uintptr_t)q);
}

/* Copies of the products, those that read the same rows side by side: what one has
 * brought into the cache serves the next. */
static saved_products sorted(jt_context *ctx, const jt_product *products, size_t count)
{
    saved_products s = {.count = count};
    jt_product *list = jt_scratch(ctx, count, sizeof *list);
    jt_tensor *x = jt_scratch(ctx, count, sizeof *x);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    const jt_product **order = jt_scratch(ctx, count, sizeof *order);
    if (jt_failed(ctx))
        return s;
    for (size_t i = 0; i < count; i++)
        order[i] = &products[i];
    qsort(order, count, sizeof *order, by_rows);
    for (size_t i = 0; i < count; i++) {
        list[i] = *order[i];
        x[i] = list[i].x->x;
    }
    jt_arena_rewind(&ctx->scratch, mark);
    s.list = list;
    s.x = x;
    return s;
}

void jt_products_train(jt_context *ctx, const jt_product *products, size_t count)
{
    saved_products s = sorted(ctx, products, count);
    if (jt_failed(ctx))
        return;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_gemm *list = jt_scratch(ctx, count, sizeof *list);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_dtype dtype = s.list[i].w.dtype;
        if (dtype != JT_F32)
            jt_fail(&ctx->err, JT_E_UNSUPPORTED, "gradients through weights of type %s",
                    jt_dtype_name(dtype));
        list[i] = output_gemm(&s.list[i]);
    }
    if (!jt_failed(ctx))
        jt_gemms(ctx, list, count);
    jt_arena_rewind(&ctx->scratch, mark);
    jt_tape_push(ctx, products_backward, &s, sizeof s);
}
