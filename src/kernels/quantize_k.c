/* Quantisers of the blocks of 256 with scales of two levels (K-quants and IQ4_XS). Each
 * group gets its best fit; then the steps of the block and the few bits of each group
 * are improved in turn: the bits by trying the neighbours, the steps by least squares
 * over the whole block. */
#include <string.h>

#include "base/half.h"
#include "kernels/c/codes_table.h"
#include "kernels/quantize.h"
#include "kernels/quantize_fit.h"

enum { VALUES = 256, ROUNDS = 3 };

/* ---- scale and minimum ---- */

/* x ~ d scale q - dmin min, codes q 0 .. top, scales and minima 0 .. most */
typedef struct affine_format {
    int group, top, most, trials;
} affine_format;

typedef struct affine_block {
    uint16_t d, dmin;
    uint8_t scale[16], min[16];
    uint8_t q[VALUES];
} affine_block;

static jt_affine steps_of(const affine_block *b)
{
    return (jt_affine){jt_f16_to_float(b->d), jt_f16_to_float(b->dmin)};
}

/* The best scale and minimum of group i near `at`. */
static void round_group(affine_block *b, const affine_format *f, const jt_group *g,
                        int i, jt_affine at)
{
    jt_affine step = steps_of(b);
    float sum_w, sum_x, best = -INFINITY;
    jt_fit_weights(g, &sum_w, &sum_x);
    int scale = jt_nearest(at.scale * jt_reciprocal(step.scale), 0, f->most);
    int min = jt_nearest(at.min * jt_reciprocal(step.min), 0, f->most);
    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = min - 1; m <= min + 1; m++) {
            if (s < 0 || s > f->most || m < 0 || m > f->most)
                continue;
            jt_affine fit = {step.scale * (float)s, step.min * (float)m};
            float gain = jt_fit_affine_gain(f->top, g, sum_w, sum_x, fit);
            if (gain > best) {
                best = gain;
                b->scale[i] = (uint8_t)s;
                b->min[i] = (uint8_t)m;
            }
        }
}

/* Normal equations of x ~ d (scale q) - dmin min over the block. */
typedef struct normal {
    float aa, ab, bb, ax, bx;
} normal;

static jt_affine solve_steps(const affine_block *b, const affine_format *f,
                             const jt_group *g, jt_affine step)
{
    normal n = {0};
    for (int i = 0; i < VALUES / f->group; i++) {
        float s = b->scale[i], m = b->min[i], sum_w, sum_x;
        jt_fit_weights(&g[i], &sum_w, &sum_x);
        jt_affine fit = {step.scale * s, step.min * m};
        jt_affine_moments k = jt_fit_affine_moments(f->top, &g[i], fit);
        n.aa += s * s * k.ll;
        n.ab -= s * m * k.l;
        n.bb += m * m * sum_w;
        n.ax += s * k.xl;
        n.bx -= m * sum_x;
    }
    float det = n.aa * n.bb - n.ab * n.ab;
    if (det > 1e-6f * n.aa * n.bb)
        return (jt_affine){(n.ax * n.bb - n.bx * n.ab) / det,
                           (n.bx * n.aa - n.ax * n.ab) / det};
    return n.aa > 0 ? (jt_affine){n.ax / n.aa, step.min} : step;
}

static float block_gain(const affine_block *b, const affine_format *f,
                        const jt_group *g)
{
    jt_affine step = steps_of(b);
    float gain = 0, sum_w, sum_x;
    for (int i = 0; i < VALUES / f->group; i++) {
        jt_affine fit = {step.scale * b->scale[i], step.min * b->min[i]};
        jt_fit_weights(&g[i], &sum_w, &sum_x);
        gain += jt_fit_affine_gain(f->top, &g[i], sum_w, sum_x, fit);
    }
    return gain;
}

