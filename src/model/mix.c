#include "model/mix.h"

jt_mix jt_mix_begin(jt_context *ctx, const jt_model *model, const jt_chunk *chunk,
                    jt_cache *cache)
{
    return (jt_mix){model, cache,
                    jt_rope_angles(ctx, &model->rope, chunk->positions, chunk->count)};
}

jt_tensor jt_mix_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                         int index, jt_input *x)
{
    const jt_layer *layer = &mix->model->layers[index];
    jt_layer_cache *memory = &mix->cache->layer[index];
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return jt_attention_forward(ctx, &layer->attention, x, &mix->model->rope,
                                    &mix->angles, &memory->kv, chunk->start,
                                    chunk->first);
    }
    return (jt_tensor){0};
}
