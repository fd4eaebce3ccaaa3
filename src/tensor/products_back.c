/* Gradients of matrix products, y = x w^T: dx += dy w and dw += dy^T x. */
#include <string.h>

#include "tensor/back.h"
#include "tensor/tape.h"

/* Matrix products that run in one parallel region, each cut into runs of rows of C. */
typedef struct gemm_work {
    const jt_kernels *kernels;
    const jt_gemm *list;
    const size_t *first_item; /* [count] */
    size_t count;
    char *scratch; /* jt_gemm_scratch() bytes for each thread */
} gemm_work;

enum { RUN = 2 * JT_GEMM_TILE };

static size_t items_of(const jt_gemm *g)
{
    return (g->m + RUN - 1) / RUN;
}

static void gemm_item(void *arg, size_t item)
{
    const gemm_work *w = arg;
    size_t i = 0;
    while (i + 1 < w->count && w->first_item[i + 1] <= item)
        i++;
    jt_gemm part = w->list[i];
    size_t row = (item - w->first_item[i]) * RUN;
    part.c += row * part.ldc;
    part.a += row * part.a_row;
    part.m = part.m - row < RUN ? part.m - row : RUN;
    part.scratch = (float *)(w->scratch + (size_t)jt_pool_self() * jt_gemm_scratch());
    w->kernels->gemm(&part);
}

static void run_gemms(jt_context *ctx, const jt_gemm *list, size_t count)
{
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    size_t threads = (size_t)jt_pool_threads(ctx->pool), items = 0;
    size_t *first = jt_scratch(ctx, count + 1, sizeof *first);
    char *scratch = jt_scratch(ctx, threads, jt_gemm_scratch());
    if (!jt_failed(ctx)) {
        for (size_t i = 0; i < count; i++) {
            first[i] = items;
            items += items_of(&list[i]);
        }
        gemm_work work = {ctx->kernels, list, first, count, scratch};
        jt_pool_run(ctx->pool, gemm_item, &work, items);
    }
    jt_arena_rewind(&ctx->scratch, mark);
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

static bool same_rows(const jt_product *a, const jt_tensor *xa, const jt_product *b,
                      const jt_tensor *xb)
{
    return xa->grad == xb->grad && a->first < b->first + b->tokens &&
           b->first < a->first + a->tokens;
}

/* Products that add to the same rows of an input's gradient must not run at once: they
 * go into waves, in the order of the list, which also fixes the order of the sums. */
static void input_waves(jt_context *ctx, const saved_products *s, jt_gemm *list)
{
    for (size_t i = 0, start = 0, n = 0; i < s->count; i++) {
        bool clash = false;
        for (size_t j = start; j < i && !clash; j++)
            clash = same_rows(&s->list[i], &s->x[i], &s->list[j], &s->x[j]);
        if (clash) {
            run_gemms(ctx, list, n);
            start = i;
            n = 0;
        }
        if (s->x[i].grad && s->list[i].tokens)
            list[n++] = input_gemm(&s->list[i], &s->x[i]);
        if (i + 1 == s->count)
            run_gemms(ctx, list, n);
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
        run_gemms(ctx, list, n);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_products_record(jt_context *ctx, const jt_product *products, size_t count)
{
    if (!ctx->tape)
        return;
    jt_product *list = jt_scratch(ctx, count, sizeof *list);
    jt_tensor *x = jt_scratch(ctx, count, sizeof *x);
    if (jt_failed(ctx))
        return;
    for (size_t i = 0; i < count; i++) {
        list[i] = products[i];
        x[i] = products[i].x->x;
    }
    saved_products saved = {list, x, count};
    jt_tape_push(ctx, products_backward, &saved, sizeof saved);
}
