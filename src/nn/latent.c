#include "nn/latent.h"

#include <string.h>

#include "nn/latent_pass.h"

jt_tensor jt_latent_keys(const jt_latent *l, size_t head)
{
    size_t nope = (size_t)l->nope, both = nope + (size_t)l->v_dim;
    if (!jt_has(&l->kv_b))
        return jt_slice(&l->k_b, head);
    return jt_some_rows(&l->kv_b, head * both, nope);
}

jt_tensor jt_latent_values(const jt_latent *l, size_t head)
{
    size_t nope = (size_t)l->nope, v_dim = (size_t)l->v_dim;
    if (!jt_has(&l->kv_b))
        return jt_slice(&l->v_b, head);
    return jt_some_rows(&l->kv_b, head * (nope + v_dim) + nope, v_dim);
}

/* What all tokens of a pass have, of whatever context. */
typedef struct projected {
    jt_tensor q, kv_rows, c, k; /* as in jt_latent_pass */
} projected;

static projected project(jt_context *ctx, const jt_latent *l, jt_input *x)
{
    size_t tokens = jt_rows(&x->x), rank = (size_t)l->rank, rope = (size_t)l->rope;
    float eps = l->attention.norm_eps;
    const jt_tensor *first = jt_has(&l->q_a) ? &l->q_a : &l->q_b;
    projected p = {.q = jt_new(ctx, tokens, jt_rows(first)),
                   .kv_rows = jt_new(ctx, tokens, jt_rows(&l->kv_a))};
    jt_product products[] = {
        jt_product_rows(&p.q, first, x, 0, tokens),
        jt_product_rows(&p.kv_rows, &l->kv_a, x, 0, tokens),
    };
    jt_products(ctx, products, 2);
    if (jt_has(&l->q_a)) {
        jt_input q = jt_input_of(jt_rms_norm(ctx, &p.q, &l->q_a_norm, eps));
        p.q = jt_linear(ctx, &q, &l->q_b, NULL);
    }
    p.c = jt_take(ctx, &p.kv_rows, rank + rope, 0, rank);
    p.c = jt_rms_norm(ctx, &p.c, &l->kv_a_norm, eps);
    p.k = jt_take(ctx, &p.kv_rows, rank + rope, rank, rope);
    return p;
}

/* Queries and keys of the tokens at `at` to their places. */
static void rotate(jt_context *ctx, const jt_latent *l, projected *all,
                   const jt_places *at)
{
    size_t rope = (size_t)l->rope, nope = (size_t)l->nope;
    jt_tensor q = jt_some_rows(&all->q, at->row, at->count);
    jt_tensor k = jt_some_rows(&all->k, at->row, at->count);
    if (at->angles) {
        jt_rope_rotate(ctx, &q, nope + rope, nope, at->angles);
        jt_rope_rotate(ctx, &k, rope, 0, at->angles);
    }
    jt_attention_sharpen(ctx, &l->attention, &all->q, at);
}

/* Into the cache, by way of the row as it was projected. */
static void place_token(void *arg, size_t t)
{
    const jt_latent_pass *p = arg;
    size_t rank = jt_cols(&p->c), rope = jt_cols(&p->k);
    float *row = jt_row(&p->kv_rows, t);
    memcpy(row, jt_row(&p->c, t), rank * sizeof *row);
    memcpy(row + rank, jt_row(&p->k, t), rope * sizeof *row);
    jt_attention_keep(p->kernels, p->at.kv.k, p->at.kv.k_type,
                      (p->at.start + t) % p->at.kv.rows, row, rank + rope);
}

/* Multiplications of both forms, per head: making keys and values of `positions` or
 * moving `tokens` there and back, then scores and sums of all pairs. The expanded form
 * takes memory for all positions of a head, so that there must not be too many. */
static bool expand(const jt_latent_pass *p)
{
    enum { MOST = 16384 };
    const jt_latent *l = p->l;
    double rank = l->rank, rope = l->rope, nope = l->nope, v = l->v_dim;
    double tokens = (double)p->tokens, start = (double)p->at.start;
    double pairs = tokens * (start + tokens / 2);
    double absorbed = tokens * rank * (nope + v) + pairs * (2 * rank + rope);
    double expanded = (start + tokens) * rank * (nope + v) + pairs * (nope + rope + v);
    if (l->form != JT_LATENT_CHEAPER)
        return l->form == JT_LATENT_EXPANDED;
    return start + tokens <= MOST && expanded < absorbed;
}

/* The tokens of one context. With a tape the form is that which knows its way back. */
static void attend(jt_context *ctx, jt_latent_pass *p)
{
    p->at.kv.v = p->at.kv.k;
    p->at.kv.v_type = p->at.kv.k_type;
    jt_for_rows(ctx, p->tokens, p->tokens * jt_cols(&p->kv_rows), place_token, p);
    if (ctx->tape || expand(p))
        jt_latent_expanded(ctx, p);
    else
        jt_latent_absorbed(ctx, p);
}

jt_tensor jt_latent_forward(jt_context *ctx, const jt_latent *l, jt_input *x,
                            const jt_places *places, size_t n)
{
    size_t tokens = jt_rows(&x->x), heads = (size_t)l->attention.n_heads;
    projected all = project(ctx, l, x);
    jt_input joined = jt_input_of(jt_new(ctx, tokens, heads * (size_t)l->v_dim));
    jt_attention_check(ctx, places, n);
    for (size_t i = 0; i < n && !jt_failed(ctx); i++) {
        const jt_places *at = &places[i];
        rotate(ctx, l, &all, at);
        jt_latent_pass p = {.kernels = ctx->kernels,
                            .l = l,
                            .at = *at,
                            .tokens = at->count,
                            .heads = heads,
                            .q = jt_some_rows(&all.q, at->row, at->count),
                            .c = jt_some_rows(&all.c, at->row, at->count),
                            .k = jt_some_rows(&all.k, at->row, at->count),
                            .kv_rows = jt_some_rows(&all.kv_rows, at->row, at->count),
                            .joined = jt_some_rows(&joined.x, at->row, at->count)};
        attend(ctx, &p);
    }
    return jt_linear(ctx, &joined, &l->o, NULL);
}
