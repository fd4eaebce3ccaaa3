#include "run/session.h"

#include <stdlib.h>
#include <string.h>

#include "adapt/front.h"
#include "model/scratch.h"
#include "run/budget.h"
#include "store/mapped.h"

enum { USUAL_CONTEXT = 4096, MAX_CHUNK = 65536 };

/* In a budget a pass reads most experts, however short it is: it is as long as a fifth
 * of the budget allows, if there may be so many tokens. */
static int longest_pass(const jt_session *s, uint64_t ram, int tokens, size_t most)
{
    enum { MOST = 2048, SHARE = 5 };
    most = most < MOST ? most : MOST;
    while (ram && 2 * (size_t)tokens <= most &&
           jt_scratch_bytes(s->model, 2 * (size_t)tokens, (size_t)s->capacity, 1) <=
               ram / SHARE)
        tokens *= 2;
    return tokens;
}

static void choose_passes(jt_session *s, const jt_session_options *o)
{
    const jt_session *host = o->beside;
    bool shares = host && host->cached && host->model == s->model;
    size_t capacity = (size_t)s->capacity, guests = s->hosting.guests;
    uint64_t ram = o->store.ram;
    s->chunk = o->chunk ? o->chunk
               : shares ? host->chunk
                        : longest_pass(s, ram, JT_USUAL_CHUNK, capacity);
    if (s->chunk > s->capacity)
        s->chunk = s->capacity;
    s->room = shares ? host->room : s->chunk;
    if (guests && !o->chunk)
        s->room = longest_pass(s, ram, s->chunk, guests * capacity);
}

static jt_status choose_sizes(jt_session *s, const jt_session_options *o, jt_err *err)
{
    int trained = s->model->params.n_ctx_train;
    if (o->n_ctx < -1 || o->chunk < 0 || o->chunk > MAX_CHUNK)
        return jt_fail(err, JT_E_ARG, "context %d or chunk %d is out of range",
                       o->n_ctx, o->chunk);
    s->capacity = o->n_ctx == -1 ? trained : o->n_ctx;
    if (o->n_ctx == 0)
        s->capacity = trained < USUAL_CONTEXT ? trained : USUAL_CONTEXT;
    if (s->capacity > trained)
        return jt_fail(err, JT_E_ARG,
                       "a context of %d tokens was asked for, the model has %d",
                       s->capacity, trained);
    choose_passes(s, o);
    return JT_OK;
}

/* The first of the names that is given; F16 for none. */
static jt_status choose_type(jt_dtype *type, const char *name, const char *otherwise,
                             jt_err *err)
{
    const char *given = name ? name : otherwise;
    *type = JT_F16;
    if (given && !jt_dtype_from_name(given, type))
        return jt_fail(err, JT_E_ARG, "unknown type '%s' of keys and values", given);
    return JT_OK;
}

static jt_status make_cache(jt_session *s, const jt_session_options *o, jt_err *err)
{
    jt_cache_options cache = {.capacity = (size_t)s->capacity,
                              .chunk = (size_t)s->chunk};
    JT_TRY(choose_type(&cache.k_type, o->k_type, o->kv_type, err));
    JT_TRY(choose_type(&cache.v_type, o->v_type, o->kv_type, err));
    s->kept = cache;
    return jt_cache_init(&s->cache, s->model, &cache, err);
}

static jt_status session_init(jt_session *s, const jt_session_options *o, jt_err *err)
{
    JT_TRY(choose_sizes(s, o, err));
    JT_TRY(make_cache(s, o, err));
    if (!o->beside)
        JT_TRY(jt_context_init(&s->own, o->threads, o->cpu, err));
    JT_TRY(jt_factor_rule_named(&s->own.factors, o->adapter_type, err));
    s->own.tiles = o->no_repack ? NULL : s->model->tiles;
    s->ctx = o->beside ? o->beside->ctx : &s->own;
    s->ids = jt_alloc((size_t)s->capacity, sizeof *s->ids);
    s->positions = jt_alloc((size_t)s->chunk, sizeof *s->positions);
    s->logits = jt_alloc((size_t)s->model->params.n_vocab, sizeof *s->logits);
    if (!s->ids || !s->positions || !s->logits)
        return jt_fail_memory(err, "starting a session");
    return jt_session_open_store(s, o, err);
}

