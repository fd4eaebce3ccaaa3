/* Conversions between float, IEEE binary16 and bfloat16, exact in both directions and
 * rounding to nearest even. The scalar truth that vector code is held against. */
#ifndef JT_BASE_HALF_H
#define JT_BASE_HALF_H

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

#endif
