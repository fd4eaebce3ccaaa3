#include "run/session.h"

#include <stdlib.h>
#include <string.h>

#include "store/mapped.h"

enum { USUAL_CONTEXT = 4096, USUAL_CHUNK = 256, MAX_CHUNK = 65536 };

/* One allocation for the keys and values of all layers. It is not touched here, so
 * memory is taken from the system only as the context fills. */
static jt_status allocate_kv(jt_session *s, jt_err *err)
{
    const jt_params *p = &s->model->params;
    size_t heads = (size_t)p->n_kv_heads, capacity = (size_t)s->capacity;
    size_t k = heads * (size_t)p->k_dim, v = heads * (size_t)p->v_dim, values;
    size_t value_bytes = jt_dtype_block_bytes(s->kv_type);
    s->kv = jt_alloc((size_t)p->n_layers, sizeof *s->kv);
    if (jt_mul(capacity, (k + v) * (size_t)p->n_layers, &values))
        s->kv_memory = jt_alloc(values, value_bytes);
    if (!s->kv || !s->kv_memory)
        return jt_fail(err, JT_E_MEMORY,
                       "out of memory for a context of %d tokens (try a smaller one)",
                       s->capacity);
    for (int i = 0; i < p->n_layers; i++) {
        char *layer = s->kv_memory + (size_t)i * capacity * (k + v) * value_bytes;
        s->kv[i] = (jt_kv_layer){layer, layer + capacity * k * value_bytes, s->kv_type,
                                 capacity};
    }
    return JT_OK;
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
    s->chunk = o->chunk ? o->chunk : USUAL_CHUNK;
    if (s->chunk > s->capacity)
        s->chunk = s->capacity;
    return JT_OK;
}

static jt_status choose_kv_type(jt_session *s, const char *name, jt_err *err)
{
    s->kv_type = JT_F16;
    if (name && !jt_dtype_from_name(name, &s->kv_type))
        return jt_fail(err, JT_E_ARG, "unknown type '%s' of keys and values", name);
    if (s->kv_type != JT_F16 && s->kv_type != JT_F32)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "keys and values cannot be kept as %s (f16 and f32 can)", name);
    return JT_OK;
}

static jt_status session_init(jt_session *s, const jt_session_options *o, jt_err *err)
{
    JT_TRY(choose_sizes(s, o, err));
    JT_TRY(choose_kv_type(s, o->kv_type, err));
    JT_TRY(jt_context_init(&s->ctx, o->threads, o->cpu, err));
    JT_TRY(allocate_kv(s, err));
    s->positions = jt_alloc((size_t)s->chunk, sizeof *s->positions);
    s->logits = jt_alloc((size_t)s->model->params.n_vocab, sizeof *s->logits);
    if (!s->positions || !s->logits)
        return jt_fail_memory(err, "starting a session");
    return JT_OK;
}

jt_status jt_session_new(jt_session **out, const jt_model *model,
                         const jt_session_options *options, jt_err *err)
{
    jt_session_options usual = {0};
    jt_session *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "starting a session");
    s->model = model;
    s->store = &jt_store_mapped;
    jt_status status = session_init(s, options ? options : &usual, err);
    if (status != JT_OK) {
        jt_session_free(s);
        return status;
    }
    *out = s;
    return JT_OK;
}

void jt_session_free(jt_session *s)
{
    if (!s)
        return;
    jt_context_free(&s->ctx);
    free(s->kv);
    free(s->kv_memory);
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

static jt_status check_tokens(const jt_session *s, const int32_t *tokens, size_t count,
                              jt_err *err)
{
    int n_vocab = s->model->params.n_vocab;
    if (count == 0)
        return jt_fail(err, JT_E_ARG, "no tokens to evaluate");
    if (count > (size_t)(s->capacity - s->length))
        return jt_fail(err, JT_E_LIMIT,
                       "%zu tokens do not fit into the context: %d of %d are used",
                       count, s->length, s->capacity);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return jt_fail(err, JT_E_ARG,
                           "token %d is outside the vocabulary (0 to %d)",
                           (int)tokens[i], n_vocab - 1);
    }
    return JT_OK;
}

/* One forward pass; `first` counts the tokens of this call that came before. */
static jt_status eval_chunk(jt_session *s, const int32_t *tokens, size_t count,
                            size_t first, const jt_eval_options *o, jt_err *err)
{
    size_t vocab = (size_t)s->model->params.n_vocab;
    for (size_t i = 0; i < count; i++)
        s->positions[i] = s->length + (int32_t)i;
    jt_chunk chunk = {.ids = tokens,
                      .positions = s->positions,
                      .start = (size_t)s->length,
                      .count = count,
                      .all_logits = o->on_logits != NULL};
    s->ctx.err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&s->ctx.scratch);
    jt_tensor logits =
        jt_transformer_forward(&s->ctx, s->model, &chunk, s->kv, s->store, &s->hooks);
    jt_status status = s->ctx.err.code;
    if (status != JT_OK && err)
        *err = s->ctx.err;
    if (status == JT_OK) {
        size_t rows = jt_rows(&logits);
        memcpy(s->logits, jt_row(&logits, rows - 1), vocab * sizeof(float));
        s->length += (int)count;
        s->has_logits = true;
        if (o->on_logits)
            status = o->on_logits(o->user, first, logits.data, rows, err);
    }
    jt_arena_rewind(&s->ctx.scratch, mark);
    return status;
}

jt_status jt_session_eval(jt_session *s, const int32_t *tokens, size_t count,
                          const jt_eval_options *options, jt_err *err)
{
    jt_eval_options none = {0};
    const jt_eval_options *o = options ? options : &none;
    JT_TRY(check_tokens(s, tokens, count, err));
    int before = s->length;
    jt_status status = jt_progress_report(&o->progress, "prompt", 0, count, err);
    for (size_t done = 0; done < count && status == JT_OK;) {
        size_t n = count - done < (size_t)s->chunk ? count - done : (size_t)s->chunk;
        status = eval_chunk(s, tokens + done, n, done, o, err);
        done += n;
        if (status == JT_OK)
            status = jt_progress_report(&o->progress, "prompt", done, count, err);
    }
    if (status != JT_OK)
        jt_session_truncate(s, before);
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
    return s->capacity;
}

void jt_session_truncate(jt_session *s, int length)
{
    if (length < 0)
        length = 0;
    if (length < s->length) {
        s->length = length;
        s->has_logits = false; /* they belong to a token that is gone */
    }
}

uint64_t jt_session_kv_bytes(const jt_session *s)
{
    const jt_params *p = &s->model->params;
    size_t values = (size_t)p->n_kv_heads * (size_t)(p->k_dim + p->v_dim);
    return (uint64_t)values * (uint64_t)p->n_layers * (uint64_t)s->capacity *
           jt_dtype_block_bytes(s->kv_type);
}

int jt_session_threads(const jt_session *s)
{
    return jt_pool_threads(s->ctx.pool);
}

const char *jt_session_cpu(const jt_session *s)
{
    return s->ctx.kernels->name;
}

const double *jt_session_times(const jt_session *s)
{
    return s->ctx.times;
}

void jt_session_reset_times(jt_session *s)
{
    memset(s->ctx.times, 0, sizeof s->ctx.times);
}
