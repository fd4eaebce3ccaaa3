#include "nn/latent.h"

#include <string.h>

#include "nn/latent_pass.h"

jt_tensor jt_latent_keys(const jt_latent *l, size_t head)
{
    size_t nope = (size_t)l->nope, both = nope + (size_t)l->v_dim;
    return jt_some_rows(&l->kv_b, head * both, nope);
}

jt_tensor jt_latent_values(const jt_latent *l, size_t head)
{
    size_t nope = (size_t)l->nope, v_dim = (size_t)l->v_dim;
    if (!jt_has(&l->kv_b))
        return jt_slice(&l->v_b, head);
    return jt_some_rows(&l->kv_b, head * (nope + v_dim) + nope, v_dim);
}

/* Queries, and the rows that are kept, of all tokens. */
static void project(jt_context *ctx, const jt_latent *l, jt_input *x, jt_tensor *q,
                    jt_tensor *kv_rows)
{
    const jt_tensor *first = jt_has(&l->q_a) ? &l->q_a : &l->q_b;
    size_t tokens = jt_rows(&x->x);
    *q = jt_new(ctx, tokens, jt_rows(first));
    *kv_rows = jt_new(ctx, tokens, jt_rows(&l->kv_a));
    jt_product products[] = {
        jt_product_rows(q, first, x, 0, tokens),
        jt_product_rows(kv_rows, &l->kv_a, x, 0, tokens),
    };
    jt_products(ctx, products, 2);
    if (!jt_has(&l->q_a) || jt_failed(ctx))
        return;
    jt_input normed =
        jt_input_of(jt_rms_norm(ctx, q, &l->q_a_norm, l->attention.norm_eps));
    *q = jt_linear(ctx, &normed, &l->q_b, NULL);
}

/* Normalise and rotate what is kept of a token; rotate its queries. */
static void place_token(void *arg, size_t t)
{
    jt_latent_pass *p = arg;
    const jt_latent *l = p->l;
    size_t nope = (size_t)l->nope, head_dim = nope + (size_t)l->rope;
    float *row = jt_row(&p->kv_rows, t);
    p->kernels->rms_norm(row, row, l->kv_a_norm.data, (size_t)l->rank,
                         l->attention.norm_eps);
    if (p->at.angles)
        jt_rope_turn(p->kernels, row + l->rank, p->at.angles, t);
    jt_attention_keep(p->kernels, p->at.kv.k, p->at.kv.k_type,
                      (p->at.start + t) % p->at.kv.rows, row, jt_cols(&p->kv_rows));
    float factor = jt_attention_temperature(&l->attention, &p->at, t);
    for (size_t head = 0; head < p->heads; head++) {
        float *q = jt_row(&p->q, t) + head * head_dim;
        if (p->at.angles)
            jt_rope_turn(p->kernels, q + nope, p->at.angles, t);
        if (factor != 1.0f)
            p->kernels->scale(q, factor, q, head_dim);
    }
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

/* The tokens of one context. */
static void attend(jt_context *ctx, jt_latent_pass *p)
{
    p->at.kv.v = p->at.kv.k;
    p->at.kv.v_type = p->at.kv.k_type;
    jt_for_rows(ctx, p->tokens, p->tokens * jt_cols(&p->q), place_token, p);
    if (expand(p))
        jt_latent_expanded(ctx, p);
    else
        jt_latent_absorbed(ctx, p);
}

jt_tensor jt_latent_forward(jt_context *ctx, const jt_latent *l, jt_input *x,
                            const jt_places *places, size_t n)
{
    jt_tensor q, kv_rows;
    size_t tokens = jt_rows(&x->x), heads = (size_t)l->attention.n_heads;
    if (ctx->tape && !jt_failed(ctx))
        jt_fail(&ctx->err, JT_E_UNSUPPORTED, "gradients of latent attention");
    project(ctx, l, x, &q, &kv_rows);
    jt_input joined = jt_input_of(jt_new(ctx, tokens, heads * (size_t)l->v_dim));
    for (size_t i = 0; i < n && !jt_failed(ctx); i++) {
        const jt_places *at = &places[i];
        jt_latent_pass p = {.kernels = ctx->kernels,
                            .l = l,
                            .at = *at,
                            .tokens = at->count,
                            .heads = heads,
                            .q = jt_some_rows(&q, at->row, at->count),
                            .kv_rows = jt_some_rows(&kv_rows, at->row, at->count),
                            .joined = jt_some_rows(&joined.x, at->row, at->count)};
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        attend(ctx, &p);
        jt_arena_rewind(&ctx->scratch, mark);
    }
    return jt_linear(ctx, &joined, &l->o, NULL);
}
