/* The vector words in which simd/ is written, for NEON (AArch64), with the dot products
 * of Armv8.2 where the unit is compiled for them. What they mean is said in
 * x86/simd_avx512.h. Static, for one translation unit. */
#ifndef JT_SIMD_NEON_H
#define JT_SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define LANES             4
#define WIDTH             2
#define TILE              4
#define ATTN_SUMS         16
#define TILE_SIZES        3 /* 1, 2, 4 */
#define EACH_TILE(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(4, __VA_ARGS__)
#define GEMM_ROWS         4
#define GEMM_WIDTH        3
#define GEMM_PAIR         1
#define ALWAYS_INLINE     static inline __attribute__((always_inline))

#define WIDEST(group, top) TILE

typedef float32x4_t vf;
typedef int32x4_t vi;

ALWAYS_INLINE vf vf_set1(float x)
{
    return vdupq_n_f32(x);
}

ALWAYS_INLINE vf vf_load(const float *p)
{
    return vld1q_f32(p);
}

ALWAYS_INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x);
}

ALWAYS_INLINE vf vf_load_n(const float *p, size_t n)
{
    float some[LANES] = {0};
    if (n >= LANES)
        return vf_load(p);
    for (size_t i = 0; i < n; i++)
        some[i] = p[i];
    return vf_load(some);
}

ALWAYS_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    float some[LANES];
    if (n >= LANES) {
        vf_store(p, x);
        return;
    }
    vf_store(some, x);
    for (size_t i = 0; i < n; i++)
        p[i] = some[i];
}

ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}

ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}

ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

ALWAYS_INLINE vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}

ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

ALWAYS_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return vfmsq_f32(c, a, b);
}

/* x where one of them is a NaN, as on x86. */
ALWAYS_INLINE vf vf_max(vf a, vf x)
{
    return vbslq_f32(vcgtq_f32(a, x), a, x);
}

ALWAYS_INLINE vf vf_min(vf a, vf x)
{
    return vbslq_f32(vcltq_f32(a, x), a, x);
}

ALWAYS_INLINE float vf_sum(vf x)
{
    return vaddvq_f32(x);
}

ALWAYS_INLINE float vf_top(vf x)
{
    return vmaxvq_f32(x);
}

ALWAYS_INLINE vf vf_from_vi(vi x)
{
    return vcvtq_f32_s32(x);
}

ALWAYS_INLINE vi vi_from_vf(vf x)
{
    return vcvtnq_s32_f32(x);
}

ALWAYS_INLINE vf vf_cast(vi bits)
{
    return vreinterpretq_f32_s32(bits);
}

ALWAYS_INLINE vi vi_cast(vf x)
{
    return vreinterpretq_s32_f32(x);
}

ALWAYS_INLINE vf vf_unless_nan(vf x, vi yes, vi no)
{
    return vbslq_f32(vceqq_f32(x, x), vf_cast(yes), vf_cast(no));
}

ALWAYS_INLINE vi vi_set1(int x)
{
    return vdupq_n_s32(x);
}

ALWAYS_INLINE vi vi_add(vi a, vi b)
{
    return vaddq_s32(a, b);
}

ALWAYS_INLINE vi vi_sub(vi a, vi b)
{
    return vsubq_s32(a, b);
}

ALWAYS_INLINE vi vi_mul(vi a, vi b)
{
    return vmulq_s32(a, b);
}

ALWAYS_INLINE vi vi_and(vi a, int mask)
{
    return vandq_s32(a, vdupq_n_s32(mask));
}

ALWAYS_INLINE vi vi_or(vi a, vi b)
{
    return vorrq_s32(a, b);
}

ALWAYS_INLINE vi vi_xor(vi a, vi b)
{
    return veorq_s32(a, b);
}

ALWAYS_INLINE vi vi_left(vi a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(n));
}

ALWAYS_INLINE vi vi_right(vi a, int n)
{
    uint32x4_t bits = vreinterpretq_u32_s32(a);
    return vreinterpretq_s32_u32(vshlq_u32(bits, vdupq_n_s32(-n)));
}