static void quantize_affine(affine_block *b, const affine_format *f, const float *x,
                            const float *w)
{
    jt_affine_levels levels = {f->top, false};
    jt_affine fit[16], step = {0, 0};
    jt_group g[16];
    int groups = VALUES / f->group;
    for (int i = 0; i < groups; i++) {
        g[i] = (jt_group){x + i * f->group, w + i * f->group, f->group};
        fit[i] = jt_fit_affine(&levels, &g[i], f->trials);
        step.scale = fmaxf(step.scale, fit[i].scale / (float)f->most);
        step.min = fmaxf(step.min, fit[i].min / (float)f->most);
    }
    affine_block trial = *b;
    float best = -INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        trial.d = jt_float_to_f16(step.scale);
        trial.dmin = jt_float_to_f16(step.min);
        for (int i = 0; i < groups; i++)
            round_group(&trial, f, &g[i], i, fit[i]);
        float gain = block_gain(&trial, f, g);
        if (!(gain > best))
            break;
        best = gain;
        *b = trial;
        step = solve_steps(b, f, g, steps_of(b));
        if (!(step.scale > 0 && step.min >= 0))
            break;
    }
    step = steps_of(b);
    for (int i = 0; i < groups; i++) {
        jt_affine last = {step.scale * b->scale[i], step.min * b->min[i]};
        jt_fit_affine_codes(b->q + i * f->group, f->top, g[i].x, f->group, last);
    }
}

/* Two bits of each code, four planes in each half. */
static void pack_planes(uint8_t qs[64], const uint8_t q[VALUES])
{
    memset(qs, 0, 64);
    for (int i = 0; i < VALUES; i++)
        qs[i / 128 * 32 + i % 32] |= (uint8_t)((q[i] & 3) << i % 128 / 32 * 2);
}

/* Low nibbles: group 2p of 32 in the low half of 32 bytes, group 2p + 1 in the high. */
static void pack_pairs(uint8_t qs[128], const uint8_t q[VALUES])
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

void jt_quantize_q2_k(jt_q2_k *dst, const float *x, const float *w, size_t n)
{
    static const affine_format format = {16, 3, 15, 15};
    affine_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_affine(&b, &format, x, w);
        dst->d = b.d;
        dst->dmin = b.dmin;
        for (int g = 0; g < 16; g++)
            dst->scales[g] = (uint8_t)(b.scale[g] | b.min[g] << 4);
        pack_planes(dst->qs, b.q);
    }
}

void jt_quantize_q4_k(jt_q4_k *dst, const float *x, const float *w, size_t n)
{
    static const affine_format format = {32, 15, 63, 18};
    affine_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_affine(&b, &format, x, w);
        dst->d = b.d;
        dst->dmin = b.dmin;
        pack_six_bits(dst->scales, b.scale, b.min);
        pack_pairs(dst->qs, b.q);
    }
}

void jt_quantize_q5_k(jt_q5_k *dst, const float *x, const float *w, size_t n)
{
    static const affine_format format = {32, 31, 63, 15};
    affine_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_affine(&b, &format, x, w);
        dst->d = b.d;
        dst->dmin = b.dmin;
        pack_six_bits(dst->scales, b.scale, b.min);
        pack_pairs(dst->qs, b.q);
        memset(dst->qh, 0, sizeof dst->qh);
        for (int i = 0; i < VALUES; i++)
            dst->qh[i % 32] |= (uint8_t)(b.q[i] >> 4 << i / 32);
    }
}

/* ---- scales alone ---- */

/* x ~ d scale l, scales -steps .. steps - 1 */
typedef struct scaled_format {
    int group, steps;
    jt_levels levels;
    jt_search search;
} scaled_format;

typedef struct scaled_block {
    uint16_t d;
    int8_t scale[16];
    uint8_t q[VALUES];
} scaled_block;

/* The best scale of group i near `at`; how much it gains. */
static float round_scale(scaled_block *b, const scaled_format *f, const jt_group *g,
                         int i, float at)
{
    float d = jt_f16_to_float(b->d), best = -INFINITY;
    int near = jt_nearest(at * jt_reciprocal(d), -f->steps, f->steps - 1);
    for (int s = near - 1; s <= near + 1; s++) {
        float gain = s >= -f->steps && s < f->steps
                         ? jt_fit_gain(&f->levels, g, d * (float)s)
                         : -INFINITY;
        if (gain > best) {
            best = gain;
            b->scale[i] = (int8_t)s;
        }
    }
    return best;
}

