#include "adapt/front.h"

#include <string.h>

#include "base/random.h"
#include "model/model.h"
#include "store/mapped.h"
#include "tensor/ops.h"

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

void jt_attached_embed_front(const jt_attached *attached, jt_context *ctx,
                             const jt_chunk *chunk, jt_tensor *h)
{
    const jt_tensor *e = attached->laid;
    const jt_attachment *at = chunk->front ? find(attached) : NULL;
    if (e)
        memcpy(h->data, jt_row(e, chunk->spans->start),
               chunk->count * jt_cols(e) * sizeof(float));
    else if (at && at->adapter->kind->embeddings)
        jt_put_rows(ctx, h, at->adapter->kind->embeddings(at->adapter), chunk->front);
}

bool jt_attached_give(const jt_attached *attached, int layer, jt_given *out)
{
    const jt_attachment *at = find(attached);
    if (!at || !at->adapter->kind->give)
        return false;
    *out = at->adapter->kind->give(at->adapter, layer);
    return true;
}

/* Let an empty cache remember the keys and values that an adapter gives. */
static void lay(const jt_adapter *a, const jt_kernels *kernels, const jt_model *model,
                jt_cache *cache)
{
    size_t n = a->kind->front(a);
    jt_cache_feed(cache, 0, n);
    for (int i = 0; i < model->params.n_layers; i++) {
        jt_given given = a->kind->give(a, i);
        for (size_t t = 0; t < n; t++)
            jt_attention_remember(kernels, &model->layers[i].attention,
                                  &cache->layer[i].kv, t, jt_row(&given.k, t),
                                  jt_row(&given.v, t));
    }
}

/* Let a cache remember `count` tokens more, with adapters at work or (NULL) without;
 * ids NULL: virtual ones, which stand for any of the vocabulary. */
static void run(jt_attached *attached, jt_context *ctx, const jt_model *model,
                jt_cache *cache, size_t count, const int32_t *ids,
                const jt_store *store, const jt_hooks *hooks)
{
    jt_span span = {cache, cache->length, count};
    int32_t *any = jt_scratch(ctx, count, sizeof *any);
    int32_t *positions = jt_scratch(ctx, count, sizeof *positions);
    if (!any || !positions)
        return;
    for (size_t i = 0; i < count; i++) {
        any[i] = 0;
        positions[i] = (int32_t)(span.start + i);
    }
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = count,
                      .ids = ids ? ids : any,
                      .positions = positions,
                      .hidden = true};
    if (!attached) {
        jt_transformer_forward(ctx, model, &chunk, store, hooks);
        return;
    }
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
        lay(a, ctx->kernels, model, cache);
    while (cache->length < front && !jt_failed(ctx)) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        size_t left = front - cache->length;
        run(attached, ctx, model, cache, left < chunk ? left : chunk, NULL, store,
            hooks);
        jt_arena_rewind(&ctx->scratch, mark);
    }
    attached->laid = NULL;
    if (jt_failed(ctx))
        jt_cache_rewind(cache, 0);
    else
        jt_cache_end_front(cache);
}

/* ---- what they begin as ---- */

static jt_status end(jt_context *ctx, jt_arena_mark mark, jt_err *err)
{
    jt_arena_rewind(&ctx->scratch, mark);
    return jt_failed(ctx) ? jt_fail(err, ctx->err.code, "%s", ctx->err.msg) : JT_OK;
}

/* The tokens, in scratch. */
static int32_t *tokens_of(jt_context *ctx, const jt_adapter_options *o)
{
    size_t n_vocab = jt_rows(&o->model->embedding);
    jt_rng rng = {o->seed, UINT64_C(10) << 32, 0};
    int32_t *ids = jt_scratch(ctx, o->front, sizeof *ids);
    for (size_t i = 0; ids && i < o->front; i++)
        ids[i] = o->n_text ? o->text[i % o->n_text]
                           : (int32_t)jt_rng_below(&rng, (uint32_t)n_vocab);
    return ids;
}

jt_status jt_front_embed(jt_tensor *e, const jt_adapter_options *o, jt_err *err)
{
    jt_context *ctx = o->ctx;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    int32_t *ids = tokens_of(ctx, o);
    jt_tensor h = {0};
    if (ids)
        h = jt_embed(ctx, &o->model->embedding, ids, o->front);
    jt_scale(ctx, &h, o->model->params.embedding_scale);
    if (!jt_failed(ctx))
        memcpy(e->data, h.data, o->front * jt_cols(e) * sizeof(float));
    return end(ctx, mark, err);
}

/* Of head after head a row for each place: to rows of all heads. */
static void copy_heads(jt_tensor *to, size_t first, size_t n, const void *from,
                       size_t rows, size_t dim)
{
    for (size_t t = 0; t < n; t++) {
        float *row = jt_row(to, first + t);
        for (size_t i = 0; i < jt_cols(to); i += dim)
            memcpy(row + i, (const float *)from + (i / dim * rows + t % rows) * dim,
                   dim * sizeof *row);
    }
}

jt_status jt_front_remember(jt_tensor *k, jt_tensor *v, const jt_adapter_options *o,
                            jt_err *err)
{
    static const jt_hooks none;
    jt_context *ctx = o->ctx;
    jt_cache cache;
    JT_TRY(jt_cache_init_train(&cache, o->model, 1, o->front, false, err));
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    int32_t *ids = tokens_of(ctx, o);
    if (ids)
        run(NULL, ctx, o->model, &cache, o->front, ids, &jt_store_mapped, &none);
    for (int i = 0; i < o->model->params.n_layers && !jt_failed(ctx); i++) {
        const jt_attention *a = &o->model->layers[i].attention;
        const jt_kv_layer *kv = &cache.layer[i].kv;
        size_t first = (size_t)i * o->front;
        copy_heads(k, first, o->front, kv->k, kv->rows, (size_t)a->k_dim);
        copy_heads(v, first, o->front, kv->v, kv->rows, (size_t)a->v_dim);
    }
    jt_cache_free(&cache);
    return end(ctx, mark, err);
}
