/* LoRA (Hu et al. 2021, "LoRA: low-rank adaptation of large language models"):
 *   y = W x + s B (A x),  s = alpha / r
 * rank-stabilised (Kalajdzievski 2023, "A rank stabilization scaling factor for
 * fine-tuning with LoRA"): s = alpha / sqrt(r)
 * DoRA (Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation"), row by row:
 *   y = m / n * (W x + s B (A x)),  n = norms of the rows of W + s B A
 * with n constant for gradients (section 4.3). A x has been made beside W x. */
#include <math.h>
#include <string.h>

#include "adapt/adapter.h"
#include "base/random.h"
#include "tensor/gemms.h"
#include "tensor/tape.h"

float jt_low_rank_by_rank(float alpha, size_t rank)
{
    return alpha / (float)rank;
}

static float by_root(float alpha, size_t rank)
{
    return alpha / sqrtf((float)rank);
}

/* Matrix `matrix` of B, from its row `row` on. */
static const float *rows_of_b(const jt_use *u)
{
    return jt_row(&u->slot->part[JT_LOW_B], u->matrix * u->slot->rows + u->row);
}

/* What y is multiplied by in row r of the product. */
static float magnitude(const jt_use *u, size_t r)
{
    const float *m = u->slot->part[JT_LOW_M].data;
    return m[u->matrix * u->slot->rows + u->row + r] / u->norm[r];
}

/* ---- without a tape: some rows of some tokens at a time ----
 * Uses of the same y follow each other: who works on a tile of y does so for all of
 * them, in their order. */

enum { TILE_ROWS = 64, TILE_TOKENS = 16, RUN_ROWS = 2048, STRETCHES = 8 };

/* Uses first_use .. of the same y, and the items before it. */
typedef struct target {
    size_t first_use, first_item;
} target;

typedef struct tiles {
    const jt_kernels *kernels;
    const jt_use *uses;
    const target *targets; /* [count + 1]: the last one has the ends */
    size_t count;
    size_t items, stretch; /* that one thread works on, one after the other */
} tiles;

static size_t runs(const jt_use *u)
{
    return (jt_rows(&u->p.w) + RUN_ROWS - 1) / RUN_ROWS;
}

/* Rows row .. row + rows of some tokens of the y that some uses share. */
typedef struct spot {
    const target *target;
    const jt_use *use, *last;
    size_t row, rows, token, tokens;
} spot;

/* Where what is read first of a use there lies. */
static const void *factor_at(const spot *s, const jt_use *u)
{
    const jt_factors *f = u->factors;
    return f ? jt_factor_at(&f->b, u->matrix, u->row + s->row, f->rank) : NULL;
}

/* From the factors; `next` is what comes after. */
static void add_up(const tiles *w, const spot *s, const jt_use *u, const void *next)
{
    size_t rank = u->factors->rank;
    jt_factor_add_up(&u->factors->b, u->matrix,
                     (jt_thin_up){.y = u->p.y + s->token * u->p.ldy + s->row,
                                  .y_stride = u->p.ldy,
                                  .row = u->row + s->row,
                                  .rows = s->rows,
                                  .rank = rank,
                                  .low = jt_row(&u->low.x, s->token),
                                  .low_stride = rank,
                                  .tokens = s->tokens,
                                  .weight = u->weight ? u->weight + s->token : NULL,
                                  .scale = u->scale,
                                  .next = next},
                     w->kernels);
    for (size_t t = s->token; u->norm && t < s->token + s->tokens; t++) {
        for (size_t r = s->row; r < s->row + s->rows; r++)
            u->p.y[t * u->p.ldy + r] *= magnitude(u, r);
    }
}

static void add_tile(const tiles *w, const jt_use *u, size_t row, size_t rows,
                     size_t token, size_t tokens)
{
    float sum[TILE_TOKENS * TILE_ROWS];
    size_t rank = u->slot->rank;
    w->kernels->matmul[JT_F32].fn(&(jt_matmul_args){.y = sum,
                                                    .ldy = TILE_ROWS,
                                                    .w = rows_of_b(u) + row * rank,
                                                    .row_bytes = rank * sizeof(float),
                                                    .rows = rows,
                                                    .x = jt_row(&u->low.x, token),
                                                    .x_bytes = rank * sizeof(float),
                                                    .tokens = tokens,
                                                    .n = rank});
    for (size_t t = 0; t < tokens; t++) {
        float *y = u->p.y + (token + t) * u->p.ldy + row;
        float weight = u->weight ? u->weight[token + t] : 1.0f;
        w->kernels->axpy(y, weight * u->scale, sum + t * TILE_ROWS, rows);
        for (size_t r = 0; u->norm && r < rows; r++)
            y[r] *= magnitude(u, row + r);
    }
}

