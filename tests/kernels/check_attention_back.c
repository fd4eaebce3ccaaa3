/* Gradients of attention: against finite differences of the forward pass in doubles,
 * and the query gradient of each query alone against that of the tile (to the bit). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define MOST_Q         12
#define MOST_POSITIONS 150
#define MOST_DIM       70

/* Rows of `dim` floats, with a gap after each but the last; the same as doubles. */
typedef struct rows {
    size_t count, dim, stride;
    buffer b;
    double *values;
} rows;

/* A gradient, which starts as random numbers. */
typedef struct gradient {
    buffer b;
    float *before;
} gradient;

typedef struct task {
    jt_attn_back back;
    rows q, k, v, dout;
    gradient dq, dk, dv;
    buffer out, lse, scratch;
    int32_t from[MOST_Q], to[MOST_Q];
    float sink[MOST_Q];
} task;

static size_t floats(size_t count, size_t stride, size_t dim)
{
    return (count - 1) * stride + dim;
}

static rows new_rows(checker *c, size_t count, size_t dim, size_t stride)
{
    rows r = {.count = count, .dim = dim, .stride = stride};
    size_t n = floats(count, stride, dim);
    r.b = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    r.values = malloc(n * sizeof *r.values);
    float *x = r.b.data;
    for (size_t i = 0; i < n; i++)
        r.values[i] = x[i] = i % stride < dim ? jt_rng_normal(&c->rng) : NAN;
    return r;
}

static gradient new_gradient(checker *c, const rows *of)
{
    gradient g = {buffer_out(of->b.bytes, 4 * pick(c, 0, 3)), malloc(of->b.bytes)};
    for (size_t i = 0; i < of->count; i++)
        fill_floats(c, (float *)g.b.data + i * of->stride, of->dim, FILL_NORMAL);
    memcpy(g.before, g.b.data, g.b.bytes);
    return g;
}

static void new_task(checker *c, task *t)
{
    jt_attn *a = &t->back.fwd;
    size_t n_q = pick(c, 1, MOST_Q), positions = pick(c, 1, MOST_POSITIONS);
    size_t k_dim = pick(c, 1, MOST_DIM), v_dim = pick(c, 1, MOST_DIM);
    t->q = new_rows(c, n_q, k_dim, k_dim + pick(c, 0, 5));
    t->k = new_rows(c, positions, k_dim, k_dim + pick(c, 0, 5));
    t->v = new_rows(c, positions, v_dim, v_dim + pick(c, 0, 5));
    t->dout = new_rows(c, n_q, v_dim, v_dim + pick(c, 0, 5));
    t->dq = new_gradient(c, &t->q);
    t->dk = new_gradient(c, &t->k);
    t->dv = new_gradient(c, &t->v);
    t->out = buffer_out(t->dout.b.bytes, 0);
    t->lse = buffer_out(n_q * sizeof(float), 0);
    t->scratch = buffer_out(jt_gemm_scratch(), 0);
    for (size_t j = 0; j < n_q; j++) {
        t->to[j] = (int32_t)pick(c, 0, positions);
        t->from[j] = pick(c, 0, 1) ? 0 : (int32_t)pick(c, 0, positions);
        t->sink[j] = jt_rng_normal(&c->rng);
    }
    *a = (jt_attn){
        .out = t->out.data,
        .lse = t->lse.data,
        .q = t->q.b.data,
        .k = t->k.b.data,
        .v = t->v.b.data,
        .k_type = JT_F32,
        .v_type = JT_F32,
        .rows = positions,
        .sink = pick(c, 0, 1) ? t->sink : NULL,
        .softcap = pick(c, 0, 1) ? 2 : 0,
        .from = t->from,
        .to = t->to,
        .out_stride = t->dout.stride,
        .q_stride = t->q.stride,
        .k_stride = t->k.stride,
        .v_stride = t->v.stride,
        .n_q = (int)n_q,
        .k_dim = (int)k_dim,
        .v_dim = (int)v_dim,
        .scale = 1 / sqrtf((float)k_dim),
    };
    t->back.dout = t->dout.b.data;
    t->back.dq = t->dq.b.data;
    t->back.dk = t->dk.b.data;
    t->back.dv = t->dv.b.data;
    t->back.scratch = t->scratch.data;
}

static void end_task(task *t)
{
    rows *inputs[] = {&t->q, &t->k, &t->v, &t->dout};
    for (int i = 0; i < 4; i++) {
        buffer_free(&inputs[i]->b);
        free(inputs[i]->values);
    }
    gradient *gradients[] = {&t->dq, &t->dk, &t->dv};
    for (int i = 0; i < 3; i++) {
        buffer_free(&gradients[i]->b);
        free(gradients[i]->before);
    }
    buffer_free(&t->out);
    buffer_free(&t->lse);
    buffer_free(&t->scratch);
}

