/* The vector words in which simd/ is written, for AVX-512 (F, BW, DQ, VL, VNNI).
 *
 *   vf, vi     LANES floats, LANES 32-bit integers
 *   TILE       activations rows that a product handles at once
 *   GEMM_*     rows, and vectors of columns, that gemm sums in registers
 *   GEMM_PAIR  values of bfloat16 that an instruction multiplies in a lane; 1: none
 *   dword      four code bytes, or two halves, of one row, in one lane
 *
 * simd_avx2.h has the same words. Static, for one translation unit. */
#ifndef JT_SIMD_AVX512_H
#define JT_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES             16
#define WIDTH             2
#define TILE              4
#define ATTN_SUMS         16
#define TILE_SIZES        3 /* 1, 2, 4 */
#define EACH_TILE(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(4, __VA_ARGS__)
#define GEMM_ROWS         8
#define GEMM_WIDTH        3
#ifdef __AVX512BF16__
#define GEMM_PAIR 2
#else
#define GEMM_PAIR 1
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Activation rows whose sums fit the registers, by group and largest code. */
#define WIDEST(group, top) TILE

typedef __m512 vf;
typedef __m512i vi;
typedef uint32_t vi_bits __attribute__((vector_size(64)));
typedef int32_t vi_signed __attribute__((vector_size(64)));

ALWAYS_INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

/* The first n lanes; others are zero, and their memory is not touched. n >= 0; more
 * than LANES means all. */
ALWAYS_INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)(n >= LANES ? 0xffff : (1u << n) - 1);
}

ALWAYS_INLINE vf vf_load_n(const float *p, size_t n)
{
    return n >= LANES ? vf_load(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
}

/* Measured (Zen 5): a store with a full mask makes functions with an exponential take
 * 2.5 times as long. */
ALWAYS_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    if (n >= LANES)
        vf_store(p, x);
    else
        _mm512_mask_storeu_ps(p, first_lanes(n), x);
}

ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

ALWAYS_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a b + c, one rounding */
ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a b, one rounding */
ALWAYS_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

/* Of a and x; x when it is a NaN. */
ALWAYS_INLINE vf vf_max(vf a, vf x)
{
    return _mm512_max_ps(a, x);
}

ALWAYS_INLINE vf vf_min(vf a, vf x)
{
    return _mm512_min_ps(a, x);
}

ALWAYS_INLINE float vf_sum(vf x)
{
    return _mm512_reduce_add_ps(x);
}

ALWAYS_INLINE float vf_top(vf x)
{
    return _mm512_reduce_max_ps(x);
}

ALWAYS_INLINE vf vf_from_vi(vi x)
{
    return _mm512_cvtepi32_ps(x);
}

/* To nearest even. */
ALWAYS_INLINE vi vi_from_vf(vf x)
{
    return _mm512_cvtps_epi32(x);
}

ALWAYS_INLINE vf vf_cast(vi bits)
{
    return _mm512_castsi512_ps(bits);
}

ALWAYS_INLINE vi vi_cast(vf x)
{
    return _mm512_castps_si512(x);
}

/* Lane by lane: yes, or no where x is a NaN. */
ALWAYS_INLINE vf vf_unless_nan(vf x, vi yes, vi no)
{
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return vf_cast(_mm512_mask_mov_epi32(yes, nan, no));
}

ALWAYS_INLINE vi vi_set1(int x)
{
    return _mm512_set1_epi32(x);
}

ALWAYS_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

ALWAYS_INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

ALWAYS_INLINE vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}

ALWAYS_INLINE vi vi_and(vi a, int mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi32(mask));
}

ALWAYS_INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

ALWAYS_INLINE vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

ALWAYS_INLINE vi vi_left(vi a, int n)
{
    return (vi)((vi_bits)a << n);
}

ALWAYS_INLINE vi vi_right(vi a, int n)
{
    return (vi)((vi_bits)a >> n);
}

/* With the sign. */
ALWAYS_INLINE vi vi_shift_down(vi a, int n)
{
    return (vi)((vi_signed)a >> n);
}

/* The low 16 bits of each lane, taken as binary16. */
ALWAYS_INLINE vf vf_from_half(vi x)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
}

ALWAYS_INLINE vf vf_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

ALWAYS_INLINE void vf_store_half(uint16_t *p, vf x)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

ALWAYS_INLINE vi vi_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

/* LANES words, or bytes. */
ALWAYS_INLINE vi vi_load_words(const uint8_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
}

ALWAYS_INLINE vi vi_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}

ALWAYS_INLINE vi vi_load_signed(const uint8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}

ALWAYS_INLINE __m512i four_rows(const uint8_t *p, size_t stride)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 2 * stride)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 3 * stride)), 3);
}

/* 16 bytes of each of LANES rows, `stride` bytes apart: out[i] lane r = dword i of row
 * r. */
