#include "kernels/nested.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/quantize_fit.h"

enum { VALUES = 256, GROUP = 16, GROUPS = VALUES / GROUP, MOST = 15 };

jt_dtype jt_nested_dtype(int bits)
{
    static const jt_dtype types[] = {JT_Q2_K, JT_N3, JT_N4, JT_N5, JT_N6};
    return types[bits - JT_NESTED_LEAST];
}

void jt_nested_weave(void *blocks, size_t n, int from, int to,
                     const uint8_t *const *plane)
{
    const size_t bits = sizeof((jt_n3){0}.plane[0]);
    size_t old = sizeof(jt_q2_k) + (size_t)(from - JT_NESTED_LEAST) * bits;
    size_t new = sizeof(jt_q2_k) + (size_t)(to - JT_NESTED_LEAST) * bits;
    for (size_t i = n; i-- > 0;) {
        char *block = (char *)blocks + i * new;
        memmove(block, (char *)blocks + i * old, old);
        for (int k = 0; k < to - from; k++)
            memcpy(block + old + (size_t)k * bits, plane[k] + i * bits, bits);
    }
}

/* ---- encoding ---- */

/* The errors of a group with all widths, the narrower ones counting less as they are
 * larger: one more bit takes three quarters of a squared error away. */
static const float next_counts = 4.0f;

/* The code of a value that lies `at` cells of two bits above the lowest edge. */
static inline int code_of(float at, int levels)
{
    float q = at * (float)levels * 0.25f;
    q = q > 0.0f ? q : 0.0f;
    return q < (float)(levels - 1) ? (int)q : levels - 1;
}

/* x ~ scale ((q + 1/2) 4 / levels - 1/2) - min */
static float error_of(const jt_group *g, jt_affine fit, int levels)
{
    float error = 0.0f, inverse = jt_reciprocal(fit.scale);
    float cell = fit.scale * 4.0f / (float)levels;
    float low = 0.5f * cell - 0.5f * fit.scale - fit.min;
    for (int i = 0; i < GROUP; i++) {
        int q = code_of((g->x[i] + fit.min) * inverse + 0.5f, levels);
        float rest = g->x[i] - ((float)q * cell + low);
        error += g->w[i] * rest * rest;
    }
    return error;
}

static float cost_of(const jt_group *g, jt_affine fit, int bits)
{
    float cost = 0.0f, counts = 1.0f;
    for (int b = JT_NESTED_LEAST; b <= bits; b++, counts *= next_counts)
        cost += counts * error_of(g, fit, 1 << b);
    return cost;
}

/* Cells that cover the values from `low` to `high`, wider or narrower by some. */
static jt_affine search(const jt_group *g, int bits)
{
    enum { WIDTHS = 9, SHIFTS = 5 };
    float low = g->x[0], high = g->x[0], best = INFINITY;
    jt_affine found = {0};
    for (int i = 1; i < GROUP; i++) {
        low = fminf(low, g->x[i]);
        high = fmaxf(high, g->x[i]);
    }
    for (int i = 0; i < WIDTHS; i++)
        for (int j = 0; j < SHIFTS; j++) {
            float range = (high - low) * (0.76f + 0.05f * (float)i);
            float middle = 0.5f * (low + high) + (high - low) * 0.04f * (float)(j - 2);
            jt_affine fit = {0.25f * range, fmaxf(0.0f, 0.375f * range - middle)};
            float cost = cost_of(g, fit, bits);
            if (cost < best) {
                best = cost;
                found = fit;
            }
        }
    return found;
}

typedef struct nested_block {
    uint16_t d, dmin;
    uint8_t scale[GROUPS], min[GROUPS];
} nested_block;

static jt_affine fit_of(const nested_block *b, int group)
{
    return (jt_affine){jt_f16_to_float(b->d) * b->scale[group],
                       jt_f16_to_float(b->dmin) * b->min[group]};
}

/* The best scale and minimum of group i near `at`; what they cost. */
static float round_group(nested_block *b, const jt_group *g, int i, jt_affine at,
                         int bits)
{
    float best = INFINITY;
    nested_block trial = *b;
    int scale = jt_nearest(at.scale * jt_reciprocal(jt_f16_to_float(b->d)), 0, MOST);
    int min = jt_nearest(at.min * jt_reciprocal(jt_f16_to_float(b->dmin)), 0, MOST);
    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = min - 1; m <= min + 1; m++) {
            if (s < 0 || s > MOST || m < 0 || m > MOST)
                continue;
            trial.scale[i] = (uint8_t)s;
            trial.min[i] = (uint8_t)m;
            float cost = cost_of(g, fit_of(&trial, i), bits);
            if (cost < best) {
                best = cost;
                b->scale[i] = (uint8_t)s;
                b->min[i] = (uint8_t)m;
            }
        }
    return best;
}

/* The steps of the block: the largest scale and minimum get 15 of them, or some more.
 */
static void fit_block(nested_block *b, const jt_group *g, int bits)
{
    static const float steps[] = {13.6f, 14.4f, 15.2f, 16.0f};
    jt_affine fit[GROUPS], most = {0};
    float best = INFINITY;
    for (int i = 0; i < GROUPS; i++) {
        fit[i] = search(&g[i], bits);
        most.scale = fmaxf(most.scale, fit[i].scale);
        most.min = fmaxf(most.min, fit[i].min);
    }
    *b = (nested_block){0};
    for (size_t t = 0; t < sizeof steps / sizeof *steps; t++) {
        nested_block trial = {.d = jt_float_to_f16(most.scale / steps[t]),
                              .dmin = jt_float_to_f16(most.min / (float)MOST)};
        float cost = 0.0f;
        for (int i = 0; i < GROUPS; i++)
            cost += round_group(&trial, &g[i], i, fit[i], bits);
        if (cost < best) {
            best = cost;
            *b = trial;
        }
    }
}

static void write_codes(jt_q2_k *base, uint8_t *const *plane, size_t at,
                        const nested_block *b, const float *x, int bits)
{
    int planes = bits - JT_NESTED_LEAST;
    *base = (jt_q2_k){.d = b->d, .dmin = b->dmin};
    for (int k = 0; k < planes; k++)
        memset(plane[k] + at, 0, VALUES / 8);
    for (int i = 0; i < VALUES; i++) {
        jt_affine fit = fit_of(b, i / GROUP);
        int q = code_of((x[i] + fit.min) * jt_reciprocal(fit.scale) + 0.5f, 1 << bits);
        base->scales[i / GROUP] =
            (uint8_t)(b->scale[i / GROUP] | b->min[i / GROUP] << 4);
        base->qs[i / 128 * 32 + i % 32] |= (uint8_t)(q >> planes << i % 128 / 32 * 2);
        for (int k = 0; k < planes; k++)
            plane[k][at + (size_t)i % 32] |=
                (uint8_t)((q >> (planes - 1 - k) & 1) << i / 32);
    }
}

void jt_quantize_nested(jt_q2_k *base, uint8_t *const *plane, const float *x,
                        const float *w, size_t n, int bits)
{
    static const float ones[GROUP] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t at = 0; at < n; at += VALUES) {
        jt_group g[GROUPS];
        nested_block b;
        for (int i = 0; i < GROUPS; i++)
            g[i] = (jt_group){x + at + (size_t)i * GROUP,
                              w ? w + at + (size_t)i * GROUP : ones, GROUP};
        fit_block(&b, g, bits);
        write_codes(base + at / VALUES, plane, at / 8, &b, x + at, bits);
    }
}
