/* Quantisers of one and two bits without a grid: a scale for many values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "kernels/quantize.h"
#include "kernels/quantize_fit.h"

enum { VALUES = 256 };

typedef struct weighted {
    float x, w;
} weighted;

static int by_size(const void *a, const void *b)
{
    float x = ((const weighted *)a)->x, y = ((const weighted *)b)->x;
    return (x < y) - (x > y);
}

/* The best d for x ~ d q, q of -1, 0, 1. The best code is the sign where |x| > d / 2,
 * so the values with codes are the largest ones, however many: for each number of them
 * d is their mean size m, and the error falls by sum w m^2. */
static float fit_ternary(const float *x, const float *w)
{
    weighted v[VALUES];
    for (int i = 0; i < VALUES; i++)
        v[i] = (weighted){fabsf(x[i]), w[i]};
    qsort(v, VALUES, sizeof *v, by_size);
    double sum = 0, weight = 0, best = 0;
    float d = 0;
    for (int i = 0; i < VALUES; i++) {
        sum += (double)v[i].w * (double)v[i].x;
        weight += (double)v[i].w;
        if (sum * sum > best * weight) {
            best = sum * sum / weight;
            d = (float)(sum / weight);
        }
    }
    return d;
}

static uint16_t encode_ternary(uint8_t codes[VALUES], const float *x, const float *w)
{
    static const jt_levels levels = {-1, 1, 0, NULL};
    uint16_t d = jt_float_to_f16(fit_ternary(x, w));
    jt_fit_codes(codes, &levels, x, VALUES, jt_reciprocal(jt_f16_to_float(d)));
    return d;
}

/* The inverse of unpack_trits in c/codes.h: five digits as a fraction of 256. */
static void pack_trits(uint8_t *bytes, const uint8_t *q, int n, int digits)
{
    for (int i = 0; i < n; i++) {
        unsigned number = 0;
        for (int j = 0; j < 5; j++)
            number = 3 * number + (j < digits ? q[n * j + i] : 0);
        bytes[i] = (uint8_t)((number * 256 + 242) / 243);
    }
}

void jt_quantize_tq1_0(jt_tq1_0 *dst, const float *x, const float *w, size_t n)
{
    uint8_t codes[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        dst->d = encode_ternary(codes, x, w);
        pack_trits(dst->qs, codes, 32, 5);
        pack_trits(dst->qs + 32, codes + 160, 16, 5);
        pack_trits(dst->qh, codes + 240, 4, 4);
    }
}

void jt_quantize_tq2_0(jt_tq2_0 *dst, const float *x, const float *w, size_t n)
{
    uint8_t codes[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        dst->d = encode_ternary(codes, x, w);
        memset(dst->qs, 0, sizeof dst->qs);
        for (int i = 0; i < VALUES; i++)
            dst->qs[i / 128 * 32 + i % 32] |= (uint8_t)(codes[i] << i % 128 / 32 * 2);
    }
}

/* Signs; the best scale is the mean size. */
void jt_quantize_q1_0(jt_q1_0 *dst, const float *x, const float *w, size_t n)
{
    enum { BLOCK = 128 };
    for (; n > 0; n -= BLOCK, x += BLOCK, w += BLOCK, dst++) {
        float sum = 0, weight = 0;
        memset(dst->qs, 0, sizeof dst->qs);
        for (int i = 0; i < BLOCK; i++) {
            sum += w[i] * fabsf(x[i]);
            weight += w[i];
            dst->qs[i / 8] |= (uint8_t)((x[i] >= 0) << i % 8);
        }
        dst->d = jt_float_to_f16(weight > 0 ? sum / weight : 0);
    }
}

void jt_quantize_q2_0(jt_q2_0 *dst, const float *x, const float *w, size_t n)
{
    enum { BLOCK = 64 };
    static const jt_levels levels = {-1, 2, 0, NULL};
    static const jt_search search = {16, 0.3f, 1.2f};
    uint8_t codes[BLOCK];
    for (; n > 0; n -= BLOCK, x += BLOCK, w += BLOCK, dst++) {
        jt_group g = {x, w, BLOCK};
        dst->d = jt_float_to_f16(jt_fit_scale(&levels, &g, &search));
        jt_fit_codes(codes, &levels, x, BLOCK, jt_reciprocal(jt_f16_to_float(dst->d)));
        memset(dst->qs, 0, sizeof dst->qs);
        for (int i = 0; i < BLOCK; i++)
            dst->qs[i / 4] |= (uint8_t)(codes[i] << 2 * (i % 4));
    }
}
