/* Conversions between float, IEEE binary16 and bfloat16, exact in both directions and
 * rounding to nearest even; what the eight- and four-bit formats of OCP Microscaling
 * 1.0 stand for. The scalar truth that vector code is held against. */
#ifndef JT_BASE_HALF_H
#define JT_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t jt_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float jt_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float jt_bf16_to_float(uint16_t h)
{
    return jt_bits_float((uint32_t)h << 16);
}

static inline uint16_t jt_float_to_bf16(float x)
{
    uint32_t bits = jt_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* keep a NaN a (quiet) NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Does bfloat16 say each of n floats exactly? */
static inline int jt_all_bf16(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (jt_float_bits(x[i]) & 0xffff)
            return 0;
    }
    return 1;
}

static inline float jt_f16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t rest = h & 0x7fffu;
    if (rest >= 0x7c00u) /* infinity, NaN */
        return jt_bits_float(sign | 0x7f800000u | rest << 13);
    if (rest < 0x0400u) /* zero, subnormal: exact product */
        return jt_bits_float(sign | jt_float_bits((float)rest * 0x1p-24f));
    return jt_bits_float(sign | ((rest << 13) + 0x38000000u));
}

static inline uint16_t jt_float_to_f16(float x)
{
    uint32_t bits = jt_float_bits(x);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    if (bits >= 0x47800000u) /* 65536 and more; 65520.. round up below */
        return sign | 0x7c00u;
    if (bits < 0x38800000u) { /* below the smallest normal: let the adder round */
        float shifted = jt_bits_float(bits) + 0.5f;
        return (uint16_t)(sign | (jt_float_bits(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((bits + 0xfff + (bits >> 13 & 1) - 0x38000000u) >> 13));
}

/* FP8 E4M3: sign, 4 bits of exponent (bias 7), 3 of fraction; no infinity, and only
 * 0x7f and 0xff are NaN. The bits lie like those of a half with the bias 15. */
static inline float jt_f8e4m3_to_f32(uint8_t x)
{
    if ((x & 0x7f) == 0x7f)
        return jt_bits_float((uint32_t)(x & 0x80) << 24 | 0x7fc00000u);
    return jt_f16_to_float((uint16_t)((x & 0x80) << 8 | (x & 0x7f) << 7)) * 256;
}

/* E8M0, a power of two as a scale: 2^(x - 127), 255 is NaN. */
static inline float jt_e8m0_to_f32(uint8_t x)
{
    return jt_bits_float(x == 255 ? 0x7fc00000u : x ? (uint32_t)x << 23 : 0x00400000u);
}

/* FP4 E2M1 in the low four bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the same negative. */
static inline float jt_f4e2m1_to_f32(uint8_t x)
{
    static const float size[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return x & 8 ? -size[x & 7] : size[x & 7];
}

#endif
