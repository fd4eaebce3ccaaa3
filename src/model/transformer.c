#include "model/transformer.h"

/* One block: h += attention(norm(h)); h += ffn(norm(h)). */
static void layer_forward(jt_context *ctx, const jt_model *model, int index,
                          const jt_chunk *chunk, const jt_angles *angles,
                          jt_kv_layer *kv, const jt_store *store, const jt_hooks *hooks,
                          jt_tensor *h)
{
    const jt_layer *layer = &model->layers[index];
    float eps = model->params.norm_eps;
    size_t start = chunk->start;

    jt_input x = jt_input_of(jt_rms_norm(ctx, h, &layer->attn_norm, eps));
    jt_tensor y = jt_attention_forward(ctx, &layer->attention, &x, &model->rope, angles,
                                       kv, start, chunk->first);
    jt_add_to(ctx, h, &y);
    jt_lap(ctx, JT_STAGE_ATTENTION);

    x = jt_input_of(jt_rms_norm(ctx, h, &layer->ffn_norm, eps));
    jt_route_site site = {.layer = index,
                          .token_ids = chunk->ids,
                          .positions = chunk->positions,
                          .draw = chunk->draw,
                          .replay = chunk->replay};
    y = layer->is_mixture
            ? jt_mixture_forward(ctx, &layer->mixture, store, hooks, &site, &x)
            : jt_dense_forward(ctx, &layer->dense, store, &x);
    jt_add_to(ctx, h, &y);
}

jt_tensor jt_transformer_forward(jt_context *ctx, const jt_model *model,
                                 const jt_chunk *chunk, jt_kv_layer *kv,
                                 const jt_store *store, const jt_hooks *hooks)
{
    jt_lap_start(ctx);
    jt_tensor h = jt_embed(ctx, &model->embedding, chunk->ids, chunk->count);
    jt_angles angles =
        jt_rope_angles(ctx, &model->rope, chunk->positions, chunk->count);
    for (int i = 0; i < model->params.n_layers && !jt_failed(ctx); i++) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        layer_forward(ctx, model, i, chunk, &angles, &kv[i], store, hooks, &h);
        if (!ctx->tape)
            jt_arena_rewind(&ctx->scratch, mark);
    }
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
