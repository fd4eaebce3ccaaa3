/* Two models over the same text, some tokens at a time: first A, whose logits and
 * routes are kept, then B. */
#include "junto/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/likelihood.h"
#include "run/session.h"
#include "watch/compare_routes.h"

enum { STEP = 64 }; /* most tokens at a time: one pass of each model */

const double jt_compare_edge[JT_COMPARE_BINS] = {0.0, 0.5, 0.7, 0.85, 1.0};

/* Sums of the correlation of disagreement (x) and change of the loss (y). */
typedef struct moments {
    double x, y, xx, yy, xy;
} moments;

typedef struct comparison {
    jt_session *a, *b;
    size_t vocab, n_ctx, step;
    const int32_t *window;
    size_t before; /* tokens of the windows before */
    size_t at;     /* of the step in the window */
    float *kept;   /* [STEP, vocab] logits of A */
    route_comparison routes;
    float *divergence; /* [scored so far] */
    size_t scored, same_top;
    double nll_a, nll_b;
    moments moments;
    size_t most_flips;
    jt_comparison *out;
} comparison;

/* ---- logits ---- */

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

/* ---- tokens by agreement ---- */

/* Put a token among those with the least agreement. */
static void note_flip(comparison *c, const jt_compare_token *token)
{
    jt_comparison *out = c->out;
    jt_compare_token *list = out->flips;
    size_t n = out->n_flips;
    if (!token->flipped || !c->most_flips)
        return;
    bool full = n == c->most_flips;
    if (full && token->agreement >= list[n - 1].agreement)
        return;
    size_t at = full ? n - 1 : out->n_flips++;
    for (; at > 0 && list[at - 1].agreement > token->agreement; at--)
        list[at] = list[at - 1];
    list[at] = *token;
}

static void note_token(comparison *c, size_t row, double nll_a, double nll_b)
{
    const token_agreement *seen = &c->routes.tokens[row];
    if (!seen->layers)
        return;
    jt_compare_token token = {.index = c->before + c->at + row,
                              .agreement =
                                  seen->flipped ? seen->shared / seen->layers : 1.0,
                              .flipped = seen->flipped,
                              .nll_a = nll_a,
                              .nll_b = nll_b};
    int bin = JT_COMPARE_BINS - 1;
    while (bin > 0 && token.agreement < jt_compare_edge[bin])
        bin--;
    c->out->bins[bin].tokens++;
    c->out->bins[bin].nll_a += nll_a;
    c->out->bins[bin].nll_b += nll_b;
    double x = 1.0 - token.agreement, y = fabs(nll_b - nll_a);
    moments *m = &c->moments;
    *m = (moments){m->x + x, m->y + y, m->xx + x * x, m->yy + y * y, m->xy + x * y};
    note_flip(c, &token);
}

