#include "nn/attention.h"

#include <string.h>

#include "nn/attention_pass.h"

static void clamp_values(jt_tensor *t, float limit)
{
    float *x = t->data;
    for (size_t i = 0; i < jt_rows(t) * jt_cols(t); i++)
        x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

/* q, k and v in one parallel region, then biases, norms and clamp. */
static void project(jt_context *ctx, jt_attention_pass *p, jt_input *x)
{
    const jt_attention *a = p->a;
    p->q = jt_new(ctx, p->tokens, jt_rows(&a->q));
    p->k = jt_new(ctx, p->tokens, jt_rows(&a->k));
    p->v = jt_new(ctx, p->tokens, jt_rows(&a->v));
    jt_product products[] = {
        jt_product_rows(&p->q, &a->q, x, 0, p->tokens),
        jt_product_rows(&p->k, &a->k, x, 0, p->tokens),
        jt_product_rows(&p->v, &a->v, x, 0, p->tokens),
    };
    jt_products(ctx, products, 3);
    jt_add_bias(ctx, &p->q, &a->q_bias);
    jt_add_bias(ctx, &p->k, &a->k_bias);
    jt_add_bias(ctx, &p->v, &a->v_bias);
    if (jt_failed(ctx))
        return;
    if (a->qk_norm != JT_QK_NORM_NONE) {
        p->q = jt_rms_norm(ctx, &p->q, &a->q_norm, a->norm_eps);
        p->k = jt_rms_norm(ctx, &p->k, &a->k_norm, a->norm_eps);
    }
    if (a->clamp > 0.0f) {
        clamp_values(&p->q, a->clamp);
        clamp_values(&p->k, a->clamp);
        clamp_values(&p->v, a->clamp);
    }
}

/* Row `row` of keys or values, of n values each. */
static void *kv_row(void *kv, jt_dtype type, size_t row, size_t n)
{
    return (char *)kv + row * jt_dtype_row_bytes(type, n);
}

/* Put n values into the cache. */
static void keep(const jt_attention_pass *p, void *row, jt_dtype type, const float *x,
                 size_t n)
{
    if (type == JT_F32)
        memcpy(row, x, n * sizeof *x);
    else
        p->kernels->f32_to_f16(row, x, n);
}

/* Rotate one token's queries and keys; regroup the queries, store keys and values. */
static void place_token(void *arg, size_t t)
{
    const jt_attention_pass *p = arg;
    const jt_attention *a = p->a;
    size_t k_dim = (size_t)a->k_dim, v_dim = (size_t)a->v_dim;
    const float *c = jt_row(&p->angles->cos, t), *s = jt_row(&p->angles->sin, t);
    for (size_t head = 0; head < (size_t)a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        float *q = p->grouped + ((kv_head * p->tokens + t) * p->group + member) * k_dim;
        memcpy(q, jt_row(&p->q, t) + head * k_dim, k_dim * sizeof(float));
        p->kernels->rope(q, c, s, p->rope->pairs, p->rope->neox);
    }
    for (size_t head = 0; head < (size_t)a->n_kv_heads; head++) {
        const jt_kv_layer *kv = p->kv;
        size_t row = head * kv->rows + (p->start + t) % kv->rows;
        float *k = p->rotated + (t * (size_t)a->n_kv_heads + head) * k_dim;
        memcpy(k, jt_row(&p->k, t) + head * k_dim, k_dim * sizeof(float));
        p->kernels->rope(k, c, s, p->rope->pairs, p->rope->neox);
        keep(p, kv_row(kv->k, kv->k_type, row, k_dim), kv->k_type, k, k_dim);
        keep(p, kv_row(kv->v, kv->v_type, row, v_dim), kv->v_type,
             jt_row(&p->v, t) + head * v_dim, v_dim);
    }
}

/* A group wider than a call takes is cut; otherwise one call does the whole tile. */
void jt_attention_each_tile(const jt_attention_pass *p, size_t kv_head, size_t i,
                            jt_attention_tile_fn *fn, void *user)
{
    size_t k_dim = (size_t)p->a->k_dim, v_dim = (size_t)p->a->v_dim;
    size_t first = i * p->tile;
    size_t tokens = p->tokens - first < p->tile ? p->tokens - first : p->tile;
    int32_t from[JT_ATTN_MAX_Q], to[JT_ATTN_MAX_Q];
    for (size_t done = 0, n; done < tokens * p->group; done += n) {
        size_t row = (kv_head * p->tokens + first) * p->group + done;
        n = tokens * p->group - done;
        n = n < JT_ATTN_MAX_Q ? n : JT_ATTN_MAX_Q;
        for (size_t q = 0; q < n; q++) {
            size_t t = first + (done + q) / p->group;
            from[q] = p->first ? p->first[t] : 0;
            to[q] = (int32_t)(p->start + t + 1);
        }
        jt_attn call = {
            .out = p->out + row * v_dim,
            .lse = p->lse ? p->lse + row : NULL,
            .q = p->grouped + row * k_dim,
            .k = kv_row(p->kv->k, p->kv->k_type, kv_head * p->kv->rows, k_dim),
            .v = kv_row(p->kv->v, p->kv->v_type, kv_head * p->kv->rows, v_dim),
            .k_type = p->kv->k_type,
            .v_type = p->kv->v_type,
            .rows = p->kv->rows,
            .from = from,
            .to = to,
            .out_stride = v_dim,
            .q_stride = k_dim,
            .k_stride = k_dim,
            .v_stride = v_dim,
            .n_q = (int)n,
            .k_dim = p->a->k_dim,
            .v_dim = p->a->v_dim,
            .scale = p->a->scale,
        };
        fn(user, &call, kv_head, row);
    }
}

static void attend(void *user, const jt_attn *call, size_t kv_head, size_t row)
{
    const jt_attention_pass *p = user;
    (void)kv_head;
    (void)row;
    p->kernels->attention(call);
}

static void attend_tile(void *arg, size_t i)
{
    const jt_attention_pass *p = arg;
    jt_attention_each_tile(p, i / p->n_tiles, i % p->n_tiles, attend, arg);
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
}

jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *a, jt_input *x,
                               const jt_rope *rope, const jt_angles *angles,
                               jt_kv_layer *kv, size_t start, const int32_t *first)
{
    jt_attention_pass p = {.kernels = ctx->kernels,
                           .a = a,
                           .rope = rope,
                           .angles = angles,
                           .kv = kv,
                           .first = first,
                           .start = start,
                           .tokens = jt_rows(&x->x)};
    size_t heads = (size_t)a->n_heads;
    p.group = heads / (size_t)a->n_kv_heads;
    p.tile = p.group < JT_ATTN_MAX_Q ? JT_ATTN_MAX_Q / p.group : 1;
    p.n_tiles = (p.tokens + p.tile - 1) / p.tile;
    project(ctx, &p, x);
    p.grouped = jt_scratch(ctx, p.tokens * heads, (size_t)a->k_dim * sizeof(float));
    p.out = jt_scratch(ctx, p.tokens * heads, (size_t)a->v_dim * sizeof(float));
    p.rotated = jt_scratch(ctx, p.tokens * (size_t)a->n_kv_heads,
                           (size_t)a->k_dim * sizeof(float));
    if (ctx->tape)
        p.lse = jt_scratch(ctx, p.tokens * heads, sizeof(float));
    p.joined = jt_new(ctx, p.tokens, heads * (size_t)a->v_dim);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    size_t values = p.tokens * heads * (size_t)a->k_dim;
    jt_for_rows(ctx, p.tokens, values, place_token, &p);
    jt_pool_run(ctx->pool, attend_tile, &p, (size_t)a->n_kv_heads * p.n_tiles);
    jt_for_rows(ctx, p.tokens, values, join_token, &p);
    jt_attention_record(ctx, &p);
    jt_input joined = jt_input_of(p.joined);
    return jt_linear(ctx, &joined, &a->o, &a->o_bias);
}
