#include "model/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* What one layer needs: rows of keys and of values for each of `heads`, and a state. */
typedef struct needs {
    size_t heads, k_dim, v_dim, window, n_state;
} needs;

static needs needs_of(const jt_layer *layer)
{
    const jt_attention *a = &layer->attention;
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        if (!jt_has(&a->k)) /* those of another layer */
            return (needs){0};
        /* fall through */
    case JT_MIX_BOTH: /* the state of attention alone is nothing */
        return (needs){(size_t)a->n_kv_heads, (size_t)a->k_dim, (size_t)a->v_dim,
                       (size_t)a->window, jt_recurrent_state(&layer->recurrent)};
    case JT_MIX_LATENT:
        return (needs){1, (size_t)layer->latent.attention.k_dim, 0, 0, 0};
    case JT_MIX_RECURRENT:
        return (needs){.n_state = jt_recurrent_state(&layer->recurrent)};
    case JT_MIX_NONE:
        break;
    }
    return (needs){0};
}

size_t jt_cache_token_bytes(const jt_layer *layer, jt_dtype k_type, jt_dtype v_type)
{
    needs n = needs_of(layer);
    return n.heads *
           (jt_dtype_row_bytes(k_type, n.k_dim) + jt_dtype_row_bytes(v_type, n.v_dim));
}

size_t jt_cache_state_bytes(const jt_layer *layer)
{
    return needs_of(layer).n_state * sizeof(float);
}

static size_t whole_blocks(size_t tokens)
{
    return (tokens + JT_ATTN_BLOCK - 1) / JT_ATTN_BLOCK * JT_ATTN_BLOCK;
}

/* Rows that a layer keeps: whole blocks, which never go round the end. */
static size_t rows_of(const needs *n, const jt_cache_options *o)
{
    size_t rows = whole_blocks(n->window + o->chunk), all = whole_blocks(o->capacity);
    return n->window && rows < all ? rows : all;
}

/* Parts of a layer start at multiples of 64 bytes. */
static bool add_part(size_t *total, size_t count, size_t size, size_t *at)
{
    size_t bytes;
    *at = *total;
    if (!jt_mul(count, size, &bytes) || bytes > SIZE_MAX / 2 - *total)
        return false;
    *total += (bytes + 63) & ~(size_t)63;
    return true;
}

static jt_status check_type(jt_dtype type, size_t dim, jt_err *err)
{
    if (type != JT_F32 && type != JT_F16 && type != JT_Q8_0 && type != JT_Q4_0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "keys and values cannot be kept as %s (f32, f16, q8_0 and q4_0 "
                       "can)",
                       jt_dtype_name(type));
    if (dim % jt_dtype_block_values(type))
        return jt_fail(
            err, JT_E_UNSUPPORTED,
            "heads of %zu values cannot be kept as %s, whose blocks hold %zu", dim,
            jt_dtype_name(type), jt_dtype_block_values(type));
    return JT_OK;
}

/* Places of the parts of one layer from byte *total on; as offsets, in `out`. */
static bool lay_out(const needs *n, const jt_cache_options *o, size_t *total,
                    size_t part[3], jt_layer_cache *out)
{
    size_t rows = rows_of(n, o);
    out->n_state = n->n_state;
    out->kv = (jt_kv_layer){.k_type = o->k_type,
                            .v_type = o->v_type,
                            .rows = rows,
                            .k_tiled = n->v_dim && o->k_type == JT_F16};
    return add_part(total, n->heads * rows, jt_dtype_row_bytes(o->k_type, n->k_dim),
                    &part[0]) &&
           add_part(total, n->heads * rows, jt_dtype_row_bytes(o->v_type, n->v_dim),
                    &part[1]) &&
           add_part(total, n->n_state, sizeof(float), &part[2]);
}

static void note_limits(jt_cache *c, const needs *n, size_t rows)
{
    c->has_state = c->has_state || n->n_state;
    if (rows < c->capacity && rows - n->window < c->slack)
        c->slack = rows - n->window;
}

/* First with memory NULL to measure, then to point the layers into it. */
static bool place_layers(jt_cache *c, const jt_model *model, const jt_cache_options *o)
{
    size_t total = 0, largest = 0, part[3];
    for (int i = 0; i < model->params.n_layers; i++) {
        needs n = needs_of(&model->layers[i]);
        jt_layer_cache *layer = &c->layer[i];
        if (o->shared)
            total = 0;
        if (!lay_out(&n, o, &total, part, layer))
            return false;
        largest = total > largest ? total : largest;
        note_limits(c, &n, layer->kv.rows);
        if (!c->memory)
            continue;
        layer->kv.k = c->memory + part[0];
        layer->kv.v = c->memory + part[1];
        layer->state = (float *)(c->memory + part[2]);
    }
    c->bytes = largest;
    return true;
}

