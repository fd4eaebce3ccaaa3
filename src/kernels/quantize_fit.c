#include "kernels/quantize_fit.h"

#ifdef __clang__ /* with sanitizers it cannot, and says so */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

/* Nearest integer in low .. high, low for a NaN. Adding 1.5 * 2^23 leaves a float no
 * bits for a fraction, so the sum is rounded; loops of this become vector code. */
static inline float snap(float t, float low, float high)
{
    t = t > low ? t : low;
    t = t < high ? t : high;
    return (t + 0x1.8p23f) - 0x1.8p23f;
}

/* ---- a scale alone ---- */

/* The levels of a table nearest to x * inverse: one step up for each middle of two
 * levels that a value is above. */
static void table_levels(float *l, const jt_levels *levels, const float *x, int n,
                         float inverse)
{
    for (int i = 0; i < n; i++)
        l[i] = levels->level[0];
    for (int j = 1; j < levels->count; j++) {
        float low = levels->level[j - 1], step = levels->level[j] - low;
        float middle = low + step / 2;
#pragma omp simd
        for (int i = 0; i < n; i++)
            l[i] += x[i] * inverse > middle ? step : 0;
    }
}

static jt_moments table_moments(const jt_levels *levels, const jt_group *g,
                                float inverse)
{
    float l[JT_FIT_VALUES], xl = 0, ll = 0;
    const float *x = g->x, *w = g->w;
    table_levels(l, levels, x, g->n, inverse);
#pragma omp simd reduction(+ : xl, ll)
    for (int i = 0; i < g->n; i++) {
        xl += w[i] * x[i] * l[i];
        ll += w[i] * l[i] * l[i];
    }
    return (jt_moments){xl, ll};
}

jt_moments jt_fit_moments(const jt_levels *levels, const jt_group *g, float inverse)
{
    if (levels->level)
        return table_moments(levels, g, inverse);
    const float *x = g->x, *w = g->w;
    float xl = 0, ll = 0, low = levels->low, high = levels->high;
#pragma omp simd reduction(+ : xl, ll)
    for (int i = 0; i < g->n; i++) {
        float l = snap(x[i] * inverse, low, high);
        xl += w[i] * x[i] * l;
        ll += w[i] * l * l;
    }
    return (jt_moments){xl, ll};
}

float jt_fit_gain(const jt_levels *levels, const jt_group *g, float d)
{
    jt_moments m = jt_fit_moments(levels, g, jt_reciprocal(d));
    return d * (2 * m.xl - d * m.ll);
}

/* The better of a fit and what a trial scale leads to: its codes, their best scale.
 * true: it was better. */
static bool try_scale(const jt_levels *levels, const jt_group *g, float inverse,
                      float *best, float *gain)
{
    jt_moments m = jt_fit_moments(levels, g, inverse);
    float d = m.xl / m.ll;
    if (!(m.ll > 0) || !(d * m.xl > *gain))
        return false;
    *best = d;
    *gain = d * m.xl;
    return true;
}

float jt_fit_scale(const jt_levels *levels, const jt_group *g, const jt_search *search)
{
    enum { ROUNDS = 4 };
    float extreme = jt_extreme(g->x, g->n), best = 0, gain = 0;
    float reach = fmaxf(-levels->low, levels->high);
    float inverse = jt_reciprocal(extreme);
    float step = (search->to - search->from) / (float)(search->trials - 1);
    for (int i = 0; i < search->trials; i++) {
        float trial = inverse * reach * (search->from + step * (float)i);
        try_scale(levels, g, trial, &best, &gain);
        if (levels->low + levels->high != 0)
            try_scale(levels, g, -trial, &best, &gain);
    }
    for (int i = 0; i < ROUNDS; i++)
        if (best == 0 || !try_scale(levels, g, 1 / best, &best, &gain))
            break;
    return best;
}

void jt_fit_codes(uint8_t *codes, const jt_levels *levels, const float *x, int n,
                  float inverse)
{
    if (!levels->level) {
        for (int i = 0; i < n; i++)
            codes[i] = (uint8_t)(snap(x[i] * inverse, levels->low, levels->high) -
                                 levels->low);
        return;
    }
    for (int i = 0; i < n; i++) {
        codes[i] = 0;
        for (int j = 1; j < levels->count; j++) {
            float middle = 0.5f * (float)(levels->level[j - 1] + levels->level[j]);
            codes[i] += x[i] * inverse > middle;
        }
    }
}