ALWAYS_INLINE vi vi_shift_down(vi a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(-n));
}

ALWAYS_INLINE vf vf_from_half(vi x)
{
    uint16x4_t low = vmovn_u32(vreinterpretq_u32_s32(x));
    return vcvt_f32_f16(vreinterpret_f16_u16(low));
}

ALWAYS_INLINE vf vf_load_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

ALWAYS_INLINE void vf_store_half(uint16_t *p, vf x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}

ALWAYS_INLINE vi vi_load(const uint8_t *p)
{
    return vreinterpretq_s32_u8(vld1q_u8(p));
}

ALWAYS_INLINE vi vi_load_words(const uint8_t *p)
{
    return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))));
}

ALWAYS_INLINE vi vi_load_bytes(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    uint16x8_t words = vmovl_u8(vcreate_u8(four));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
}

ALWAYS_INLINE vi vi_load_signed(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vcreate_u8(four)));
    return vmovl_s16(vget_low_s16(words));
}

ALWAYS_INLINE void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    vi row[4];
    for (int i = 0; i < 4; i++)
        row[i] = vreinterpretq_s32_u8(vld1q_u8(p + (size_t)i * stride));
    int32x4x2_t ab = vtrnq_s32(row[0], row[1]), cd = vtrnq_s32(row[2], row[3]);
    out[0] = vcombine_s32(vget_low_s32(ab.val[0]), vget_low_s32(cd.val[0]));
    out[1] = vcombine_s32(vget_low_s32(ab.val[1]), vget_low_s32(cd.val[1]));
    out[2] = vcombine_s32(vget_high_s32(ab.val[0]), vget_high_s32(cd.val[0]));
    out[3] = vcombine_s32(vget_high_s32(ab.val[1]), vget_high_s32(cd.val[1]));
}

/* Products of bytes are signed. */
#define INT8_OFFSET 0
ALWAYS_INLINE vi vi_int8_codes(vi x)
{
    return x;
}

ALWAYS_INLINE vi vi_table(const int8_t values[16])
{
    return vreinterpretq_s32_s8(vld1q_s8(values));
}

ALWAYS_INLINE vi vi_look_up(vi table, vi x)
{
    return vreinterpretq_s32_u8(
        vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(x)));
}

ALWAYS_INLINE vi vi_pick(const uint16_t *table, int size, vi index)
{
    uint16_t word[8];
    (void)size;
    vst1q_u16(word, vreinterpretq_u16_s32(index));
    for (int i = 0; i < 8; i++)
        word[i] = table[word[i]];
    return vreinterpretq_s32_u16(vld1q_u16(word));
}

ALWAYS_INLINE vi vi_turn(vi x, vi bits, int i, int twice)
{
    vi four = vi_mul(vi_and(vi_right(bits, 4 * i), 15), vi_set1(0x01010101));
    uint8x16_t turned =
        vtstq_u8(vreinterpretq_u8_s32(four), vreinterpretq_u8_s32(vi_set1(0x08040201)));
    uint8x16_t code = vreinterpretq_u8_s32(x);
    uint8x16_t other = vsubq_u8(vdupq_n_u8((uint8_t)twice), code);
    return vreinterpretq_s32_u8(vbslq_u8(turned, other, code));
}

/* Products of few tokens (simd/few.h): whether vi_dot takes int8 codes, and for how
 * many tokens they pay where `ways` codes are decoded together. */
#define FEW_SIGNED     1
#define FEW_MOST(ways) ((ways) == 4 ? 3 : 4)

/* sum + the products of four codes and four bytes in each lane */
ALWAYS_INLINE vi vi_dot(vi sum, vi codes, vi bytes)
{
    int8x16_t a = vreinterpretq_s8_s32(codes), b = vreinterpretq_s8_s32(bytes);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    int16x8_t high = vmull_high_s8(a, b);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}

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
                sum[v][t] = vi_dot(sum[v][t], w[v][s], vi_set1(dword));
        }
}

#endif
