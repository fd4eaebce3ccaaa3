/* Gradients of the linear recurrence. Some rows go through the piece once more, keeping
 * what every token left of the state, and then back. */
#ifndef JT_SIMD_RECUR_BACK_H
#define JT_SIMD_RECUR_BACK_H

#include "kernels/simd/recur.h"

/* The factor of a row's state at column `at`. */
ALWAYS_INLINE vf decay_of(const jt_recur *r, size_t row, size_t t, size_t at, vf step,
                          const recur_form form)
{
    const size_t rest = r->n - at;
    if (form == RECUR_RATE)
        return vf_exp(vf_mul(step, vf_load_n(r->rate + row * r->n + at, rest)));
    if (form == RECUR_FADE)
        return vf_load_n(r->fade + t * r->fade_stride + at, rest);
    return vf_set1(r->decay[t * r->gate_stride]);
}

ALWAYS_INLINE bool corrects(const recur_form form)
{
    return form == RECUR_DELTA || form == RECUR_FADE;
}

/* The factor of what token t has learnt: u = f w. */
ALWAYS_INLINE float learning(const jt_recur *r, size_t row, size_t t,
                             const recur_form form)
{
    return corrects(form) ? r->beta[t * r->gate_stride]
                          : step_of(r, row, t, form == RECUR_RATE);
}

/* Of one row: g[t], at g + t * g_stride, is the state that token t left of the one
 * before, w[t], at w + t * w_stride, what it has learnt: v, or v - h . k. */
ALWAYS_INLINE void recall(const jt_recur *r, size_t row, float *g, size_t g_stride,
                          float *w, size_t w_stride, const recur_form form)
{
    float *h = r->h + row * r->n;
    for (size_t t = 0; t < r->tokens; t++, g += g_stride, w += w_stride) {
        const float *k = r->k + t * r->k_stride;
        const vf step = vf_set1(step_of(r, row, t, form == RECUR_RATE));
        vf known = vf_set1(0);
        *w = r->v[t * r->v_stride + row];
        for (size_t at = 0; at < r->n; at += LANES) {
            const size_t rest = r->n - at;
            vf a = decay_of(r, row, t, at, step, form);
            vf left = vf_mul(a, vf_load_n(h + at, rest));
            vf_store_n(g + at, left, rest);
            if (corrects(form))
                known = vf_fma(left, vf_load_n(k + at, rest), known);
        }
        if (corrects(form))
            *w -= vf_sum(known);
        const vf u = vf_set1(learning(r, row, t, form) * *w);
        for (size_t at = 0; at < r->n; at += LANES) {
            const size_t rest = r->n - at;
            vf_store_n(h + at,
                       vf_fma(u, vf_load_n(k + at, rest), vf_load_n(g + at, rest)),
                       rest);
        }
    }
}

/* The first half of a token's way back, for some rows: their gradients D take in dy q;
 * dq and dk take in what the rows say; du[i] = D . k. */
ALWAYS_INLINE void take_in(const jt_recur_back *b, size_t row, size_t t, const float *g,
                           const float *u, float *du, const int rows)
{
    const jt_recur *r = &b->fwd;
    const float *k = r->k + t * r->k_stride, *q = r->q + t * r->q_stride;
    float *dh = b->dh + row * r->n, *dk = b->dk + t * r->n, *dq = b->dq + t * r->n;
    vf sum[JT_RECUR_ROWS], dy[JT_RECUR_ROWS], learnt[JT_RECUR_ROWS];
    for (int i = 0; i < rows; i++) {
        sum[i] = vf_set1(0);
        dy[i] = vf_set1(b->dy[t * r->y_stride + row + (size_t)i]);
        learnt[i] = vf_set1(u[i]);
    }
    for (size_t at = 0; at < r->n; at += LANES) {
        const size_t rest = r->n - at;
        const vf key = vf_load_n(k + at, rest), query = vf_load_n(q + at, rest);
        vf to_k = vf_load_n(dk + at, rest), to_q = vf_load_n(dq + at, rest);
        for (int i = 0; i < rows; i++) {
            const size_t place = (size_t)i * r->n + at;
            vf d = vf_fma(dy[i], query, vf_load_n(dh + place, rest));
            vf h = vf_fma(learnt[i], key, vf_load_n(g + place, rest));
            vf_store_n(dh + place, d, rest);
            to_q = vf_fma(dy[i], h, to_q);
            to_k = vf_fma(learnt[i], d, to_k);
            sum[i] = vf_fma(d, key, sum[i]);
        }
        vf_store_n(dk + at, to_k, rest);
        vf_store_n(dq + at, to_q, rest);
    }
    for (int i = 0; i < rows; i++)
        du[i] = vf_sum(sum[i]);
}

/* The second half: D of the state before the token, and sums over values of what its
 * decay gets, dlog[i] (with a rate, of what the step gets by it). A fade gets its own
 * value by value. */