/* The last target that begins at or before an item. */
static const target *find_target(const tiles *w, size_t item)
{
    size_t low = 0, high = w->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (w->targets[middle].first_item <= item)
            low = middle;
        else
            high = middle;
    }
    return &w->targets[low];
}

static spot spot_at(const tiles *w, const target *t, size_t row, size_t token)
{
    const jt_use *u = &w->uses[t->first_use];
    size_t rows = jt_rows(&u->p.w) - row, tokens = u->p.tokens - token;
    return (spot){.target = t,
                  .use = u,
                  .last = &w->uses[t[1].first_use],
                  .row = row,
                  .rows = rows < RUN_ROWS ? rows : RUN_ROWS,
                  .token = token,
                  .tokens = tokens < TILE_TOKENS ? tokens : TILE_TOKENS};
}

static spot spot_of(const tiles *w, size_t item)
{
    const target *t = find_target(w, item);
    size_t local = item - t->first_item, across = runs(&w->uses[t->first_use]);
    return spot_at(w, t, local % across * RUN_ROWS, local / across * TILE_TOKENS);
}

/* That of the item after it. */
static spot next_spot(const tiles *w, const spot *s)
{
    size_t row = s->row + s->rows, token = s->token;
    if (row == jt_rows(&s->use->p.w)) {
        row = 0;
        token += s->tokens;
    }
    return token < s->use->p.tokens ? spot_at(w, s->target, row, token)
                                    : spot_at(w, s->target + 1, 0, 0);
}

static void work_on(const tiles *w, const spot *s, const void *next)
{
    for (const jt_use *u = s->use; u < s->last; u++) {
        if (u->factors)
            add_up(w, s, u, u + 1 < s->last ? factor_at(s, u + 1) : next);
        for (size_t r = 0; !u->factors && r < s->rows; r += TILE_ROWS)
            add_tile(w, u, s->row + r,
                     s->rows - r < TILE_ROWS ? s->rows - r : TILE_ROWS, s->token,
                     s->tokens);
    }
}

/* Items are small, and memory is read faster when what comes next is known. */
static void run_stretch(void *arg, size_t i)
{
    const tiles *w = arg;
    size_t item = i * w->stretch, end = item + w->stretch;
    end = end < w->items ? end : w->items;
    for (spot s = spot_of(w, item), then; item < end; item++, s = then) {
        bool more = item + 1 < end;
        then = more ? next_spot(w, &s) : s;
        work_on(w, &s, more ? factor_at(&then, then.use) : NULL);
    }
}

static void change_tiles(jt_context *ctx, const jt_use *uses, size_t count)
{
    size_t shares = STRETCHES * (size_t)jt_pool_threads(ctx->pool);
    target *targets = jt_scratch(ctx, count + 1, sizeof *targets);
    tiles w = {.kernels = ctx->kernels, .uses = uses, .targets = targets};
    if (!targets)
        return;
    for (size_t i = 0; i < count; i++) {
        if (i && uses[i].p.y == uses[i - 1].p.y)
            continue;
        targets[w.count++] = (target){i, w.items};
        w.items +=
            runs(&uses[i]) * ((uses[i].p.tokens + TILE_TOKENS - 1) / TILE_TOKENS);
    }
    targets[w.count] = (target){count, w.items};
    w.stretch = (w.items + shares - 1) / shares;
    jt_pool_run(ctx->pool, run_stretch, &w, (w.items + w.stretch - 1) / w.stretch);
}

/* ---- with a tape ---- */

typedef struct saved_uses {
    jt_use *uses;
    size_t count;
} saved_uses;

/* (A x) B^T, to be added to y */
static jt_gemm output_gemm(const jt_use *u, float *sum)
{
    size_t rank = u->slot->rank;
    return (jt_gemm){.c = sum,
                     .ldc = jt_rows(&u->p.w),
                     .a = u->low.x.data,
                     .a_row = rank,
                     .a_col = 1,
                     .b = rows_of_b(u),
                     .b_row = 1,
                     .b_col = rank,
                     .m = u->p.tokens,
                     .n = jt_rows(&u->p.w),
                     .k = rank};
}

