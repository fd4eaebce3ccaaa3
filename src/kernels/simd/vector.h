/* Vectors of floats: the exponential, and what needs it or a sum over lanes. */
#ifndef JT_VECTOR_H
#define JT_VECTOR_H

#include <math.h>

#include "kernels/kernels.h"

/* 2^k for k in -126 .. 127 */
ALWAYS_INLINE vf vf_power_of_two(vi k)
{
    return vf_cast(vi_left(vi_add(k, vi_set1(127)), 23));
}

/* exp(x) within 1 ULP of the rounded value (2 where the result is subnormal); 0 for
 * -inf, inf above 88.8, NaN for NaN, exactly 1 for 0.
 *
 * x = k ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 q(r), where q is the minimax
 * polynomial of degree 4 (relative error of the exponential 2^-28). 2^k goes in in two
 * steps, so that it may lead to a subnormal number or to infinity. */
ALWAYS_INLINE vf vf_exp(vf x)
{
    x = vf_min(vf_set1(89), vf_max(vf_set1(-104), x));
    vi k = vi_from_vf(vf_mul(x, vf_set1(0x1.715476p0f)));
    vf kf = vf_from_vi(k);
    vf r =
        vf_fnma(kf, vf_set1(0x1.62e4p-1f), x); /* ln 2 = high + low; k high is exact */
    r = vf_fnma(kf, vf_set1(0x1.7f7d1cp-20f), r);
    vf q = vf_set1(0x1.6a23cep-10f);
    q = vf_fma(q, r, vf_set1(0x1.123a2p-7f));
    q = vf_fma(q, r, vf_set1(0x1.5558f2p-5f));
    q = vf_fma(q, r, vf_set1(0x1.555492p-3f));
    q = vf_fma(q, r, vf_set1(0x1.fffffcp-2f));
    vf e = vf_add(vf_fma(vf_mul(r, r), q, r), vf_set1(1));
    vi half = vi_shift_down(k, 1);
    e = vf_mul(e, vf_power_of_two(half));
    return vf_mul(e, vf_power_of_two(vi_sub(k, half)));
}

static void dequant_f16(float *dst, const void *src, size_t n)
{
    const uint8_t *bytes = src;
    uint16_t some[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        memcpy(some, bytes + 2 * i, sizeof some);
        vf_store(dst + i, vf_load_half(some));
    }
    memcpy(some, bytes + 2 * i, (n - i) * sizeof *some);
    vf_store_n(dst + i, vf_load_half(some), n - i);
}

static void f32_to_f16(uint16_t *y, const float *x, size_t n)
{
    uint16_t some[LANES];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store_half(y + i, vf_load(x + i));
    vf_store_half(some, vf_load_n(x + i, n - i));
    memcpy(y + i, some, (n - i) * sizeof *some);
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    vf sum = vf_set1(0);
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_load_n(x + i, n - i);
        sum = vf_fma(v, v, sum);
    }
    vf factor = vf_set1(1 / sqrtf(vf_sum(sum) / (float)n + eps));
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_mul(vf_load_n(x + i, n - i), factor);
        vf_store_n(y + i, w ? vf_mul(v, vf_load_n(w + i, n - i)) : v, n - i);
    }
}

static void softmax(float *y, const float *x, size_t n)
{
    vf top = vf_set1(-INFINITY), sum = vf_set1(0);
    size_t whole = n / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        top = vf_max(top, vf_load(x + i));
    float max = vf_top(top);
    for (size_t i = whole; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i += LANES) {
        vf e = vf_exp(vf_sub(vf_load_n(x + i, n - i), vf_set1(max)));
        vf_store_n(y + i, e, n - i);
        sum = vf_add(sum, vf_load_n(y + i, n - i)); /* without the lanes beyond n */
    }
    scale(y, 1 / vf_sum(sum), y, n);
}

static void set_vectors(jt_kernels *table)
{
    table->dequant[JT_F16] = dequant_f16;
    table->f32_to_f16 = f32_to_f16;
    table->rms_norm = rms_norm;
    table->softmax = softmax;
}

#endif
