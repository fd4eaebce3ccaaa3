/* The linear recurrence over tokens, some rows of the state at a time: they stay in the
 * nearest cache from the first token to the last, and each key and query that is read
 * serves all of them. */
#ifndef JT_SIMD_RECUR_H
#define JT_SIMD_RECUR_H

#include "kernels/c/conv.h"
#include "kernels/simd/vector.h"

/* log(1 + e) for e in 0 .. 1: 2 artanh(s), s = e / (2 + e) <= 1/3, whose series
 * s + s^3/3 + s^5/5 + .. is cut at s^17 (2^-30 of the sum). */
ALWAYS_INLINE vf vf_log1p(vf e)
{
    vf s = vf_div(e, vf_add(vf_set1(2), e)), square = vf_mul(s, s);
    vf sum = vf_set1(1.0f / 17);
    for (int odd = 15; odd >= 3; odd -= 2)
        sum = vf_fma(sum, square, vf_set1(1.0f / (float)odd));
    s = vf_add(s, s);
    return vf_fma(vf_mul(s, square), sum, s);
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) */
static void softplus(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_load_n(x + i, n - i), minus = vf_sub(vf_set1(0), v);
        vf e = vf_exp(vf_min(v, minus));
        vf_store_n(y + i, vf_add(vf_max(v, vf_set1(0)), vf_log1p(e)), n - i);
    }
}

/* The forms of kernels.h. */
typedef enum recur_form { RECUR_DECAY, RECUR_RATE, RECUR_DELTA, RECUR_FADE } recur_form;

ALWAYS_INLINE float step_of(const jt_recur *r, size_t row, size_t t, const bool rated)
{
    if (rated)
        return r->step[t * r->step_stride + row];
    return r->step ? r->step[t * r->gate_stride] : 1;
}

/* What one token does to `rows` rows from `row` on. */
ALWAYS_INLINE void recur_token(const jt_recur *r, size_t row, size_t t, const int rows,
                               const recur_form form)
{
    const bool rated = form == RECUR_RATE, fades = form == RECUR_FADE;
    const bool delta = form == RECUR_DELTA || fades;
    const float *k = r->k + t * r->k_stride, *q = r->q + t * r->q_stride;
    const float *v = r->v + t * r->v_stride + row;
    const float *fade = fades ? r->fade + t * r->fade_stride : NULL;
    float *y = r->y + t * r->y_stride + row, *h = r->h + row * r->n;
    const float one = rated || fades ? 1 : r->decay[t * r->gate_stride];
    const vf decay = vf_set1(one);
    vf u[JT_RECUR_ROWS], step[JT_RECUR_ROWS], sum[JT_RECUR_ROWS];
    for (int i = 0; i < rows; i++) {
        step[i] = vf_set1(step_of(r, row + (size_t)i, t, rated));
        u[i] = vf_mul(vf_set1(v[i]), step[i]);
        sum[i] = vf_set1(0);
    }
    for (size_t at = 0; delta && at < r->n; at += LANES) {
        vf key = vf_load_n(k + at, r->n - at);
        if (fades)
            key = vf_mul(key, vf_load_n(fade + at, r->n - at));
        for (int i = 0; i < rows; i++)
            sum[i] =
                vf_fma(vf_load_n(h + (size_t)i * r->n + at, r->n - at), key, sum[i]);
    }
    for (int i = 0; delta && i < rows; i++) {
        float known = one * vf_sum(sum[i]);
        u[i] = vf_set1(r->beta[t * r->gate_stride] * (v[i] - known));
        sum[i] = vf_set1(0);
    }
    for (size_t at = 0; at < r->n; at += LANES) {
        const size_t rest = r->n - at;
        const vf key = vf_load_n(k + at, rest), query = vf_load_n(q + at, rest);
        const vf left = fades ? vf_load_n(fade + at, rest) : decay;
        for (int i = 0; i < rows; i++) {
            const size_t place = (size_t)i * r->n + at;
            vf a = left, value = vf_load_n(h + place, rest);
            if (rated)
                a = vf_exp(
                    vf_mul(step[i], vf_load_n(r->rate + row * r->n + place, rest)));
            value = vf_fma(u[i], key, vf_mul(a, value));
            vf_store_n(h + place, value, rest);
            sum[i] = vf_fma(value, query, sum[i]);
        }
    }
    for (int i = 0; i < rows; i++)
        y[i] = vf_sum(sum[i]);
}

ALWAYS_INLINE void recur_rows(const jt_recur *r, const recur_form form)
{
    size_t row = 0;
    for (; row + JT_RECUR_ROWS <= r->rows; row += JT_RECUR_ROWS)
        for (size_t t = 0; t < r->tokens; t++)
            recur_token(r, row, t, JT_RECUR_ROWS, form);
    for (; row < r->rows; row++)
        for (size_t t = 0; t < r->tokens; t++)
            recur_token(r, row, t, 1, form);
}

static void recur(const jt_recur *r)
{
    if (r->rate)
        recur_rows(r, RECUR_RATE);
    else if (r->fade)
        recur_rows(r, RECUR_FADE);
    else if (r->beta)
        recur_rows(r, RECUR_DELTA);
    else
        recur_rows(r, RECUR_DECAY);
}

static void set_recur(jt_kernels *table)
{
    table->softplus = softplus;
    table->conv = conv;
    table->recur = recur;
}

#endif
