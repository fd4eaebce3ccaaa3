/* Adapters of a session. */
#include <math.h>
#include <string.h>

#include "adapt/front.h"
#include "run/session.h"

static jt_status check_weigher(const jt_session *s, const jt_adapter_weigher *w,
                               jt_err *err)
{
    if (w->weigh && s->model->params.router.weigh_input)
        return jt_fail(
            err, JT_E_UNSUPPORTED,
            "weights of adapters in a model whose experts get weighed inputs");
    for (size_t i = 0; w->weigh && i < s->adapters.count; i++) {
        if (s->adapters.list[i].blended)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "weights of tokens for a mixture that has its own");
        if (s->adapters.list[i].adapter->kind->magnitude)
            return jt_fail(err, JT_E_UNSUPPORTED, "weights of tokens for DoRA");
    }
    if (w->weigh && jt_attached_front(&s->adapters))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "weights of tokens for adapters with virtual ones");
    return JT_OK;
}

/* Virtual tokens take room of the context; what runs beside it has none of them. */
static jt_status check_front(const jt_session *s, jt_err *err)
{
    size_t front = jt_attached_front(&s->adapters);
    if (front >= (size_t)s->capacity)
        return jt_fail(err, JT_E_LIMIT,
                       "%zu virtual tokens do not fit into a context of %d", front,
                       s->capacity);
    if (front && (s->twin || jt_attached_looks_ahead(&s->adapters)))
        return jt_fail(err, JT_E_UNSUPPORTED, "virtual tokens beside %s",
                       s->twin ? "a twin" : "X-LoRA");
    return JT_OK;
}

/* A pass that comes before each pass has keys and values of its own. */
static jt_status make_first(jt_session *s, jt_err *err)
{
    JT_TRY(check_front(s, err));
    if (!jt_attached_looks_ahead(&s->adapters))
        return JT_OK;
    if (!s->first.memory)
        JT_TRY(jt_session_make_cache(s, &s->first, err));
    s->adapters.first = &s->first;
    return JT_OK;
}

jt_status jt_session_add_adapter(jt_session *s, const jt_adapter *adapter, float scale,
                                 jt_err *err)
{
    if (s->length)
        return jt_fail(err, JT_E_ARG, "the context has %d tokens: adapters come first",
                       s->length);
    s->ctx->err = (jt_err){0};
    JT_TRY(jt_attach(&s->adapters, s->ctx, s->model, adapter, scale, false, err));
    jt_status status = check_weigher(s, &s->weigher, err);
    if (status == JT_OK)
        status = make_first(s, err);
    if (status != JT_OK)
        jt_detach_last(&s->adapters);
    jt_cache_rewind(&s->cache, 0);
    return status;
}

jt_status jt_session_wear(jt_session *s, const jt_attachment *const *made,
                          const float *scales, size_t n, jt_err *err)
{
    jt_status status = JT_OK;
    jt_attached_free(&s->adapters);
    if (s->length == 0) {
        jt_session_rewind(s, 0);
        jt_cache_rewind(&s->first, 0);
    }
    for (size_t i = 0; i < n && status == JT_OK; i++)
        status = jt_attach_made(&s->adapters, s->model, made[i], scales[i], err);
    if (status == JT_OK)
        status = make_first(s, err);
    if (status != JT_OK)
        jt_attached_free(&s->adapters);
    return status;
}

jt_status jt_session_weigh_adapters(jt_session *s, const jt_adapter_weigher *weigher,
                                    jt_err *err)
{
    static const jt_adapter_weigher none;
    JT_TRY(check_weigher(s, weigher ? weigher : &none, err));
    s->weigher = weigher ? *weigher : none;
    return JT_OK;
}

jt_status jt_session_lay_front(jt_session *s, const jt_hooks *hooks, jt_err *err)
{
    size_t front = jt_attached_front(&s->adapters);
    if (s->cache.front == front)
        return JT_OK;
    jt_session_rewind(s, 0);
    if (!front)
        return JT_OK;
    s->ctx->err = (jt_err){0};
    jt_attached_lay_front(&s->adapters, s->ctx, s->model, &s->cache, (size_t)s->chunk,
                          s->store, hooks);
    return jt_session_status(s, err);
}

void jt_session_weigh(jt_session *s, const jt_chunk *chunk)
{
    size_t n = s->adapters.count, values = chunk->count * n;
    s->adapters.weight = NULL;
    s->adapters.n_tokens = s->twin ? 2 * chunk->count : chunk->count;
    if (!s->weigher.weigh || !n)
        return;
    float *weights = jt_scratch(s->ctx, 2 * values, sizeof *weights);
    if (!weights)
        return;
    s->weigher.weigh(s->weigher.self, chunk->ids, chunk->positions, chunk->count, n,
                     weights);
    for (size_t i = 0; i < values && !jt_failed(s->ctx); i++) {
        if (!isfinite(weights[i]))
            jt_fail(&s->ctx->err, JT_E_ARG, "the weight of adapter %zu is not finite",
                    i % n + 1);
    }
    memcpy(weights + values, weights, values * sizeof *weights);
    s->adapters.weight = weights;
}