ALWAYS_INLINE void hand_on(const jt_recur_back *b, size_t row, size_t t, const float *g,
                           const float *dw, float *dlog, const int rows,
                           const recur_form form)
{
    const bool rated = form == RECUR_RATE, fades = form == RECUR_FADE;
    const bool delta = corrects(form);
    const jt_recur *r = &b->fwd;
    const float *k = r->k + t * r->k_stride;
    float *dh = b->dh + row * r->n, *dk = b->dk + t * r->n;
    float *dfade = fades ? b->dlog + t * r->n : NULL;
    vf sum[JT_RECUR_ROWS], wrong[JT_RECUR_ROWS], step[JT_RECUR_ROWS];
    for (int i = 0; i < rows; i++) {
        sum[i] = vf_set1(0);
        wrong[i] = vf_set1(dw[i]);
        step[i] = vf_set1(step_of(r, row + (size_t)i, t, rated));
    }
    for (size_t at = 0; at < r->n; at += LANES) {
        const size_t rest = r->n - at;
        const vf key = vf_load_n(k + at, rest);
        vf to_k = vf_load_n(dk + at, rest);
        vf to_fade = fades ? vf_load_n(dfade + at, rest) : vf_set1(0);
        for (int i = 0; i < rows; i++) {
            const size_t place = (size_t)i * r->n + at;
            vf left = vf_load_n(g + place, rest), d = vf_load_n(dh + place, rest);
            if (delta) {
                d = vf_fnma(wrong[i], key, d);
                to_k = vf_fnma(wrong[i], left, to_k);
            }
            vf along = vf_mul(d, left);
            if (rated) {
                float *drate = b->drate + row * r->n + place;
                vf_store_n(drate, vf_fma(along, step[i], vf_load_n(drate, rest)), rest);
                along = vf_mul(along, vf_load_n(r->rate + row * r->n + place, rest));
            }
            if (fades)
                to_fade = vf_add(to_fade, along);
            sum[i] = vf_add(sum[i], along);
            vf a = decay_of(r, row + (size_t)i, t, at, step[i], form);
            vf_store_n(dh + place, vf_mul(a, d), rest);
        }
        if (delta)
            vf_store_n(dk + at, to_k, rest);
        if (fades)
            vf_store_n(dfade + at, to_fade, rest);
    }
    for (int i = 0; i < rows; i++)
        dlog[i] = vf_sum(sum[i]);
}

/* One token of some rows, back; w: what it had learnt of each. */
ALWAYS_INLINE void back_token(const jt_recur_back *b, size_t row, size_t t,
                              const float *g, const float *w, const int rows,
                              const recur_form form)
{
    const jt_recur *r = &b->fwd;
    float u[JT_RECUR_ROWS], du[JT_RECUR_ROWS], dw[JT_RECUR_ROWS], dlog[JT_RECUR_ROWS];
    for (int i = 0; i < rows; i++)
        u[i] = learning(r, row + (size_t)i, t, form) * w[i];
    take_in(b, row, t, g, u, du, rows);
    for (int i = 0; i < rows; i++) {
        dw[i] = learning(r, row + (size_t)i, t, form) * du[i];
        b->dv[t * r->v_stride + row + (size_t)i] += dw[i];
    }
    hand_on(b, row, t, g, dw, dlog, rows, form);
    for (int i = 0; i < rows; i++) {
        const float gain = w[i] * du[i];
        if (form == RECUR_RATE)
            b->dstep[t * r->step_stride + row + (size_t)i] += gain + dlog[i];
        else if (form != RECUR_FADE)
            b->dlog[t] += dlog[i];
        if (corrects(form))
            b->dbeta[t] += gain;
        else if (form == RECUR_DECAY && r->step)
            b->dstep[t] += gain;
    }
}

ALWAYS_INLINE void back_some(const jt_recur_back *b, size_t row, const int rows,
                             const recur_form form)
{
    const jt_recur *r = &b->fwd;
    const size_t count = (size_t)rows;
    float *g = b->scratch, *w = g + r->tokens * count * r->n;
    for (size_t i = 0; i < count; i++)
        recall(r, row + i, g + i * r->n, count * r->n, w + i, count, form);
    for (size_t t = r->tokens; t-- > 0;)
        back_token(b, row, t, g + t * count * r->n, w + t * count, rows, form);
}

ALWAYS_INLINE void back_rows(const jt_recur_back *b, const recur_form form)
{
    size_t row = 0;
    for (; row + JT_RECUR_ROWS <= b->fwd.rows; row += JT_RECUR_ROWS)
        back_some(b, row, JT_RECUR_ROWS, form);
    for (; row < b->fwd.rows; row++)
        back_some(b, row, 1, form);
}

static void recur_back(const jt_recur_back *b)
{
    if (b->fwd.rate)
        back_rows(b, RECUR_RATE);
    else if (b->fwd.fade)
        back_rows(b, RECUR_FADE);
    else if (b->fwd.beta)
        back_rows(b, RECUR_DELTA);
    else
        back_rows(b, RECUR_DECAY);
}

#endif
