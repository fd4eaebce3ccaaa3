/* Plain loops that a compiler turns into good code for any instruction set: decoding,
 * packing, elementwise operations. Each level includes this and compiles its own copy
 * with its own flags; as no product is contracted with a sum, all levels give the same
 * bits. */
#ifndef JT_LOOPS_H
#define JT_LOOPS_H

#include "kernels/c/codes.h"
#include "kernels/c/codes_table.h"
#include "kernels/kernels.h"

static void dequant_f32(float *dst, const void *src, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

static void dequant_bf16(float *dst, const void *src, size_t n)
{
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        dst[i] = jt_bf16_to_float(bits);
    }
}

#define X(lower, type)                                                 \
    static void dequant_##lower(float *dst, const void *src, size_t n) \
    {                                                                  \
        const uint8_t *bytes = src;                                    \
        for (size_t i = 0; i < n; i++) {                               \
            type value;                                                \
            memcpy(&value, bytes + sizeof value * i, sizeof value);    \
            dst[i] = (float)value;                                     \
        }                                                              \
    }
X(f64, double)
X(i8, int8_t)
X(i16, int16_t)
X(i32, int32_t)
X(i64, int64_t)
#undef X

static inline void decode(float *dst, const codes *c, int values, int group, bool bias)
{
    for (int g = 0; g < values / group; g++)
        for (int i = g * group; i < (g + 1) * group; i++) {
            float scaled = c->scale[g] * (float)c->q[i];
            dst[i] = bias ? scaled + c->bias[g] : scaled;
        }
}

#define X(suffix, lower, values, group, bias, offset, top)             \
    static void dequant_##lower(float *dst, const void *src, size_t n) \
    {                                                                  \
        const jt_##lower *block = src;                                 \
        for (size_t i = 0; i < n / (values); i++) {                    \
            codes c;                                                   \
            unpack_##lower(&c, &block[i]);                             \
            decode(dst + i * (values), &c, values, group, bias);       \
        }                                                              \
    }
JT_QUANT_LIST(X)
#undef X

/* Zeros from byte `used` to the next multiple of 64; the part that follows. */
static inline char *pad_part(char *part, size_t used)
{
    memset(part + used, 0, jt_pad64(used) - used);
    return part + jt_pad64(used);
}

static void pack_f32(void *dst, const float *x, size_t n)
{
    memcpy(dst, x, n * sizeof *x);
    pad_part(dst, n * sizeof *x);
}

static void pack_bf16x2(void *dst, const float *x, size_t n)
{
    char *low_part = pad_part(dst, 2 * n);
    pad_part(low_part, 2 * n);
    for (size_t i = 0; i < n; i++) {
        uint16_t high = jt_float_to_bf16(x[i]);
        uint16_t low = jt_float_to_bf16(x[i] - jt_bf16_to_float(high));
        memcpy((char *)dst + 2 * i, &high, sizeof high);
        memcpy(low_part + 2 * i, &low, sizeof low);
    }
}

/* One group of 32: codes, their scale and the sums of each half. Rounding is to nearest
 * even: adding 1.5 * 2^23 leaves the integer in the low bits. All levels agree. */
static inline void pack_group(int8_t q[32], float *d, int16_t sum[2], const float *x)
{
    /* The bits of positive floats are ordered like the floats, NaN above infinity. */
    int32_t top = 0;
    for (int i = 0; i < 32; i++) {
        int32_t bits = (int32_t)(jt_float_bits(x[i]) & 0x7fffffff);
        top = bits > top ? bits : top;
    }
    float max = jt_bits_float((uint32_t)top);
    float inverse = max < 0x1p-120f ? 0 : 127 / max;
    *d = max < 0x1p-120f ? 0 : max / 127;
    if (top >= 0x7f800000) { /* poison the product, which a finite code would hide */
        inverse = 0;
        *d = jt_bits_float(0x7fc00000);
    }
    for (int i = 0; i < 32; i++) {
        float v = inverse == 0 ? 0 : x[i] * inverse;
        q[i] = (int8_t)(jt_float_bits(v + 0x1.8p23f) & 0xff);
    }
    for (int half = 0; half < 2; half++) {
        int total = 0;
        for (int i = 0; i < 16; i++)
            total += q[16 * half + i];
        sum[half] = (int16_t)total;
    }
}

static void pack_q8(void *dst, const float *x, size_t n)
{
    char *q = dst;
    char *d = pad_part(q, n);
    char *sum = pad_part(d, n / 32 * sizeof(float));
    pad_part(sum, n / 16 * sizeof(int16_t));
    for (size_t g = 0; g < n / 32; g++) {
        int8_t codes32[32];
        float scale;
        int16_t sums[2];
        pack_group(codes32, &scale, sums, x + 32 * g);
        memcpy(q + 32 * g, codes32, sizeof codes32);
        memcpy(d + sizeof scale * g, &scale, sizeof scale);
        memcpy(sum + sizeof sums * g, sums, sizeof sums);
    }
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void scale(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * x[i];
}

/* One pair turned by its angle. */
static inline void rotate(float *a, float *b, float c, float s)
{
    float x = *a, y = *b;
    *a = x * c - y * s;
    *b = x * s + y * c;
}

static void rope(float *x, const float *cos, const float *sin, size_t pairs, bool neox)
{
    if (neox)
        for (size_t i = 0; i < pairs; i++)
            rotate(&x[i], &x[i + pairs], cos[i], sin[i]);
    else
        for (size_t i = 0; i < pairs; i++)
            rotate(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
}

/* Everything here but what a level has a better way for (F16). */
static void set_loops(jt_kernels *table)
{
    table->dequant[JT_F32] = dequant_f32;
    table->dequant[JT_BF16] = dequant_bf16;
    table->dequant[JT_F64] = dequant_f64;
    table->dequant[JT_I8] = dequant_i8;
    table->dequant[JT_I16] = dequant_i16;
    table->dequant[JT_I32] = dequant_i32;
    table->dequant[JT_I64] = dequant_i64;
#define X(suffix, lower, values, group, bias, offset, top) \
    table->dequant[JT_##suffix] = dequant_##lower;
    JT_QUANT_LIST(X)
#undef X
    table->pack[JT_ACT_F32] = pack_f32;
    table->pack[JT_ACT_BF16X2] = pack_bf16x2;
    table->pack[JT_ACT_Q8] = pack_q8;
    table->add = add;
    table->axpy = axpy;
    table->scale = scale;
    table->rope = rope;
}

#endif