/* d(s A x) = dy B; its gradient is zero before. */
static jt_gemm low_gemm(const jt_use *u)
{
    size_t rank = u->slot->rank;
    return (jt_gemm){.c = u->low.x.grad,
                     .ldc = rank,
                     .a = u->p.y_grad,
                     .a_row = u->p.ldy,
                     .a_col = 1,
                     .b = rows_of_b(u),
                     .b_row = rank,
                     .b_col = 1,
                     .m = u->p.tokens,
                     .n = rank,
                     .k = jt_rows(&u->p.w),
                     .accumulate = true};
}

/* dB += dy^T (s A x) */
static jt_gemm b_gemm(const jt_use *u)
{
    size_t rank = u->slot->rank;
    const jt_tensor *b = &u->slot->part[JT_LOW_B];
    return (jt_gemm){.c = jt_grad_row(b, u->matrix * u->slot->rows + u->row),
                     .ldc = rank,
                     .a = u->p.y_grad,
                     .a_row = 1,
                     .a_col = u->p.ldy,
                     .b = u->low.x.data,
                     .b_row = rank,
                     .b_col = 1,
                     .m = jt_rows(&u->p.w),
                     .n = rank,
                     .k = u->p.tokens,
                     .accumulate = true};
}

/* dm += sum over tokens of dy before / n;  dy *= m / n. By rows of y. */
static void magnitude_back(const jt_use *u)
{
    const jt_tensor *m = &u->slot->part[JT_LOW_M];
    size_t rows = jt_rows(&u->p.w);
    float *dm = m->grad ? m->grad + u->matrix * u->slot->rows + u->row : NULL;
    for (size_t t = 0; t < u->p.tokens; t++) {
        float *dy = u->p.y_grad + t * u->p.ldy;
        for (size_t r = 0; r < rows; r++) {
            if (dm)
                dm[r] += dy[r] * u->before[t * rows + r] / u->norm[r];
            dy[r] *= magnitude(u, r);
        }
    }
}

static void uses_backward(jt_context *ctx, void *saved)
{
    const saved_uses *s = saved;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_gemm *list = jt_scratch(ctx, 2 * s->count, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < s->count && list; i++) {
        const jt_use *u = &s->uses[i];
        if (u->norm)
            magnitude_back(u);
        list[n++] = low_gemm(u);
        if (u->slot->part[JT_LOW_B].grad)
            list[n++] = b_gemm(u);
    }
    if (!jt_failed(ctx))
        jt_gemms(ctx, list, n);
    jt_arena_rewind(&ctx->scratch, mark);
    for (size_t i = 0; i < s->count && !jt_failed(ctx); i++) {
        const jt_tensor *low = &s->uses[i].low.x;
        size_t values = jt_rows(low) * jt_cols(low);
        ctx->kernels->scale(low->grad, s->uses[i].scale, low->grad, values);
    }
}

/* y += s sum, and the magnitudes; what DoRA had before is kept. */
typedef struct finish {
    const jt_kernels *kernels;
    const jt_use *use;
    const float *sum;
} finish;

static void finish_token(void *arg, size_t t)
{
    const finish *f = arg;
    const jt_use *u = f->use;
    size_t rows = jt_rows(&u->p.w);
    float *y = u->p.y + t * u->p.ldy;
    f->kernels->axpy(y, u->scale, f->sum + t * rows, rows);
    if (!u->norm)
        return;
    memcpy(u->before + t * rows, y, rows * sizeof *y);
    for (size_t r = 0; r < rows; r++)
        y[r] *= magnitude(u, r);
}

static void finish_use(jt_context *ctx, jt_use *u, const float *sum)
{
    finish f = {ctx->kernels, u, sum};
    size_t values = u->p.tokens * jt_rows(&u->p.w);
    jt_for_rows(ctx, u->p.tokens, values, finish_token, &f);
    ctx->kernels->scale(u->low.x.data, u->scale, u->low.x.data,
                        jt_rows(&u->low.x) * jt_cols(&u->low.x));
}

