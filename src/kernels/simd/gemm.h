/* Matrix product of floats for training: both sides are copied into panels, then tiles
 * of C are summed in registers.
 *
 * A panel is [k][width] floats, where the lanes are rows of A (GEMM_ROWS of them) or
 * columns of B (GEMM_WIDTH vectors, fewer in the last panel). Whatever the strides and
 * indices of the caller, they end in pack_panel. Lanes past the edge are zero or repeat
 * the last one; their sums are not stored.
 *
 * MEASURED (Zen 5, one thread, as a part of the 117 (AVX2) and 232 GFLOP/s (AVX-512) of
 * fma alone): m 512, n 256, k 256: 90 and 89 %; 1024 each way: 88 and 83 %; m 32, n and
 * k 256: 87 and 80 % (B transposed: 84 and 70 %). Three vectors wide loads less than
 * two. Without the prefetch of C, and with k in pieces of 256: 8 % less for 1024. */
#ifndef JT_SIMD_GEMM_H
#define JT_SIMD_GEMM_H

#include "kernels/kernels.h"

#define GEMM_COLUMNS (GEMM_WIDTH * LANES)

typedef float f32x4 __attribute__((vector_size(16)));

/* One side of the product: the value of lane l at k is at
 * data[lane_index[l] * lane + k_index[k] * step]; an index that is NULL counts up. */
typedef struct gemm_side {
    const float *data;
    size_t lane, step;
    const int32_t *lane_index, *k_index;
} gemm_side;

ALWAYS_INLINE size_t index_at(const int32_t *index, size_t i)
{
    return index ? (size_t)index[i] : i;
}

ALWAYS_INLINE f32x4 load4(const float *p)
{
    f32x4 x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Four values at k of four lanes, turned into four lanes at each of four k. */
ALWAYS_INLINE void pack_4x4(float *dst, size_t width, const float *const lane[4],
                            size_t k)
{
    f32x4 a = load4(lane[0] + k), b = load4(lane[1] + k);
    f32x4 c = load4(lane[2] + k), d = load4(lane[3] + k);
    f32x4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    f32x4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    f32x4 out[4];
    out[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    out[2] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    for (size_t i = 0; i < 4; i++)
        memcpy(dst + i * width, &out[i], sizeof out[i]);
}

/* Values lie together along k. */
static void pack_turned(float *dst, size_t width, const gemm_side *s, size_t first,
                        size_t lanes, size_t at, size_t count)
{
    for (size_t l = 0; l < width; l += 4) {
        const float *lane[4];
        for (size_t i = 0; i < 4; i++) {
            size_t used = l + i < lanes ? l + i : lanes - 1;
            lane[i] = s->data + index_at(s->lane_index, first + used) * s->lane + at;
        }
        size_t k = 0;
        for (; k + 4 <= count; k += 4)
            pack_4x4(dst + k * width + l, width, lane, k);
        for (; k < count; k++)
            for (size_t i = 0; i < 4; i++)
                dst[k * width + l + i] = lane[i][k];
    }
}

/* Values lie together along the lanes: all rows of a panel of A, */
static void pack_rows(float *dst, const gemm_side *s, size_t first, size_t at,
                      size_t count)
{
    for (size_t k = 0; k < count; k++)
        memcpy(dst + k * GEMM_ROWS,
               s->data + first + index_at(s->k_index, at + k) * s->step,
               GEMM_ROWS * sizeof *dst);
}

/* or the columns of any panel of B (which has no index). */
static void pack_columns(float *dst, size_t width, const gemm_side *s, size_t first,
                         size_t lanes, size_t at, size_t count)
{
    for (size_t k = 0; k < count; k++, dst += width) {
        const float *row = s->data + first + (at + k) * s->step;
        for (size_t l = 0; l < width; l += LANES)
            vf_store(dst + l, vf_load_n(row + l, lanes - l));
    }
}

static void pack_any(float *dst, size_t width, const gemm_side *s, size_t first,
                     size_t lanes, size_t at, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        const float *row = s->data + index_at(s->k_index, at + k) * s->step;
        for (size_t l = 0; l < width; l++) {
            size_t used = first + (l < lanes ? l : lanes - 1);
            dst[k * width + l] = row[index_at(s->lane_index, used) * s->lane];
        }
    }
}

/* The panel of `lanes` lanes from `first` on, `count` values of each from `at` on. */
static void pack_panel(float *dst, size_t width, const gemm_side *s, size_t first,
                       size_t lanes, size_t at, size_t count)
{
    bool straight = s->lane == 1 && !s->lane_index;
    if (straight && width > GEMM_ROWS)
        pack_columns(dst, width, s, first, lanes, at, count);
    else if (straight && lanes == GEMM_ROWS)
        pack_rows(dst, s, first, at, count);
    else if (s->step == 1 && !s->k_index)
        pack_turned(dst, width, s, first, lanes, at, count);
    else
        pack_any(dst, width, s, first, lanes, at, count);
}

/* The first n lanes into C. */
ALWAYS_INLINE void gemm_put(float *c, vf sum, size_t n, bool add)
{
    vf_store_n(c, add ? vf_add(vf_load_n(c, n), sum) : sum, n);
}

/* Rows of C from columns of `width` vectors: sums over the panels, stored or added. */
ALWAYS_INLINE void gemm_tile(float *c, size_t ldc, const float *a, const float *b,
                             size_t count, size_t rows, size_t columns, bool add,
                             const int width)
{
    vf sum[GEMM_ROWS][GEMM_WIDTH];
    for (size_t r = 0; r < GEMM_ROWS && r < rows; r++) /* C comes while we sum */
        for (int v = 0; v < width; v++)
            __builtin_prefetch(c + r * ldc + v * LANES, 1);
    for (int r = 0; r < GEMM_ROWS; r++)
        for (int v = 0; v < width; v++)
            sum[r][v] = vf_set1(0);
    for (size_t k = 0; k < count; k++) {
        vf value[GEMM_WIDTH];
        for (int v = 0; v < width; v++)
            value[v] = vf_load(b + v * LANES);
        for (int r = 0; r < GEMM_ROWS; r++) {
            vf factor = vf_set1(a[r]);
            for (int v = 0; v < width; v++)
                sum[r][v] = vf_fma(factor, value[v], sum[r][v]);
        }
        a += GEMM_ROWS;
        b += width * LANES;
    }
    for (size_t r = 0; r < GEMM_ROWS; r++)
        for (int v = 0; v < width; v++)
            if (r < rows)
                gemm_put(c + r * ldc + v * LANES, sum[r][v],
                         columns - (size_t)v * LANES, add);
}

typedef void gemm_tile_fn(float *c, size_t ldc, const float *a, const float *b,
                          size_t count, size_t rows, size_t columns, bool add);
#define GEMM_TILE(width)                                                     \
    static void gemm_tile_##width(float *c, size_t ldc, const float *a,      \
                                  const float *b, size_t count, size_t rows, \
                                  size_t columns, bool add)                  \
    {                                                                        \
        gemm_tile(c, ldc, a, b, count, rows, columns, add, width);           \
    }