static jt_status allocate(jt_cache *c, const jt_model *model, const jt_cache_options *o,
                          jt_err *err)
{
    c->layer = jt_calloc((size_t)model->params.n_layers, sizeof *c->layer);
    if (c->layer && place_layers(c, model, o))
        c->memory = jt_alloc(c->bytes, 1);
    if (!c->memory)
        return jt_fail(err, JT_E_MEMORY,
                       "out of memory for a context of %zu tokens (try a smaller one)",
                       o->capacity);
    place_layers(c, model, o);
    return JT_OK;
}

jt_status jt_cache_init(jt_cache *out, const jt_model *model,
                        const jt_cache_options *options, jt_err *err)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        needs n = needs_of(&model->layers[i]);
        JT_TRY(check_type(options->k_type, n.k_dim, err));
        JT_TRY(check_type(options->v_type, n.v_dim, err));
    }
    jt_cache cache = {.capacity = options->capacity,
                      .longest = options->capacity,
                      .slack = options->capacity};
    jt_status status = allocate(&cache, model, options, err);
    if (status != JT_OK)
        jt_cache_free(&cache);
    *out = cache;
    return status;
}

jt_status jt_cache_init_train(jt_cache *out, const jt_model *model, size_t n_seqs,
                              size_t seq_len, bool shared, jt_err *err)
{
    size_t tokens = n_seqs * seq_len;
    jt_cache_options options = {tokens, tokens, JT_F32, JT_F32, shared};
    JT_TRY(jt_cache_init(out, model, &options, err));
    out->longest = seq_len;
    return JT_OK;
}

void jt_cache_free(jt_cache *cache)
{
    free(cache->layer);
    free(cache->memory);
    *cache = (jt_cache){0};
}

void jt_cache_feed(jt_cache *cache, size_t start, size_t count)
{
    cache->length = start + count;
    if (start == 0 || cache->most < cache->length)
        cache->most = cache->length;
}

void jt_cache_end_front(jt_cache *cache)
{
    cache->front = cache->length;
    cache->length = cache->most = 0;
}

/* The next token, at place `length`, sees the window - 1 before it: the first of them
 * must not have been replaced by the one that lies as many places on as there are rows.
 */
bool jt_cache_remembers(const jt_cache *c, size_t length)
{
    if (length == c->length)
        return true;
    return !c->has_state && c->most <= length + 1 + c->slack;
}

size_t jt_cache_rewind(jt_cache *cache, size_t length)
{
    cache->length = jt_cache_remembers(cache, length) ? length : 0;
    if (!cache->length)
        cache->front = 0;
    return cache->length;
}

/* Rows of the places `first` .. `end` - 1 of one head, each of `bytes`; they lie round
 * the ends of both. */
static void copy_rows(char *to, size_t to_rows, const char *from, size_t from_rows,
                      size_t first, size_t end, size_t bytes)
{
    while (first < end) {
        size_t at = first % to_rows, source = first % from_rows, run = end - first;
        run = run < to_rows - at ? run : to_rows - at;
        run = run < from_rows - source ? run : from_rows - source;
        memcpy(to + at * bytes, from + source * bytes, run * bytes);
        first += run;
    }
}

static void copy_layer(jt_layer_cache *to, const jt_layer_cache *from, const needs *n,
                       size_t length)
{
    size_t k_bytes = jt_dtype_row_bytes(from->kv.k_type, n->k_dim);
    size_t v_bytes = jt_dtype_row_bytes(from->kv.v_type, n->v_dim);
    size_t to_rows = to->kv.rows, rows = from->kv.rows;
    size_t kept = to_rows < rows ? to_rows : rows;
    size_t first = length > kept ? length - kept : 0;
    size_t tile = from->kv.k_tiled ? JT_ATTN_KEYS : 1; /* keys that lie side by side */
    for (size_t h = 0; h < n->heads; h++) {
        copy_rows((char *)to->kv.k + h * to_rows * k_bytes, to_rows / tile,
                  (const char *)from->kv.k + h * rows * k_bytes, rows / tile,
                  first / tile, (length + tile - 1) / tile, tile * k_bytes);
        if (v_bytes)
            copy_rows((char *)to->kv.v + h * to_rows * v_bytes, to_rows,
                      (const char *)from->kv.v + h * rows * v_bytes, rows, first,
                      length, v_bytes);
    }
    if (n->n_state)
        memcpy(to->state, from->state, n->n_state * sizeof *to->state);
}

void jt_cache_copy(jt_cache *to, const jt_cache *from, const jt_model *model)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        needs n = needs_of(&model->layers[i]);
        copy_layer(&to->layer[i], &from->layer[i], &n, from->front + from->length);
    }
    to->front = from->front;
    to->length = from->length;
    to->most = from->most;
    to->slack = from->slack; /* that is how far back the rows go */
}
