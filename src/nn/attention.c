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

/* Queries, keys, values and gates of all tokens. */
typedef struct projected {
    jt_tensor q, k, v; /* [tokens, heads * dim] */
    jt_tensor gate;    /* [tokens, heads * v_dim]; empty unless gated */
} projected;

/* Of each head the query, then its gates: into tensors of their own. */
static void split_gate(jt_context *ctx, const jt_attention *a, projected *p)
{
    size_t tokens = jt_rows(&p->q), dim = (size_t)a->k_dim;
    size_t heads = tokens * (size_t)a->n_heads;
    jt_tensor both = p->q;
    p->q = jt_new(ctx, tokens, jt_cols(&both) / 2);
    p->gate = jt_new(ctx, tokens, jt_cols(&both) / 2);
    for (size_t i = 0; !jt_failed(ctx) && i < heads; i++) {
        const float *from = (const float *)both.data + 2 * i * dim;
        memcpy((float *)p->q.data + i * dim, from, dim * sizeof *from);
        memcpy((float *)p->gate.data + i * dim, from + dim, dim * sizeof *from);
    }
}

/* q, k and v in one parallel region, then biases, norms and clamp. */
static projected project(jt_context *ctx, const jt_attention *a, jt_input *x)
{
    size_t tokens = jt_rows(&x->x);
    projected p = {0};
    const jt_tensor *w[] = {&a->q, &a->k, &a->v, &a->gate};
    jt_tensor *y[] = {&p.q, &p.k, &p.v, &p.gate};
    jt_product products[4];
    size_t count = 0;
    for (int i = 0; i < 4; i++) {
        if (!jt_has(w[i]))
            continue;
        *y[i] = jt_new(ctx, tokens, jt_rows(w[i]));
        products[count++] = jt_product_rows(y[i], w[i], x, 0, tokens);
    }
    jt_products(ctx, products, count);
    if (!jt_has(&a->v))
        p.v = p.k;
    jt_add_bias(ctx, &p.q, &a->q_bias);
    jt_add_bias(ctx, &p.k, &a->k_bias);
    jt_add_bias(ctx, &p.v, &a->v_bias);
    if (a->gated)
        split_gate(ctx, a, &p);
    if (jt_failed(ctx))
        return p;
    if (a->qk_norm != JT_QK_NORM_NONE && !a->norm_late) {
        p.q = jt_rms_norm(ctx, &p.q, &a->q_norm, a->norm_eps);
        p.k = jt_rms_norm(ctx, &p.k, &a->k_norm, a->norm_eps);
    }
    if (a->clamp > 0.0f) {
        clamp_values(&p.q, a->clamp);
        clamp_values(&p.k, a->clamp);
        clamp_values(&p.v, a->clamp);
    }
    return p;
}

/* One head of token t to its place among the positions. */
static void turn(const jt_attention_pass *p, size_t t, float *head,
                 const jt_tensor *norm)
{
    if (p->at.angles)
        jt_rope_turn(p->kernels, head, p->at.angles, t);
    if (p->a->norm_late && p->a->qk_norm != JT_QK_NORM_NONE)
        p->kernels->rms_norm(head, head, norm->data, (size_t)p->a->k_dim,
                             p->a->norm_eps);
}

/* Rotate one token's queries and keys; regroup the queries, store keys and values. */
static void place_token(void *arg, size_t t)
{
    const jt_attention_pass *p = arg;
    const jt_attention *a = p->a;
    const jt_kv_layer *kv = &p->at.kv;
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
        float *v = jt_row(&p->v, t) + head * v_dim;
        if (a->v_norm)
            p->kernels->rms_norm(v, v, NULL, v_dim, a->norm_eps);
        jt_attention_keep(p->kernels, kv->v, kv->v_type, row, v, v_dim);
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

/* What the tokens at `at` have of what was projected. */
static jt_attention_pass begin(jt_context *ctx, const jt_attention *a,
                               const projected *all, const jt_tensor *joined,
                               const jt_places *at)
{
    jt_attention_pass p = jt_attention_begin(ctx, a, at);
    p.rotated = jt_scratch(ctx, at->count * (size_t)a->n_kv_heads,
                           (size_t)a->k_dim * sizeof(float));
    if (jt_failed(ctx))
        return p;
    p.q = jt_some_rows(&all->q, at->row, at->count);
    p.k = jt_some_rows(&all->k, at->row, at->count);
    p.v = jt_some_rows(&all->v, at->row, at->count);
    if (jt_has(&all->gate))
        p.gate = jt_some_rows(&all->gate, at->row, at->count);
    p.joined = jt_some_rows(joined, at->row, at->count);
    return p;
}

/* A loop over the tokens of all passes. */
typedef struct token_loop {
    jt_attention_pass *pass;
    jt_pool_fn *fn; /* of a pass and a token of it */
} token_loop;

static void run_token(void *arg, size_t t)
{
    const token_loop *loop = arg;
    jt_attention_pass *p = loop->pass;
    while (t >= p->at.row + p->tokens)
        p++;
    loop->fn(p, t - p->at.row);
}

jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *a, jt_input *x,
                               const jt_places *places, size_t n)
{
    size_t tokens = jt_rows(&x->x), heads = (size_t)a->n_heads;
    projected all = project(ctx, a, x);
    jt_input joined = jt_input_of(jt_new(ctx, tokens, heads * (size_t)a->v_dim));
    jt_attention_pass *pass = jt_scratch(ctx, n, sizeof *pass);
    for (size_t i = 0; i < n && !jt_failed(ctx); i++)
        pass[i] = begin(ctx, a, &all, &joined.x, &places[i]);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    size_t values = tokens * heads * (size_t)a->k_dim;
    jt_for_rows(ctx, tokens, values, run_token, &(token_loop){pass, place_token});
    jt_attention_attend(ctx, pass, n);
    jt_for_rows(ctx, tokens, values, run_token, &(token_loop){pass, join_token});
    jt_attention_record(ctx, pass, n);
    return jt_linear(ctx, &joined, &a->o, &a->o_bias);
}
