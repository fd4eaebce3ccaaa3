#include "model/mix.h"

#include <string.h>

/* Whether texts may be so long that they ask for the rotation of long contexts. */
static bool is_long(const jt_model *model, const jt_cache *cache)
{
    const jt_rope_params *rope = &model->params.rope[JT_ROPE_LONG];
    return rope->dims && (float)cache->longest > rope->original_context;
}

static jt_mix_angles angles_of(jt_context *ctx, const jt_model *model,
                               const jt_cache *cache, const jt_places *at)
{
    jt_mix_angles angles = {0};
    for (int i = 0; i < JT_ROPE_LONG; i++) {
        bool other = i == JT_ROPE_USUAL && is_long(model, cache);
        const jt_rope *rope = &model->rope[other ? JT_ROPE_LONG : i];
        if (rope->pairs)
            angles.use[i] = jt_rope_angles(ctx, rope, at->positions, at->count);
    }
    return angles;
}

/* Where the tokens of a span are, which begin at row `row` of the chunk: behind the
 * virtual ones of their context. */
static jt_places places_of(jt_context *ctx, const jt_chunk *chunk, const jt_span *span,
                           size_t row)
{
    size_t front = span->cache->front;
    jt_places at = {.row = row,
                    .count = span->count,
                    .start = front + span->start,
                    .positions = chunk->positions + row,
                    .first = chunk->first ? chunk->first + row : NULL};
    int32_t *moved = front ? jt_scratch(ctx, span->count, sizeof *moved) : NULL;
    for (size_t i = 0; moved && i < span->count; i++)
        moved[i] = at.positions[i] + (int32_t)front;
    if (moved)
        at.positions = moved;
    return at;
}

/* Room for the keys and values of layers whose others read. */
static jt_lent *lend(jt_context *ctx, const jt_model *model, size_t tokens)
{
    const jt_params *p = &model->params;
    if (!ctx->tape || !p->borrowers)
        return NULL;
    jt_lent *lent = jt_scratch(ctx, (size_t)p->n_layers, sizeof *lent);
    for (int i = 0; i < p->n_layers && !jt_failed(ctx); i++)
        lent[i] = (jt_lent){0};
    for (int i = p->n_layers - p->borrowers; i < p->n_layers && !jt_failed(ctx); i++) {
        const jt_attention *a = &model->layers[i].attention;
        jt_lent *from = &lent[model->layers[i].keys_of];
        size_t heads = (size_t)a->n_kv_heads;
        if (jt_has(&from->k))
            continue;
        from->k = jt_new(ctx, tokens, heads * (size_t)a->k_dim);
        from->v = jt_new(ctx, tokens, heads * (size_t)a->v_dim);
    }
    return lent;
}

/* Room for the keys and values that virtual tokens are given, of which there are some
 * in one span only. */
static jt_given *room_for_given(jt_context *ctx, const jt_chunk *chunk)
{
    if (!chunk->front || !chunk->between || !chunk->between->give)
        return NULL;
    return jt_scratch(ctx, 1, sizeof(jt_given));
}

static const jt_given *given_in(const jt_mix *mix, const jt_chunk *chunk, int layer)
{
    const jt_between *between = chunk->between;
    if (!mix->given || !between->give(between->self, layer, mix->given))
        return NULL;
    mix->given->row = chunk->front;
    return mix->given;
}

jt_mix jt_mix_begin(jt_context *ctx, const jt_model *model, const jt_chunk *chunk)
{
    jt_mix mix = {.model = model,
                  .angles = jt_scratch(ctx, chunk->n_spans, sizeof *mix.angles),
                  .places = jt_scratch(ctx, chunk->n_spans, sizeof *mix.places),
                  .lent = lend(ctx, model, chunk->count),
                  .given = room_for_given(ctx, chunk)};
    size_t row = 0;
    for (size_t i = 0; i < chunk->n_spans && !jt_failed(ctx); i++) {
        const jt_span *span = &chunk->spans[i];
        mix.places[i] = places_of(ctx, chunk, span, row);
        mix.angles[i] = angles_of(ctx, model, span->cache, &mix.places[i]);
        row += span->count;
    }
    return mix;
}

/* Layers with a state take the contexts one after the other. */
static jt_tensor recurrent_forward(jt_context *ctx, const jt_mix *mix,
                                   const jt_chunk *chunk, int index, jt_input *x)
{
    const jt_recurrent *layer = &mix->model->layers[index].recurrent;
    if (chunk->n_spans == 1)
        return jt_recurrent_forward(
            ctx, layer, x, chunk->spans->cache->layer[index].state, mix->places);
    jt_tensor y = jt_new(ctx, jt_rows(&x->x), jt_cols(&x->x));
    for (size_t i = 0; i < chunk->n_spans && !jt_failed(ctx); i++) {
        const jt_places *at = &mix->places[i];
        float *state = chunk->spans[i].cache->layer[index].state;
        jt_input part = jt_input_of(jt_some_rows(&x->x, at->row, at->count));
        jt_tensor made = jt_recurrent_forward(ctx, layer, &part, state, at);
        if (!jt_failed(ctx))
            memcpy(jt_row(&y, at->row), made.data,
                   at->count * jt_cols(&y) * sizeof(float));
    }
    return y;
}

/* Attention and a layer with a state, added together. */
static jt_tensor both_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                              int index, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    jt_tensor y =
        jt_attention_forward(ctx, &layer->attention, x, mix->places, chunk->n_spans);
    jt_tensor z = recurrent_forward(ctx, mix, chunk, index, x);
    jt_add_to(ctx, &y, &z);
    return y;
}

jt_tensor jt_mix_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                         int index, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    bool latent = layer->mixer == JT_MIX_LATENT;
    jt_rope_use rope = latent ? layer->latent.attention.rope : layer->attention.rope;
    for (size_t i = 0; i < chunk->n_spans && !jt_failed(ctx); i++) {
        jt_places *at = &mix->places[i];
        at->kv = chunk->spans[i].cache->layer[layer->keys_of].kv;
        at->lent = mix->lent && jt_has(&mix->lent[layer->keys_of].k)
                       ? &mix->lent[layer->keys_of]
                       : NULL;
        at->given = given_in(mix, chunk, index);
        at->angles = rope == JT_ROPE_OFF ? NULL : &mix->angles[i].use[rope];
    }
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return jt_attention_forward(ctx, &layer->attention, x, mix->places,
                                    chunk->n_spans);
    case JT_MIX_LATENT:
        return jt_latent_forward(ctx, &layer->latent, x, mix->places, chunk->n_spans);
    case JT_MIX_RECURRENT:
        return recurrent_forward(ctx, mix, chunk, index, x);
    case JT_MIX_BOTH:
        return both_forward(ctx, mix, chunk, index, x);
    case JT_MIX_NONE:
        break;
    }
    return (jt_tensor){0};
}
