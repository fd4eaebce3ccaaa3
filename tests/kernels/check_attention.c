/* Attention: against doubles, and each query alone against the whole tile (to the
 * bit). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kernels/quantize.h"

typedef struct table {
    jt_dtype type;
    buffer bytes;
    float *values;
} table;

typedef struct task {
    jt_attn a;
    buffer out, q, scratch;
    table k, v;
    float sink[JT_ATTN_MAX_Q];
    int32_t from[JT_ATTN_MAX_Q], to[JT_ATTN_MAX_Q];
} task;

/* Keys or values: their values as the kernel sees them, and bytes of their type. */
static void new_rows(checker *c, table *t, jt_dtype type, size_t rows, size_t dim,
                     size_t stride)
{
    size_t n = (rows - 1) * stride + dim;
    t->type = type;
    t->bytes = buffer_in(jt_dtype_row_bytes(type, n),
                         jt_dtype_block_bytes(type) * pick(c, 0, 3));
    t->values = malloc(n * sizeof *t->values);
    fill_floats(c, t->values, n, FILL_NORMAL);
    if (type == JT_F32)
        memcpy(t->bytes.data, t->values, n * sizeof *t->values);
    else if (type == JT_F16)
        jt_kernels_level(JT_CPU_SCALAR)->f32_to_f16(t->bytes.data, t->values, n);
    else if (type == JT_Q8_0)
        jt_quantize(JT_Q8_0, t->bytes.data, t->values, n);
    else
        jt_quantize(JT_Q4_0, t->bytes.data, t->values, n);
    jt_kernels_level(JT_CPU_SCALAR)->dequant[type](t->values, t->bytes.data, n);
}

/* A dimension, and a type whose blocks make it up. */
static jt_dtype pick_type(checker *c, int *dim)
{
    static const jt_dtype types[] = {JT_F32, JT_F16, JT_Q8_0, JT_Q4_0};
    static const int dims[] = {64, 128, 192, 512, 80};
    *dim = pick(c, 0, 1) ? dims[pick(c, 0, 4)] : (int)pick(c, 1, 512);
    jt_dtype type = types[pick(c, 0, 3)];
    if (type > JT_F16)
        *dim = (*dim + 31) / 32 * 32;
    return type;
}

static size_t pick_stride(checker *c, jt_dtype type, int dim)
{
    return (size_t)dim + jt_dtype_block_values(type) * pick(c, 0, 9);
}

/* Move rows of F16 keys to where tiles have them. */
static void tile_keys(task *t)
{
    jt_attn *a = &t->a;
    size_t dim = (size_t)a->k_dim;
    uint16_t *rows = malloc(a->rows * dim * sizeof *rows), *tiles = t->k.bytes.data;
    memcpy(rows, tiles, a->rows * dim * sizeof *rows);
    for (size_t row = 0; row < a->rows; row++)
        for (size_t i = 0; i < dim; i++)
            tiles[jt_attn_key(row, i, dim)] = rows[row * dim + i];
    free(rows);
}

