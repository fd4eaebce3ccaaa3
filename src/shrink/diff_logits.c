/* Two models over the same text, some tokens at a time: first A, whose logits and
 * routes are kept, then B. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/shrink.h"
#include "run/session.h"

enum { STEP = 64 }; /* most tokens at a time: one pass of each model */

/* Routes of one step of A, [tokens, k] of each layer. */
typedef struct kept_route {
    int n_tokens, k;
    int32_t *expert;
    size_t room;
    jt_diff_layer sums; /* jaccard: the sum */
} kept_route;

typedef struct comparison {
    jt_session *a, *b;
    size_t vocab, n_ctx, step;
    const int32_t *window;
    size_t at;          /* of the step in the window */
    float *kept;        /* [STEP, vocab] logits of A */
    kept_route *routes; /* [layers] */
    int n_layers;
    float *divergence; /* [scored so far] */
    size_t scored, same_top;
    double nll_a, nll_b;
} comparison;

/* ---- logits ---- */

static double log_sum_exp(const float *x, size_t n)
{
    float best = x[0];
    for (size_t i = 1; i < n; i++)
        best = x[i] > best ? x[i] : best;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - best);
    return (double)best + log(sum);
}

static size_t likeliest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static double divergence(const float *p, double p_sum, const float *q, double q_sum,
                         size_t n)
{
    double sum = 0, shift = q_sum - p_sum;
    for (size_t i = 0; i < n; i++) {
        double off = (double)p[i] - (double)q[i] + shift;
        sum += (double)expf((float)((double)p[i] - p_sum)) * off;
    }
    return sum > 0 ? sum : 0; /* less by rounding alone */
}

static jt_status keep_logits(void *user, size_t first, const float *logits, size_t rows,
                             jt_err *err)
{
    comparison *c = user;
    (void)err;
    memcpy(c->kept + first * c->vocab, logits, rows * c->vocab * sizeof *logits);
    return JT_OK;
}

static jt_status compare_logits(void *user, size_t first, const float *logits,
                                size_t rows, jt_err *err)
{
    comparison *c = user;
    size_t n = c->vocab;
    for (size_t r = 0; r < rows && c->at + first + r + 1 < c->n_ctx; r++) {
        const float *p = c->kept + (first + r) * n, *q = logits + r * n;
        int32_t next = c->window[c->at + first + r + 1];
        double p_sum = log_sum_exp(p, n), q_sum = log_sum_exp(q, n);
        double kl = divergence(p, p_sum, q, q_sum, n);
        if (!isfinite(kl))
            return jt_fail(err, JT_E_FORMAT,
                           "a model gives logits that are not finite");
        c->divergence[c->scored++] = (float)kl;
        c->same_top += likeliest(p, n) == likeliest(q, n);
        c->nll_a += p_sum - (double)p[next];
        c->nll_b += q_sum - (double)q[next];
    }
    return JT_OK;
}

/* ---- routes ---- */

/* No failure can be told from here: a layer that was not kept is not compared. */
static void keep_route(void *self, const jt_route_site *site, const jt_route *route)
{
    comparison *c = self;
    kept_route *kept = &c->routes[site->layer];
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    kept->n_tokens = 0;
    if (!jt_grow((void **)&kept->expert, &kept->room, slots, sizeof *kept->expert))
        return;
    memcpy(kept->expert, route->expert, slots * sizeof *kept->expert);
    kept->n_tokens = route->n_tokens;
    kept->k = route->k;
}

static bool chose(const int32_t *experts, int k, int32_t expert)
{
    for (int i = 0; i < k; i++)
        if (experts[i] == expert)
            return true;
    return false;
}

static void compare_route(void *self, const jt_route_site *site, const jt_route *route)
{
    comparison *c = self;
    kept_route *kept = site->layer < c->n_layers ? &c->routes[site->layer] : NULL;
    if (!kept || kept->n_tokens != route->n_tokens)
        return;
    for (int t = 0; t < route->n_tokens; t++) {
        const int32_t *a = kept->expert + t * kept->k,
                      *b = route->expert + t * route->k;
        int in_a = 0, in_b = 0, both = 0;
        for (int i = 0; i < kept->k; i++)
            in_a += a[i] >= 0;
        for (int i = 0; i < route->k; i++) {
            in_b += b[i] >= 0;
            both += b[i] >= 0 && chose(a, kept->k, b[i]);
        }
        int either = in_a + in_b - both;
        kept->sums.tokens++;
        kept->sums.same += both == either;
        kept->sums.jaccard += either ? (double)both / either : 1;
    }
}

/* ---- the whole ---- */

