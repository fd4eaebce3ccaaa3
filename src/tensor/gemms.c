#include "tensor/gemms.h"

/* A chain of products with the same C is cut along the longer side of C into items of
 * about the same cost; what lies along the other side is copied for each item. */
enum { ITEMS_PER_THREAD = 6, SHORTEST = 64, STEP = 16 };

typedef struct chain {
    size_t first, end; /* in the list */
    size_t first_item;
    size_t run; /* rows, or columns, of an item */
} chain;

typedef struct gemm_work {
    const jt_context *ctx;
    const jt_gemm *list;
    const chain *chains;
    size_t n_chains;
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

static double cost(const jt_gemm *list, size_t first, size_t end)
{
    double sum = 0.0;
    for (size_t i = first; i < end; i++)
        sum += (double)list[i].m * (double)list[i].n * (double)list[i].k;
    return sum;
}

static bool same_target(const jt_gemm *a, const jt_gemm *b)
{
    return a->c == b->c && a->m == b->m && a->n == b->n && b->accumulate;
}

/* Fill in `chains`; their number. */
static size_t find_chains(const jt_gemm *list, size_t count, chain *chains)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !same_target(&list[i - 1], &list[i]))
            chains[n++].first = i;
        chains[n - 1].end = i + 1;
    }
    return n;
}

/* Cut the chains; the number of items. One thread needs no cuts. */
static size_t cut_chains(const jt_gemm *list, chain *chains, size_t n, size_t threads)
{
    double share = n ? cost(list, 0, chains[n - 1].end) : 0.0;
    size_t items = 0;
    share /= (double)(threads * ITEMS_PER_THREAD);
    for (size_t i = 0; i < n; i++) {
        chain *c = &chains[i];
        size_t side = longer_side(&list[c->first]);
        double whole = cost(list, c->first, c->end);
        c->first_item = items;
        c->run = side ? side : 1;
        if (threads > 1 && whole > share)
            c->run = ((size_t)((double)side * share / whole) / STEP + 1) * STEP;
        c->run = c->run > SHORTEST ? c->run : SHORTEST;
        items += (side + c->run - 1) / c->run;
    }
    return items;
}

/* Those with an item: the last chain that starts at or before it. */
static const chain *find_chain(const gemm_work *w, size_t item)
{
    size_t i = w->n_chains - 1;
    while (w->chains[i].first_item > item)
        i--;
    return &w->chains[i];
}

static void gemm_item(void *arg, size_t item)
{
    const gemm_work *w = arg;
    if (jt_pool_self() == 0)
        jt_tend(&w->ctx->tender);
    const chain *c = find_chain(w, item);
    size_t at = (item - c->first_item) * c->run;
    for (size_t i = c->first; i < c->end; i++) {
        jt_gemm part = w->list[i];
        size_t some = longer_side(&part) - at;
        some = some < c->run ? some : c->run;
        if (by_rows(&part)) {
            part.c += at * part.ldc;
            if (part.a_index)
                part.a_index += at;
            else
                part.a += at * part.a_row;
            part.m = some;
        } else {
            part.c += at;
            part.b += at * part.b_col;
            part.n = some;
        }
        part.precision = w->ctx->precision;
        part.scratch =
            (float *)(w->scratch + (size_t)jt_pool_self() * jt_gemm_scratch());
        w->ctx->kernels->gemm(&part);
    }
}

void jt_gemms(jt_context *ctx, const jt_gemm *list, size_t count)
{
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    size_t threads = (size_t)jt_pool_threads(ctx->pool);
    chain *chains = jt_scratch(ctx, count, sizeof *chains);
    char *scratch = jt_scratch(ctx, threads, jt_gemm_scratch());
    if (!jt_failed(ctx)) {
        gemm_work work = {ctx, list, chains, find_chains(list, count, chains), scratch};
        jt_pool_run(ctx->pool, gemm_item, &work,
                    cut_chains(list, chains, work.n_chains, threads));
    }
    jt_arena_rewind(&ctx->scratch, mark);
}