ALWAYS_INLINE void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    __m512i a = four_rows(p, 4 * stride);
    __m512i b = four_rows(p + stride, 4 * stride);
    __m512i c = four_rows(p + 2 * stride, 4 * stride);
    __m512i d = four_rows(p + 3 * stride, 4 * stride);
    __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
    out[0] = _mm512_unpacklo_epi64(ab, cd);
    out[1] = _mm512_unpackhi_epi64(ab, cd);
    ab = _mm512_unpackhi_epi32(a, b);
    cd = _mm512_unpackhi_epi32(c, d);
    out[2] = _mm512_unpacklo_epi64(ab, cd);
    out[3] = _mm512_unpackhi_epi64(ab, cd);
}

/* vpdpbusd takes unsigned codes: int8 codes are held 128 higher, and the product is
 * corrected like that of any format with an offset. */
#define INT8_OFFSET 128
ALWAYS_INLINE vi vi_int8_codes(vi x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi32((int)0x80808080));
}

/* A table of 16 bytes, and what it has for the numbers 0..15 in the bytes of x. */
ALWAYS_INLINE vi vi_table(const int8_t values[16])
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)values));
}

ALWAYS_INLINE vi vi_look_up(vi table, vi x)
{
    return _mm512_shuffle_epi8(table, x);
}

/* The two 16-bit numbers of each lane, below `size`, replaced by what the table has
 * there.
 *
 * Up to 1024 words (a power of two from 64): each instruction looks up in 64, further
 * bits of the index choose between the results. MEASURED (Zen 5, ns for 32 words, size
 * 256, 512 and 1024): 1.4, 2.2, 3.9; two gathers 11. */
ALWAYS_INLINE vi vi_pick(const uint16_t *table, int size, vi index)
{
    if (size > 1024) {
        vi low = _mm512_i32gather_epi32(vi_and(index, 0xffff), table, 2);
        vi high = _mm512_i32gather_epi32(vi_right(index, 16), table, 2);
        return _mm512_mask_blend_epi16(0xaaaaaaaa, low, vi_left(high, 16));
    }
    vi found[1024 / 64];
    for (int i = 0; i < size / 64; i++) {
        const uint16_t *part = table + 64 * i;
        found[i] = _mm512_permutex2var_epi16(_mm512_loadu_si512(part), index,
                                             _mm512_loadu_si512(part + 32));
    }
    for (int n = size / 128, bit = 64; n > 0; n /= 2, bit *= 2) {
        __mmask32 upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16((short)bit));
        for (int i = 0; i < n; i++)
            found[i] = _mm512_mask_mov_epi16(found[2 * i], upper, found[2 * i + 1]);
    }
    return found[0];
}

/* The bytes `twice` - x where the bits 4 i .. 4 i + 3 of the lane in `bits` are set, x
 * elsewhere: the sign of codes that have an offset. */
ALWAYS_INLINE vi vi_turn(vi x, vi bits, int i, int twice)
{
    const int byte = i / 2 * 0x01010101;
    const __m512i order = _mm512_set4_epi32(0x0c0c0c0c + byte, 0x08080808 + byte,
                                            0x04040404 + byte, byte);
    const __m512i bit = vi_set1(i % 2 ? (int)0x80402010 : 0x08040201);
    __mmask64 turned = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, order), bit);
    return _mm512_mask_sub_epi8(x, turned, _mm512_set1_epi8((char)twice), x);
}

/* sum[v][t] += sum over `steps` dwords of codes w[v] with activation bytes x[t]. `top`
 * is the largest code (AVX2 needs it). */
ALWAYS_INLINE void dot_codes(vi sum[WIDTH][TILE], const vi *const w[WIDTH],
                             const int8_t *const x[TILE], size_t at, int tile,
                             int steps, int top)
{
    (void)top;
    for (int s = 0; s < steps; s++)
        for (int t = 0; t < tile; t++) {
            int dword;
            memcpy(&dword, x[t] + at + 4 * s, sizeof dword);
            for (int v = 0; v < WIDTH; v++)
                sum[v][t] =
                    _mm512_dpbusd_epi32(sum[v][t], w[v][s], _mm512_set1_epi32(dword));
        }
}

/* Products of few tokens (simd/few.h): whether vi_dot takes int8 codes, and for how
 * many tokens they pay where `ways` codes are decoded together. */
#define FEW_SIGNED     1
#define FEW_MOST(ways) ((ways) == 4 ? 3 : 4)

/* sum + the products of four unsigned codes and four signed bytes in each lane */
ALWAYS_INLINE vi vi_dot(vi sum, vi codes, vi bytes)
{
    return _mm512_dpbusd_epi32(sum, codes, bytes);
}

#if GEMM_PAIR == 2
/* Lanes of two bfloat16, rounded to nearest even: of low (first) and high at the same
 * lane; */
ALWAYS_INLINE vf vf_pairs(vf low, vf high)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    return vf_cast(_mm512_permutexvar_epi16(order, both));
}

/* or of neighbours in x and then y. */
ALWAYS_INLINE vf vf_pair_up(vf x, vf y)
{
    return vf_cast((__m512i)_mm512_cvtne2ps_pbh(y, x));
}

/* c + both products of the pairs */
ALWAYS_INLINE vf vf_dot_pairs(vf a, vf b, vf c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
#endif

#endif