static jt_status run_window(comparison *c, jt_err *err)
{
    jt_eval_options keep = {.on_logits = keep_logits, .user = c};
    jt_eval_options compare = {.on_logits = compare_logits, .user = c};
    jt_session_truncate(c->a, 0);
    jt_session_truncate(c->b, 0);
    for (c->at = 0; c->at < c->n_ctx; c->at += c->step) {
        size_t n = c->n_ctx - c->at < c->step ? c->n_ctx - c->at : c->step;
        JT_TRY(jt_session_eval(c->a, c->window + c->at, n, &keep, err));
        JT_TRY(jt_session_eval(c->b, c->window + c->at, n, &compare, err));
    }
    return JT_OK;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void sum_up(comparison *c, jt_diff_text *out)
{
    double sum = 0, n = (double)c->scored;
    qsort(c->divergence, c->scored, sizeof *c->divergence, ascending);
    for (size_t i = 0; i < c->scored; i++)
        sum += (double)c->divergence[i];
    *out = (jt_diff_text){
        .scored = c->scored,
        .mean = sum / n,
        .median = (double)c->divergence[c->scored / 2],
        .p99 = (double)c->divergence[(c->scored - 1) * 99 / 100],
        .most = (double)c->divergence[c->scored - 1],
        .top1 = (double)c->same_top / n,
        .perplexity_a = exp(c->nll_a / n),
        .perplexity_b = exp(c->nll_b / n),
    };
}

static jt_status list_layers(comparison *c, jt_diff_text *out, jt_err *err)
{
    out->layers = jt_calloc((size_t)c->n_layers, sizeof *out->layers);
    if (!out->layers)
        return jt_fail_memory(err, "comparing models");
    for (int i = 0; i < c->n_layers; i++) {
        jt_diff_layer layer = c->routes[i].sums;
        if (layer.tokens == 0)
            continue;
        layer.layer = i;
        layer.jaccard /= (double)layer.tokens;
        out->layers[out->n_layers++] = layer;
    }
    return JT_OK;
}

static jt_status compare(comparison *c, const int32_t *tokens, size_t windows,
                         const jt_progress *progress, jt_diff_text *out, jt_err *err)
{
    JT_TRY(jt_session_add_watcher(
        c->a, &(jt_watcher){.name = "diff", .self = c, .on_route = keep_route}, err));
    JT_TRY(jt_session_add_watcher(
        c->b, &(jt_watcher){.name = "diff", .self = c, .on_route = compare_route},
        err));
    for (size_t i = 0; i < windows; i++) {
        JT_TRY(jt_progress_report(progress, "tokens", i * c->n_ctx, windows * c->n_ctx,
                                  err));
        c->window = tokens + i * c->n_ctx;
        JT_TRY(run_window(c, err));
    }
    sum_up(c, out);
    JT_TRY(list_layers(c, out, err));
    return jt_progress_report(progress, "tokens", windows * c->n_ctx,
                              windows * c->n_ctx, err);
}

static jt_status check(const jt_session *a, const jt_session *b, size_t count,
                       int n_ctx, jt_err *err)
{
    int capacity = a->capacity < b->capacity ? a->capacity : b->capacity;
    if (n_ctx < 2 || n_ctx > capacity)
        return jt_fail(err, JT_E_ARG, "window of %d tokens, expected 2 to %d", n_ctx,
                       capacity);
    if (count < (size_t)n_ctx)
        return jt_fail(err, JT_E_ARG, "the text has %zu tokens, a window takes %d",
                       count, n_ctx);
    if (a->model->params.n_vocab != b->model->params.n_vocab)
        return jt_fail(err, JT_E_ARG, "vocabularies of %d and %d tokens",
                       a->model->params.n_vocab, b->model->params.n_vocab);
    return JT_OK;
}

jt_status jt_diff_logits(jt_session *a, jt_session *b, const int32_t *tokens,
                         size_t count, int n_ctx, jt_progress progress,
                         jt_diff_text *result, jt_err *err)
{
    JT_TRY(check(a, b, count, n_ctx, err));
    comparison c = {.a = a, .b = b, .n_ctx = (size_t)n_ctx};
    size_t windows = count / c.n_ctx;
    int hooks_a = a->hooks.n_watchers, hooks_b = b->hooks.n_watchers;
    c.step = (size_t)(a->chunk < b->chunk ? a->chunk : b->chunk);
    c.step = c.step < STEP ? c.step : STEP;
    c.vocab = (size_t)a->model->params.n_vocab;
    c.n_layers = a->model->params.n_layers;
    c.kept = jt_alloc(STEP * c.vocab, sizeof *c.kept);
    c.routes = jt_calloc((size_t)c.n_layers, sizeof *c.routes);
    c.divergence = jt_alloc(windows * c.n_ctx, sizeof *c.divergence);
    jt_status status = c.kept && c.routes && c.divergence
                           ? compare(&c, tokens, windows, &progress, result, err)
                           : jt_fail_memory(err, "comparing models");
    a->hooks.n_watchers = hooks_a;
    b->hooks.n_watchers = hooks_b;
    for (int i = 0; c.routes && i < c.n_layers; i++)
        free(c.routes[i].expert);
    free(c.kept);
    free(c.routes);
    free(c.divergence);
    return status;
}
