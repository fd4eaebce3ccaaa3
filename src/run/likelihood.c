#include "run/likelihood.h"

#include <math.h>

#include "run/session.h"

double jt_log_sum_exp(const float *logits, size_t n)
{
    float best = logits[0];
    for (size_t i = 1; i < n; i++)
        best = logits[i] > best ? logits[i] : best;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - best);
    return (double)best + log(sum);
}

typedef struct scoring {
    jt_likelihood *sums;
    const int32_t *next; /* the token that follows each of those that are run */
    size_t n_vocab;
} scoring;

static jt_status score_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    const scoring *s = user;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * s->n_vocab;
        double nll = jt_log_sum_exp(row, s->n_vocab) - (double)row[s->next[first + r]];
        if (!isfinite(nll))
            return jt_fail(
                err, JT_E_FORMAT,
                "the model gives logits that are not finite, or a policy has "
                "taken out a token of the text");
        s->sums->nll += nll;
        s->sums->squares += nll * nll;
        s->sums->scored++;
    }
    return JT_OK;
}

jt_status jt_likelihood_add(jt_likelihood *sums, jt_session *session,
                            const int32_t *tokens, size_t count, size_t first,
                            jt_err *err)
{
    scoring s = {sums, tokens + first, (size_t)session->model->params.n_vocab};
    jt_eval_options options = {.on_logits = score_rows, .user = &s};
    size_t kept = jt_session_reuse(session, tokens, first);
    if (tokens[count - 1] < 0 || (size_t)tokens[count - 1] >= s.n_vocab)
        return jt_fail(err, JT_E_ARG, "token %d is outside the vocabulary",
                       (int)tokens[count - 1]);
    if (kept < first - 1)
        JT_TRY(jt_session_eval(session, tokens + kept, first - 1 - kept, NULL, err));
    return jt_session_eval(session, tokens + first - 1, count - first, &options, err);
}

jt_status jt_likelihood_text(jt_likelihood *sums, jt_session *session,
                             const int32_t *tokens, size_t count, jt_err *err)
{
    size_t window = (size_t)session->capacity;
    for (size_t at = 0; at + 1 < count; at += window) {
        size_t n = count - at < window ? count - at : window;
        jt_session_truncate(session, 0);
        if (n > 1)
            JT_TRY(jt_likelihood_add(sums, session, tokens + at, n, 1, err));
    }
    return JT_OK;
}
