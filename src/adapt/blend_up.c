/* B (A x) without a tape: y[t] += sum over the adapters e of token t of w_e B_e low_e.
 * y stays in the cache while all adapters of its token are added. */
#include "adapt/blended.h"

enum { TILE_ROWS = 512, TILE_TOKENS = 32 };

typedef struct tiles {
    const jt_kernels *kernels;
    const jt_blend_use *uses;
    int32_t **expert; /* of each row of each plan */
    size_t *first;    /* [count + 1] items before each use */
} tiles;

static size_t tiles_of(size_t n, size_t tile)
{
    return (n + tile - 1) / tile;
}

/* The B that the first slot from `slot` on which has an adapter reads; or NULL. */
static const void *next_up(const jt_blend_use *u, const int32_t *expert, size_t slot,
                           size_t end, size_t row)
{
    while (slot < end && u->plan.row[slot] < 0)
        slot++;
    if (slot == end)
        return NULL;
    return jt_factor_at(&u->by->factors[u->bank].b, (size_t)expert[u->plan.row[slot]],
                        u->p.w.first_row + row, u->by->blend->bank[u->bank].rank);
}

/* What one adapter of one token adds to values row .. row + rows of y. */
static void add_one(const tiles *w, const jt_blend_use *u, size_t at, int32_t e,
                    float *y, size_t row, size_t rows, const void *next)
{
    const jt_adapter_bank *bank = &u->by->blend->bank[u->bank];
    const jt_factor *b = &u->by->factors[u->bank].b;
    jt_factor_add_up(b, (size_t)e,
                     (jt_thin_up){.y = y,
                                  .row = u->p.w.first_row + row,
                                  .rows = rows,
                                  .rank = bank->rank,
                                  .low = jt_row(&u->low.x, at),
                                  .tokens = 1,
                                  .weight = &u->plan.weight[at],
                                  .scale = u->by->scale * u->by->blend->scale,
                                  .next = next},
                     w->kernels);
}

static void run_tile(void *arg, size_t item)
{
    const tiles *w = arg;
    size_t i = 0;
    while (w->first[i + 1] <= item)
        i++;
    const jt_blend_use *u = &w->uses[i];
    size_t all = jt_rows(&u->p.w), across = tiles_of(all, TILE_ROWS);
    size_t local = item - w->first[i], row = local % across * TILE_ROWS;
    size_t token = local / across * TILE_TOKENS, end = token + TILE_TOKENS;
    size_t rows = all - row < TILE_ROWS ? all - row : TILE_ROWS;
    size_t k = (size_t)u->plan.k;
    end = end < u->p.tokens ? end : u->p.tokens;
    for (size_t slot = token * k; slot < end * k; slot++) {
        int32_t at = u->plan.row[slot];
        if (at >= 0)
            add_one(w, u, (size_t)at, w->expert[i][at],
                    u->p.y + slot / k * u->p.ldy + row, row, rows,
                    next_up(u, w->expert[i], slot + 1, end * k, row));
    }
}

void jt_blended_add_up(jt_context *ctx, const jt_blend_use *uses, size_t count)
{
    tiles w = {ctx->kernels, uses, jt_scratch(ctx, count, sizeof *w.expert),
               jt_scratch(ctx, count + 1, sizeof *w.first)};
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        const jt_plan *plan = &uses[i].plan;
        size_t tokens = tiles_of(uses[i].p.tokens, TILE_TOKENS);
        w.first[0] = i ? w.first[0] : 0;
        w.first[i + 1] =
            w.first[i] + tokens * tiles_of(jt_rows(&uses[i].p.w), TILE_ROWS);
        w.expert[i] = jt_scratch(ctx, (size_t)plan->n_rows, sizeof **w.expert);
        for (int e = 0; w.expert[i] && e < plan->n_experts; e++) {
            for (int32_t r = plan->start[e]; r < plan->start[e + 1]; r++)
                w.expert[i][r] = e;
        }
    }
    if (!jt_failed(ctx))
        jt_pool_run(ctx->pool, run_tile, &w, w.first[count]);
}
