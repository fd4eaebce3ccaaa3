/* Decoding, packing and the vector functions. What every level shares must have the
 * bits of the scalar table; what has an exponential or a sum over lanes is held against
 * doubles. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"

static void check_dequant(checker *c, jt_dtype dtype)
{
    size_t block = jt_dtype_block_values(dtype);
    size_t count = pick(c, 0, block == 1 ? 70 : 5), n = count * block;
    buffer src = buffer_in(count * jt_dtype_block_bytes(dtype), pick(c, 0, 3));
    buffer dst = buffer_out(n * sizeof(float), 4 * pick(c, 0, 3));
    buffer truth = buffer_out(n * sizeof(float), 0);
    fill_blocks(c, dtype, src.data, count, (fill)pick(c, 0, FILLS - 1));
    c->level->dequant[dtype](dst.data, src.data, n);
    c->scalar->dequant[dtype](truth.data, src.data, n);
    check(c, memcmp(dst.data, truth.data, n * sizeof(float)) == 0, "dequant %s differs",
          jt_dtype_name(dtype));
    check_margins(c, &dst, "dequant");
    buffer_free(&src);
    buffer_free(&dst);
    buffer_free(&truth);
}

static void check_pack(checker *c, jt_act act, fill how)
{
    size_t n = act == JT_ACT_Q8 ? 32 * pick(c, 1, 20) : pick(c, 0, 300);
    buffer x = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    buffer dst = buffer_out(jt_act_bytes(act, n), pick(c, 0, 3));
    buffer truth = buffer_out(jt_act_bytes(act, n), 0);
    fill_floats(c, x.data, n, how);
    if (n > 0 && pick(c, 0, 3) == 0) { /* tiny, huge, infinite, NaN */
        const float odd[] = {1e-40f, 3e38f, INFINITY, NAN};
        ((float *)x.data)[pick(c, 0, n - 1)] = odd[pick(c, 0, 3)];
    }
    c->level->pack[act](dst.data, x.data, n);
    c->scalar->pack[act](truth.data, x.data, n);
    check(c, memcmp(dst.data, truth.data, dst.bytes) == 0, "pack %d differs", (int)act);
    check_margins(c, &dst, "pack");
    buffer_free(&x);
    buffer_free(&dst);
    buffer_free(&truth);
}

/* Random bits: every kind of float. */
static void check_to_half(checker *c)
{
    size_t n = pick(c, 0, 300);
    buffer x = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    buffer y = buffer_out(n * sizeof(uint16_t), 2 * pick(c, 0, 3));
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = jt_rng_u32(&c->rng);
        if (pick(c, 0, 1)) /* exponents near the range of a half */
            bits = (bits & 0x8fffffff) | 0x30000000;
        memcpy((float *)x.data + i, &bits, sizeof bits);
    }
    c->level->f32_to_f16(y.data, x.data, n);
    for (size_t i = 0; i < n; i++)
        same = same && ((uint16_t *)y.data)[i] == jt_float_to_f16(((float *)x.data)[i]);
    check(c, same, "f32_to_f16 differs");
    check_margins(c, &y, "f32_to_f16");
    buffer_free(&x);
    buffer_free(&y);
}

void check_conversions(checker *c)
{
    for (int i = 0; i < 40; i++) {
        for (int dtype = 0; dtype < JT_DTYPE_COUNT; dtype++)
            check_dequant(c, (jt_dtype)dtype);
        for (int act = 0; act < JT_ACT_COUNT; act++)
            check_pack(c, (jt_act)act, (fill)(i % FILLS));
        check_to_half(c);
    }
}

/* Three inputs of n floats and an output that starts as a copy of the first. */
typedef struct vectors {
    size_t n;
    buffer a, b, w, y, z;
} vectors;

