/* Gradients of the vector functions, against finite differences of what goes forward,
 * in doubles. Gradients that are added to start as random numbers. */
#include <math.h>
#include <string.h>

#include "check.h"

#define MOST 150
#define EPS  1e-5f

/* A point where a loss is looked at: sum of dy times what a function of x and w gives.
 * Functions without a second argument leave w alone. */
typedef struct point {
    size_t n;
    bool has_w;
    double x[MOST], w[MOST], dy[MOST];
} point;

typedef double loss_fn(const point *p);

static double rms_loss(const point *p)
{
    double square = 0, sum = 0;
    for (size_t i = 0; i < p->n; i++)
        square += p->x[i] * p->x[i];
    for (size_t i = 0; i < p->n; i++)
        sum += p->dy[i] * p->x[i] * (p->has_w ? p->w[i] : 1);
    return sum / sqrt(square / (double)p->n + (double)EPS);
}

static jt_activation activation; /* of glu_loss */

static double glu_loss(const point *p)
{
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        double g = p->x[i], u = p->has_w ? p->w[i] : 1, value = 0;
        if (activation == JT_SWIGLU_OAI) {
            g = fmin(g, 7);
            u = fmax(fmin(u, 7), -7) + 1;
        }
        double cubic = 2 * sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g);
        switch (activation) {
        case JT_SILU:
            value = g / (1 + exp(-g));
            break;
        case JT_GELU:
            value = g / (1 + exp(-cubic));
            break;
        case JT_GELU_ERF:
            value = g * (1 + erf(g / sqrt(2))) / 2;
            break;
        case JT_RELU2:
            value = g < 0 ? 0 : g * g;
            break;
        default:
            value = g / (1 + exp(-1.702 * g));
        }
        sum += p->dy[i] * value * u;
    }
    return sum;
}

static double softmax_loss(const point *p)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        total += exp(p->x[i]);
        sum += p->dy[i] * exp(p->x[i]);
    }
    return sum / total;
}

/* The floats of a point, and two gradients with what they were before. */
typedef struct trial {
    point p;
    buffer x, w, dy, dx, dw;
    float before_x[MOST], before_w[MOST];
} trial;

static buffer input(checker *c, size_t n, float width, double *copy)
{
    buffer b = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    float *x = b.data;
    fill_floats(c, x, n, FILL_NORMAL);
    for (size_t i = 0; i < n; i++)
        copy[i] = x[i] *= width;
    return b;
}

static buffer output(checker *c, size_t n, float *before)
{
    buffer b = buffer_out(n * sizeof(float), 4 * pick(c, 0, 3));
    fill_floats(c, b.data, n, FILL_NORMAL);
    memcpy(before, b.data, b.bytes);
    return b;
}

static void new_trial(checker *c, trial *t, float width)
{
    t->p.n = pick(c, 1, MOST);
    t->p.has_w = pick(c, 0, 1);
    t->x = input(c, t->p.n, width, t->p.x);
    t->w = input(c, t->p.n, 1, t->p.w);
    t->dy = input(c, t->p.n, 1, t->p.dy);
    t->dx = output(c, t->p.n, t->before_x);
    t->dw = output(c, t->p.n, t->before_w);
}

static void end_trial(checker *c, trial *t, const char *what)
{
    check_margins(c, &t->dx, what);
    check_margins(c, &t->dw, what);
    buffer_free(&t->x);
    buffer_free(&t->w);
    buffer_free(&t->dy);
    buffer_free(&t->dx);
    buffer_free(&t->dw);
}

/* The gradient `got` minus `before` (NULL: zeros) is the slope of the loss along
 * `values`, which belong to the point. */
static void check_slopes(checker *c, const char *what, loss_fn *loss, const point *p,
                         double *values, const float *got, const float *before)
{
    const double h = 1e-4;
    double error = 0, size = 0;
    for (size_t i = 0; i < p->n; i++) {
        double value = values[i];
        values[i] = value + h;
        double up = loss(p);
        values[i] = value - h;
        double slope = (up - loss(p)) / (2 * h);
        values[i] = value;
        double change = (double)got[i] - (before ? (double)before[i] : 0);
        error += (change - slope) * (change - slope);
        size += slope * slope;
    }
    error = sqrt(error);
    check(c, error <= 1e-4 * sqrt(size) + 1e-5, "%s: error %g, size %g, n %zu", what,
          error, sqrt(size), p->n);
}

