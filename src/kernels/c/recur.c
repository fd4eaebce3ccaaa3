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

static void recur_token(const jt_recur *r, size_t row, size_t t)
{
    float *h = r->h + row * r->n;
    const float *k = r->k + t * r->k_stride, *q = r->q + t * r->q_stride;
    float u = r->v[t * r->v_stride + row], step = 0;
    if (r->rate)
        step = r->step[t * r->step_stride + row];
    double known = 0, y = 0;
    for (size_t i = 0; i < r->n; i++) {
        h[i] *= factor(r, row, t, i, step);
        known += (double)h[i] * k[i];
    }
    if (r->beta)
        u = r->beta[t * r->gate_stride] * (u - (float)known);
    if (r->rate)
        u *= step;
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

void jt_scalar_recur(jt_kernels *table)
{
    table->softplus = softplus;
    table->conv = conv;
    table->recur = recur;
}
