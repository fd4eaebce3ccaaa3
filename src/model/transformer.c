#include "model/transformer.h"

#include <string.h>

#include "model/mix.h"
#include "tensor/tape.h"

/* What all layers of a pass share. The tape keeps a copy; what it points to lives until
 * the gradients are done. */
typedef struct pass {
    const jt_model *model;
    jt_chunk chunk;
    jt_mix mix;
    const jt_store *store;
    const jt_hooks *hooks;
} pass;

/* One block: h += mix(norm(h)); h += ffn(norm(h)). */
static void layer_forward(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    const jt_layer *layer = &p->model->layers[index];
    const jt_chunk *chunk = &p->chunk;
    float eps = p->model->params.norm_eps;

    jt_input x = jt_input_of(jt_rms_norm(ctx, h, &layer->attn_norm, eps));
    jt_tensor y = jt_mix_forward(ctx, &p->mix, chunk, index, &x);
    jt_add_to(ctx, h, &y);
    jt_lap(ctx, JT_STAGE_ATTENTION);

    x = jt_input_of(jt_rms_norm(ctx, h, &layer->ffn_norm, eps));
    jt_route_site site = {.layer = index,
                          .token_ids = chunk->ids,
                          .positions = chunk->positions,
                          .draw = chunk->draw,
                          .replay = chunk->replay};
    y = layer->is_mixture
            ? jt_mixture_forward(ctx, &layer->mixture, p->store, p->hooks, &site, &x)
            : jt_dense_forward(ctx, &layer->dense, p->store, &x);
    jt_add_to(ctx, h, &y);
}

typedef struct saved_layer {
    pass p;
    int index;
    jt_tensor h; /* as it goes in; its gradient is that of all later values of h */
} saved_layer;

static void layer_backward(jt_context *ctx, void *saved)
{
    saved_layer *s = saved;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tape *outer = ctx->tape, inner = {0};
    ctx->tape = &inner;
    layer_forward(ctx, &s->p, s->index, &s->h);
    jt_tape_backward(ctx);
    ctx->tape = outer;
    jt_arena_rewind(&ctx->scratch, mark);
}

/* The layer without a tape, and on the tape that it is to be run again. */
static void layer_checkpoint(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    saved_layer saved = {*p, index, *h};
    size_t values = jt_rows(h) * jt_cols(h);
    saved.p.chunk.replay = true;
    saved.h.data = jt_scratch(ctx, values, sizeof(float));
    if (jt_failed(ctx))
        return;
    memcpy(saved.h.data, h->data, values * sizeof(float));
    jt_tape *tape = ctx->tape;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = NULL;
    layer_forward(ctx, p, index, h);
    ctx->tape = tape;
    jt_arena_rewind(&ctx->scratch, mark);
    jt_tape_push(ctx, layer_backward, &saved, sizeof saved);
}

static void run_layer(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    if (ctx->tape && p->chunk.checkpoint) {
        layer_checkpoint(ctx, p, index, h);
    } else {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        layer_forward(ctx, p, index, h);
        if (!ctx->tape)
            jt_arena_rewind(&ctx->scratch, mark);
    }
    if (p->chunk.on_layer && !jt_failed(ctx))
        p->chunk.on_layer(p->chunk.user, index, h);
}

jt_tensor jt_transformer_forward(jt_context *ctx, const jt_model *model,
                                 const jt_chunk *chunk, jt_cache *cache,
                                 const jt_store *store, const jt_hooks *hooks)
{
    jt_lap_start(ctx);
    jt_tensor h = jt_embed(ctx, &model->embedding, chunk->ids, chunk->count);
    pass p = {model, *chunk, jt_mix_begin(ctx, model, chunk, cache), store, hooks};
    jt_cache_feed(cache, chunk->start, chunk->count);
    for (int i = 0; i < model->params.n_layers && !jt_failed(ctx); i++)
        run_layer(ctx, &p, i, &h);
    if (!chunk->all_logits && !jt_failed(ctx)) { /* only the last row goes on */
        h.grad = jt_grad_row(&h, chunk->count - 1);
        h.data = jt_row(&h, chunk->count - 1);
        h.shape[0] = 1;
    }
    jt_input x =
        jt_input_of(jt_rms_norm(ctx, &h, &model->output_norm, model->params.norm_eps));
    jt_tensor logits = jt_linear(ctx, &x, &model->output, NULL);
    jt_lap(ctx, JT_STAGE_HEAD);
    return logits;
}
