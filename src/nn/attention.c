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

/* Queries, keys, values and gates of all tokens. */
typedef struct projected {
    jt_tensor q, k, v; /* [tokens, heads * dim] */
    jt_tensor gate;    /* [tokens, heads * v_dim]; empty unless gated */
} projected;

/* Of each head the query, then its gates: into tensors of their own. */
static void split_gate(jt_context *ctx, const jt_attention *a, projected *p)
{
    size_t dim = (size_t)a->k_dim;
    jt_tensor both = p->q;
    p->q = jt_take(ctx, &both, 2 * dim, 0, dim);
    p->gate = jt_take(ctx, &both, 2 * dim, dim, dim);
}

/* q, k and v in one parallel region, with their biases. */
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
        p.v = p.k; /* or neither */
    jt_add_bias(ctx, &p.q, &a->q_bias);
    jt_add_bias(ctx, &p.k, &a->k_bias);
    jt_add_bias(ctx, &p.v, &a->v_bias);
    if (a->gated)
        split_gate(ctx, a, &p);
    if (jt_has(&p.v))
        jt_clamp(ctx, &p.v, a->clamp);
    return p;
}

/* Each head of x, of `dim` values, by itself. */
static jt_tensor head_norm(jt_context *ctx, const jt_attention *a, const jt_tensor *x,
                           size_t dim, const jt_tensor *w)
{
    jt_tensor heads = *x;
    heads.shape[0] = jt_rows(x) * jt_cols(x) / dim;
    heads.shape[1] = dim;
    jt_tensor y = jt_rms_norm(ctx, &heads, w, a->norm_eps);
    y.shape[0] = jt_rows(x);
    y.shape[1] = jt_cols(x);
    return y;
}

/* Norms of queries or keys. */
static jt_tensor norm(jt_context *ctx, const jt_attention *a, const jt_tensor *x,
                      const jt_tensor *w)
{
    if (a->qk_norm == JT_QK_NORM_HEAD)
        return head_norm(ctx, a, x, (size_t)a->k_dim, w);
    return jt_rms_norm(ctx, x, w, a->norm_eps);
}

/* Queries or keys turned to their places, with a norm before or after. */
static jt_tensor placed(jt_context *ctx, const jt_attention *a, const jt_tensor *x,
                        const jt_tensor *w, const jt_places *places, size_t n)
{
    bool normed = a->qk_norm != JT_QK_NORM_NONE;
    jt_tensor y = normed && !a->norm_late ? norm(ctx, a, x, w) : *x;
    jt_clamp(ctx, &y, a->clamp);
    for (size_t i = 0; i < n && !jt_failed(ctx); i++) {
        jt_tensor part = jt_some_rows(&y, places[i].row, places[i].count);
        if (places[i].angles)
            jt_rope_rotate(ctx, &part, (size_t)a->k_dim, 0, places[i].angles);
    }
    return normed && a->norm_late ? norm(ctx, a, &y, w) : y;
}

static void keep_key(const jt_kernels *kernels, const jt_kv_layer *kv, size_t row,
                     const float *x, size_t dim)
{
    uint16_t *keys = kv->k, some[64];
    if (!kv->k_tiled) {
        jt_attention_keep(kernels, keys, kv->k_type, row, x, dim);
        return;
    }
    for (size_t i = 0, n; i < dim; i += n) {
        n = dim - i < 64 ? dim - i : 64;
        kernels->f32_to_f16(some, x + i, n);
        for (size_t j = 0; j < n; j++)
            keys[jt_attn_key(row, i + j, dim)] = some[j];
    }
}

void jt_attention_remember(const jt_kernels *kernels, const jt_attention *a,
                           const jt_kv_layer *kv, size_t place, const float *k,
                           const float *v)
{
    size_t k_dim = (size_t)a->k_dim, v_dim = (size_t)a->v_dim;
    for (size_t head = 0; head < (size_t)a->n_kv_heads; head++) {
        size_t row = head * kv->rows + place % kv->rows;
        keep_key(kernels, kv, row, k + head * k_dim, k_dim);
        jt_attention_keep(kernels, kv->v, kv->v_type, row, v + head * v_dim, v_dim);
    }
}

/* Regroup one token's queries, store its keys and values. */
static void place_token(void *arg, size_t t)
{
    const jt_attention_pass *p = arg;
    const jt_attention *a = p->a;
    size_t k_dim = (size_t)a->k_dim;
    for (size_t head = 0; head < (size_t)a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        float *q = p->grouped + ((kv_head * p->tokens + t) * p->group + member) * k_dim;
        memcpy(q, jt_row(&p->q, t) + head * k_dim, k_dim * sizeof(float));
    }
    if (jt_has(&p->k))
        jt_attention_remember(p->kernels, a, &p->at.kv, p->at.start + t,
                              jt_row(&p->k, t), jt_row(&p->v, t));
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
    if (jt_failed(ctx))
        return p;
    p.q = jt_some_rows(&all->q, at->row, at->count);
    if (jt_has(&all->k)) {
        p.k = jt_some_rows(&all->k, at->row, at->count);
        p.v = jt_some_rows(&all->v, at->row, at->count);
    }
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

/* Norms and places of keys and values, for this layer and others that read them. */
static void finish_keys(jt_context *ctx, const jt_attention *a, projected *all,
                        const jt_places *places, size_t n)
{
    const jt_tensor ones = {0};
    if (a->v_norm)
        all->v = head_norm(ctx, a, &all->v, (size_t)a->v_dim, &ones);
    all->k = placed(ctx, a, &all->k, &a->k_norm, places, n);
    if (places->given) {
        jt_put_rows(ctx, &all->k, &places->given->k, places->given->row);
        jt_put_rows(ctx, &all->v, &places->given->v, places->given->row);
    }
    if (!places->lent)
        return;
    jt_assign(ctx, &places->lent->k, &all->k);
    jt_assign(ctx, &places->lent->v, &all->v);
}

jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *a, jt_input *x,
                               const jt_places *places, size_t n)
{
    size_t tokens = jt_rows(&x->x), heads = (size_t)a->n_heads;
    projected all = project(ctx, a, x);
    all.q = placed(ctx, a, &all.q, &a->q_norm, places, n);
    if (jt_has(&a->k))
        finish_keys(ctx, a, &all, places, n);
    else if (places->lent) /* into the cache once more: a layer may run again alone */
        all.k = places->lent->k, all.v = places->lent->v;
    for (size_t i = 0; i < n; i++)
        jt_attention_sharpen(ctx, a, &all.q, &places[i]);
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
