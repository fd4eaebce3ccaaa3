/* Matrix products with a tape, y = x w^T, and their gradients: dx += dy w and
 * dw += dy^T x. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/back.h"
#include "tensor/gemms.h"
#include "tensor/tape.h"

/* Row `first` of x, or its start where the rows come by number. */
static float *rows_from(const jt_product *p, const jt_tensor *x)
{
    return p->via ? x->data : jt_row(x, p->first);
}

static const int32_t *row_numbers(const jt_product *p)
{
    return p->via ? p->via->token + p->first : NULL;
}

static jt_gemm output_gemm(const jt_product *p)
{
    size_t n = jt_cols(&p->w);
    return (jt_gemm){.c = p->y,
                     .ldc = p->ldy,
                     .a = rows_from(p, &p->x->x),
                     .a_index = row_numbers(p),
                     .a_row = n,
                     .a_col = 1,
                     .b = p->w.data,
                     .b_row = 1,
                     .b_col = n,
                     .m = p->tokens,
                     .n = jt_rows(&p->w),
                     .k = n};
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
                     .b = rows_from(p, x),
                     .b_index = row_numbers(p),
                     .b_row = n,
                     .b_col = 1,
                     .m = jt_rows(&p->w),
                     .n = n,
                     .k = p->tokens,
                     .accumulate = true};
}

/* dx += dy w, over all rows of x that the product read. */
static jt_gemm input_gemm(const jt_product *p, float *dx, bool accumulate)
{
    size_t n = jt_cols(&p->w);
    return (jt_gemm){.c = dx + p->first * n,
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
                     .accumulate = accumulate};
}

typedef struct saved_products {
    jt_product *list;
    const jt_tensor *x; /* [count] inputs, as they were */
    size_t count;
} saved_products;

/* ---- gradients of the inputs ---- */

/* Where product i adds its gradient of x: to that of x, or, where rows are gathered, to
 * one for each row, of which those of a token are summed afterwards. */
static float *input_grad(const saved_products *s, float *const *gathered, size_t i)
{
    return s->list[i].via ? gathered[i] : s->x[i].grad;
}

static bool same_input(const saved_products *s, size_t i, size_t j)
{
    return s->x[i].grad == s->x[j].grad && s->list[i].via == s->list[j].via;
}

static bool same_rows(const saved_products *s, size_t i, size_t j)
{
    const jt_product *a = &s->list[i], *b = &s->list[j];
    return same_input(s, i, j) && a->first == b->first && a->tokens == b->tokens;
}

/* Products that add to the same rows of an input's gradient follow each other and run
 * so; those whose rows only overlap must not run at once. They go into waves, in the
 * order of the list, which also fixes the order of the sums. */
static bool clash(const saved_products *s, size_t i, size_t j)
{
    const jt_product *a = &s->list[i], *b = &s->list[j];
    return same_input(s, i, j) && !same_rows(s, i, j) &&
           a->first < b->first + b->tokens && b->first < a->first + a->tokens;
}

static void input_waves(jt_context *ctx, const saved_products *s,
                        float *const *gathered, jt_gemm *list)
{
    const jt_product **from = jt_scratch(ctx, s->count, sizeof *from);
    for (size_t i = 0, start = 0, n = 0; from && i < s->count; i++) {
        bool stop = false;
        for (size_t j = start; j < i && !stop; j++)
            stop = clash(s, i, j);
        if (stop) {
            jt_gemms_decoded(ctx, list, from, n);
            start = i;
            n = 0;
        }
        bool fresh = s->list[i].via || s->x[i].grad_fresh;
        bool first = i == 0 || !same_rows(s, i - 1, i);
        if (s->x[i].grad && s->list[i].tokens) {
            from[n] = &s->list[i];
            list[n++] =
                input_gemm(&s->list[i], input_grad(s, gathered, i), !(fresh && first));
        }
        if (i + 1 == s->count)
            jt_gemms_decoded(ctx, list, from, n);
    }
}

typedef struct gathered_sum {
    const jt_kernels *kernels;
    const jt_gathering *via;
    const jt_tensor *x;
    const float *rows;
} gathered_sum;

