/* Quantisers of small blocks with a scale, and for some a minimum, of their own. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/c/codes_table.h"
#include "kernels/quantize.h"
#include "kernels/quantize_fit.h"

enum { VALUES = 32 };

/* Nibbles of 2n q, the first n in the low ones. */
static void pack_nibbles(uint8_t *qs, const uint8_t *q, int n)
{
    for (int j = 0; j < n; j++)
        qs[j] = (uint8_t)((q[j] & 15) | (q[j + n] & 15) << 4);
}

static void pack_fifth_bits(uint8_t qh[4], const uint8_t q[VALUES])
{
    memset(qh, 0, 4);
    for (int j = 0; j < VALUES; j++)
        qh[j / 8] |= (uint8_t)((q[j] >> 4 & 1) << j % 8);
}

/* ---- scale alone ---- */

/* Scale and codes of one block. */
static uint16_t encode_scaled(uint8_t q[VALUES], const jt_levels *levels,
                              const jt_search *search, const float *x, const float *w)
{
    jt_group g = {x, w, VALUES};
    uint16_t d = jt_float_to_f16(jt_fit_scale(levels, &g, search));
    jt_fit_codes(q, levels, x, VALUES, jt_reciprocal(jt_f16_to_float(d)));
    return d;
}

/* 8 bits leave nothing to search for: the largest value sets the scale. */
void jt_quantize_q8_0(jt_q8_0 *dst, const float *x, const float *w, size_t n)
{
    static const jt_levels levels = {-127, 127, 0, NULL};
    (void)w;
    for (; n > 0; n -= VALUES, x += VALUES, dst++) {
        uint8_t q[VALUES];
        dst->d = jt_float_to_f16(fabsf(jt_extreme(x, VALUES)) / 127);
        jt_fit_codes(q, &levels, x, VALUES, jt_reciprocal(jt_f16_to_float(dst->d)));
        for (int j = 0; j < VALUES; j++)
            dst->qs[j] = (int8_t)(q[j] - 127);
    }
}

void jt_quantize_q4_0(jt_q4_0 *dst, const float *x, const float *w, size_t n)
{
    static const jt_levels levels = {-8, 7, 0, NULL};
    static const jt_search search = {12, 0.7f, 1.1f};
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        dst->d = encode_scaled(q, &levels, &search, x, w);
        pack_nibbles(dst->qs, q, 16);
    }
}

void jt_quantize_q5_0(jt_q5_0 *dst, const float *x, const float *w, size_t n)
{
    static const jt_levels levels = {-16, 15, 0, NULL};
    static const jt_search search = {12, 0.8f, 1.05f};
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        dst->d = encode_scaled(q, &levels, &search, x, w);
        pack_nibbles(dst->qs, q, 16);
        pack_fifth_bits(dst->qh, q);
    }
}

void jt_quantize_iq4_nl(jt_iq4_nl *dst, const float *x, const float *w, size_t n)
{
    static const jt_levels levels = {-127, 113, 16, table_iq4};
    static const jt_search search = {12, 0.6f, 1.15f};
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        dst->d = encode_scaled(q, &levels, &search, x, w);
        pack_nibbles(dst->qs, q, 16);
    }
}

/* ---- scale and minimum ---- */

static jt_affine encode_affine(uint8_t q[VALUES], int top, int trials, const float *x,
                               const float *w)
{
    const jt_affine_levels levels = {top, true};
    jt_group g = {x, w, VALUES};
    jt_affine fit = jt_fit_affine(&levels, &g, trials);
    fit.scale = jt_f16_to_float(jt_float_to_f16(fit.scale));
    fit.min = jt_f16_to_float(jt_float_to_f16(fit.min));
    jt_fit_affine_codes(q, top, x, VALUES, fit);
    return fit;
}

void jt_quantize_q4_1(jt_q4_1 *dst, const float *x, const float *w, size_t n)
{
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        jt_affine fit = encode_affine(q, 15, 18, x, w);
        dst->d = jt_float_to_f16(fit.scale);
        dst->m = jt_float_to_f16(-fit.min);
        pack_nibbles(dst->qs, q, 16);
    }
}

void jt_quantize_q5_1(jt_q5_1 *dst, const float *x, const float *w, size_t n)
{
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        jt_affine fit = encode_affine(q, 31, 15, x, w);
        dst->d = jt_float_to_f16(fit.scale);
        dst->m = jt_float_to_f16(-fit.min);
        pack_nibbles(dst->qs, q, 16);
        pack_fifth_bits(dst->qh, q);
    }
}

/* ---- FP4: scales that are floats of a few bits, so all good ones are tried ---- */

static const int8_t sorted_fp4[15] = {-12, -8, -6, -4, -3, -2, -1, 0,
                                      1,   2,  3,  4,  6,  8,  12};
static const jt_levels levels_fp4 = {-12, 12, 15, sorted_fp4};

/* Codes of sign and magnitude. */
static void encode_fp4(uint8_t *q, const float *x, int n, float d)
{
    jt_fit_codes(q, &levels_fp4, x, n, jt_reciprocal(d));
    for (int j = 0; j < n; j++)
        q[j] = (uint8_t)(q[j] < 7 ? 15 - q[j] : q[j] - 7);
}

/* Of the scales scale(code), low <= code <= high, the one that gains most. */
static uint8_t choose_scale(float (*scale)(int code), int low, int high,
                            const jt_group *g)
{
    float best = 0;
    uint8_t chosen = 0;
    for (int code = low < 0 ? 0 : low; code <= high; code++) {
        float gain = jt_fit_gain(&levels_fp4, g, scale(code));
        if (gain > best) {
            best = gain;
            chosen = (uint8_t)code;
        }
    }
    return chosen;
}

/* As decoding has them, for twice the values of FP4. */
static float scale_mxfp4(int code)
{
    return ldexpf(1, code - 128);
}

static float scale_nvfp4(int code)
{
    return jt_f16_to_float((uint16_t)(code << 7)) * 128;
}

void jt_quantize_mxfp4(jt_mxfp4 *dst, const float *x, const float *w, size_t n)
{
    uint8_t q[VALUES];
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        jt_group g = {x, w, VALUES};
        int power = 0;
        float most = fabsf(jt_extreme(x, VALUES)) / 12;
        frexpf(most <= 3e37f ? most : 3e37f, &power);
        int high = power + 128 < 254 ? power + 128 : 254;
        dst->e = choose_scale(scale_mxfp4, high - 2, high, &g);
        encode_fp4(q, x, VALUES, scale_mxfp4(dst->e));
        pack_nibbles(dst->qs, q, 16);
    }
}

void jt_quantize_nvfp4(jt_nvfp4 *dst, const float *x, const float *w, size_t n)
{
    enum { GROUP = 16, TOP = 126 };
    uint8_t q[GROUP];
    for (; n > 0; n -= 4 * GROUP, dst++) {
        for (int i = 0; i < 4; i++, x += GROUP, w += GROUP) {
            jt_group g = {x, w, GROUP};
            float most = fabsf(jt_extreme(x, GROUP)) / 12;
            int high = 0;
            while (high < TOP && scale_nvfp4(high) < most)
                high++;
            int most_code = high + 5 < TOP ? high + 5 : TOP;
            dst->d[i] = choose_scale(scale_nvfp4, high - 8, most_code, &g);
            encode_fp4(q, x, GROUP, scale_nvfp4(dst->d[i]));
            pack_nibbles(dst->qs + 8 * i, q, 8);
        }
    }
}