/* The same sums as in tiles, so that a layer that runs again gives the same bits. */
static void change_train(jt_context *ctx, jt_use *uses, size_t count)
{
    saved_uses saved = {uses, count};
    for (size_t i = 0; i < count; i++) {
        size_t values = uses[i].p.tokens * jt_rows(&uses[i].p.w);
        if (uses[i].norm)
            uses[i].before = jt_scratch(ctx, values, sizeof(float));
    }
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_gemm *list = jt_scratch(ctx, count, sizeof *list);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        size_t values = uses[i].p.tokens * jt_rows(&uses[i].p.w);
        list[i] = output_gemm(&uses[i], jt_scratch(ctx, values, sizeof(float)));
    }
    if (!jt_failed(ctx)) {
        jt_gemms(ctx, list, count);
        for (size_t i = 0; i < count; i++)
            finish_use(ctx, &uses[i], list[i].c);
    }
    jt_arena_rewind(&ctx->scratch, mark);
    jt_tape_push(ctx, uses_backward, &saved, sizeof saved);
}

void jt_low_rank_change(jt_context *ctx, jt_use *uses, size_t count)
{
    if (ctx->tape)
        change_train(ctx, uses, count);
    else
        change_tiles(ctx, uses, count);
}

/* ---- whole weights ---- */

void jt_low_rank_merge_row(const jt_adapter_slot *s, float scale, size_t row, float *w)
{
    size_t matrix = row / s->rows;
    const float *b = jt_row(&s->part[JT_LOW_B], row);
    for (size_t k = 0; k < s->rank; k++) {
        const float *a = jt_row(&s->part[JT_LOW_A], matrix * s->rank + k);
        float factor = scale * b[k];
        for (size_t c = 0; c < s->cols; c++)
            w[c] += factor * a[c];
    }
}

static void merge_row_dora(const jt_adapter_slot *s, float scale, size_t row, float *w)
{
    double sum = 0.0;
    jt_low_rank_merge_row(s, scale, row, w);
    for (size_t c = 0; c < s->cols; c++)
        sum += (double)w[c] * (double)w[c];
    float factor = ((const float *)s->part[JT_LOW_M].data)[row] / (float)sqrt(sum);
    for (size_t c = 0; c < s->cols && sum > 0.0; c++)
        w[c] *= factor;
}

bool jt_low_rank_is_fresh(const jt_adapter_slot *s, const float *norm)
{
    const float *b = s->part[JT_LOW_B].data, *m = s->part[JT_LOW_M].data;
    for (size_t i = 0; i < s->count * s->rows * s->rank; i++) {
        if (b[i] != 0.0f)
            return false;
    }
    for (size_t i = 0; norm && i < s->count * s->rows; i++) {
        if (m[i] != norm[i])
            return false;
    }
    return true;
}

void jt_low_rank_start_a(float *a, size_t n, size_t cols, uint64_t seed,
                         uint64_t stream)
{
    jt_rng rng = {seed, stream, 0};
    float most = 1.0f / sqrtf((float)cols);
    for (size_t i = 0; i < n; i++)
        a[i] = (2.0f * jt_rng_float(&rng) - 1.0f) * most;
}

/* ---- the kinds ---- */

#define LOW_RANK \
    .low_rank = true, .is_fresh = jt_low_rank_is_fresh, .change = jt_low_rank_change

const jt_adapter_kind jt_adapter_lora = {.name = "lora",
                                         .what = "W + alpha / r B A",
                                         .part = {"lora_a", "lora_b"},
                                         .scale = jt_low_rank_by_rank,
                                         .merge_row = jt_low_rank_merge_row,
                                         LOW_RANK};
const jt_adapter_kind jt_adapter_rslora = {.name = "rslora",
                                           .what = "W + alpha / sqrt(r) B A",
                                           .part = {"lora_a", "lora_b"},
                                           .scale = by_root,
                                           .merge_row = jt_low_rank_merge_row,
                                           LOW_RANK};
const jt_adapter_kind jt_adapter_dora = {.name = "dora",
                                         .what = "rows of W + alpha / r B A, "
                                                 "with norms m",
                                         .part = {"lora_a", "lora_b", "dora_m"},
                                         .magnitude = true,
                                         .scale = jt_low_rank_by_rank,
                                         .merge_row = merge_row_dora,
                                         LOW_RANK};
