/* Plain types, and the way to the quantiser of each block format. */
#include "kernels/quantize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/half.h"
#include "junto/dtype.h"

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

/* A row goes in parts, each whole blocks of every format. */
enum { PART = 256 };

static void quantize_part(jt_dtype dtype, void *dst, const float *x, const float *w,
                          size_t n)
{
    switch (dtype) {
    case JT_F32:
        memcpy(dst, x, n * sizeof *x);
        break;
    case JT_F16:
        quantize_f16(dst, x, n);
        break;
    case JT_BF16:
        quantize_bf16(dst, x, n);
        break;
    case JT_F64:
        quantize_f64(dst, x, n);
        break;
    case JT_I8:
        quantize_i8(dst, x, n);
        break;
    case JT_I16:
        quantize_i16(dst, x, n);
        break;
    case JT_I32:
        quantize_i32(dst, x, n);
        break;
    case JT_I64:
        quantize_i64(dst, x, n);
        break;
#define X(suffix, lower, values, group, bias, offset, top) \
    case JT_##suffix:                                      \
        jt_quantize_##lower(dst, x, w, n);                 \
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

/* What counts when nobody says what does: values of the usual sizes alike, those far
 * beyond them more, from three times the root of the mean square on. Of these there are
 * few, but much hangs on some of them (measured: docs/formats.md). All alike where a
 * code has no size, only a sign. */
static void weigh_by_size(float *w, jt_dtype dtype, const float *x, size_t n)
{
    float square = 0;
    for (size_t i = 0; i < n; i++)
        square += x[i] * x[i];
    const float usual = 10 * square / (float)n;
    for (size_t i = 0; i < n; i++) {
        float beyond = usual > 0 && dtype != JT_Q1_0 ? x[i] * x[i] / usual : 0;
        w[i] = sqrtf(1 + beyond * beyond);
    }
}

/* How much larger IQ2_XXS is written than the values are: as all fits follow the scale
 * of what they are given, this is a factor of each block's step. Block by block the
 * sums of squares are kept, yet along the weights themselves only 0.95 of them remain,
 * and what is lost in one layer is lost again in the next. With every ffn_down of
 * SmolLM2 in IQ2_XXS the divergence falls by 5% (docs/formats.md). */
static const float iq2_xxs_gain = 1.03f;

static const float *enlarge(float *larger, jt_dtype dtype, const float *x, size_t n)
{
    if (dtype != JT_IQ2_XXS)
        return x;
    for (size_t i = 0; i < n; i++)
        larger[i] = iq2_xxs_gain * x[i];
    return larger;
}

void jt_quantize_weighted(jt_dtype dtype, void *dst, const float *src,
                          const float *weights, size_t n)
{
    char *to = dst;
    for (size_t part; n > 0; n -= part, src += part) {
        float sizes[PART], larger[PART];
        const float *x = src;
        part = n < PART ? n : PART;
        if (!weights) {
            weigh_by_size(sizes, dtype, src, part);
            x = enlarge(larger, dtype, src, part);
        }
        quantize_part(dtype, to, x, weights ? weights : sizes, part);
        to += jt_dtype_row_bytes(dtype, part);
        weights = weights ? weights + part : NULL;
    }
}

void jt_quantize(jt_dtype dtype, void *dst, const float *src, size_t n)
{
    jt_quantize_weighted(dtype, dst, src, NULL, n);
}
