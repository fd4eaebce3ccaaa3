/* The vector words in which simd/ is written, for AVX2, FMA and F16C. What they mean is
 * said in simd_avx512.h. Static, for one translation unit. */
#ifndef JT_SIMD_AVX2_H
#define JT_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES             8
#define WIDTH             2
#define TILE              4
#define ATTN_SUMS         8
#define TILE_SIZES        3 /* 1, 2, 4 */
#define EACH_TILE(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(4, __VA_ARGS__)
#define GEMM_ROWS         4
#define GEMM_WIDTH        3
#define GEMM_PAIR         1
#define ALWAYS_INLINE     static inline __attribute__((always_inline))

/* Half a tile where dot_codes keeps sums of 16 bits beside those of 32. */
#define WIDEST(group, top) ((group) == 16 || (top) > 31 ? TILE / 2 : TILE)

typedef __m256 vf;
typedef __m256i vi;
typedef uint32_t vi_bits __attribute__((vector_size(32)));
typedef int32_t vi_signed __attribute__((vector_size(32)));

ALWAYS_INLINE vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

ALWAYS_INLINE __m256i first_lanes(size_t n)
{
    int count = n > LANES ? LANES : (int)n;
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
}

ALWAYS_INLINE vf vf_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}

/* Masked stores are slow on some processors. */
ALWAYS_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    if (n >= LANES)
        vf_store(p, x);
    else
        _mm256_maskstore_ps(p, first_lanes(n), x);
}

ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

ALWAYS_INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

ALWAYS_INLINE vf vf_max(vf a, vf x)
{
    return _mm256_max_ps(a, x);
}

ALWAYS_INLINE vf vf_min(vf a, vf x)
{
    return _mm256_min_ps(a, x);
}

ALWAYS_INLINE float vf_sum(vf x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

ALWAYS_INLINE float vf_top(vf x)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

ALWAYS_INLINE vf vf_from_vi(vi x)
{
    return _mm256_cvtepi32_ps(x);
}

ALWAYS_INLINE vi vi_from_vf(vf x)
{
    return _mm256_cvtps_epi32(x);
}

ALWAYS_INLINE vf vf_cast(vi bits)
{
    return _mm256_castsi256_ps(bits);
}

ALWAYS_INLINE vi vi_cast(vf x)
{
    return _mm256_castps_si256(x);
}

ALWAYS_INLINE vf vf_unless_nan(vf x, vi yes, vi no)
{
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_blendv_ps(vf_cast(yes), vf_cast(no), nan);
}

ALWAYS_INLINE vi vi_set1(int x)
{
    return _mm256_set1_epi32(x);
}

ALWAYS_INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

ALWAYS_INLINE vi vi_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

ALWAYS_INLINE vi vi_mul(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}

ALWAYS_INLINE vi vi_and(vi a, int mask)
{
    return _mm256_and_si256(a, _mm256_set1_epi32(mask));
}

ALWAYS_INLINE vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

ALWAYS_INLINE vi vi_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}

ALWAYS_INLINE vi vi_left(vi a, int n)
{
    return (vi)((vi_bits)a << n);
}

ALWAYS_INLINE vi vi_right(vi a, int n)
{
    return (vi)((vi_bits)a >> n);
}

ALWAYS_INLINE vi vi_shift_down(vi a, int n)
{
    return (vi)((vi_signed)a >> n);
}

ALWAYS_INLINE vf vf_from_half(vi x)
{
    __m256i low = vi_and(x, 0xffff);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

ALWAYS_INLINE vf vf_load_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

ALWAYS_INLINE void vf_store_half(uint16_t *p, vf x)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

ALWAYS_INLINE vi vi_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

ALWAYS_INLINE vi vi_load_words(const uint8_t *p)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
}

ALWAYS_INLINE vi vi_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}

ALWAYS_INLINE vi vi_load_signed(const uint8_t *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p));
}

ALWAYS_INLINE __m256i two_rows(const uint8_t *p, size_t stride)
{
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const void *)p));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const void *)(p + stride)), 1);
}

ALWAYS_INLINE void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    __m256i a = two_rows(p, 4 * stride);
    __m256i b = two_rows(p + stride, 4 * stride);
    __m256i c = two_rows(p + 2 * stride, 4 * stride);
    __m256i d = two_rows(p + 3 * stride, 4 * stride);
    __m256i ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    out[0] = _mm256_unpacklo_epi64(ab, cd);
    out[1] = _mm256_unpackhi_epi64(ab, cd);
    ab = _mm256_unpackhi_epi32(a, b);
    cd = _mm256_unpackhi_epi32(c, d);
    out[2] = _mm256_unpacklo_epi64(ab, cd);
    out[3] = _mm256_unpackhi_epi64(ab, cd);
}