jt_status jt_session_new_host(jt_session **out, const jt_model *model,
                              const jt_session_options *options,
                              const jt_hosting *hosting, jt_err *err)
{
    jt_session *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "starting a session");
    s->model = model;
    s->store = &jt_store_mapped;
    s->hosting = *hosting;
    jt_status status = session_init(s, options, err);
    if (status != JT_OK) {
        jt_session_free(s);
        return status;
    }
    *out = s;
    return JT_OK;
}

jt_status jt_session_new(jt_session **out, const jt_model *model,
                         const jt_session_options *options, jt_err *err)
{
    static const jt_session_options usual;
    static const jt_hosting none;
    return jt_session_new_host(out, model, options ? options : &usual, &none, err);
}

void jt_session_free(jt_session *s)
{
    if (!s)
        return;
    if (s->ctx == &s->own)
        jt_cached_free(s->cached);
    jt_attached_free(&s->adapters);
    jt_context_free(&s->own);
    jt_cache_free(&s->cache);
    jt_cache_free(&s->first);
    if (s->twin)
        jt_cache_free(&s->twin->cache);
    free(s->twin);
    free(s->ids);
    free(s->positions);
    free(s->logits);
    free(s);
}

jt_status jt_session_add_policy(jt_session *s, const jt_policy *policy, jt_err *err)
{
    if (s->hooks.n_policies == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_LIMIT, "more than %d policies", JT_MAX_HOOKS);
    s->hooks.policy[s->hooks.n_policies++] = *policy;
    return JT_OK;
}

jt_status jt_session_add_watcher(jt_session *s, const jt_watcher *watcher, jt_err *err)
{
    if (s->hooks.n_watchers == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_LIMIT, "more than %d watchers", JT_MAX_HOOKS);
    s->hooks.watcher[s->hooks.n_watchers++] = *watcher;
    return JT_OK;
}

jt_status jt_session_make_cache(jt_session *s, jt_cache *out, jt_err *err)
{
    if (s->ctx != &s->own && s->budget.ram)
        return jt_fail(err, JT_E_LIMIT,
                       "the memory budget has no room for a second context");
    return jt_cache_init(out, s->model, &s->kept, err);
}

jt_status jt_session_add_twin(jt_session *s, const jt_session_twin *twin, jt_err *err)
{
    if (s->twin || s->length)
        return jt_fail(err, JT_E_ARG, "the session has %s",
                       s->twin ? "a twin" : "begun without its twin");
    if (jt_attached_front(&s->adapters))
        return jt_fail(err, JT_E_UNSUPPORTED, "a twin beside virtual tokens");
    jt_session_twin *own = jt_calloc(1, sizeof *own);
    if (!own)
        return jt_fail_memory(err, "starting a twin");
    *own = *twin;
    jt_status status = jt_session_make_cache(s, &own->cache, err);
    if (status == JT_OK)
        s->twin = own;
    else
        free(own);
    return status;
}

jt_status jt_session_check(const jt_session *s, const int32_t *tokens, size_t count,
                           jt_err *err)
{
    int n_vocab = s->model->params.n_vocab;
    if (count == 0)
        return jt_fail(err, JT_E_ARG, "no tokens to evaluate");
    int capacity = jt_session_capacity(s);
    if (count > (size_t)(capacity - s->length))
        return jt_fail(err, JT_E_LIMIT,
                       "%zu tokens do not fit into the context: %d of %d are used",
                       count, s->length, capacity);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return jt_fail(err, JT_E_ARG,
                           "token %d is outside the vocabulary (0 to %d)",
                           (int)tokens[i], n_vocab - 1);
    }
    return JT_OK;
}

/* The pass of `chunk`, and beside it the same tokens once more for the twin. The logits
 * of both become those of the session. */