static vectors new_vectors(checker *c, float width)
{
    vectors v = {.n = pick(c, 1, 150)};
    size_t bytes = v.n * sizeof(float);
    v.a = buffer_in(bytes, 4 * pick(c, 0, 3));
    v.b = buffer_in(bytes, 4 * pick(c, 0, 3));
    v.w = buffer_in(bytes, 4 * pick(c, 0, 3));
    v.y = buffer_out(bytes, 4 * pick(c, 0, 3));
    v.z = buffer_out(bytes, 0);
    fill_floats(c, v.a.data, v.n, FILL_NORMAL);
    fill_floats(c, v.b.data, v.n, FILL_NORMAL);
    fill_floats(c, v.w.data, v.n, FILL_NORMAL);
    for (size_t i = 0; i < v.n; i++)
        ((float *)v.a.data)[i] *= width;
    memcpy(v.y.data, v.a.data, bytes);
    memcpy(v.z.data, v.a.data, bytes);
    return v;
}

static void end_vectors(checker *c, vectors *v, const char *what)
{
    check_margins(c, &v->y, what);
    buffer_free(&v->a);
    buffer_free(&v->b);
    buffer_free(&v->w);
    buffer_free(&v->y);
    buffer_free(&v->z);
}

static void same_bits(checker *c, const vectors *v, const char *what)
{
    check(c, memcmp(v->y.data, v->z.data, v->n * sizeof(float)) == 0, "%s differs",
          what);
}

static void check_exact(checker *c)
{
    vectors v = new_vectors(c, 1);
    float *y = v.y.data, *z = v.z.data, *b = v.b.data, *w = v.w.data;
    c->level->add(y, b, v.n);
    c->scalar->add(z, b, v.n);
    same_bits(c, &v, "add");
    c->level->axpy(y, 0.7f, b, v.n);
    c->scalar->axpy(z, 0.7f, b, v.n);
    same_bits(c, &v, "axpy");
    c->level->scale(y, 1.3f, y, v.n); /* in place */
    c->scalar->scale(z, 1.3f, z, v.n);
    same_bits(c, &v, "scale");
    for (int neox = 0; neox < 2; neox++) {
        size_t pairs = pick(c, 0, v.n / 2);
        c->level->rope(y, b, w, pairs, neox);
        c->scalar->rope(z, b, w, pairs, neox);
        same_bits(c, &v, "rope");
    }
    end_vectors(c, &v, "elementwise");
}

/* |y - truth| within `ulps` of the truth, or of the smallest normal number. */
static bool near(float y, double truth, double ulps)
{
    if (fabs(truth) > 3.4028235e38)
        return (double)y == copysign(INFINITY, truth);
    return fabs((double)y - truth) <= ulps * 0x1p-23 * fmax(fabs(truth), 0x1p-126);
}

static void check_rms_norm(checker *c)
{
    vectors v = new_vectors(c, 3);
    bool in_place = pick(c, 0, 1), good = true;
    const float *a = v.a.data, *w = pick(c, 0, 1) ? v.w.data : NULL;
    double square = 0;
    for (size_t i = 0; i < v.n; i++)
        square += (double)a[i] * a[i];
    double factor = 1 / sqrt(square / (double)v.n + 1e-5);
    c->level->rms_norm(v.y.data, in_place ? v.y.data : a, w, v.n, 1e-5f);
    for (size_t i = 0; i < v.n; i++)
        good = good && near(((float *)v.y.data)[i], a[i] * factor * (w ? w[i] : 1), 8);
    check(c, good, "rms_norm, n %zu", v.n);
    end_vectors(c, &v, "rms_norm");
}

/* The definitions in kernels.h. */
static double inner(jt_activation f, double v)
{
    switch (f) {
    case JT_GELU:
        return v / (1 + exp(-2 * sqrt(2 / acos(-1)) * (v + 0.044715 * v * v * v)));
    case JT_GELU_ERF:
        return v * (1 + erf(v / sqrt(2))) / 2;
    case JT_RELU2:
        return v < 0 ? 0 : v * v;
    case JT_SWIGLU_OAI:
        v = fmin(v, 7);
        return v / (1 + exp(-1.702 * v));
    default:
        return v / (1 + exp(-v));
    }
}