GEMM_TILE(1)
GEMM_TILE(2)
GEMM_TILE(3)
static gemm_tile_fn *const gemm_tiles[GEMM_WIDTH] = {gemm_tile_1, gemm_tile_2,
                                                     gemm_tile_3};

ALWAYS_INLINE size_t gemm_part(size_t whole, size_t at, size_t most)
{
    return whole - at < most ? whole - at : most;
}

/* Vectors that the panel of these columns is wide. */
ALWAYS_INLINE size_t gemm_vectors(size_t columns)
{
    return (columns + LANES - 1) / LANES;
}

/* The tiles of `rows` x `columns` values of C, from packed panels. */
static void gemm_block(float *c, size_t ldc, const float *a, const float *b,
                       size_t count, size_t rows, size_t columns, bool add)
{
    for (size_t i = 0; i < rows; i += GEMM_ROWS)
        for (size_t j = 0; j < columns; j += GEMM_COLUMNS) {
            size_t some = gemm_part(columns, j, GEMM_COLUMNS);
            gemm_tiles[gemm_vectors(some) - 1](
                c + i * ldc + j, ldc, a + i * count, b + j * count, count,
                gemm_part(rows, i, GEMM_ROWS), some, add);
        }
}

/* Columns j .. j + columns of C. */
static void gemm_columns(const jt_gemm *g, float *a, float *b, size_t j, size_t columns)
{
    const gemm_side left = {g->a, g->a_row, g->a_col, g->a_index, g->k_index};
    const gemm_side right = {g->b, g->b_col, g->b_row, NULL, NULL};
    for (size_t k = 0; k < g->k; k += JT_GEMM_K) {
        const size_t count = gemm_part(g->k, k, JT_GEMM_K);
        for (size_t p = 0; p < columns; p += GEMM_COLUMNS) {
            size_t some = gemm_part(columns, p, GEMM_COLUMNS);
            pack_panel(b + p * count, gemm_vectors(some) * LANES, &right, j + p, some,
                       k, count);
        }
        for (size_t i = 0; i < g->m; i += JT_GEMM_M) {
            const size_t rows = gemm_part(g->m, i, JT_GEMM_M);
            for (size_t p = 0; p < rows; p += GEMM_ROWS)
                pack_panel(a + p * count, GEMM_ROWS, &left, i + p,
                           gemm_part(rows, p, GEMM_ROWS), k, count);
            gemm_block(g->c + i * g->ldc + j, g->ldc, a, b, count, rows, columns,
                       g->accumulate || k > 0);
        }
    }
}

static void gemm(const jt_gemm *g)
{
    float *a = g->scratch + (64 - (uintptr_t)g->scratch % 64) % 64 / sizeof(float);
    float *b = a + JT_GEMM_M * JT_GEMM_K;
    for (size_t i = 0; i < g->m && g->k == 0 && !g->accumulate; i++)
        memset(g->c + i * g->ldc, 0, g->n * sizeof *g->c);
    for (size_t j = 0; j < g->n; j += JT_GEMM_N)
        gemm_columns(g, a, b, j, gemm_part(g->n, j, JT_GEMM_N));
}

#endif
