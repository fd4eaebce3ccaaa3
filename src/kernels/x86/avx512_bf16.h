/* Products of BF16 weights with vdpbf16ps, for processors that have it beside the rest
 * of the AVX-512 level. A dword of the panel is two consecutive values of a row as they
 * lie in memory: nothing is decoded. Activations are BF16X2; products with their high
 * and their low parts are summed apart within a chunk, then added to each other and to
 * the sum. Rows of odd length end in a pair whose second half is zero on both sides.
 *
 * MEASURED (Zen 5, one thread) against F32 activations with fma, which take as many
 * instructions for the sums but need the weights widened: one token 31 GB/s of weights
 * from the cache instead of 23.5, the same 16 GB/s from memory; 64 tokens 203 GFLOP/s
 * instead of 189. */
#ifndef JT_AVX512_BF16_H
#define JT_AVX512_BF16_H

#include "kernels/simd/matmul.h"

#define WITH_BF16 __attribute__((target("avx512bf16")))

ALWAYS_INLINE void panel_pairs(panel *p, int v, source r, size_t count)
{
    for (size_t i = 0; i < count; i += 8, next_block(&r, 16))
        load_dwords(p->pairs[v].w + i / 2, 4, r, 0, 16);
}
UNPACK(pairs)

/* The values i and i + 1 of one part of a row, in every lane. */
ALWAYS_INLINE __m512bh act_pair(const uint8_t *part, size_t i)
{
    int dword;
    memcpy(&dword, part + 2 * i, sizeof dword);
    return (__m512bh)vi_set1(dword);
}

WITH_BF16 ALWAYS_INLINE void dot_pairs(float *sums, size_t ld, const panel *p,
                                       const uint8_t *const *x, size_t n, size_t at,
                                       size_t count, ahead *next, const int tile)
{
    vf high[WIDTH][TILE], low[WIDTH][TILE];
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < WIDTH; v++)
            high[v][t] = low[v][t] = vf_set1(0);
    for (size_t i = 0; i < count; i += 2) {
        if (i % (CHUNK_REAL / DOT_STEPS) == 0)
            ask(next, 1);
        for (int t = 0; t < tile; t++) {
            __m512bh x_high = act_pair(x[t], at + i);
            __m512bh x_low = act_pair(x[t] + jt_pad64(2 * n), at + i);
            for (int v = 0; v < WIDTH; v++) {
                __m512bh w = (__m512bh)p->pairs[v].w[i / 2];
                high[v][t] = _mm512_dpbf16_ps(high[v][t], w, x_high);
                low[v][t] = _mm512_dpbf16_ps(low[v][t], w, x_low);
            }
        }
    }
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < WIDTH; v++) {
            float *sum = sums + (size_t)t * ld + v * LANES;
            vf_store(sum, vf_add(vf_load(sum), vf_add(high[v][t], low[v][t])));
        }
}

#define DOT_PAIRS(tile, lower)                                                         \
    WITH_BF16 static void dot_##lower##_##tile(float *sums, size_t ld, const panel *p, \
                                               const uint8_t *const *x, size_t n,      \
                                               size_t at, size_t count, ahead *next)   \
    {                                                                                  \
        dot_pairs(sums, ld, p, x, n, at, count, next, tile);                           \
    }
EACH_TILE(DOT_PAIRS, pairs)
static const format format_pairs = {
    rows_pairs, tile_pairs, {EACH_TILE(DOT_NAME, pairs)}, 1, 2, CHUNK_REAL};
MATMUL(pairs)

static void set_bf16(jt_kernels *table)
{
    table->matmul[JT_BF16] =
        (jt_matmul){.act = JT_ACT_BF16X2, .fn = matmul_pairs, .tiled = tiled_pairs};
}

#endif
