/* The scalar linear recurrence: the formula of kernels.h, sums in double. */
#include "kernels/c/recur.h"

#include <math.h>

#include "kernels/c/conv.h"

static void softplus(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaxf(x[i], 0) + log1pf(expf(-fabsf(x[i])));
}

/* What is left of value i of the state. */
static float factor(const jt_recur *r, size_t row, size_t t, size_t i, float step)
{
    if (r->rate)
        return expf(step * r->rate[row * r->n + i]);
    return r->fade ? r->fade[t * r->fade_stride + i] : r->decay[t * r->gate_stride];
}

static float step_of(const jt_recur *r, size_t row, size_t t)
{
    if (r->rate)
        return r->step[t * r->step_stride + row];
    return r->step ? r->step[t * r->gate_stride] : 1;
}

static void recur_token(const jt_recur *r, size_t row, size_t t)
{
    float *h = r->h + row * r->n;
    const float *k = r->k + t * r->k_stride, *q = r->q + t * r->q_stride;
    float u = r->v[t * r->v_stride + row], step = step_of(r, row, t);
    double known = 0, y = 0;
    for (size_t i = 0; i < r->n; i++) {
        h[i] *= factor(r, row, t, i, step);
        known += (double)h[i] * k[i];
    }
    u = r->beta ? r->beta[t * r->gate_stride] * (u - (float)known) : step * u;
    for (size_t i = 0; i < r->n; i++) {
        h[i] += u * k[i];
        y += (double)h[i] * q[i];
    }
    r->y[t * r->y_stride + row] = (float)y;
}

static void recur(const jt_recur *r)
{
    for (size_t row = 0; row < r->rows; row++)
        for (size_t t = 0; t < r->tokens; t++)
            recur_token(r, row, t);
}

/* ---- gradients ---- */

/* Of one row: what the forward pass goes through. g[t] is the state that token t left
 * of the one before, w[t] what it has learnt: v, or v - h . k. */
static void recall(const jt_recur *r, size_t row, float *g, float *w)
{
    float *h = r->h + row * r->n;
    for (size_t t = 0; t < r->tokens; t++, g += r->n) {
        const float *k = r->k + t * r->k_stride;
        float step = step_of(r, row, t);
        double known = 0;
        w[t] = r->v[t * r->v_stride + row];
        for (size_t i = 0; i < r->n; i++) {
            g[i] = factor(r, row, t, i, step) * h[i];
            known += (double)g[i] * k[i];
        }
        if (r->beta)
            w[t] -= (float)known;
        float u = (r->beta ? r->beta[t * r->gate_stride] : step) * w[t];
        for (size_t i = 0; i < r->n; i++)
            h[i] = g[i] + u * k[i];
    }
}

/* With D the gradient of the state after token t, G that of g:
 *     D += dy q       dq += dy h       u = f w, f beta or step
 *     du = D . k      dk += u D        df += w du      dw = f du
 *     G = D - dw k and dk -= dw g with beta, otherwise G = D; dv += dw
 *     dlog += G . g   D of the token before = a G, both value by value with a fade */
static void back_token(const jt_recur_back *b, size_t row, size_t t, const float *g,
                       float w)
{
    const jt_recur *r = &b->fwd;
    const float *k = r->k + t * r->k_stride, *q = r->q + t * r->q_stride;
    float *dh = b->dh + row * r->n, *dk = b->dk + t * r->n, *dq = b->dq + t * r->n;
    float dy = b->dy[t * r->y_stride + row], step = step_of(r, row, t);
    float f = r->beta ? r->beta[t * r->gate_stride] : step, u = f * w;
    double du = 0, dlog = 0, dstep = 0;
    for (size_t i = 0; i < r->n; i++) {
        dh[i] += dy * q[i];
        dq[i] += dy * (g[i] + u * k[i]);
        dk[i] += u * dh[i];
        du += (double)dh[i] * k[i];
    }
    float dw = f * (float)du;
    b->dv[t * r->v_stride + row] += dw;
    for (size_t i = 0; i < r->n; i++) {
        if (r->beta) {
            dh[i] -= dw * k[i];
            dk[i] -= dw * g[i];
        }
        float along = dh[i] * g[i], rate = r->rate ? r->rate[row * r->n + i] : 0;
        dlog += along;
        dstep += (double)along * rate;
        if (r->rate)
            b->drate[row * r->n + i] += along * step;
        if (r->fade)
            b->dlog[t * r->n + i] += along;
        dh[i] *= factor(r, row, t, i, step);
    }
    if (!r->rate && !r->fade)
        b->dlog[t] += (float)dlog;
    if (r->beta)
        b->dbeta[t] += w * (float)du;
    else if (r->rate)
        b->dstep[t * r->step_stride + row] += w * (float)du + (float)dstep;
    else if (r->step)
        b->dstep[t] += w * (float)du;
}

static void recur_back(const jt_recur_back *b)
{
    const jt_recur *r = &b->fwd;
    float *g = b->scratch, *w = g + r->tokens * r->n;
    for (size_t row = 0; row < r->rows; row++) {
        recall(r, row, g, w);
        for (size_t t = r->tokens; t-- > 0;)
            back_token(b, row, t, g + t * r->n, w[t]);
    }
}

void jt_scalar_recur(jt_kernels *table)
{
    table->softplus = softplus;
    table->conv = conv;
    table->recur = recur;
    table->recur_back = recur_back;
}
