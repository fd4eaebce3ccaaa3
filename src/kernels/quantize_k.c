/* Reference quantisers of the blocks of 256 (K-quants): a scale, and for some a
 * minimum, is fitted to each group by weighted least squares over a few trial scales;
 * then scales are rounded to the few bits that the block has for them, and the codes
 * are taken again from what the rounded scales say. */
#include <string.h>

#include "kernels/quantize.h"

/* x ~ scale q + min with q in 0 .. top, min <= 0 */
typedef struct affine {
    float scale, min;
} affine;

/* How a format searches: trial inverse scales (start + 0.1 i + top) / (max - min). */
typedef struct affine_search {
    int group, top;
    float start;
    int trials;
    bool absolute; /* weigh |error|, not its square */
    bool flat;     /* weights |x|, not rms + |x| */
} affine_search;

/* Codes for one inverse scale; `best` becomes the least squares fit for them. */
static affine fit_affine(const affine_search *s, const float *x, const float *w,
                         float min, float inverse)
{
    float sum_w = 0, sum_x = 0, sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < s->group; i++) {
        float l = (float)jt_nearest(inverse * (x[i] - min), 0, s->top);
        sum_w += w[i];
        sum_x += w[i] * x[i];
        sum_l += w[i] * l;
        sum_l2 += w[i] * l * l;
        sum_xl += w[i] * l * x[i];
    }
    float det = sum_w * sum_l2 - sum_l * sum_l;
    if (!(det > 0))
        return (affine){0, 0};
    affine fit = {(sum_w * sum_xl - sum_x * sum_l) / det,
                  (sum_l2 * sum_x - sum_l * sum_xl) / det};
    if (fit.min > 0)
        fit = (affine){sum_xl / sum_l2, 0};
    return fit;
}

/* Weighted error of `fit` with the codes of (min, inverse). */
static float affine_error(const affine_search *s, const float *x, const float *w,
                          float min, float inverse, affine fit)
{
    float error = 0;
    for (int i = 0; i < s->group; i++) {
        float l = (float)jt_nearest(inverse * (x[i] - min), 0, s->top);
        float off = fit.scale * l + fit.min - x[i];
        error += w[i] * (s->absolute ? fabsf(off) : off * off);
    }
    return error;
}

