#include "nn/attention.h"

#include <math.h>
#include <string.h>

#include "nn/attention_pass.h"

static void cut(const jt_tensor *whole, jt_tensor *const part[3], const size_t rows[3])
{
    size_t first = 0;
    for (int i = 0; i < 3 && jt_has(whole); i++) {
        *part[i] = jt_some_rows(whole, first, rows[i]);
        first += rows[i];
    }
}

void jt_attention_cut(jt_attention *a)
{
    size_t kv_heads = (size_t)a->n_kv_heads;
    const size_t rows[3] = {(size_t)a->n_heads * (size_t)a->k_dim * (a->gated ? 2 : 1),
                            kv_heads * (size_t)a->k_dim, kv_heads * (size_t)a->v_dim};
    cut(&a->qkv, (jt_tensor *const[3]){&a->q, &a->k, &a->v}, rows);
    cut(&a->qkv_bias, (jt_tensor *const[3]){&a->q_bias, &a->k_bias, &a->v_bias}, rows);
}

static void clamp_values(jt_tensor *t, float limit)
{
    float *x = t->data;
    for (size_t i = 0; i < jt_rows(t) * jt_cols(t); i++)
        x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

/* Of each head the query, then its gates: into tensors of their own. */
static void split_gate(jt_context *ctx, jt_attention_pass *p)
{
    jt_tensor both = p->q;
    size_t rows = jt_rows(&both), dim = (size_t)p->a->k_dim;
    size_t heads = rows * (size_t)p->a->n_heads;
    p->q = jt_new(ctx, rows, jt_cols(&both) / 2);
    p->gate = jt_new(ctx, rows, jt_cols(&both) / 2);
    for (size_t i = 0; !jt_failed(ctx) && i < heads; i++) {
        const float *from = (const float *)both.data + 2 * i * dim;
        memcpy((float *)p->q.data + i * dim, from, dim * sizeof *from);
        memcpy((float *)p->gate.data + i * dim, from + dim, dim * sizeof *from);
    }
}

/* q, k and v in one parallel region, then biases, norms and clamp. */
static void project(jt_context *ctx, jt_attention_pass *p, jt_input *x)
{
    const jt_attention *a = p->a;
    size_t rows = jt_rows(&x->x);
    p->q = jt_new(ctx, rows, jt_rows(&a->q));
    p->k = jt_new(ctx, rows, jt_rows(&a->k));
    p->v = jt_new(ctx, rows, jt_rows(&a->v));
    if (jt_has(&a->gate))
        p->gate = jt_new(ctx, rows, jt_rows(&a->gate));
    jt_product products[] = {
        jt_product_rows(&p->q, &a->q, x, 0, rows),
        jt_product_rows(&p->k, &a->k, x, 0, rows),
        jt_product_rows(&p->v, &a->v, x, 0, rows),
        jt_product_rows(&p->gate, &a->gate, x, 0, rows),
    };
    jt_products(ctx, products, jt_has(&a->gate) ? 4 : 3);
    jt_add_bias(ctx, &p->q, &a->q_bias);
    jt_add_bias(ctx, &p->k, &a->k_bias);
    jt_add_bias(ctx, &p->v, &a->v_bias);
    if (a->gated)
        split_gate(ctx, p);
    if (jt_failed(ctx))
        return;
    if (a->qk_norm != JT_QK_NORM_NONE && !a->norm_late) {
        p->q = jt_rms_norm(ctx, &p->q, &a->q_norm, a->norm_eps);
        p->k = jt_rms_norm(ctx, &p->k, &a->k_norm, a->norm_eps);
    }
    if (a->clamp > 0.0f) {
        clamp_values(&p->q, a->clamp);
        clamp_values(&p->k, a->clamp);
        clamp_values(&p->v, a->clamp);
    }
}

/* One head of token t to its place among the positions. */
static void turn(const jt_attention_pass *p, size_t t, float *head,
                 const jt_tensor *norm)
{
    if (p->angles)
        jt_rope_turn(p->kernels, head, p->angles, t);
    if (p->a->norm_late && p->a->qk_norm != JT_QK_NORM_NONE)
        p->kernels->rms_norm(head, head, norm->data, (size_t)p->a->k_dim,
                             p->a->norm_eps);
}

/* Rotate one token's queries and keys; regroup the queries, store keys and values. */
static void place_token(void *arg, size_t t)
{
    const jt_attention_pass *p = arg;
    const jt_attention *a = p->a;
    const jt_kv_layer *kv = p->kv;
    size_t k_dim = (size_t)a->k_dim, v_dim = (size_t)a->v_dim;
    float factor = jt_attention_temperature(a, &p->at, t);
    for (size_t head = 0; head < (size_t)a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        float *q = p->grouped + ((kv_head * p->tokens + t) * p->group + member) * k_dim;
        memcpy(q, jt_row(&p->q, t) + head * k_dim, k_dim * sizeof(float));
        turn(p, t, q, &a->q_norm);
        if (factor != 1.0f)
            p->kernels->scale(q, factor, q, k_dim);
    }
    for (size_t head = 0; head < (size_t)a->n_kv_heads; head++) {
        size_t row = head * kv->rows + (p->at.start + t) % kv->rows;
        float *k = p->rotated + (t * (size_t)a->n_kv_heads + head) * k_dim;
        memcpy(k, jt_row(&p->k, t) + head * k_dim, k_dim * sizeof(float));
        turn(p, t, k, &a->k_norm);
        jt_attention_keep(p->kernels, kv->k, kv->k_type, row, k, k_dim);
        jt_attention_keep(p->kernels, kv->v, kv->v_type, row,
                          jt_row(&p->v, t) + head * v_dim, v_dim);
    }
}

/* Back to [tokens, heads * v_dim]. */
static void join_token(void *arg, size_t t)
{
    const jt_attention_pass *p = arg;
    size_t v_dim = (size_t)p->a->v_dim;
    for (size_t head = 0; head < (size_t)p->a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        const float *from =
            p->out + ((kv_head * p->tokens + t) * p->group + member) * v_dim;
        memcpy(jt_row(&p->joined, t) + head * v_dim, from, v_dim * sizeof(float));
    }
    if (!jt_has(&p->gate))
        return;
    float *y = jt_row(&p->joined, t);
    const float *gate = jt_row(&p->gate, t);
    for (size_t i = 0; i < jt_cols(&p->joined); i++)
        y[i] /= 1.0f + expf(-gate[i]);
}

/* The part of the pass that is one of two sequences. */
static jt_attention_pass part_of(const jt_attention_pass *p, size_t i, jt_kv_layer *kv)
{
    jt_attention_pass part = *p;
    jt_tensor *const rows[] = {&part.q, &part.k, &part.v, &part.gate, &part.joined};
    for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
        if (jt_has(rows[j]))
            *rows[j] = jt_some_rows(rows[j], i * p->tokens, p->tokens);
    }
    part.kv = kv;
    return part;
}