static float solve_step(const scaled_block *b, const scaled_format *f,
                        const jt_group *g)
{
    float d = jt_f16_to_float(b->d), xl = 0, ll = 0;
    for (int i = 0; i < VALUES / f->group; i++) {
        float s = b->scale[i];
        jt_moments m = jt_fit_moments(&f->levels, &g[i], jt_reciprocal(d * s));
        xl += s * m.xl;
        ll += s * s * m.ll;
    }
    return ll > 0 ? xl / ll : 0;
}

static void quantize_scaled(scaled_block *b, const scaled_format *f, const float *x,
                            const float *w)
{
    int groups = VALUES / f->group;
    float fit[16], best = -INFINITY;
    jt_group g[16];
    for (int i = 0; i < groups; i++) {
        g[i] = (jt_group){x + i * f->group, w + i * f->group, f->group};
        fit[i] = jt_fit_scale(&f->levels, &g[i], &f->search);
    }
    float d = jt_extreme(fit, groups) / (float)-f->steps;
    scaled_block trial = *b;
    for (int round = 0; round < ROUNDS; round++) {
        float gain = 0;
        trial.d = jt_float_to_f16(d);
        for (int i = 0; i < groups; i++)
            gain += round_scale(&trial, f, &g[i], i, fit[i]);
        if (!(gain > best))
            break;
        best = gain;
        *b = trial;
        d = solve_step(b, f, g);
    }
    d = jt_f16_to_float(b->d);
    for (int i = 0; i < groups; i++)
        jt_fit_codes(b->q + i * f->group, &f->levels, g[i].x, f->group,
                     jt_reciprocal(d * (float)b->scale[i]));
}

void jt_quantize_q3_k(jt_q3_k *dst, const float *x, const float *w, size_t n)
{
    static const scaled_format format = {16, 32, {-4, 3, 0, NULL}, {12, 0.5f, 1.15f}};
    scaled_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_scaled(&b, &format, x, w);
        dst->d = b.d;
        memset(dst->scales, 0, sizeof dst->scales);
        for (int g = 0; g < 16; g++) {
            int s = b.scale[g] + 32;
            dst->scales[g % 8] |= (uint8_t)((s & 15) << 4 * (g / 8));
            dst->scales[8 + g % 4] |= (uint8_t)(s >> 4 << 2 * (g / 4));
        }
        pack_planes(dst->qs, b.q);
        memset(dst->hmask, 0, sizeof dst->hmask);
        for (int i = 0; i < VALUES; i++)
            dst->hmask[i % 32] |= (uint8_t)(b.q[i] >> 2 << i / 32);
    }
}

void jt_quantize_q6_k(jt_q6_k *dst, const float *x, const float *w, size_t n)
{
    static const scaled_format format = {
        16, 128, {-32, 31, 0, NULL}, {12, 0.92f, 1.02f}};
    scaled_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_scaled(&b, &format, x, w);
        dst->d = b.d;
        memcpy(dst->scales, b.scale, sizeof dst->scales);
        memset(dst->ql, 0, sizeof dst->ql);
        memset(dst->qh, 0, sizeof dst->qh);
        for (int i = 0; i < VALUES; i++) {
            int half = i / 128, at = i % 128;
            dst->ql[64 * half + at % 64] |= (uint8_t)((b.q[i] & 15) << at / 64 * 4);
            dst->qh[32 * half + at % 32] |= (uint8_t)(b.q[i] >> 4 << at / 32 * 2);
        }
    }
}

void jt_quantize_iq4_xs(jt_iq4_xs *dst, const float *x, const float *w, size_t n)
{
    static const scaled_format format = {
        32, 32, {-127, 113, 16, table_iq4}, {12, 0.6f, 1.15f}};
    scaled_block b = {0};
    for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {
        quantize_scaled(&b, &format, x, w);
        dst->d = b.d;
        dst->scales_h = 0;
        memset(dst->scales_l, 0, sizeof dst->scales_l);
        for (int g = 0; g < 8; g++) {
            int s = b.scale[g] + 32;
            dst->scales_l[g / 2] |= (uint8_t)((s & 15) << 4 * (g % 2));
            dst->scales_h = (uint16_t)(dst->scales_h | s >> 4 << 2 * g);
            for (int j = 0; j < 16; j++)
                dst->qs[16 * g + j] =
                    (uint8_t)(b.q[32 * g + j] | b.q[32 * g + j + 16] << 4);
        }
    }
}