static jt_tensor run_twins(jt_session *s, jt_chunk *chunk, const jt_hooks *hooks)
{
    size_t count = chunk->count, bytes = count * sizeof(int32_t);
    jt_span spans[2] = {chunk->spans[0], chunk->spans[0]};
    int32_t *ids = jt_scratch(s->ctx, 4 * count, sizeof *ids);
    int32_t *positions = ids + 2 * count;
    if (!ids)
        return (jt_tensor){0};
    for (size_t i = 0; i < 2; i++) {
        memcpy(ids + i * count, chunk->ids, bytes);
        memcpy(positions + i * count, chunk->positions, bytes);
    }
    spans[1].cache = &s->twin->cache;
    chunk->spans = spans;
    chunk->n_spans = 2;
    chunk->count = 2 * count;
    chunk->ids = ids;
    chunk->positions = positions;
    const jt_hooks_part parts[2] = {{hooks, count}, {&s->twin->hooks, count}};
    const jt_hooks halves = {.part = parts, .n_parts = 2};
    jt_tensor both =
        jt_attached_forward(&s->adapters, s->ctx, s->model, chunk, s->store, &halves);
    if (jt_failed(s->ctx))
        return both;
    size_t rows = jt_rows(&both) / 2, n = jt_cols(&both);
    for (size_t r = 0; r < rows; r++)
        s->twin->join(s->twin->self, jt_row(&both, r), jt_row(&both, rows + r), n);
    return jt_some_rows(&both, 0, rows);
}

/* One forward pass over tokens of the context that follow those in the cache. Logits
 * are empty on failure, and otherwise valid until the scratch is rewound. */
static jt_tensor run_chunk(jt_session *s, size_t count, bool all, const jt_hooks *hooks)
{
    size_t start = s->cache.length;
    for (size_t i = 0; i < count; i++)
        s->positions[i] = (int32_t)(start + i);
    jt_span span = {&s->cache, start, count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = count,
                      .ids = s->ids + start,
                      .positions = s->positions,
                      .all_logits = all,
                      .on_layer = s->on_layer,
                      .user = s->on_layer_user};
    s->ctx->err = (jt_err){0};
    jt_session_weigh(s, &chunk);
    return s->twin ? run_twins(s, &chunk, hooks)
                   : jt_attached_forward(&s->adapters, s->ctx, s->model, &chunk,
                                         s->store, hooks);
}

jt_status jt_session_status(const jt_session *s, jt_err *err)
{
    if (jt_failed(s->ctx) && err)
        *err = s->ctx->err;
    return s->ctx->err.code;
}

static size_t next_chunk(const jt_session *s, size_t tokens)
{
    return tokens < (size_t)s->chunk ? tokens : (size_t)s->chunk;
}

void jt_session_rewind(jt_session *s, size_t length)
{
    jt_cache_rewind(&s->cache, length);
    if (s->adapters.first)
        jt_cache_rewind(s->adapters.first, length);
    if (s->twin)
        jt_cache_rewind(&s->twin->cache, length);
}

void jt_session_go_back(jt_session *s, int length)
{
    jt_session_rewind(s, (size_t)length);
    if (length < s->length)
        s->has_logits = false; /* they belong to a token that is gone */
    s->length = length;
}

jt_status jt_session_remember(jt_session *s, jt_err *err)
{
    jt_hooks hooks = s->hooks; /* policies; watchers have seen these tokens */
    hooks.n_watchers = 0;
    JT_TRY(jt_session_lay_front(s, &hooks, err));
    while (s->cache.length < (size_t)s->length) {
        jt_arena_mark mark = jt_arena_save(&s->ctx->scratch);
        size_t count = next_chunk(s, (size_t)s->length - s->cache.length);
        run_chunk(s, count, false, &hooks);
        jt_arena_rewind(&s->ctx->scratch, mark);
        JT_TRY(jt_session_status(s, err));
    }
    return JT_OK;
}

void jt_session_advance(jt_session *s, size_t count, const float *logits)
{
    memcpy(s->logits, logits, (size_t)s->model->params.n_vocab * sizeof *logits);
    s->length += (int)count;
    s->has_logits = true;
}

/* The next `count` tokens of the context; `first` counts those of this call that came
 * before. */
static jt_status eval_chunk(jt_session *s, size_t count, size_t first,
                            const jt_eval_options *o, jt_err *err)
{
    jt_arena_mark mark = jt_arena_save(&s->ctx->scratch);
    jt_tensor logits = run_chunk(s, count, o->on_logits != NULL, &s->hooks);
    jt_status status = jt_session_status(s, err);
    if (status == JT_OK) {
        size_t rows = jt_rows(&logits);
        jt_session_advance(s, count, jt_row(&logits, rows - 1));
        if (o->on_logits)
            status = o->on_logits(o->user, first, logits.data, rows, err);
    }
    jt_arena_rewind(&s->ctx->scratch, mark);
    return status;
}