/* From q, k and v to what the heads give. */
static void attend(jt_context *ctx, jt_attention_pass *p)
{
    size_t values = p->tokens * (size_t)p->a->n_heads * (size_t)p->a->k_dim;
    jt_for_rows(ctx, p->tokens, values, place_token, p);
    jt_attention_attend(ctx, p);
    jt_for_rows(ctx, p->tokens, values, join_token, p);
    jt_attention_record(ctx, p);
}

jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *a, jt_input *x,
                               const jt_angles *angles, jt_kv_layer *kv,
                               jt_kv_layer *twin, const jt_places *places)
{
    size_t rows = jt_rows(&x->x), tokens = twin ? rows / 2 : rows;
    jt_attention_pass p = jt_attention_begin(ctx, a, kv, places, tokens);
    p.angles = angles;
    project(ctx, &p, x);
    p.rotated = jt_scratch(ctx, tokens * (size_t)a->n_kv_heads,
                           (size_t)a->k_dim * sizeof(float));
    p.joined = jt_new(ctx, rows, (size_t)a->n_heads * (size_t)a->v_dim);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    jt_attention_pass part = part_of(&p, 0, kv);
    attend(ctx, &part);
    if (twin) {
        part = part_of(&p, 1, twin);
        attend(ctx, &part);
    }
    jt_input joined = jt_input_of(p.joined);
    return jt_linear(ctx, &joined, &a->o, &a->o_bias);
}
