/* How likely a model finds tokens. */
#ifndef JT_RUN_LIKELIHOOD_H
#define JT_RUN_LIKELIHOOD_H

#include "junto/session.h"

/* log(sum(exp(logits[i]))), without overflow. */
double jt_log_sum_exp(const float *logits, size_t n);

/* Sums over scored tokens of their negative log likelihoods, in nats. */
typedef struct jt_likelihood {
    double nll, squares;
    size_t scored;
} jt_likelihood;

/* Score tokens first .. count - 1 (first at least 1, below count) after those before
 * them, which are the whole context: what the session holds of it is not run again.
 * Adds to *sums. The last token is not run. JT_E_FORMAT (logits that are not finite, or
 * a policy has taken a token out), those of jt_session_eval. */
jt_status jt_likelihood_add(jt_likelihood *sums, jt_session *session,
                            const int32_t *tokens, size_t count, size_t first,
                            jt_err *err);

/* The same of all tokens but the first, in windows of the session's capacity that do
 * not overlap; the last may be shorter. */
jt_status jt_likelihood_text(jt_likelihood *sums, jt_session *session,
                             const int32_t *tokens, size_t count, jt_err *err);

#endif
