/* Matrix product of floats for training: B is copied into panels (gemm_pack.h), A too
 * unless its rows can be read as they lie, then tiles of C are summed in registers.
 *
 * With JT_PRECISION_BF16 the copies are rounded. Where the processor multiplies
 * bfloat16 (GEMM_PAIR 2) a step along k takes two values.
 *
 * MEASURED (Zen 5, one thread, both sides in the cache, as a part of the 115 (AVX2) and
 * 225 GFLOP/s (AVX-512) of fma alone): m 512, n 256, k 256: 92 and 90 %, 160 % with
 * BF16; m 341, n 64, k 256: 88, 90 and 135 %; 1024 each way: 87, 82 and 148 %. Three
 * vectors wide loads less than two. Without the prefetch of C, and with k in pieces of
 * 256: 8 % less for 1024. A turned as it is copied, instead of read in place: 15 % less
 * for n 64. */
#ifndef JT_SIMD_GEMM_H
#define JT_SIMD_GEMM_H

#include "kernels/simd/gemm_pack.h"

/* The first n lanes into C. */
ALWAYS_INLINE void gemm_put(float *c, vf sum, size_t n, bool add)
{
    vf_store_n(c, add ? vf_add(vf_load_n(c, n), sum) : sum, n);
}

ALWAYS_INLINE vf gemm_sum(vf x, vf y, vf sum, const bool bf16)
{
#if GEMM_PAIR == 2
    if (bf16)
        return vf_dot_pairs(x, y, sum);
#endif
    (void)bf16;
    return vf_fma(x, y, sum);
}

/* A tile of C: sums over `words` steps along k, stored or added. */
typedef struct gemm_task {
    const float *a[GEMM_ROWS]; /* the word of row r at step k is a[r][k * step] */
    const float *b;            /* a panel */
    float *c;
    size_t ldc, words;
    size_t rows, columns; /* of C that there are */
    bool add;
    const float *next_a[GEMM_ROWS]; /* rows of A for the tile after */
    bool fetch;                     /* they are wanted */
} gemm_task;

ALWAYS_INLINE void gemm_fetch_left(const gemm_task *t, size_t k, const size_t values)
{
    for (size_t r = 0; r < GEMM_ROWS; r++)
        for (size_t i = 0; i < values; i += 16)
            fetch(t->next_a[r], k + i);
}

ALWAYS_INLINE void gemm_tile(const gemm_task *t, const int width, const size_t step,
                             const bool bf16)
{
    enum { STEPS = 16 };
    const size_t group = bf16 ? GEMM_PAIR : 1;
    vf sum[GEMM_ROWS][GEMM_WIDTH];
    const float *a[GEMM_ROWS], *b = t->b;
    for (size_t r = 0; r < GEMM_ROWS && r < t->rows; r++) /* C comes while we sum */
        for (int v = 0; v < width; v++)
            __builtin_prefetch(t->c + r * t->ldc + v * LANES, 1);
    for (int r = 0; r < GEMM_ROWS; r++) {
        a[r] = t->a[r];
        for (int v = 0; v < width; v++)
            sum[r][v] = vf_set1(0);
    }
    for (size_t k = 0, end; k < t->words; k = end) {
        end = k + STEPS < t->words ? k + STEPS : t->words;
        if (t->fetch)
            gemm_fetch_left(t, k * group, STEPS * group);
        for (; k < end; k++, b += width * LANES) {
            vf value[GEMM_WIDTH];
            for (int v = 0; v < width; v++)
                value[v] = vf_load(b + v * LANES);
            for (int r = 0; r < GEMM_ROWS; r++) {
                vf factor = vf_set1(a[r][k * step]);
                for (int v = 0; v < width; v++)
                    sum[r][v] = gemm_sum(factor, value[v], sum[r][v], bf16);
            }
        }
    }
    for (size_t r = 0; r < GEMM_ROWS; r++)
        for (int v = 0; v < width; v++)
            if (r < t->rows)
                gemm_put(t->c + r * t->ldc + v * LANES, sum[r][v],
                         t->columns - (size_t)v * LANES, t->add);
}

/* Rows of A that lie along k (step 1), or in a panel; floats, or pairs. */
typedef void gemm_tile_fn(const gemm_task *t);
#define GEMM_TILE(name, width, step, bf16)         \
    static void name##_##width(const gemm_task *t) \
    {                                              \
        gemm_tile(t, width, step, bf16);           \
    }
