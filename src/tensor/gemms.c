#include "tensor/gemms.h"

/* Each product is cut along its longer side (the other side is copied for each item)
 * into items of about the same cost. */
enum { ITEMS_PER_THREAD = 8, LEAST = 2 * JT_GEMM_TILE };

typedef struct cut {
    size_t first_item; /* of this product */
    size_t run;        /* rows, or columns, of an item */
} cut;

typedef struct gemm_work {
    const jt_context *ctx;
    const jt_gemm *list;
    const cut *cuts; /* [count] */
    size_t count;
    char *scratch; /* jt_gemm_scratch() bytes for each thread */
} gemm_work;

static bool by_rows(const jt_gemm *g)
{
    return g->m >= g->n;
}

static size_t longer_side(const jt_gemm *g)
{
    return by_rows(g) ? g->m : g->n;
}

/* Fill in `cuts`; the number of items. */
static size_t cut_gemms(const jt_gemm *list, cut *cuts, size_t count, size_t threads)
{
    size_t cost = 0, items = 0;
    for (size_t i = 0; i < count; i++)
        cost += list[i].m * list[i].n * list[i].k;
    size_t share = cost / (threads * ITEMS_PER_THREAD) + 1;
    for (size_t i = 0; i < count; i++) {
        const jt_gemm *g = &list[i];
        size_t side = longer_side(g), across = (by_rows(g) ? g->n : g->m) * g->k;
        size_t run = across ? share / across : side;
        run = (run / JT_GEMM_TILE + 1) * JT_GEMM_TILE;
        cuts[i] = (cut){items, run > LEAST ? run : LEAST};
        items += (side + cuts[i].run - 1) / cuts[i].run;
    }
    return items;
}

/* Items are taken in order, so a product is looked for from its neighbours: lists are
 * short beside the work of an item. */
static size_t find_gemm(const gemm_work *w, size_t item)
{
    size_t i = 0;
    while (i + 1 < w->count && w->cuts[i + 1].first_item <= item)
        i++;
    return i;
}

static void gemm_item(void *arg, size_t item)
{
    const gemm_work *w = arg;
    size_t i = find_gemm(w, item);
    jt_gemm part = w->list[i];
    size_t at = (item - w->cuts[i].first_item) * w->cuts[i].run;
    size_t some = longer_side(&part) - at;
    some = some < w->cuts[i].run ? some : w->cuts[i].run;
    if (by_rows(&part)) {
        part.c += at * part.ldc;
        part.a += part.a_index ? 0 : at * part.a_row;
        part.a_index += part.a_index ? at : 0;
        part.m = some;
    } else {
        part.c += at;
        part.b += at * part.b_col;
        part.n = some;
    }
    part.precision = w->ctx->precision;
    part.scratch = (float *)(w->scratch + (size_t)jt_pool_self() * jt_gemm_scratch());
    w->ctx->kernels->gemm(&part);
}

void jt_gemms(jt_context *ctx, const jt_gemm *list, size_t count)
{
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    size_t threads = (size_t)jt_pool_threads(ctx->pool);
    cut *cuts = jt_scratch(ctx, count + 1, sizeof *cuts);
    char *scratch = jt_scratch(ctx, threads, jt_gemm_scratch());
    if (!jt_failed(ctx)) {
        gemm_work work = {ctx, list, cuts, count, scratch};
        jt_pool_run(ctx->pool, gemm_item, &work, cut_gemms(list, cuts, count, threads));
    }
    jt_arena_rewind(&ctx->scratch, mark);
}