static void sum_row(void *arg, size_t t)
{
    const gathered_sum *s = arg;
    size_t k = s->via->k, n = jt_cols(s->x);
    for (size_t j = 0; j < k; j++) {
        int32_t row = s->via->row[t * k + j];
        if (row >= 0)
            s->kernels->add(jt_grad_row(s->x, t), s->rows + (size_t)row * n, n);
    }
}

static void input_gradients(jt_context *ctx, const saved_products *s, jt_gemm *list)
{
    float **gathered = jt_scratch(ctx, s->count, sizeof *gathered);
    for (size_t i = 0; i < s->count && !jt_failed(ctx); i++) {
        const jt_gathering *via = s->list[i].via;
        size_t n = jt_cols(&s->x[i]);
        gathered[i] = i > 0 && same_input(s, i - 1, i) ? gathered[i - 1] : NULL;
        if (via && s->x[i].grad && !gathered[i])
            gathered[i] = jt_scratch(ctx, via->rows, n * sizeof(float));
    }
    if (jt_failed(ctx))
        return;
    input_waves(ctx, s, gathered, list);
    for (size_t i = 0; i < s->count; i++) {
        gathered_sum sum = {ctx->kernels, s->list[i].via, &s->x[i], gathered[i]};
        size_t rows = jt_rows(sum.x);
        if (sum.via && sum.rows && (i == 0 || !same_input(s, i - 1, i)))
            jt_for_rows(ctx, rows, rows * sum.via->k * jt_cols(sum.x), sum_row, &sum);
    }
}

/* ---- gradients of the weights ---- */

/* Products with the same weight (an adapter's, of a weight that is cut into several)
 * follow each other, in the order of the list, and run so. */
static size_t weight_gemms(const saved_products *s, jt_gemm *list)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        const float *dw = s->list[i].w.grad;
        size_t at = n;
        if (!dw || !s->list[i].tokens)
            continue;
        while (at > 0 && list[at - 1].c != dw)
            at--;
        at = at ? at : n;
        memmove(&list[at + 1], &list[at], (n++ - at) * sizeof *list);
        list[at] = weight_gemm(&s->list[i], &s->x[i]);
    }
    return n;
}

/* Weights that are lent again may lie elsewhere. */
static void find_lent(const saved_products *s)
{
    for (size_t i = 0; i < s->count; i++) {
        jt_tensor *w = &s->list[i].w;
        w->data = w->lent ? w->lent->data : w->data;
    }
}

static void products_backward(jt_context *ctx, void *saved)
{
    const saved_products *s = saved;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    find_lent(s);
    jt_gemm *list = jt_scratch(ctx, s->count, sizeof *list);
    if (!jt_failed(ctx))
        input_gradients(ctx, s, list);
    if (!jt_failed(ctx))
        jt_gemms(ctx, list, weight_gemms(s, list));
    jt_arena_rewind(&ctx->scratch, mark);
}

/* ---- forward ---- */

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
    order = order ? order : compare((uintptr_t)p->via, (uintptr_t)q->via);
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

/* The products whose weights are (not) F32, in the order of the list; their number. */
static size_t pick(const saved_products *s, bool plain, jt_product *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        if ((s->list[i].w.dtype == JT_F32) == plain)
            out[n++] = s->list[i];
    }
    return n;
}

void jt_products_train(jt_context *ctx, const jt_product *products, size_t count)
{
    saved_products s = sorted(ctx, products, count);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_product *some = jt_scratch(ctx, count, sizeof *some);
    jt_gemm *list = jt_scratch(ctx, count, sizeof *list);
    if (jt_failed(ctx) || !s.list)
        return;
    size_t plain = pick(&s, true, some);
    for (size_t i = 0; i < plain; i++)
        list[i] = output_gemm(&some[i]);
    jt_gemms(ctx, list, plain);
    if (plain == count) {
        jt_arena_rewind(&ctx->scratch, mark);
    } else { /* inputs in the form that weights want stay for other lists */
        jt_products_run(ctx, some, pick(&s, false, some));
    }
    jt_tape_push(ctx, products_backward, &s, sizeof s);
}
