/* X-LoRA (Buehler & Buehler 2024, "X-LoRA: mixture of low-rank adapter experts",
 * section 2): a pass without adapters, whose last hidden states a small head turns into
 * the weights of the adapters, for every token and, if it is layerwise, every weight:
 *   softmax(W_n relu(.. relu(W_1 h + b_1) ..) + b_n)
 * No gradient goes back into that pass. */
#include "adapt/blended.h"
#include "nn/norm.h"
#include "tensor/tape.h"

/* ---- the first pass ---- */

/* The hidden states that the output of the model would read. */
jt_tensor jt_blended_first_pass(jt_context *ctx, const jt_model *model,
                                const jt_chunk *chunk, const jt_store *store)
{
    static const jt_hooks none;
    jt_chunk *before = jt_scratch(ctx, 1, sizeof *before);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    *before = *chunk;
    before->hidden = true;
    before->n_instead = 0;
    before->between = NULL;
    before->checkpoint = false;
    before->on_layer = NULL;
    jt_tape *tape = ctx->tape;
    jt_product_change change = ctx->change;
    ctx->tape = NULL;
    ctx->change = (jt_product_change){0};
    jt_tensor h = jt_transformer_forward(ctx, model, before, store, &none);
    ctx->tape = tape;
    ctx->change = change;
    return h;
}

/* ---- the head ---- */

/* The last layer, cut into the banks that it has rows for. */
static void last_layer(const jt_blended *m, jt_context *ctx, jt_input *x,
                       jt_tensor *logits, size_t count)
{
    const jt_blend *b = m->blend;
    size_t tokens = jt_rows(&x->x);
    const jt_tensor *w = &b->head_weight[b->depth - 1];
    const jt_tensor *bias = &b->head_bias[b->depth - 1];
    jt_product *list = jt_scratch(ctx, count, sizeof *list);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_tensor part = jt_some_rows(w, i * b->n, b->n);
        logits[i] = jt_new(ctx, tokens, b->n);
        if (!jt_failed(ctx))
            list[i] = jt_product_rows(&logits[i], &part, x, 0, tokens);
    }
    if (jt_failed(ctx))
        return;
    jt_products(ctx, list, count);
    for (size_t i = 0; i < count; i++) {
        jt_tensor part = jt_some_rows(bias, i * b->n, b->n);
        jt_add_bias(ctx, &logits[i], &part);
    }
}

void jt_blended_hear(const jt_blended *m, jt_decided *d, jt_context *ctx,
                     const jt_tensor *h)
{
    static const jt_hooks none;
    const jt_blend *b = m->blend;
    const jt_router *r = &m->router[b->n_banks];
    jt_input x = jt_input_of(*h);
    for (int i = 0; i + 1 < b->depth; i++) {
        jt_tensor y = jt_linear(ctx, &x, &b->head_weight[i], &b->head_bias[i]);
        jt_relu(ctx, &y);
        x = jt_input_of(y);
    }
    size_t count = jt_blend_layerwise(b) ? b->n_banks : 1;
    jt_tensor *logits = jt_scratch(ctx, count, sizeof *logits);
    jt_route *route = jt_scratch(ctx, count, sizeof *route);
    if (!jt_failed(ctx))
        last_layer(m, ctx, &x, logits, count);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_route_site site = {.layer = (int)i};
        jt_tensor scores = jt_new(ctx, d->n_tokens, b->n);
        route[i] = jt_route_new(ctx, (int)d->n_tokens, (int)b->n, b->k);
        if (b->temperature != 1.0f)
            jt_scale(ctx, &logits[i], 1.0f / b->temperature);
        jt_router_select(ctx, r, &none, &site, &logits[i], &scores, &route[i]);
        if (m->term && !jt_failed(ctx))
            m->term->add(m->term->self, ctx, &site, r, &logits[i], &scores, &route[i]);
    }
    d->route = route;
    d->n_routes = count;
}
