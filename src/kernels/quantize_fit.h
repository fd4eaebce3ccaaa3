/* Fits of a group of values to the levels of a code: the mathematics that the
 * quantisers share. */
#ifndef JT_QUANTIZE_FIT_H
#define JT_QUANTIZE_FIT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* What the codes of a format stand for, before the scale: the integers low .. high, or
 * with `level` the values of a table, in ascending order. */
typedef struct jt_levels {
    float low, high;
    int count;           /* of the table */
    const int8_t *level; /* [count], or NULL */
} jt_levels;

/* How many trial scales a search takes, and how far they reach: the value of largest
 * magnitude comes to `from` .. `to` times the level of largest magnitude. */
typedef struct jt_search {
    int trials;
    float from, to;
} jt_search;

/* x[0 .. n) with weights w, n at most JT_FIT_VALUES. */
typedef struct jt_group {
    const float *x, *w;
    int n;
} jt_group;
enum { JT_FIT_VALUES = 256 };

/* For codes with the levels l: sums of w x l and of w l^2. Scale d then leaves the
 * error sum w x^2 - 2 d xl + d^2 ll. */
typedef struct jt_moments {
    float xl, ll;
} jt_moments;

/* The moments of the codes nearest to x * inverse. */
jt_moments jt_fit_moments(const jt_levels *levels, const jt_group *g, float inverse);

/* How much of sum w x^2 the scale d takes away, with the codes nearest to x / d. */
float jt_fit_gain(const jt_levels *levels, const jt_group *g, float d);

/* The scale d of either sign with the least error of x ~ d l; 0 when all is 0. */
float jt_fit_scale(const jt_levels *levels, const jt_group *g, const jt_search *search);

/* Index of the code nearest to x * inverse, counted from the lowest level. */
void jt_fit_codes(uint8_t *codes, const jt_levels *levels, const float *x, int n,
                  float inverse);

/* x ~ scale q - min with q in 0 .. top and scale, min >= 0, or with `any_min` any min
 */
typedef struct jt_affine {
    float scale, min;
} jt_affine;
typedef struct jt_affine_levels {
    int top;
    bool any_min;
} jt_affine_levels;

/* For given codes: sums of w l, w l^2 and w x l. */
typedef struct jt_affine_moments {
    float l, ll, xl;
} jt_affine_moments;

/* The moments of the codes nearest to (x + min) / scale. */
jt_affine_moments jt_fit_affine_moments(int top, const jt_group *g, jt_affine fit);

/* Sums of w and of w x. */
void jt_fit_weights(const jt_group *g, float *sum_w, float *sum_x);

/* How much of sum w x^2 a fit takes away, with the codes nearest to it. */
float jt_fit_affine_gain(int top, const jt_group *g, float sum_w, float sum_x,
                         jt_affine fit);

/* The fit with the least error. */
jt_affine jt_fit_affine(const jt_affine_levels *levels, const jt_group *g, int trials);

void jt_fit_affine_codes(uint8_t *codes, int top, const float *x, int n, jt_affine fit);

/* The integer nearest to x in low .. high; low for a NaN. */
static inline int jt_nearest(float x, int low, int high)
{
    if (!(x > (float)low))
        return low;
    return x < (float)high ? (int)lrintf(x) : high;
}

/* 1 / d, and 0 where that is not finite. */
static inline float jt_reciprocal(float d)
{
    float inverse = 1 / d;
    return fabsf(inverse) <= 3e38f ? inverse : 0;
}

/* The value of largest magnitude, with its sign. */
static inline float jt_extreme(const float *x, int n)
{
    float best = 0;
    for (int i = 0; i < n; i++)
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

#endif
