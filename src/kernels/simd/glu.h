/* What FFNs do inside, for all activations that are made of an exponential. */
#ifndef JT_SIMD_GLU_H
#define JT_SIMD_GLU_H

#include "kernels/c/glu.h"
#include "kernels/simd/vector.h"

/* f(g) = g sigmoid(a(g)): a(g), and its slope. */
ALWAYS_INLINE vf glu_argument(jt_activation f, vf g, vf *slope)
{
    if (f == JT_GELU) {
        const vf c = vf_set1(2 * 0.7978845608f);          /* 2 sqrt(2 / pi) */
        g = vf_min(vf_set1(20), vf_max(vf_set1(-20), g)); /* there it is 0 or 1 */
        vf square = vf_mul(g, g);
        *slope = vf_mul(c, vf_fma(square, vf_set1(3 * 0.044715f), vf_set1(1)));
        return vf_mul(vf_mul(c, g), vf_fma(square, vf_set1(0.044715f), vf_set1(1)));
    }
    *slope = vf_set1(f == JT_SWIGLU_OAI ? 1.702f : 1);
    return vf_mul(*slope, g);
}

ALWAYS_INLINE void glu_clamp(vf *g, vf *u)
{
    *g = vf_min(vf_set1(7), *g);
    *u = vf_add(vf_min(vf_set1(7), vf_max(vf_set1(-7), *u)), vf_set1(1));
}

ALWAYS_INLINE void glu_loop(jt_activation f, float *y, const float *gate,
                            const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        vf g = vf_load_n(gate + i, n - i), slope;
        vf u = up ? vf_load_n(up + i, n - i) : vf_set1(1);
        if (f == JT_SWIGLU_OAI)
            glu_clamp(&g, &u);
        vf below = vf_exp(vf_sub(vf_set1(0), glu_argument(f, g, &slope)));
        vf value = vf_div(g, vf_add(vf_set1(1), below));
        vf_store_n(y + i, vf_mul(value, u), n - i);
    }
}

/* With s = sigmoid(a(g)): f'(g) = s (1 + g (1 - s) a'(g)). */
ALWAYS_INLINE void glu_back_loop(jt_activation f, float *dgate, float *dup,
                                 const float *dy, const float *gate, const float *up,
                                 size_t n)
{
    const vf one = vf_set1(1);
    for (size_t i = 0; i < n; i += LANES) {
        vf g = vf_load_n(gate + i, n - i), d = vf_load_n(dy + i, n - i);
        vf u = up ? vf_load_n(up + i, n - i) : one, along;
        vf s = vf_div(
            one, vf_add(one, vf_exp(vf_sub(vf_set1(0), glu_argument(f, g, &along)))));
        vf slope = vf_mul(s, vf_fma(vf_mul(g, along), vf_sub(one, s), one));
        vf_store_n(dgate + i, vf_mul(vf_mul(d, u), slope), n - i);
        if (dup)
            vf_store_n(dup + i, vf_mul(d, vf_mul(g, s)), n - i);
    }
}

static void glu(jt_activation f, float *y, const float *gate, const float *up, size_t n)
{
    if (f == JT_SILU)
        glu_loop(JT_SILU, y, gate, up, n);
    else if (f == JT_GELU)
        glu_loop(JT_GELU, y, gate, up, n);
    else if (f == JT_SWIGLU_OAI)
        glu_loop(JT_SWIGLU_OAI, y, gate, up, n);
    else
        jt_plain_glu(f, y, gate, up, n);
}

static void glu_back(jt_activation f, float *dgate, float *dup, const float *dy,
                     const float *gate, const float *up, size_t n)
{
    if (f == JT_SILU)
        glu_back_loop(JT_SILU, dgate, dup, dy, gate, up, n);
    else if (f == JT_GELU)
        glu_back_loop(JT_GELU, dgate, dup, dy, gate, up, n);
    else /* clamps and polynomials: rare in training */
        jt_plain_glu_back(f, dgate, dup, dy, gate, up, n);
}

/* tanh v = 1 - 2 / (1 + exp(2 v)): right to an ULP of `cap`. */
static void softcap(float *y, const float *x, float cap, size_t n)
{
    const vf one = vf_set1(1), two = vf_set1(2), by = vf_set1(2 / cap);
    for (size_t i = 0; i < n; i += LANES) {
        vf e = vf_exp(vf_mul(vf_load_n(x + i, n - i), by));
        vf tanh = vf_sub(one, vf_div(two, vf_add(one, e)));
        vf_store_n(y + i, vf_mul(vf_set1(cap), tanh), n - i);
    }
}

static void set_glu(jt_kernels *table)
{
    table->glu = glu;
    table->glu_back = glu_back;
    table->softcap = softcap;
}

#endif
