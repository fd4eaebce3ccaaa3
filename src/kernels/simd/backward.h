/* Gradients of the functions of vector.h, and a product of two vectors. */
#ifndef JT_SIMD_BACKWARD_H
#define JT_SIMD_BACKWARD_H

#include "kernels/simd/vector.h"

/* Four chains of fma, value i in lane i % LANES of chain i / LANES % 4. */
static float dot(const float *x, const float *y, size_t n)
{
    vf sum[4];
    for (int c = 0; c < 4; c++)
        sum[c] = vf_set1(0);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int c = 0; c < 4; c++)
            sum[c] =
                vf_fma(vf_load(x + i + c * LANES), vf_load(y + i + c * LANES), sum[c]);
    for (int c = 0; i < n; i += LANES, c++)
        sum[c] = vf_fma(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i), sum[c]);
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

/* With r = 1 / sqrt(mean(x^2) + eps): dx = r (w dy - x r^2 mean(w dy x)). */
static void rms_norm_back(float *dx, float *dw, const float *dy, const float *x,
                          const float *w, size_t n, float eps)
{
    vf square = vf_set1(0), mixed = vf_set1(0);
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_load_n(x + i, n - i), d = vf_load_n(dy + i, n - i);
        square = vf_fma(v, v, square);
        mixed = vf_fma(w ? vf_mul(d, vf_load_n(w + i, n - i)) : d, v, mixed);
    }
    float factor = 1 / sqrtf(vf_sum(square) / (float)n + eps);
    vf r = vf_set1(factor);
    vf along = vf_set1(factor * factor * (vf_sum(mixed) / (float)n));
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_load_n(x + i, n - i), d = vf_load_n(dy + i, n - i);
        vf wd = w ? vf_mul(d, vf_load_n(w + i, n - i)) : d;
        vf change = vf_fma(vf_fnma(v, along, wd), r, vf_load_n(dx + i, n - i));
        vf_store_n(dx + i, change, n - i);
        if (dw)
            vf_store_n(dw + i, vf_fma(d, vf_mul(v, r), vf_load_n(dw + i, n - i)),
                       n - i);
    }
}

static void softmax_back(float *dx, const float *dy, const float *y, size_t n)
{
    vf mean = vf_set1(dot(dy, y, n));
    for (size_t i = 0; i < n; i += LANES) {
        vf above = vf_sub(vf_load_n(dy + i, n - i), mean);
        vf change = vf_fma(vf_load_n(y + i, n - i), above, vf_load_n(dx + i, n - i));
        vf_store_n(dx + i, change, n - i);
    }
}

static void set_backward(jt_kernels *table)
{
    table->dot = dot;
    table->rms_norm_back = rms_norm_back;
    table->softmax_back = softmax_back;
}

#endif