#define GEMM_TILES(name, step, bf16) \
    GEMM_TILE(name, 1, step, bf16)   \
    GEMM_TILE(name, 2, step, bf16)   \
    GEMM_TILE(name, 3, step, bf16)   \
    static gemm_tile_fn *const name[GEMM_WIDTH] = {name##_1, name##_2, name##_3};
GEMM_TILES(row_tiles, 1, false)
GEMM_TILES(panel_tiles, LANES, false)
#if GEMM_PAIR == 2
GEMM_TILES(row_pair_tiles, 1, true)
GEMM_TILES(panel_pair_tiles, LANES, true)
#endif

/* What the loops of one product share. */
typedef struct gemm_state {
    const jt_gemm *g;
    gemm_side left, right;
    float *a, *b; /* copies */
    bool bf16;
    bool in_rows; /* rows of A are read along k: in place, or copied for rounding */
    gemm_tile_fn *const *tiles;
} gemm_state;

ALWAYS_INLINE size_t gemm_part(size_t whole, size_t at, size_t most)
{
    return whole - at < most ? whole - at : most;
}

/* Vectors that the panel of these columns is wide. */
ALWAYS_INLINE size_t gemm_vectors(size_t columns)
{
    return (columns + LANES - 1) / LANES;
}

/* Columns of the panel that starts at column j: four vectors are two and two. */
static size_t gemm_columns(size_t whole, size_t j)
{
    size_t rest = whole - j;
    return gemm_vectors(rest) == 4 ? 2 * LANES : gemm_part(whole, j, GEMM_COLUMNS);
}

/* Row i of A from value k on, where it lies. */
ALWAYS_INLINE const float *gemm_row(const gemm_state *s, size_t i, size_t k)
{
    return s->left.data + index_at(s->left.lane_index, i) * s->left.lane + k;
}

/* The rows of A of a tile that starts at row i; those past the last repeat it. */
ALWAYS_INLINE void gemm_rows(const gemm_state *s, gemm_task *t, size_t i, size_t k,
                             size_t count)
{
    for (size_t r = 0; r < GEMM_ROWS; r++) {
        size_t used = r < t->rows ? r : t->rows - 1;
        t->a[r] = s->bf16 ? s->a + used * t->words : gemm_row(s, i + used, k);
        if (s->bf16 && r == used)
            narrow_row(s->a + r * t->words, gemm_row(s, i + r, k), count);
    }
    t->fetch = i + GEMM_ROWS < s->g->m;
    for (size_t r = 0; r < GEMM_ROWS && t->fetch; r++) {
        size_t next = i + GEMM_ROWS + r;
        t->next_a[r] = gemm_row(s, next < s->g->m ? next : s->g->m - 1, k);
    }
}

/* Rows first .. first + rows of A into panels. */
static void gemm_copy_left(const gemm_state *s, size_t first, size_t rows, size_t k,
                           size_t count)
{
    size_t words = gemm_words(count, s->bf16);
    for (size_t i = 0; i < rows; i += LANES)
        pack_panel(s->a + i * words, LANES, &s->left, first + i,
                   gemm_part(rows, i, LANES), k, count, s->bf16);
}

/* C of rows first .. first + rows and of the columns whose panels are in b. */
static void gemm_block(const gemm_state *s, size_t first, size_t rows, size_t j,
                       size_t columns, size_t k, size_t count)
{
    const jt_gemm *g = s->g;
    gemm_task t = {.ldc = g->ldc,
                   .words = gemm_words(count, s->bf16),
                   .add = g->accumulate || k > 0};
    if (!s->in_rows)
        gemm_copy_left(s, first, rows, k, count);
    for (size_t i = 0; i < rows; i += GEMM_ROWS) {
        float *c = g->c + (first + i) * g->ldc + j;
        t.rows = gemm_part(rows, i, GEMM_ROWS);
        if (s->in_rows)
            gemm_rows(s, &t, first + i, k, count);
        for (size_t r = 0; r < GEMM_ROWS && !s->in_rows; r++)
            t.a[r] = s->a + i / LANES * LANES * t.words + i % LANES + r;
        for (size_t p = 0; p < columns; p += t.columns) {
            t.columns = gemm_columns(columns, p);
            t.b = s->b + p * t.words;
            t.c = c + p;
            s->tiles[gemm_vectors(t.columns) - 1](&t);
            t.fetch = false; /* asked for */
        }
    }
}

static void gemm(const jt_gemm *g)
{
    gemm_state s = {.g = g,
                    .left = {g->a, g->a_row, g->a_col, g->a_index, NULL},
                    .right = {g->b, g->b_col, g->b_row, NULL, g->b_index},
                    .bf16 = g->precision == JT_PRECISION_BF16,
                    .in_rows = g->a_col == 1,
                    .a = g->scratch + (64 - (uintptr_t)g->scratch % 64) % 64 / 4};
    s.b = s.a + JT_GEMM_M * JT_GEMM_K;
    s.tiles = s.in_rows ? row_tiles : panel_tiles;
    size_t depth = JT_GEMM_K;
#if GEMM_PAIR == 2
    if (s.bf16) {
        s.tiles = s.in_rows ? row_pair_tiles : panel_pair_tiles;
        depth *= GEMM_PAIR;
    }
#endif
    for (size_t i = 0; i < g->m && g->k == 0 && !g->accumulate; i++)
        memset(g->c + i * g->ldc, 0, g->n * sizeof *g->c);
    for (size_t j = 0; j < g->n; j += JT_GEMM_N) {
        size_t columns = gemm_part(g->n, j, JT_GEMM_N);
        for (size_t k = 0; k < g->k; k += depth) {
            size_t count = gemm_part(g->k, k, depth);
            for (size_t p = 0, some; p < columns; p += some) {
                some = gemm_columns(columns, p);
                pack_panel(s.b + p * gemm_words(count, s.bf16),
                           gemm_vectors(some) * LANES, &s.right, j + p, some, k, count,
                           s.bf16);
            }
            for (size_t i = 0; i < g->m; i += JT_GEMM_M)
                gemm_block(&s, i, gemm_part(g->m, i, JT_GEMM_M), j, columns, k, count);
        }
    }
}

#endif
