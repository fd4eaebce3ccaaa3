/* B (A x) without a tape: y[t] += sum over the adapters e of token t of w_e B_e low_e.
 * Rows of B are read once for all tokens that have chosen the adapter; a token gets its
 * adapters in their order, whoever is beside it. */
#include "adapt/blended.h"

enum { MANY_TOKENS = 64 };

typedef struct tiles {
    const jt_kernels *kernels;
    const jt_blend_use *uses;
    size_t count;
    size_t *first; /* [count + 1] items before each use: none of one that adds to the
                      same y as the use before it, which does both */
} tiles;

/* Rows of an item: what few tokens need is read best in one piece, what many compute is
 * shared among threads. */
static size_t tile_rows(const jt_blend_use *u)
{
    return u->plan.n_rows > MANY_TOKENS ? 128 : 2048;
}

/* The next adapter from `e` on that a token has chosen, or n. */
static size_t next_chosen(const jt_plan *plan, size_t e)
{
    while (e < (size_t)plan->n_experts && plan->start[e] == plan->start[e + 1])
        e++;
    return e;
}

/* What adapter e adds to values row .. row + rows of its tokens; `next` comes then. */
static void add_one(const tiles *w, const jt_blend_use *u, size_t e, size_t row,
                    size_t rows, size_t next)
{
    const jt_plan *plan = &u->plan;
    const jt_factor *b = &u->by->factors[u->bank].b;
    size_t at = (size_t)plan->start[e], rank = u->by->blend->bank[u->bank].rank;
    size_t b_row = u->p.w.first_row + row;
    bool more = next < (size_t)plan->n_experts;
    jt_factor_add_up(
        b, e,
        (jt_thin_up){.y = u->p.y + row,
                     .y_stride = u->p.ldy,
                     .index = plan->token + at,
                     .row = b_row,
                     .rows = rows,
                     .rank = rank,
                     .low = jt_row(&u->low.x, at),
                     .low_stride = rank,
                     .tokens = (size_t)plan->start[e + 1] - at,
                     .weight = plan->weight + at,
                     .scale = u->by->scale * u->by->blend->scale,
                     .next = more ? jt_factor_at(b, next, b_row, rank) : NULL},
        w->kernels);
}

static void run_tile(void *arg, size_t item)
{
    const tiles *w = arg;
    size_t i = 0;
    while (w->first[i + 1] <= item)
        i++;
    size_t tile = tile_rows(&w->uses[i]), all = jt_rows(&w->uses[i].p.w);
    size_t row = (item - w->first[i]) * tile,
           rows = all - row < tile ? all - row : tile;
    do {
        const jt_blend_use *u = &w->uses[i];
        size_t n = (size_t)u->plan.n_experts;
        for (size_t e = next_chosen(&u->plan, 0), next; e < n; e = next) {
            next = next_chosen(&u->plan, e + 1);
            add_one(w, u, e, row, rows, next);
        }
    } while (++i < w->count && w->first[i] == w->first[i + 1]);
}

void jt_blended_add_up(jt_context *ctx, const jt_blend_use *uses, size_t count)
{
    tiles w = {ctx->kernels, uses, count, jt_scratch(ctx, count + 1, sizeof *w.first)};
    if (jt_failed(ctx))
        return;
    w.first[0] = 0;
    for (size_t i = 0; i < count; i++) {
        bool same = i && uses[i].p.y == uses[i - 1].p.y;
        size_t tile = tile_rows(&uses[i]);
        size_t items = (jt_rows(&uses[i].p.w) + tile - 1) / tile;
        w.first[i + 1] = w.first[i] + (same ? 0 : items);
    }
    jt_pool_run(ctx->pool, run_tile, &w, w.first[count]);
}