void jt_session_decide(jt_session *s, size_t known)
{
    if (jt_attached_decide(&s->adapters, s->ids, known))
        jt_session_rewind(s, 0);
}

/* How far tokens may be run at once, up to `known`; what the cache has lost runs first.
 */
static jt_status prepare(jt_session *s, size_t known, bool heard, size_t *until,
                         jt_err *err)
{
    *until = known;
    jt_session_decide(s, known);
    if (s->attendant.before)
        JT_TRY(s->attendant.before(s->attendant.self, s, known, heard, until, err));
    return jt_session_remember(s, err);
}

jt_status jt_session_eval(jt_session *s, const int32_t *tokens, size_t count,
                          const jt_eval_options *options, jt_err *err)
{
    jt_eval_options none = {0};
    const jt_eval_options *o = options ? options : &none;
    JT_TRY(jt_session_check(s, tokens, count, err));
    int before = s->length;
    memcpy(s->ids + before, tokens, count * sizeof *tokens);
    jt_status status = jt_progress_report(&o->progress, "prompt", 0, count, err);
    for (size_t done = 0, until; done < count && status == JT_OK;) {
        size_t known = (size_t)before + count, n = 0;
        status = prepare(s, known, o->on_logits != NULL, &until, err);
        if (status == JT_OK) {
            n = next_chunk(s, until - (size_t)s->length);
            status = eval_chunk(s, n, done, o, err);
        }
        done += n;
        if (status == JT_OK)
            status = jt_progress_report(&o->progress, "prompt", done, count, err);
    }
    if (status != JT_OK)
        jt_session_go_back(s, before);
    return status;
}

const float *jt_session_logits(const jt_session *s)
{
    return s->has_logits ? s->logits : NULL;
}

int jt_session_length(const jt_session *s)
{
    return s->length;
}

int jt_session_capacity(const jt_session *s)
{
    return s->capacity - (int)jt_attached_front(&s->adapters);
}

void jt_session_truncate(jt_session *s, int length)
{
    if (length < 0)
        length = 0;
    if (length < s->length)
        jt_session_go_back(s, length);
}

/* What the cache cannot go back to is as good as another text: those who hand tokens on
 * bound how many they run at once. */
size_t jt_session_common(const jt_session *s, const int32_t *tokens, size_t count)
{
    size_t common = 0, length = (size_t)s->length;
    while (common < length && common + 1 < count && s->ids[common] == tokens[common])
        common++;
    return jt_cache_remembers(&s->cache, common) ? common : 0;
}

bool jt_session_is_plain(const jt_session *s)
{
    return !s->hooks.n_policies && !s->twin && !s->attendant.before && !s->on_layer &&
           !jt_attached_looks_ahead(&s->adapters) &&
           s->cache.length == (size_t)s->length;
}

void jt_session_adopt(jt_session *s, const jt_cache *cache, const int32_t *ids)
{
    jt_cache_copy(&s->cache, cache, s->model);
    memcpy(s->ids, ids, cache->length * sizeof *ids);
    s->length = (int)cache->length;
    s->has_logits = false;
}

size_t jt_session_reuse(jt_session *s, const int32_t *tokens, size_t count)
{
    size_t kept = jt_session_common(s, tokens, count);
    jt_session_truncate(s, (int)kept);
    return kept;
}

uint64_t jt_session_kv_bytes(const jt_session *s)
{
    return s->cache.bytes + s->first.bytes + (s->twin ? s->twin->cache.bytes : 0);
}

int jt_session_threads(const jt_session *s)
{
    return jt_pool_threads(s->ctx->pool);
}

const char *jt_session_cpu(const jt_session *s)
{
    return s->ctx->kernels->name;
}

const double *jt_session_times(const jt_session *s)
{
    return s->ctx->times;
}

void jt_session_reset_times(jt_session *s)
{
    memset(s->ctx->times, 0, sizeof s->ctx->times);
}