static jt_status compare_logits(void *user, size_t first, const float *logits,
                                size_t rows, jt_err *err)
{
    comparison *c = user;
    size_t n = c->vocab;
    for (size_t r = 0; r < rows && c->at + first + r + 1 < c->n_ctx; r++) {
        const float *p = c->kept + (first + r) * n, *q = logits + r * n;
        int32_t next = c->window[c->at + first + r + 1];
        double p_sum = jt_log_sum_exp(p, n), q_sum = jt_log_sum_exp(q, n);
        double kl = divergence(p, p_sum, q, q_sum, n);
        if (!isfinite(kl))
            return jt_fail(err, JT_E_FORMAT,
                           "a model gives logits that are not finite");
        double nll_a = p_sum - (double)p[next], nll_b = q_sum - (double)q[next];
        c->divergence[c->scored++] = (float)kl;
        c->same_top += likeliest(p, n) == likeliest(q, n);
        c->nll_a += nll_a;
        c->nll_b += nll_b;
        note_token(c, first + r, nll_a, nll_b);
    }
    return JT_OK;
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
        jt_route_comparison_step(&c->routes);
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

static double correlation(const moments *m, double n)
{
    double xx = m->xx - m->x * m->x / n, yy = m->yy - m->y * m->y / n;
    double xy = m->xy - m->x * m->y / n;
    return xx > 1e-12 * n && yy > 1e-12 * n ? xy / sqrt(xx * yy) : NAN;
}

static void sum_up(comparison *c)
{
    jt_comparison *out = c->out;
    double sum = 0, n = (double)c->scored;
    qsort(c->divergence, c->scored, sizeof *c->divergence, ascending);
    for (size_t i = 0; i < c->scored; i++)
        sum += (double)c->divergence[i];
    out->scored = c->scored;
    out->mean = sum / n;
    out->median = (double)c->divergence[c->scored / 2];
    out->p99 = (double)c->divergence[(c->scored - 1) * 99 / 100];
    out->most = (double)c->divergence[c->scored - 1];
    out->top1 = (double)c->same_top / n;
    out->perplexity_a = exp(c->nll_a / n);
    out->perplexity_b = exp(c->nll_b / n);
    out->correlation = correlation(&c->moments, n);
    for (int i = 0; i < JT_COMPARE_BINS; i++) {
        jt_compare_bin *bin = &out->bins[i];
        bin->nll_a /= bin->tokens ? (double)bin->tokens : 1.0;
        bin->nll_b /= bin->tokens ? (double)bin->tokens : 1.0;
    }
}

static jt_status compare(comparison *c, const int32_t *tokens, size_t windows,
                         const jt_progress *progress, jt_err *err)
{
    jt_watcher keeper = jt_route_keeper(&c->routes);
    jt_watcher comparer = jt_route_comparer(&c->routes);
    JT_TRY(jt_session_add_watcher(c->a, &keeper, err));
    JT_TRY(jt_session_add_watcher(c->b, &comparer, err));
    for (size_t i = 0; i < windows; i++) {
        c->before = i * c->n_ctx;
        JT_TRY(
            jt_progress_report(progress, "tokens", c->before, windows * c->n_ctx, err));
        c->window = tokens + c->before;
        JT_TRY(run_window(c, err));
    }
    sum_up(c);
    JT_TRY(jt_route_comparison_layers(&c->routes, &c->out->layers, &c->out->n_layers,
                                      err));
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

static jt_status run(comparison *c, const int32_t *tokens, size_t windows,
                     const jt_progress *progress, jt_err *err)
{
    c->kept = jt_alloc(STEP * c->vocab, sizeof *c->kept);
    c->divergence = jt_alloc(windows * c->n_ctx, sizeof *c->divergence);
    c->out->flips = jt_alloc(c->most_flips, sizeof *c->out->flips);
    JT_TRY(
        jt_route_comparison_new(&c->routes, c->a->model->params.n_layers, STEP, err));
    if (!c->kept || !c->divergence || !c->out->flips)
        return jt_fail_memory(err, "comparing models");
    return compare(c, tokens, windows, progress, err);
}

jt_status jt_compare_models(jt_session *a, jt_session *b, const int32_t *tokens,
                            size_t count, int n_ctx, size_t n_flips,
                            jt_progress progress, jt_comparison *result, jt_err *err)
{
    JT_TRY(check(a, b, count, n_ctx, err));
    *result = (jt_comparison){0};
    comparison c = {.a = a,
                    .b = b,
                    .n_ctx = (size_t)n_ctx,
                    .vocab = (size_t)a->model->params.n_vocab,
                    .most_flips = n_flips,
                    .out = result};
    c.step = (size_t)(a->chunk < b->chunk ? a->chunk : b->chunk);
    c.step = c.step < STEP ? c.step : STEP;
    int hooks_a = a->hooks.n_watchers, hooks_b = b->hooks.n_watchers;
    jt_status status = run(&c, tokens, count / c.n_ctx, &progress, err);
    a->hooks.n_watchers = hooks_a;
    b->hooks.n_watchers = hooks_b;
    jt_route_comparison_free(&c.routes);
    free(c.kept);
    free(c.divergence);
    if (status != JT_OK)
        jt_comparison_free(result);
    return status;
}

void jt_comparison_free(jt_comparison *result)
{
    free(result->layers);
    free(result->flips);
    *result = (jt_comparison){0};
}
