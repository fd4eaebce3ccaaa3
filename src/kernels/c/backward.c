/* Scalar gradients: the truth. The formulas are explained in simd/backward.h and
 * simd/attention_back.h. */
#include "kernels/c/backward.h"

#include <math.h>

static float dot(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return (float)sum;
}

static void rms_norm_back(float *dx, float *dw, const float *dy, const float *x,
                          const float *w, size_t n, float eps)
{
    double square = 0, mixed = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * x[i];
        mixed += (double)dy[i] * (w ? w[i] : 1) * x[i];
    }
    float r = (float)(1 / sqrt(square / (double)n + eps));
    float along = r * r * (float)(mixed / (double)n);
    for (size_t i = 0; i < n; i++) {
        dx[i] += r * (dy[i] * (w ? w[i] : 1) - x[i] * along);
        if (dw)
            dw[i] += dy[i] * (x[i] * r);
    }
}

static void softmax_back(float *dx, const float *dy, const float *y, size_t n)
{
    float mean = dot(dy, y, n);
    for (size_t i = 0; i < n; i++)
        dx[i] += y[i] * (dy[i] - mean);
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void attention_back(const jt_attn_back *b)
{
    const jt_attn *a = &b->fwd;
    const size_t k_dim = (size_t)a->k_dim, v_dim = (size_t)a->v_dim;
    for (size_t j = 0; j < (size_t)a->n_q; j++) {
        const float *q = a->q + j * a->q_stride, *dout = b->dout + j * a->out_stride;
        const float mean = dot(dout, a->out + j * a->out_stride, v_dim);
        for (int i = a->from[j]; i < a->to[j]; i++) {
            const size_t k_at = (size_t)i * a->k_stride;
            const size_t v_at = (size_t)i * a->v_stride;
            const float *k = (const float *)a->k + k_at,
                        *v = (const float *)a->v + v_at;
            float score = a->scale * dot(q, k, k_dim), slope = 1;
            if (a->softcap > 0) {
                float tanh = tanhf(score / a->softcap);
                score = a->softcap * tanh;
                slope = 1 - tanh * tanh;
            }
            float p = expf(score - a->lse[j]);
            float ds = a->scale * slope * p * (dot(dout, v, v_dim) - mean);
            axpy(b->dv + v_at, p, dout, v_dim);
            axpy(b->dk + k_at, ds, q, k_dim);
            axpy(b->dq + j * a->q_stride, ds, k, k_dim);
        }
    }
}

void jt_scalar_backward(jt_kernels *table)
{
    table->dot = dot;
    table->rms_norm_back = rms_norm_back;
    table->softmax_back = softmax_back;
    table->attention_back = attention_back;
}
