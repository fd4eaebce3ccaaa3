/* Copies of the two sides of a training product, in the order in which its tiles read
 * them.
 *
 * A panel is [words][width], where the lanes are rows of A (one vector) or columns of B
 * (GEMM_WIDTH vectors, fewer at the end). A word is what a lane
 * takes of one step along k: a float, or GEMM_PAIR values rounded to bfloat16. Whatever
 * the strides and indices of the caller, they end in pack_panel. Lanes past the edge
 * are zero or repeat the last one; their sums are not stored. */
#ifndef JT_SIMD_GEMM_PACK_H
#define JT_SIMD_GEMM_PACK_H

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

/* Ask for what lies `values` floats after p, should there be anything. Sides of a
 * product come from memory in strides that the processor does not foresee. Measured
 * (Zen 5, 8 MB on one side): 45 % of the speed of fma without, 75 % with. */
ALWAYS_INLINE void fetch(const float *p, size_t values)
{
    __builtin_prefetch((const void *)((uintptr_t)p + values * sizeof *p));
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
        for (; k + 4 <= count; k += 4) {
            for (size_t i = 0; i < 4 && k % 16 == 0 && !s->lane_index; i++)
                fetch(lane[i] + k, 4 * s->lane);
            pack_4x4(dst + k * width + l, width, lane, k);
        }
        for (; k < count; k++)
            for (size_t i = 0; i < 4; i++)
                dst[k * width + l + i] = lane[i][k];
    }
}

/* Values lie together along the lanes, in memory far apart along k. */
static void pack_columns(float *dst, size_t width, const gemm_side *s, size_t first,
                         size_t lanes, size_t at, size_t count)
{
    enum { AHEAD = 48 };
    for (size_t k = 0; k < count; k++, dst += width) {
        size_t later = k + AHEAD < count || !s->k_index ? k + AHEAD : k;
        const float *row = s->data + first + index_at(s->k_index, at + k) * s->step;
        size_t next = index_at(s->k_index, at + later) * s->step;
        for (size_t l = 0; l < width; l += LANES) {
            fetch(s->data, next + first + l);
            vf_store(dst + l, vf_load_n(row + l, lanes - l));
        }
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

/* Floats of `lanes` lanes from `first` on, `count` values of each from `at` on. */
static void pack_floats(float *dst, size_t width, const gemm_side *s, size_t first,
                        size_t lanes, size_t at, size_t count)
{
    if (s->lane == 1 && !s->lane_index)
        pack_columns(dst, width, s, first, lanes, at, count);
    else if (s->step == 1 && !s->k_index)
        pack_turned(dst, width, s, first, lanes, at, count);
    else
        pack_any(dst, width, s, first, lanes, at, count);
}

#if GEMM_PAIR == 2
/* [count][width] floats to the words of [count / 2][width] pairs. */
static void narrow(float *dst, const float *src, size_t width, size_t count)
{
    for (size_t k = 0; k < count; k += 2, dst += width, src += 2 * width)
        for (size_t l = 0; l < width; l += LANES) {
            vf odd = k + 1 < count ? vf_load(src + width + l) : vf_set1(0);
            vf_store(dst + l, vf_pairs(vf_load(src + l), odd));
        }
}

/* The same of one lane. */
static void narrow_row(float *dst, const float *src, size_t count)
{
    for (size_t k = 0; k < count; k += 2 * LANES, src += 2 * LANES, dst += LANES) {
        size_t rest = count - k, high = rest > LANES ? rest - LANES : 0;
        vf words = vf_pair_up(vf_load_n(src, rest), vf_load_n(src + LANES, high));
        vf_store_n(dst, words, (rest + 1) / 2);
    }
}
#else
/* Rounded to nearest even; a NaN stays one and becomes quiet. */
static void narrow_row(float *dst, const float *src, size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        vf x = vf_load_n(src + i, count - i);
        vi bits = vi_cast(x), odd = vi_and(vi_right(bits, 16), 1);
        vi rounded = vi_and(vi_add(vi_add(bits, vi_set1(0x7fff)), odd), -0x10000);
        vi quiet = vi_and(vi_or(bits, vi_set1(0x400000)), -0x10000);
        vf_store_n(dst + i, vf_unless_nan(x, rounded, quiet), count - i);
    }
}

static void narrow(float *dst, const float *src, size_t width, size_t count)
{
    narrow_row(dst, src, width * count);
}
#endif

/* Words for `count` values of a lane. */
ALWAYS_INLINE size_t gemm_words(size_t count, bool bf16)
{
    return bf16 ? (count + GEMM_PAIR - 1) / GEMM_PAIR : count;
}

/* The panel of `lanes` lanes from `first` on, `count` values of each from `at` on. */
static void pack_panel(float *dst, size_t width, const gemm_side *s, size_t first,
                       size_t lanes, size_t at, size_t count, bool bf16)
{
    enum { PIECE = 32 }; /* stays in the first cache */
    float piece[PIECE * GEMM_COLUMNS];
    if (!bf16) {
        pack_floats(dst, width, s, first, lanes, at, count);
        return;
    }
    for (size_t k = 0; k < count; k += PIECE) {
        size_t some = count - k < PIECE ? count - k : PIECE;
        pack_floats(piece, width, s, first, lanes, at + k, some);
        narrow(dst + k / GEMM_PAIR * width, piece, width, some);
    }
}

#endif