static double product(const rows *a, size_t i, const rows *b, size_t j)
{
    double sum = 0;
    for (size_t e = 0; e < a->dim; e++)
        sum += a->values[i * a->stride + e] * b->values[j * b->stride + e];
    return sum;
}

/* What query j adds to the loss, sum of dout times out; *lse as the kernel defines it.
 */
static double query_loss(const task *t, size_t j, double *lse)
{
    const jt_attn *a = &t->back.fwd;
    double total = a->sink ? exp((double)a->sink[j]) : 0, sum = 0;
    double cap = (double)a->softcap;
    for (int i = t->from[j]; i < t->to[j]; i++) {
        size_t p = (size_t)i;
        double score = product(&t->q, j, &t->k, p) * (double)a->scale;
        double weight = exp(cap > 0 ? cap * tanh(score / cap) : score);
        total += weight;
        sum += weight * product(&t->dout, j, &t->v, p);
    }
    *lse = log(total);
    return total > 0 ? sum / total : 0;
}

static double loss(const task *t)
{
    double sum = 0, lse;
    for (size_t j = 0; j < t->q.count; j++)
        sum += query_loss(t, j, &lse);
    return sum;
}

/* Some values of the gradient; and nothing was written between its rows. */
static void check_slopes(checker *c, const task *t, const char *name, const rows *of,
                         const gradient *g)
{
    const double h = 1e-4;
    const float *got = g->b.data;
    double error = 0, size = 0;
    for (int i = 0; i < 16; i++) {
        size_t at = pick(c, 0, of->count - 1) * of->stride + pick(c, 0, of->dim - 1);
        double value = of->values[at];
        of->values[at] = value + h;
        double up = loss(t);
        of->values[at] = value - h;
        double slope = (up - loss(t)) / (2 * h);
        of->values[at] = value;
        double change = (double)got[at] - (double)g->before[at];
        error += (change - slope) * (change - slope);
        size += slope * slope;
    }
    error = sqrt(error);
    check(c, error <= 1e-4 * sqrt(size) + 1e-5, "attention_back, %s: error %g of %g",
          name, error, sqrt(size));
    check_margins(c, &g->b, name);
    bool gaps = true;
    for (size_t i = 0; i < g->b.bytes / sizeof *got; i++)
        gaps = gaps && (i % of->stride < of->dim || isnan(got[i]));
    check(c, gaps, "attention_back wrote between the rows of %s", name);
}

static void check_lse(checker *c, const task *t)
{
    for (size_t j = 0; j < t->q.count; j++) {
        double truth, got = (double)t->back.fwd.lse[j];
        query_loss(t, j, &truth);
        check(c, isinf(truth) ? got == truth : fabs(got - truth) < 1e-5,
              "lse is %g, should be %g", got, truth);
    }
}

static void check_alone(checker *c, const task *t)
{
    for (size_t j = 0; j < t->q.count; j++) {
        jt_attn_back one = t->back;
        float dq[MOST_DIM], *dk = malloc(t->k.b.bytes), *dv = malloc(t->v.b.bytes);
        memcpy(dq, t->dq.before + j * t->q.stride, t->q.dim * sizeof *dq);
        memset(dk, 0, t->k.b.bytes);
        memset(dv, 0, t->v.b.bytes);
        one.fwd.n_q = 1;
        one.fwd.q += j * t->q.stride;
        one.fwd.out += j * t->dout.stride;
        one.fwd.lse += j;
        one.fwd.from += j;
        one.fwd.to += j;
        one.dout += j * t->dout.stride;
        one.dq = dq;
        one.dk = dk;
        one.dv = dv;
        c->level->attention_back(&one);
        check(c, memcmp(dq, t->back.dq + j * t->q.stride, t->q.dim * sizeof *dq) == 0,
              "attention_back: a query alone differs");
        free(dk);
        free(dv);
    }
}

void check_attention_back(checker *c)
{
    for (int i = 0; i < 12; i++) {
        task t;
        new_task(c, &t);
        c->level->attention(&t.back.fwd);
        c->level->attention_back(&t.back);
        check_lse(c, &t);
        check_slopes(c, &t, "dq", &t.q, &t.dq);
        check_slopes(c, &t, "dk", &t.k, &t.dk);
        check_slopes(c, &t, "dv", &t.v, &t.dv);
        check_margins(c, &t.scratch, "attention_back (scratch)");
        check_alone(c, &t);
        end_task(&t);
    }
}
