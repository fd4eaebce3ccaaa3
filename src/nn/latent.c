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

static void project(jt_context *ctx, jt_latent_pass *p, jt_input *x)
{
    const jt_latent *l = p->l;
    const jt_tensor *first = jt_has(&l->q_a) ? &l->q_a : &l->q_b;
    p->q = jt_new(ctx, p->tokens, jt_rows(first));
    p->kv_rows = jt_new(ctx, p->tokens, jt_rows(&l->kv_a));
    jt_product products[] = {
        jt_product_rows(&p->q, first, x, 0, p->tokens),
        jt_product_rows(&p->kv_rows, &l->kv_a, x, 0, p->tokens),
    };
    jt_products(ctx, products, 2);
    if (!jt_has(&l->q_a) || jt_failed(ctx))
        return;
    jt_input q =
        jt_input_of(jt_rms_norm(ctx, &p->q, &l->q_a_norm, l->attention.norm_eps));
    p->q = jt_linear(ctx, &q, &l->q_b, NULL);
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
    jt_rope_turn(p->kernels, row + l->rank, p->angles, t);
    jt_attention_keep(p->kernels, p->kv.k, p->kv.k_type, (p->at.start + t) % p->kv.rows,
                      row, jt_cols(&p->kv_rows));
    float factor = jt_attention_temperature(&l->attention, &p->at, t);
    for (size_t head = 0; head < p->heads; head++) {
        float *q = jt_row(&p->q, t) + head * head_dim;
        jt_rope_turn(p->kernels, q + nope, p->angles, t);
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

jt_tensor jt_latent_forward(jt_context *ctx, const jt_latent *l, jt_input *x,
                            const jt_angles *angles, jt_kv_layer *kv,
                            const jt_places *places)
{
    jt_latent_pass p = {.kernels = ctx->kernels,
                        .l = l,
                        .angles = angles,
                        .kv = *kv,
                        .at = *places,
                        .tokens = jt_rows(&x->x),
                        .heads = (size_t)l->attention.n_heads};
    if (ctx->tape && !jt_failed(ctx))
        jt_fail(&ctx->err, JT_E_UNSUPPORTED, "gradients of latent attention");
    p.kv.v = p.kv.k;
    p.kv.v_type = p.kv.k_type;
    project(ctx, &p, x);
    p.joined = jt_new(ctx, p.tokens, p.heads * (size_t)l->v_dim);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    jt_for_rows(ctx, p.tokens, p.tokens * jt_cols(&p.q), place_token, &p);
    if (expand(&p))
        jt_latent_expanded(ctx, &p);
    else
        jt_latent_absorbed(ctx, &p);
    jt_input joined = jt_input_of(p.joined);
    return jt_linear(ctx, &joined, &l->o, NULL);
}