static void check_glu(checker *c, jt_activation f, float width)
{
    vectors v = new_vectors(c, width);
    const float *gate = v.a.data, *up = pick(c, 0, 3) ? v.b.data : NULL;
    c->level->glu(f, v.y.data, v.y.data, up, v.n);
    for (size_t i = 0; i < v.n; i++) {
        double g = gate[i], u = up ? (double)up[i] : 1;
        if (f == JT_SWIGLU_OAI)
            u = fmax(fmin(u, 7), -7) + 1;
        double truth = inner(f, g) * u, y = ((float *)v.y.data)[i];
        /* The exponential's argument, up to 60, is rounded; far below 0 the exponential
         * is infinite in float, or the sum 1 + erf is 0. */
        bool good = near((float)y, truth, 64) || fabs(y - truth) < 1e-6;
        check(c, good, "glu %d (%g, %g) = %g, expected %g", (int)f, g, u, y, truth);
    }
    end_vectors(c, &v, "glu");
}

static void check_softcap(checker *c)
{
    vectors v = new_vectors(c, 40);
    const float *x = v.a.data;
    c->level->softcap(v.y.data, v.y.data, 30, v.n);
    for (size_t i = 0; i < v.n; i++) {
        double y = ((float *)v.y.data)[i], truth = 30 * tanh((double)x[i] / 30);
        check(c, fabs(y - truth) < 30 * 0x1p-22, "softcap(%g) = %g", (double)x[i], y);
    }
    end_vectors(c, &v, "softcap");
}

static void check_softmax(checker *c, float width)
{
    vectors v = new_vectors(c, width);
    float *a = v.a.data, *y = v.y.data;
    if (v.n > 2)
        a[0] = y[0] = -INFINITY;
    double max = -INFINITY, sum = 0;
    bool good = true;
    for (size_t i = 0; i < v.n; i++)
        max = fmax(max, a[i]);
    for (size_t i = 0; i < v.n; i++)
        sum += exp((double)(float)((double)a[i] - max));
    c->level->softmax(y, y, v.n);
    for (size_t i = 0; i < v.n; i++)
        good = good && near(y[i], exp((double)(float)((double)a[i] - max)) / sum, 8);
    check(c, good, "softmax, n %zu, width %g", v.n, (double)width);
    end_vectors(c, &v, "softmax");
}

/* exp seen through silu: -x / silu(-x) - 1 = exp(x); and through a softmax of (0, x)
 * with x far below 0, where the sum is 1. */
static void check_exponential(checker *c)
{
    double worst = 0;
    for (float x = -17; x > -103; x -= 0.003f) {
        float y[2] = {0, x};
        c->level->softmax(y, y, 2);
        double truth = exp((double)x) / (1 + exp((double)x));
        double error = fabs(y[1] - truth) / fmax(truth * 0x1p-23, 0x1p-149);
        worst = fmax(worst, error);
    }
    check(c, worst <= 2, "exp is off by %g ulp", worst);
    float edge[4] = {0, -INFINITY, -1e30f, -200};
    c->level->softmax(edge, edge, 4);
    check(c, edge[0] == 1 && edge[1] == 0 && edge[2] == 0 && edge[3] == 0,
          "exp of very low values");
    float gate[3] = {1e30f, -1e30f, NAN}, up[3] = {1, 1, 1};
    c->level->glu(JT_SILU, gate, gate, up, 3);
    check(c, gate[0] == 1e30f && gate[1] == 0 && isnan(gate[2]), "silu of extremes");
}

void check_vectors(checker *c)
{
    for (int i = 0; i < 100; i++) {
        check_exact(c);
        check_rms_norm(c);
        for (int f = 0; f < JT_ACTIVATION_COUNT; f++)
            check_glu(c, (jt_activation)f, i % 2 ? 1 : 40);
        check_softcap(c);
        check_softmax(c, i % 2 ? 1 : 40);
    }
    check_exponential(c);
}