static affine search_affine(const affine_search *s, const float *x)
{
    float w[32], square = 0, min = 0, max = x[0];
    for (int i = 0; i < s->group; i++) {
        square += x[i] * x[i];
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    if (!(max > min))
        return (affine){0, min};
    float rms = s->flat ? 0 : sqrtf(square / (float)s->group);
    for (int i = 0; i < s->group; i++)
        w[i] = rms + fabsf(x[i]);

    float inverse = (float)s->top / (max - min);
    affine best = {1 / inverse, min};
    float least = affine_error(s, x, w, min, inverse, best);
    for (int i = 0; i <= s->trials; i++) {
        inverse = (s->start + 0.1f * (float)i + (float)s->top) / (max - min);
        affine fit = fit_affine(s, x, w, min, inverse);
        float error = affine_error(s, x, w, min, inverse, fit);
        if (fit.scale != 0 && error < least) {
            least = error;
            best = fit;
        }
    }
    return best;
}

/* Fits of all groups, rounded to `levels` steps of d and of dmin. */
typedef struct affine_block {
    uint16_t d, dmin;
    uint8_t scale[16], min[16];
    uint8_t q[256];
} affine_block;

static void quantize_affine(affine_block *b, const float *x, const affine_search *s,
                            int levels)
{
    int groups = 256 / s->group;
    affine fit[16];
    float top_scale = 0, top_min = 0;
    for (int g = 0; g < groups; g++) {
        fit[g] = search_affine(s, x + g * s->group);
        top_scale = fmaxf(top_scale, fit[g].scale);
        top_min = fmaxf(top_min, -fit[g].min);
    }
    b->d = jt_float_to_f16(top_scale / (float)levels);
    b->dmin = jt_float_to_f16(top_min / (float)levels);
    float d = jt_f16_to_float(b->d), dmin = jt_f16_to_float(b->dmin);
    for (int g = 0; g < groups; g++) {
        float per_scale = top_scale > 0 ? (float)levels / top_scale : 0;
        float per_min = top_min > 0 ? (float)levels / top_min : 0;
        b->scale[g] = (uint8_t)jt_nearest(per_scale * fit[g].scale, 0, levels);
        b->min[g] = (uint8_t)jt_nearest(per_min * -fit[g].min, 0, levels);
        float step = d * b->scale[g], low = dmin * b->min[g];
        for (int i = g * s->group; i < (g + 1) * s->group; i++)
            b->q[i] =
                (uint8_t)(step > 0 ? jt_nearest((x[i] + low) / step, 0, s->top) : 0);
    }
}

/* Two bits of each code, four planes in each half. */
static void pack_planes(uint8_t qs[64], const uint8_t q[256])
{
    memset(qs, 0, 64);
    for (int i = 0; i < 256; i++)
        qs[i / 128 * 32 + i % 32] |= (uint8_t)((q[i] & 3) << i % 128 / 32 * 2);
}

/* Low nibbles: group 2p of 32 in the low half of 32 bytes, group 2p + 1 in the high. */
static void pack_pairs(uint8_t qs[128], const uint8_t q[256])
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *low = &q[i / 32 * 64 + i % 32];
        qs[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

static void pack_six_bits(uint8_t a[12], const uint8_t scale[8], const uint8_t min[8])
{
    for (int j = 0; j < 4; j++) {
        a[j] = (uint8_t)(scale[j] | scale[j + 4] >> 4 << 6);
        a[j + 4] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        a[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

void jt_quantize_q2_k(jt_q2_k *dst, const float *src, size_t n)
{
    const affine_search search = {16, 3, -0.5f, 15, true, true};
    affine_block b;
    for (; n > 0; n -= 256, src += 256, dst++) {
        quantize_affine(&b, src, &search, 15);
        dst->d = b.d;
        dst->dmin = b.dmin;
        for (int g = 0; g < 16; g++)
            dst->scales[g] = (uint8_t)(b.scale[g] | b.min[g] << 4);
        pack_planes(dst->qs, b.q);
    }
}

void jt_quantize_q4_k(jt_q4_k *dst, const float *src, size_t n)
{
    const affine_search search = {32, 15, -1, 20, false, false};
    affine_block b;
    for (; n > 0; n -= 256, src += 256, dst++) {
        quantize_affine(&b, src, &search, 63);
        dst->d = b.d;
        dst->dmin = b.dmin;
        pack_six_bits(dst->scales, b.scale, b.min);
        pack_pairs(dst->qs, b.q);
    }
}

void jt_quantize_q5_k(jt_q5_k *dst, const float *src, size_t n)
{
    const affine_search search = {32, 31, -0.5f, 15, false, false};
    affine_block b;
    for (; n > 0; n -= 256, src += 256, dst++) {
        quantize_affine(&b, src, &search, 63);
        dst->d = b.d;
        dst->dmin = b.dmin;
        pack_six_bits(dst->scales, b.scale, b.min);
        pack_pairs(dst->qs, b.q);
        memset(dst->qh, 0, sizeof dst->qh);
        for (int i = 0; i < 256; i++)
            dst->qh[i % 32] |= (uint8_t)(b.q[i] >> 4 << i / 32);
    }
}

/* Signed formats: groups of 16, x ~ scale q with q in -half .. half - 1, weights x^2.
 */
static float extreme16(const float *x)
{
    float best = 0;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

/* The best least squares scale of 19 trials around -half / extreme. */
static float search_signed(const float *x, int half)
{
    float extreme = extreme16(x), best = 0, best_gain = 0;
    if (extreme == 0)
        return 0;
    for (int trial = -9; trial <= 9; trial++) {
        float inverse = -((float)half + 0.1f * (float)trial) / extreme;
        float sum_xl = 0, sum_l2 = 0;
        for (int i = 0; i < 16; i++) {
            float l = (float)jt_nearest(inverse * x[i], -half, half - 1);
            sum_xl += x[i] * x[i] * x[i] * l;
            sum_l2 += x[i] * x[i] * l * l;
        }
        if (sum_l2 > 0 && sum_xl * sum_xl > best_gain * sum_l2) {
            best = sum_xl / sum_l2;
            best_gain = best * sum_xl;
        }
    }
    return best;
}

/* Start from the extreme, then move single codes as long as the fit gains. */
static float descend_signed(const float *x, int half)
{
    float extreme = extreme16(x);
    if (extreme == 0)
        return 0;
    float l[16], sum_xl = 0, sum_l2 = 0;
    for (int i = 0; i < 16; i++) {
        l[i] = (float)jt_nearest((float)-half / extreme * x[i], -half, half - 1);
        sum_xl += x[i] * x[i] * x[i] * l[i];
        sum_l2 += x[i] * x[i] * l[i] * l[i];
    }
    for (int sweep = 0, moved = 1; sweep < 5 && moved; sweep++) {
        moved = 0;
        for (int i = 0; i < 16; i++) {
            float w = x[i] * x[i];
            float rest_xl = sum_xl - w * x[i] * l[i],
                  rest_l2 = sum_l2 - w * l[i] * l[i];
            if (!(rest_xl > 0))
                continue;
            float next = (float)jt_nearest(x[i] * rest_l2 / rest_xl, -half, half - 1);
            float next_xl = rest_xl + w * x[i] * next;
            float next_l2 = rest_l2 + w * next * next;
            if (next_l2 > 0 && next_xl * next_xl * sum_l2 > sum_xl * sum_xl * next_l2) {
                l[i] = next;
                sum_xl = next_xl;
                sum_l2 = next_l2;
                moved = 1;
            }
        }
    }
    return sum_l2 > 0 ? sum_xl / sum_l2 : 0;
}

/* Round 16 scales to integers of -steps .. steps - 1 and take the codes again, as
 * q + half in 0 .. 2 half - 1. Returns d. */
static uint16_t quantize_signed(int8_t scales[16], uint8_t q[256], const float *x,
                                const float fit[16], int steps, int half)
{
    float top = extreme16(fit);
    float inverse = top != 0 ? (float)-steps / top : 0;
    uint16_t d_bits = jt_float_to_f16(top / (float)-steps);
    float d = jt_f16_to_float(d_bits);
    for (int g = 0; g < 16; g++) {
        scales[g] = (int8_t)jt_nearest(inverse * fit[g], -steps, steps - 1);
        float step = d * scales[g];
        for (int i = 16 * g; i < 16 * (g + 1); i++) {
            int code = step != 0 ? jt_nearest(x[i] / step, -half, half - 1) : 0;
            q[i] = (uint8_t)(code + half);
        }
    }
    return d_bits;
}

void jt_quantize_q3_k(jt_q3_k *dst, const float *src, size_t n)
{
    uint8_t q[256];
    int8_t scales[16];
    float fit[16];
    for (; n > 0; n -= 256, src += 256, dst++) {
        for (int g = 0; g < 16; g++)
            fit[g] = descend_signed(src + 16 * g, 4);
        dst->d = quantize_signed(scales, q, src, fit, 32, 4);
        memset(dst->scales, 0, sizeof dst->scales);
        for (int g = 0; g < 16; g++) {
            int s = scales[g] + 32;
            dst->scales[g % 8] |= (uint8_t)((s & 15) << 4 * (g / 8));
            dst->scales[8 + g % 4] |= (uint8_t)(s >> 4 << 2 * (g / 4));
        }
        pack_planes(dst->qs, q);
        memset(dst->hmask, 0, sizeof dst->hmask);
        for (int i = 0; i < 256; i++)
            dst->hmask[i % 32] |= (uint8_t)(q[i] >> 2 << i / 32);
    }
}

void jt_quantize_q6_k(jt_q6_k *dst, const float *src, size_t n)
{
    uint8_t q[256];
    int8_t scales[16];
    float fit[16];
    for (; n > 0; n -= 256, src += 256, dst++) {
        for (int g = 0; g < 16; g++)
            fit[g] = search_signed(src + 16 * g, 32);
        dst->d = quantize_signed(scales, q, src, fit, 128, 32);
        memcpy(dst->scales, scales, sizeof scales);
        memset(dst->ql, 0, sizeof dst->ql);
        memset(dst->qh, 0, sizeof dst->qh);
        for (int i = 0; i < 256; i++) {
            int half = i / 128, at = i % 128;
            dst->ql[64 * half + at % 64] |= (uint8_t)((q[i] & 15) << at / 64 * 4);
            dst->qh[32 * half + at % 32] |= (uint8_t)(q[i] >> 4 << at / 32 * 2);
        }
    }
}
