#include <math.h>

#include "base/clock.h"
#include "junto/generate.h"
#include "run/likelihood.h"
#include "run/session.h"

typedef struct tally {
    const int32_t *window;
    size_t n_ctx, n_vocab;
    size_t scored;
    double sum, squares; /* of the negative log likelihoods */
    const jt_progress *progress;
    unsigned long long before, total; /* tokens of earlier windows, of all */
} tally;

/* Progress of one window as progress of the whole. */
static int report(void *user, const char *what, unsigned long long done,
                  unsigned long long total)
{
    const tally *t = user;
    (void)what;
    (void)total;
    return jt_progress_report(t->progress, "tokens", t->before + done, t->total,
                              NULL) != JT_OK;
}

/* Row r of the logits predicts token first + r + 1 of the window. */
static jt_status score_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    tally *t = user;
    for (size_t r = 0; r < rows && first + r + 1 < t->n_ctx; r++) {
        const float *row = logits + r * t->n_vocab;
        double nll = jt_log_sum_exp(row, t->n_vocab) - row[t->window[first + r + 1]];
        if (!isfinite(nll))
            return jt_fail(
                err, JT_E_FORMAT,
                "the model gives logits that are not finite, or a policy has "
                "taken out a token of the text");
        t->sum += nll;
        t->squares += nll * nll;
        t->scored++;
    }
    return JT_OK;
}

jt_status jt_measure_perplexity(jt_session *session, const int32_t *tokens,
                                size_t count, int n_ctx, jt_progress progress,
                                jt_perplexity *result, jt_err *err)
{
    if (n_ctx < 2 || n_ctx > session->capacity)
        return jt_fail(err, JT_E_ARG, "window of %d tokens, expected 2 to %d", n_ctx,
                       session->capacity);
    size_t window = (size_t)n_ctx, windows = count / window;
    if (windows == 0)
        return jt_fail(err, JT_E_ARG, "the text has %zu tokens, a window takes %zu",
                       count, window);
    tally t = {.n_ctx = window, .n_vocab = (size_t)session->model->params.n_vocab};
    t.progress = &progress;
    t.total = windows * window;
    jt_eval_options options = {
        .on_logits = score_rows, .user = &t, .progress = {report, &t}};
    double start = jt_seconds();
    for (size_t i = 0; i < windows; i++) {
        t.before = i * window;
        t.window = tokens + i * window;
        jt_session_truncate(session, 0);
        JT_TRY(jt_session_eval(session, t.window, window, &options, err));
    }
    double n = (double)t.scored, mean = t.sum / n;
    double variance = n > 1 ? fmax(0.0, t.squares / n - mean * mean) / (n - 1) : 0.0;
    *result = (jt_perplexity){
        .tokens = count,
        .scored = t.scored,
        .windows = windows,
        .nll = mean,
        .perplexity = exp(mean),
        .error = exp(mean) * sqrt(variance),
        .seconds = jt_seconds() - start,
    };
    return JT_OK;
}
