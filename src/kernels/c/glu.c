/* What FFNs do inside, plain: the truth, and the only version of the rare ones. */
#include "kernels/c/glu.h"

#include <math.h>

/* Of the sigmoid's argument a(g) in f(g) = g sigmoid(a(g)): value and slope. */
static float argument(jt_activation f, float g, float *slope)
{
    if (f == JT_GELU) {
        const float c = 2 * 0.7978845608f; /* 2 sqrt(2 / pi) */
        g = fminf(fmaxf(g, -20), 20);      /* beyond, the sigmoid is 0 or 1 */
        *slope = c * (1 + 3 * 0.044715f * g * g);
        return c * (g + 0.044715f * g * g * g);
    }
    *slope = f == JT_SWIGLU_OAI ? 1.702f : 1;
    return *slope * g;
}

/* f(g), and its slope. */
static float inner(jt_activation f, float g, float *slope)
{
    if (f == JT_RELU2) {
        float r = g < 0 ? 0 : g;
        *slope = 2 * r;
        return r * r;
    }
    if (f == JT_GELU_ERF) {
        float share = 0.5f * (1 + erff(g * 0.7071067812f));
        *slope = share + g * 0.3989422804f * expf(-0.5f * g * g);
        return g * share;
    }
    float of_argument, s = 1 / (1 + expf(-argument(f, g, &of_argument)));
    *slope = s * (1 + g * (1 - s) * of_argument);
    return g * s;
}

/* What a clamp holds has no gradient. */
static float clamped(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

void jt_plain_glu(jt_activation f, float *y, const float *gate, const float *up,
                  size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up ? up[i] : 1, slope;
        if (f == JT_SWIGLU_OAI) {
            g = clamped(g, -INFINITY, 7);
            u = clamped(u, -7, 7) + 1;
        }
        y[i] = inner(f, g, &slope) * u;
    }
}

void jt_plain_glu_back(jt_activation f, float *dgate, float *dup, const float *dy,
                       const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up ? up[i] : 1, d = dy[i], slope;
        bool oai = f == JT_SWIGLU_OAI, top = oai && g > 7, out = oai && fabsf(u) > 7;
        if (oai) {
            g = clamped(g, -INFINITY, 7);
            u = clamped(u, -7, 7) + 1;
        }
        float value = inner(f, g, &slope);
        dgate[i] = top ? 0 : d * u * slope;
        if (dup)
            dup[i] = out ? 0 : d * value;
    }
}