/* Signed codes stay as they are: dot_codes moves the sign to the activation. */
#define INT8_OFFSET 0
ALWAYS_INLINE vi vi_int8_codes(vi x)
{
    return x;
}

ALWAYS_INLINE vi vi_table(const int8_t values[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)values));
}

ALWAYS_INLINE vi vi_look_up(vi table, vi x)
{
    return _mm256_shuffle_epi8(table, x);
}

/* The eight indices in x replaced by words of the table. MEASURED (Zen 5, ns for 16
 * words): 3.7; two gathers of eight dwords 5.0. */
ALWAYS_INLINE __m128i pick_eight(const uint16_t *table, __m128i x)
{
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(x);
    uint64_t high = (uint64_t)_mm_extract_epi64(x, 1);
    x = _mm_cvtsi32_si128(table[low & 0xffff]);
    x = _mm_insert_epi16(x, table[low >> 16 & 0xffff], 1);
    x = _mm_insert_epi16(x, table[low >> 32 & 0xffff], 2);
    x = _mm_insert_epi16(x, table[low >> 48], 3);
    x = _mm_insert_epi16(x, table[high & 0xffff], 4);
    x = _mm_insert_epi16(x, table[high >> 16 & 0xffff], 5);
    x = _mm_insert_epi16(x, table[high >> 32 & 0xffff], 6);
    return _mm_insert_epi16(x, table[high >> 48], 7);
}

ALWAYS_INLINE vi vi_pick(const uint16_t *table, int size, vi index)
{
    (void)size;
    __m128i low = pick_eight(table, _mm256_castsi256_si128(index));
    __m128i high = pick_eight(table, _mm256_extracti128_si256(index, 1));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

ALWAYS_INLINE vi vi_turn(vi x, vi bits, int i, int twice)
{
    const int byte = i / 2 * 0x01010101;
    const __m128i lanes =
        _mm_setr_epi32(byte, 0x04040404 + byte, 0x08080808 + byte, 0x0c0c0c0c + byte);
    const __m256i bit = vi_set1(i % 2 ? (int)0x80402010 : 0x08040201);
    __m256i here = _mm256_shuffle_epi8(bits, _mm256_broadcastsi128_si256(lanes));
    __m256i turned = _mm256_cmpeq_epi8(_mm256_and_si256(here, bit), bit);
    __m256i other = _mm256_sub_epi8(_mm256_set1_epi8((char)twice), x);
    return _mm256_blendv_epi8(x, other, turned);
}

ALWAYS_INLINE vi signed_pairs(vi code, vi act)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(act, code));
}

/* Codes up to `top`; 128 means signed. A pair of products is at most 2 * 127 * top, so
 * a few steps (a divisor of `steps`, 4 or 8) can be summed in 16 bits before they are
 * widened. */
ALWAYS_INLINE void dot_codes(vi sum[WIDTH][TILE], const vi *const w[WIDTH],
                             const int8_t *const x[TILE], size_t at, int tile,
                             int steps, int top)
{
    const int fit = 32767 / (2 * 127 * top);
    const int run = fit >= steps ? steps : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
    const vi one = _mm256_set1_epi16(1);
    for (int first = 0; first < steps; first += run) {
        vi pairs[WIDTH][TILE];
        for (int s = first; s < first + run; s++)
            for (int t = 0; t < tile; t++) {
                int dword;
                memcpy(&dword, x[t] + at + 4 * s, sizeof dword);
                vi act = _mm256_set1_epi32(dword);
                for (int v = 0; v < WIDTH; v++) {
                    vi two = top == 128 ? signed_pairs(w[v][s], act)
                                        : _mm256_maddubs_epi16(w[v][s], act);
                    pairs[v][t] = s == first ? two : _mm256_add_epi16(pairs[v][t], two);
                }
            }
        for (int v = 0; v < WIDTH; v++)
            for (int t = 0; t < tile; t++)
                sum[v][t] = vi_add(sum[v][t], _mm256_madd_epi16(pairs[v][t], one));
    }
}

/* Products of few tokens (simd/few.h): whether vi_dot takes int8 codes, and for how
 * many tokens they pay where `ways` codes are decoded together. */
#define FEW_SIGNED     0
#define FEW_MOST(ways) ((ways) == 4 ? 2 : 3)

/* sum + the products of four unsigned codes and four signed bytes in each lane; two of
 * them together must fit 16 bits */
ALWAYS_INLINE vi vi_dot(vi sum, vi codes, vi bytes)
{
    __m256i pairs = _mm256_maddubs_epi16(codes, bytes);
    return vi_add(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#endif
