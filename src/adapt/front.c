#include "adapt/front.h"

#include <string.h>

#include "model/model.h"

/* The one that has virtual tokens, or NULL. */
static const jt_attachment *find(const jt_attached *attached)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_attachment *at = &attached->list[i];
        if (at->adapter->kind->front && at->stands[0])
            return at;
    }
    return NULL;
}

size_t jt_attached_front(const jt_attached *attached)
{
    const jt_attachment *at = find(attached);
    return at ? at->adapter->kind->front(at->adapter) : 0;
}

void jt_attached_embed_front(const jt_attached *attached, const jt_chunk *chunk,
                             jt_tensor *h)
{
    const jt_tensor *e = attached->laid;
    memcpy(h->data, jt_row(e, chunk->spans->start),
           chunk->count * jt_cols(e) * sizeof(float));
}

/* The next virtual tokens of a cache, which stand for any token of the vocabulary. */
static void run(jt_attached *attached, jt_context *ctx, const jt_model *model,
                jt_cache *cache, size_t count, const jt_store *store,
                const jt_hooks *hooks)
{
    jt_span span = {cache, cache->length, count};
    int32_t *ids = jt_scratch(ctx, 2 * count, sizeof *ids), *positions = ids + count;
    if (!ids)
        return;
    for (size_t i = 0; i < count; i++) {
        ids[i] = 0;
        positions[i] = (int32_t)(span.start + i);
    }
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = count,
                      .ids = ids,
                      .positions = positions,
                      .hidden = true};
    attached->weight = NULL;
    attached->n_tokens = count;
    jt_attached_forward(attached, ctx, model, &chunk, store, hooks);
}

void jt_attached_lay_front(jt_attached *attached, jt_context *ctx,
                           const jt_model *model, jt_cache *cache, size_t chunk,
                           const jt_store *store, const jt_hooks *hooks)
{
    const jt_adapter *a = find(attached)->adapter;
    size_t front = a->kind->front(a);
    attached->laid = a->kind->embeddings ? a->kind->embeddings(a) : NULL;
    if (!attached->laid)
        a->kind->lay(a, ctx->kernels, model, cache);
    while (cache->length < front && !jt_failed(ctx)) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        size_t left = front - cache->length;
        run(attached, ctx, model, cache, left < chunk ? left : chunk, store, hooks);
        jt_arena_rewind(&ctx->scratch, mark);
    }
    attached->laid = NULL;
    if (jt_failed(ctx))
        jt_cache_rewind(cache, 0);
    else
        jt_cache_end_front(cache);
}
