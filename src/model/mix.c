#include "model/mix.h"

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

jt_tensor jt_mix_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                         int index, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    jt_layer_cache *memory = &mix->cache->layer[index];
    jt_places places = {chunk->start, chunk->positions, chunk->first};
    jt_rope_use rope = layer->attention.rope;
    const jt_angles *angles = rope == JT_ROPE_OFF ? NULL : &mix->angles[rope];
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return jt_attention_forward(ctx, &layer->attention, x, angles, &memory->kv,
                                    &places);
    case JT_MIX_LATENT:
        return jt_latent_forward(ctx, &layer->latent, x, angles, &memory->kv, &places);
    case JT_MIX_RECURRENT:
        return jt_recurrent_forward(ctx, &layer->recurrent, x, memory->state,
                                    chunk->start == 0);
    case JT_MIX_NONE:
        break;
    }
    return (jt_tensor){0};
}