/* ---- a scale and a minimum ---- */

jt_affine_moments jt_fit_affine_moments(int top, const jt_group *g, jt_affine fit)
{
    const float *x = g->x, *w = g->w;
    float sl = 0, ll = 0, xl = 0, high = (float)top, inverse = jt_reciprocal(fit.scale);
#pragma omp simd reduction(+ : sl, ll, xl)
    for (int i = 0; i < g->n; i++) {
        float l = snap((x[i] + fit.min) * inverse, 0, high);
        sl += w[i] * l;
        ll += w[i] * l * l;
        xl += w[i] * l * x[i];
    }
    return (jt_affine_moments){sl, ll, xl};
}

void jt_fit_weights(const jt_group *g, float *sum_w, float *sum_x)
{
    const float *x = g->x, *w = g->w;
    float sw = 0, sx = 0;
#pragma omp simd reduction(+ : sw, sx)
    for (int i = 0; i < g->n; i++) {
        sw += w[i];
        sx += w[i] * x[i];
    }
    *sum_w = sw;
    *sum_x = sx;
}

/* sum w x^2 - sum w (x - scale l + min)^2 */
static float affine_gain(jt_affine_moments m, float sum_w, float sum_x, jt_affine fit)
{
    float s = fit.scale, min = fit.min;
    return s * (2 * m.xl - s * m.ll) + min * (2 * s * m.l - 2 * sum_x - min * sum_w);
}

float jt_fit_affine_gain(int top, const jt_group *g, float sum_w, float sum_x,
                         jt_affine fit)
{
    return affine_gain(jt_fit_affine_moments(top, g, fit), sum_w, sum_x, fit);
}

/* Least squares for given codes. */
static jt_affine solve_affine(jt_affine_moments m, float sum_w, float sum_x, bool any)
{
    float det = sum_w * m.ll - m.l * m.l;
    jt_affine fit = {0, 0};
    if (det > 0) {
        fit.scale = (sum_w * m.xl - sum_x * m.l) / det;
        fit.min = (m.l * m.xl - m.ll * sum_x) / det;
    }
    if (!(det > 0) || (fit.min < 0 && !any))
        fit = (jt_affine){m.ll > 0 ? m.xl / m.ll : 0, 0};
    return fit;
}

jt_affine jt_fit_affine(const jt_affine_levels *levels, const jt_group *g, int trials)
{
    enum { ROUNDS = 3 };
    float low = g->x[0], high = g->x[0], sum_w, sum_x, top = (float)levels->top;
    for (int i = 1; i < g->n; i++) {
        low = g->x[i] < low ? g->x[i] : low;
        high = g->x[i] > high ? g->x[i] : high;
    }
    if (!levels->any_min)
        low = low < 0 ? low : 0;
    jt_fit_weights(g, &sum_w, &sum_x);
    jt_affine best = {(high - low) / top, -low};
    if (!(high > low))
        return best;
    float gain = jt_fit_affine_gain(levels->top, g, sum_w, sum_x, best);
    for (int i = 0; i < trials; i++) { /* ranges wider, then cut, at both ends or one */
        int steps = i / 3 - 1;
        float cut = (high - low) * 0.4f * (float)steps / top;
        float from = low + (i % 3 != 2 ? cut : 0), to = high - (i % 3 != 1 ? cut : 0);
        jt_affine fit = {(to - from) / top, -from};
        for (int round = 0; round < ROUNDS; round++) {
            jt_affine_moments m = jt_fit_affine_moments(levels->top, g, fit);
            fit = solve_affine(m, sum_w, sum_x, levels->any_min);
            float next = affine_gain(m, sum_w, sum_x, fit);
            if (!(fit.scale > 0) || !(next > gain))
                break;
            gain = next;
            best = fit;
        }
    }
    return best;
}

void jt_fit_affine_codes(uint8_t *codes, int top, const float *x, int n, jt_affine fit)
{
    float inverse = jt_reciprocal(fit.scale);
    for (int i = 0; i < n; i++)
        codes[i] = (uint8_t)snap((x[i] + fit.min) * inverse, 0, (float)top);
}
