#include "model/mix.h"

#include <string.h>

/* Whether the context that the cache has room for asks for the rotation of long ones.
 */
static bool is_long(const jt_model *model, const jt_cache *cache)
{
    const jt_rope_params *rope = &model->params.rope[JT_ROPE_LONG];
    return rope->dims && (float)cache->capacity > rope->original_context;
}

jt_mix jt_mix_begin(jt_context *ctx, const jt_model *model, const jt_chunk *chunk,
                    jt_cache *cache)
{
    jt_mix mix = {.model = model, .cache = cache};
    for (int i = 0; i < JT_ROPE_LONG; i++) {
        bool other = i == JT_ROPE_USUAL && is_long(model, cache);
        const jt_rope *rope = &model->rope[other ? JT_ROPE_LONG : i];
        if (rope->pairs)
            mix.angles[i] = jt_rope_angles(ctx, rope, chunk->positions, chunk->count);
    }
    return mix;
}

static const jt_angles *angles_of(const jt_mix *mix, const jt_layer *layer)
{
    jt_rope_use rope = layer->attention.rope;
    return rope == JT_ROPE_OFF ? NULL : &mix->angles[rope];
}

/* A mixer that has no way of its own for twins runs for each of them. */
static jt_tensor forward_one(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                             int index, jt_layer_cache *memory, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    jt_places places = {chunk->start, chunk->positions, chunk->first};
    if (layer->mixer == JT_MIX_LATENT)
        return jt_latent_forward(ctx, &layer->latent, x, angles_of(mix, layer),
                                 &memory->kv, &places);
    return jt_recurrent_forward(ctx, &layer->recurrent, x, memory->state,
                                chunk->start == 0);
}

static jt_tensor forward_each(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                              int index, jt_input *x)
{
    size_t rows = chunk->count, values = rows * jt_cols(&x->x);
    jt_tensor both = jt_new(ctx, 2 * rows, jt_cols(&x->x));
    for (size_t i = 0; i < 2; i++) {
        jt_cache *cache = i ? chunk->twin : mix->cache;
        jt_input half = jt_input_of(jt_some_rows(&x->x, i * rows, rows));
        jt_tensor y = forward_one(ctx, mix, chunk, index, &cache->layer[index], &half);
        if (!jt_failed(ctx))
            memcpy(jt_row(&both, i * rows), y.data, values * sizeof(float));
    }
    return both;
}

jt_tensor jt_mix_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                         int index, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    jt_layer_cache *memory = &mix->cache->layer[index];
    jt_layer_cache *twin = chunk->twin ? &chunk->twin->layer[index] : NULL;
    jt_places places = {chunk->start, chunk->positions, chunk->first};
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return jt_attention_forward(ctx, &layer->attention, x, angles_of(mix, layer),
                                    &memory->kv, twin ? &twin->kv : NULL, &places);
    case JT_MIX_LATENT:
    case JT_MIX_RECURRENT:
        return twin ? forward_each(ctx, mix, chunk, index, x)
                    : forward_one(ctx, mix, chunk, index, memory, x);
    case JT_MIX_NONE:
        break;
    }
    return (jt_tensor){0};
}
