/* Reference quantisers of plain types and of the blocks of 32. */
#include "kernels/quantize.h"

#include <string.h>

#include "junto/dtype.h"

/* Code as the reference does it: half up. */
static int code(float x, int high)
{
    if (!(x > 0))
        return 0;
    return x < (float)high ? (int)x : high;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

static void range(const float *x, int n, float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

static float reciprocal(float d)
{
    return d != 0 ? 1 / d : 0;
}

/* Nibbles of 32 codes, and the bits above them. */
static void pack_nibbles(uint8_t qs[16], const uint8_t codes[32])
{
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

static void pack_fifth_bits(uint8_t qh[4], const uint8_t codes[32])
{
    memset(qh, 0, 4);
    for (int j = 0; j < 32; j++)
        qh[j / 8] |= (uint8_t)((codes[j] >> 4 & 1) << j % 8);
}

/* codes = (x - min) * inverse + shift, cut to an integer of 0 .. high */
static void encode(uint8_t codes[32], const float *x, float min, float inverse,
                   float shift, int high)
{
    for (int j = 0; j < 32; j++)
        codes[j] = (uint8_t)code((x[j] - min) * inverse + shift, high);
}

void jt_quantize_q8_0(jt_q8_0 *dst, const float *src, size_t n)
{
    for (; n > 0; n -= 32, src += 32, dst++) {
        float d = fabsf(extreme(src, 32)) / 127;
        float inverse = reciprocal(d);
        dst->d = jt_float_to_f16(d);
        for (int j = 0; j < 32; j++) {
            float v = src[j] * inverse; /* half away from zero, as roundf */
            dst->qs[j] = (int8_t)(v < 0 ? -code(0.5f - v, 127) : code(v + 0.5f, 127));
        }
    }
}

void jt_quantize_q4_0(jt_q4_0 *dst, const float *src, size_t n)
{
    uint8_t codes[32];
    for (; n > 0; n -= 32, src += 32, dst++) {
        float d = extreme(src, 32) / -8;
        dst->d = jt_float_to_f16(d);
        encode(codes, src, 0, reciprocal(d), 8.5f, 15);
        pack_nibbles(dst->qs, codes);
    }
}

void jt_quantize_q4_1(jt_q4_1 *dst, const float *src, size_t n)
{
    uint8_t codes[32];
    for (; n > 0; n -= 32, src += 32, dst++) {
        float min, max;
        range(src, 32, &min, &max);
        float d = (max - min) / 15;
        dst->d = jt_float_to_f16(d);
        dst->m = jt_float_to_f16(min);
        encode(codes, src, min, reciprocal(d), 0.5f, 15);
        pack_nibbles(dst->qs, codes);
    }
}

void jt_quantize_q5_0(jt_q5_0 *dst, const float *src, size_t n)
{
    uint8_t codes[32];
    for (; n > 0; n -= 32, src += 32, dst++) {
        float d = extreme(src, 32) / -16;
        dst->d = jt_float_to_f16(d);
        encode(codes, src, 0, reciprocal(d), 16.5f, 31);
        pack_nibbles(dst->qs, codes);
        pack_fifth_bits(dst->qh, codes);
    }
}

void jt_quantize_q5_1(jt_q5_1 *dst, const float *src, size_t n)
{
    uint8_t codes[32];
    for (; n > 0; n -= 32, src += 32, dst++) {
        float min, max;
        range(src, 32, &min, &max);
        float d = (max - min) / 31;
        dst->d = jt_float_to_f16(d);
        dst->m = jt_float_to_f16(min);
        encode(codes, src, min, reciprocal(d), 0.5f, 31);
        pack_nibbles(dst->qs, codes);
        pack_fifth_bits(dst->qh, codes);
    }
}

static void quantize_f16(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = jt_float_to_f16(src[i]);
        memcpy(dst + 2 * i, &bits, sizeof bits);
    }
}

static void quantize_bf16(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = jt_float_to_bf16(src[i]);
        memcpy(dst + 2 * i, &bits, sizeof bits);
    }
}

/* Clamped to floats that the type holds: the conversion is always defined. */
#define X(lower, type, low, high)                                          \
    static void quantize_##lower(uint8_t *dst, const float *src, size_t n) \
    {                                                                      \
        for (size_t i = 0; i < n; i++) {                                   \
            type value = (type)rintf(fminf(fmaxf(src[i], low), high));     \
            memcpy(dst + sizeof value * i, &value, sizeof value);          \
        }                                                                  \
    }
X(i8, int8_t, -0x1p7f, 0x7fp0f)
X(i16, int16_t, -0x1p15f, 0x7fffp0f)
X(i32, int32_t, -0x1p31f, 0x1.fffffep30f)
X(i64, int64_t, -0x1p63f, 0x1.fffffep62f)
#undef X

static void quantize_f64(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double value = (double)src[i];
        memcpy(dst + sizeof value * i, &value, sizeof value);
    }
}

void jt_quantize(jt_dtype dtype, void *dst, const float *src, size_t n)
{
    switch (dtype) {
    case JT_F32:
        memcpy(dst, src, n * sizeof *src);
        break;
    case JT_F16:
        quantize_f16(dst, src, n);
        break;
    case JT_BF16:
        quantize_bf16(dst, src, n);
        break;
    case JT_F64:
        quantize_f64(dst, src, n);
        break;
    case JT_I8:
        quantize_i8(dst, src, n);
        break;
    case JT_I16:
        quantize_i16(dst, src, n);
        break;
    case JT_I32:
        quantize_i32(dst, src, n);
        break;
    case JT_I64:
        quantize_i64(dst, src, n);
        break;
#define X(suffix, lower, values, group, bias, offset, top) \
    case JT_##suffix:                                      \
        jt_quantize_##lower(dst, src, n);                  \
        break;
        JT_ENCODED_LIST(X)
#undef X
#define X(suffix, lower, values, group, bias, offset, top) case JT_##suffix:
        JT_DECODED_LIST(X)
#undef X
    case JT_DTYPE_COUNT:
        break;
    }
}
