/* One fit: gradients of the added vectors, and steps along them. */
#include <math.h>
#include <string.h>

#include "run/session.h"
#include "steer/rewire.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

/* ---- gradients ---- */

/* A pass with a tape over `count` tokens of the context, which is all that it knows of
 * it: keys and values are its own. */
static double pass(jt_rewire *w, jt_session *s, size_t first, size_t count,
                   jt_cache *cache)
{
    jt_context *ctx = s->ctx;
    jt_hooks hooks = s->hooks;
    jt_tape tape = {0};
    int32_t *positions = jt_scratch(ctx, count, sizeof *positions);
    int32_t *targets = jt_scratch(ctx, count, sizeof *targets);
    jt_span span = {cache, 0, count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = count,
                      .ids = s->ids + first,
                      .positions = positions,
                      .all_logits = true};
    hooks.n_watchers = 0;
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        positions[i] = (int32_t)(first + i);
        targets[i] = i + 1 < count ? s->ids[first + i + 1] : -1;
    }
    if (jt_failed(ctx))
        return 0.0;
    ctx->tape = &tape;
    jt_tensor logits =
        jt_attached_forward(&s->adapters, ctx, &w->view, &chunk, s->store, &hooks);
    double loss = jt_cross_entropy(ctx, &logits, targets, 1.0f, NULL);
    if (!jt_failed(ctx))
        jt_tape_backward(ctx);
    ctx->tape = NULL;
    return loss;
}

jt_status jt_rewire_gradient(jt_rewire *w, jt_session *s, size_t first, size_t end,
                             double *loss, jt_err *err)
{
    jt_context *ctx = s->ctx;
    jt_cache cache;
    JT_TRY(jt_cache_init_train(&cache, &w->view, 1, end - first, false, err));
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_precision usual = ctx->precision;
    ctx->precision = w->exact ? JT_PRECISION_F32 : JT_PRECISION_BF16;
    ctx->err = (jt_err){0};
    memset(w->grad, 0, w->n_layers * w->n_rows * sizeof *w->grad);
    *loss = pass(w, s, first, end - first, &cache);
    ctx->precision = usual;
    jt_arena_rewind(&ctx->scratch, mark);
    jt_cache_free(&cache);
    if (jt_failed(ctx))
        return jt_fail(err, ctx->err.code, "%s", ctx->err.msg);
    if (!isfinite(*loss))
        return jt_fail(err, JT_E_FORMAT, "the model gives logits that are not finite");
    return JT_OK;
}

/* ---- layers ---- */

/* How many layers come before `layer` in the order of confidence. */
static size_t place_of(const jt_rewire *w, size_t layer)
{
    size_t place = 0;
    for (size_t i = 0; i < w->n_layers; i++) {
        double a = w->confidence[i], b = w->confidence[layer];
        bool before = w->low ? a < b : a > b;
        place += w->in[i] && i != layer && (before || (a == b && i < layer));
    }
    return place;
}

/* Where the steps go, and how far. */
static void choose_rates(jt_rewire *w)
{
    double most = 0.0;
    size_t layers = 0;
    for (size_t i = 0; i < w->n_layers; i++) {
        layers += w->in[i];
        most = w->in[i] ? fmax(most, w->confidence[i]) : most;
    }
    size_t chosen = (size_t)ceil((double)w->share * (double)layers - 1e-6);
    for (size_t i = 0; i < w->n_layers; i++) {
        double soft = most > 0.0 ? w->confidence[i] / most : 1.0;
        bool in = w->in[i] && (w->soft || place_of(w, i) < chosen);
        w->rate[i] = !in ? 0.0f : !w->soft ? 1.0f : (float)(w->low ? 1.0 - soft : soft);
    }
}

/* ---- steps ---- */

/* Adam (Kingma & Ba 2015) with its usual constants. */
static void step(jt_rewire *w)
{
    const float b1 = 0.9f, b2 = 0.999f, eps = 1e-8f;
    w->updates++;
    float c1 = 1.0f - powf(b1, (float)w->updates);
    float c2 = 1.0f - powf(b2, (float)w->updates);
    for (size_t i = 0; i < w->n_layers * w->n_rows; i++) {
        float g = w->grad[i];
        w->mean[i] = b1 * w->mean[i] + (1.0f - b1) * g;
        w->square[i] = b2 * w->square[i] + (1.0f - b2) * g * g;
        w->delta[i] -= w->lr * w->rate[i / w->n_rows] * (w->mean[i] / c1) /
                       (sqrtf(w->square[i] / c2) + eps);
    }
}

jt_status jt_rewire_fit(jt_rewire *w, jt_session *s, size_t count, jt_err *err)
{
    size_t window = (size_t)w->window;
    size_t first = window && count > window ? count - window : 0;
    for (int i = 0; i < w->steps; i++) {
        double loss;
        memset(w->confidence, 0, w->n_layers * sizeof *w->confidence);
        w->listens = i == 0;
        jt_status status = jt_rewire_gradient(w, s, first, count, &loss, err);
        if (w->listens && status == JT_OK)
            choose_rates(w);
        w->listens = false;
        if (status != JT_OK)
            return jt_fail_within(err, status, "fitting the routers");
        step(w);
    }
    w->fits++;
    return JT_OK;
}
