/* Attention: against doubles, and each query alone against the whole tile (to the
 * bit). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"

typedef struct task {
    jt_attn a;
    buffer out, q, k, v;
    int32_t from[JT_ATTN_MAX_Q], to[JT_ATTN_MAX_Q];
} task;

static void fill_kv(checker *c, buffer *b, jt_dtype type)
{
    size_t n = b->bytes / jt_dtype_block_bytes(type);
    for (size_t i = 0; i < n; i++) {
        float x = jt_rng_normal(&c->rng);
        if (type == JT_F32)
            ((float *)b->data)[i] = x;
        else
            ((uint16_t *)b->data)[i] = jt_float_to_f16(x);
    }
}

static double kv_value(const jt_attn *a, const void *kv, size_t i)
{
    if (a->kv_type == JT_F32)
        return (double)((const float *)kv)[i];
    return (double)jt_f16_to_float(((const uint16_t *)kv)[i]);
}

static void make_task(checker *c, task *t)
{
    const int dims[] = {64, 128, 192, 512, 80};
    jt_attn *a = &t->a;
    size_t positions = pick(c, 1, 300);
    a->n_q = (int)pick(c, 1, pick(c, 0, 2) ? 10 : JT_ATTN_MAX_Q);
    a->k_dim = pick(c, 0, 1) ? dims[pick(c, 0, 4)] : (int)pick(c, 1, 512);
    a->v_dim = pick(c, 0, 1) ? dims[pick(c, 0, 4)] : (int)pick(c, 1, 512);
    a->scale = 1 / sqrtf((float)a->k_dim) * (pick(c, 0, 4) ? 1 : 30);
    a->q_stride = (size_t)a->k_dim + pick(c, 0, 9);
    a->out_stride = (size_t)a->v_dim + pick(c, 0, 9);
    a->k_stride = (size_t)a->k_dim + pick(c, 0, 9);
    a->v_stride = (size_t)a->v_dim + pick(c, 0, 9);
    a->kv_type = pick(c, 0, 1) ? JT_F32 : JT_F16;
    size_t value = jt_dtype_block_bytes(a->kv_type);
    size_t n_q = (size_t)a->n_q - 1, p = positions - 1;
    t->q = buffer_in((n_q * a->q_stride + (size_t)a->k_dim) * 4, 4 * pick(c, 0, 3));
    t->k =
        buffer_in((p * a->k_stride + (size_t)a->k_dim) * value, value * pick(c, 0, 3));
    t->v =
        buffer_in((p * a->v_stride + (size_t)a->v_dim) * value, value * pick(c, 0, 3));
    t->out =
        buffer_out((n_q * a->out_stride + (size_t)a->v_dim) * 4, 4 * pick(c, 0, 3));
    fill_floats(c, t->q.data, t->q.bytes / 4, FILL_NORMAL);
    fill_kv(c, &t->k, a->kv_type);
    fill_kv(c, &t->v, a->kv_type);
    for (int j = 0; j < a->n_q; j++) {
        t->to[j] = (int32_t)pick(c, 0, positions);
        t->from[j] = pick(c, 0, 1) ? 0 : (int32_t)pick(c, 0, positions);
    }
    a->from = t->from;
    a->to = t->to;
    a->q = t->q.data;
    a->k = t->k.data;
    a->v = t->v.data;
    a->out = t->out.data;
}

static double score(const jt_attn *a, int j, int i)
{
    double dot = 0;
    for (int e = 0; e < a->k_dim; e++)
        dot += (double)a->q[(size_t)j * a->q_stride + (size_t)e] *
               kv_value(a, a->k, (size_t)i * a->k_stride + (size_t)e);
    return dot * (double)a->scale;
}

/* The largest error of a query's output. */
static double query_error(const jt_attn *a, int j)
{
    double truth[512] = {0}, p[300], max = -INFINITY, sum = 0, worst = 0;
    for (int i = a->from[j]; i < a->to[j]; i++)
        max = fmax(max, p[i] = score(a, j, i));
    for (int i = a->from[j]; i < a->to[j]; i++) {
        double weight = exp(p[i] - max);
        sum += weight;
        for (int e = 0; e < a->v_dim; e++)
            truth[e] += weight * kv_value(a, a->v, (size_t)i * a->v_stride + (size_t)e);
    }
    for (int e = 0; e < a->v_dim; e++) {
        double y = a->out[(size_t)j * a->out_stride + (size_t)e];
        double error = fabs(y - (sum > 0 ? truth[e] / sum : 0));
        worst = error <= worst ? worst : error; /* a NaN is the worst */
    }
    return worst;
}

static void check_task(checker *c, const task *t)
{
    const jt_attn *a = &t->a;
    c->level->attention(a);
    check_margins(c, &t->out, "attention");
    for (int j = 0; j < a->n_q; j++) {
        double error = query_error(a, j);
        check(c, error < 1e-4, "attention: error %g, k %d, v %d, from %d to %d", error,
              a->k_dim, a->v_dim, t->from[j], t->to[j]);
        float alone[512];
        jt_attn one = *a;
        one.n_q = 1;
        one.q += (size_t)j * a->q_stride;
        one.from += j;
        one.to += j;
        one.out = alone;
        c->level->attention(&one);
        check(c,
              memcmp(alone, a->out + (size_t)j * a->out_stride,
                     (size_t)a->v_dim * sizeof *alone) == 0,
              "attention: a query alone differs");
    }
}

void check_attention(checker *c)
{
    for (int i = 0; i < 25; i++) {
        task t = {0};
        make_task(c, &t);
        check_task(c, &t);
        buffer_free(&t.out);
        buffer_free(&t.q);
        buffer_free(&t.k);
        buffer_free(&t.v);
    }
}