static void check_rms_norm_back(checker *c)
{
    trial t;
    new_trial(c, &t, 3);
    bool want_w = pick(c, 0, 1);
    c->level->rms_norm_back(t.dx.data, want_w ? t.dw.data : NULL, t.dy.data, t.x.data,
                            t.p.has_w ? t.w.data : NULL, t.p.n, EPS);
    check_slopes(c, "rms_norm_back, x", rms_loss, &t.p, t.p.x, t.dx.data, t.before_x);
    if (!want_w)
        check(c, memcmp(t.dw.data, t.before_w, t.dw.bytes) == 0, "dw was written");
    for (size_t i = 0; i < t.p.n && !t.p.has_w; i++)
        t.p.w[i] = 1; /* dw is that of weights which are all one */
    t.p.has_w = true;
    if (want_w)
        check_slopes(c, "rms_norm_back, w", rms_loss, &t.p, t.p.w, t.dw.data,
                     t.before_w);
    end_trial(c, &t, "rms_norm_back");
}

static void check_glu_back(checker *c, jt_activation f, float width)
{
    trial t;
    new_trial(c, &t, width);
    float *dgate = t.dx.data, *dup = t.p.has_w ? t.dw.data : NULL;
    const float *gate = t.x.data, *up = t.p.has_w ? t.w.data : NULL;
    if (pick(c, 0, 1)) { /* in place */
        gate = memcpy(dgate, gate, t.x.bytes);
        up = dup ? memcpy(dup, up, t.w.bytes) : NULL;
    }
    activation = f;
    c->level->glu_back(f, dgate, dup, t.dy.data, gate, up, t.p.n);
    check_slopes(c, "glu_back, gate", glu_loss, &t.p, t.p.x, dgate, NULL);
    if (dup)
        check_slopes(c, "glu_back, up", glu_loss, &t.p, t.p.w, dup, NULL);
    end_trial(c, &t, "glu_back");
}

static void check_softmax_back(checker *c)
{
    trial t;
    new_trial(c, &t, 2);
    float y[MOST];
    c->scalar->softmax(y, t.x.data, t.p.n);
    c->level->softmax_back(t.dx.data, t.dy.data, y, t.p.n);
    check_slopes(c, "softmax_back", softmax_loss, &t.p, t.p.x, t.dx.data, t.before_x);
    end_trial(c, &t, "softmax_back");
}

static void check_dot(checker *c)
{
    double x[MOST], y[MOST], sum = 0, size = 0;
    size_t n = pick(c, 0, MOST);
    buffer a = input(c, n, 1, x), b = input(c, n, 1, y);
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
        size += fabs(x[i] * y[i]);
    }
    double error = fabs(sum - (double)c->level->dot(a.data, b.data, n));
    check(c, error <= 8 * 0x1p-24 * size, "dot: error %g, n %zu", error, n);
    buffer_free(&a);
    buffer_free(&b);
}

void check_backward(checker *c)
{
    for (int i = 0; i < 40; i++) {
        check_rms_norm_back(c);
        for (int f = 0; f < JT_ACTIVATION_COUNT; f++)
            check_glu_back(c, (jt_activation)f, i % 2 ? 1 : 6);
        check_softmax_back(c);
        check_dot(c);
    }
    float gate[2] = {1e30f, -1e30f}, up[2] = {1, 1}, dy[2] = {1, 1};
    c->level->glu_back(JT_SILU, gate, up, dy, gate, up, 2);
    check(c, gate[0] == 1 && gate[1] == 0 && up[0] == 1e30f && up[1] == 0,
          "glu_back of extremes: %g %g %g %g", (double)gate[0], (double)gate[1],
          (double)up[0], (double)up[1]);
}