static void make_task(checker *c, task *t)
{
    jt_attn *a = &t->a;
    size_t positions = pick(c, 1, 300), rows = positions, n_q;
    if (pick(c, 0, 1)) /* a window that goes round */
        rows = (pick(c, 0, positions) / JT_ATTN_BLOCK + 1) * JT_ATTN_BLOCK;
    a->n_q = (int)pick(c, 1, pick(c, 0, 2) ? 10 : JT_ATTN_MAX_Q);
    a->k_type = pick_type(c, &a->k_dim);
    a->v_type = pick_type(c, &a->v_dim);
    a->scale = 1 / sqrtf((float)a->k_dim) * (pick(c, 0, 4) ? 1 : 30);
    a->softcap = pick(c, 0, 2) ? 0 : 3;
    a->rows = rows;
    a->q_stride = (size_t)a->k_dim + pick(c, 0, 9);
    a->out_stride = (size_t)a->v_dim + pick(c, 0, 9);
    a->k_tiled = a->k_type == JT_F16 && pick(c, 0, 2);
    if (a->k_tiled) {
        size_t most = (positions + JT_ATTN_BLOCK - 1) / JT_ATTN_BLOCK * JT_ATTN_BLOCK;
        a->rows = rows = rows < positions ? rows : most;
    }
    a->k_stride = a->k_tiled ? (size_t)a->k_dim : pick_stride(c, a->k_type, a->k_dim);
    a->v_stride = pick_stride(c, a->v_type, a->v_dim);
    n_q = (size_t)a->n_q - 1;
    t->q = buffer_in((n_q * a->q_stride + (size_t)a->k_dim) * 4, 4 * pick(c, 0, 3));
    t->out =
        buffer_out((n_q * a->out_stride + (size_t)a->v_dim) * 4, 4 * pick(c, 0, 3));
    t->scratch =
        buffer_out(JT_ATTN_BLOCK * (size_t)(a->k_dim + a->v_dim) * sizeof(float), 0);
    fill_floats(c, t->q.data, t->q.bytes / 4, FILL_NORMAL);
    new_rows(c, &t->k, a->k_type, rows, (size_t)a->k_dim, a->k_stride);
    if (a->k_tiled)
        tile_keys(t);
    new_rows(c, &t->v, a->v_type, rows, (size_t)a->v_dim, a->v_stride);
    fill_floats(c, t->sink, JT_ATTN_MAX_Q, FILL_NORMAL);
    for (int j = 0; j < a->n_q; j++) {
        t->to[j] = (int32_t)pick(c, 0, positions);
        t->from[j] = pick(c, 0, 1) ? 0 : (int32_t)pick(c, 0, positions);
        /* a row has one position for the whole tile, which ends at `positions` */
        if (t->from[j] < (int32_t)positions - (int32_t)rows)
            t->from[j] = (int32_t)positions - (int32_t)rows;
    }
    a->from = t->from;
    a->to = t->to;
    a->q = t->q.data;
    a->k = t->k.bytes.data;
    a->v = t->v.bytes.data;
    a->sink = pick(c, 0, 2) ? NULL : t->sink;
    a->scratch = t->scratch.data;
    a->out = t->out.data;
}

static double score(const task *t, int j, int i)
{
    const jt_attn *a = &t->a;
    const float *k = t->k.values + (size_t)i % a->rows * a->k_stride;
    double dot = 0, cap = (double)a->softcap;
    for (int e = 0; e < a->k_dim; e++)
        dot += (double)a->q[(size_t)j * a->q_stride + (size_t)e] * (double)k[e];
    dot *= (double)a->scale;
    return cap > 0 ? cap * tanh(dot / cap) : dot;
}

/* The largest error of a query's output. */
static double query_error(const task *t, int j)
{
    const jt_attn *a = &t->a;
    double truth[512] = {0}, p[300], max = a->sink ? (double)a->sink[j] : -INFINITY;
    double worst = 0, sum;
    for (int i = a->from[j]; i < a->to[j]; i++)
        max = fmax(max, p[i] = score(t, j, i));
    sum = a->sink ? exp((double)a->sink[j] - max) : 0;
    for (int i = a->from[j]; i < a->to[j]; i++) {
        const float *v = t->v.values + (size_t)i % a->rows * a->v_stride;
        double weight = exp(p[i] - max);
        sum += weight;
        for (int e = 0; e < a->v_dim; e++)
            truth[e] += weight * (double)v[e];
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
        double error = query_error(t, j);
        check(c, error < 1e-4, "attention: error %g, k %d, v %d, from %d to %d", error,
              a->k_dim, a->v_dim, t->from[j], t->to[j]);
        float alone[512];
        jt_attn one = *a;
        one.n_q = 1;
        one.q += (size_t)j * a->q_stride;
        one.from += j;
        one.to += j;
        one.sink = a->sink ? a->sink + j : NULL;
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
    for (int i = 0; i < 80; i++) {
        task t = {0};
        make_task(c, &t);
        check_task(c, &t);
        buffer_free(&t.out);
        buffer_free(&t.q);
        buffer_free(&t.scratch);
        buffer_free(&t.k.bytes);
        buffer_free(&t.v.bytes);
        free(t.k.values);
        free(t.v.values);
    }
}
