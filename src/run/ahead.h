/* The end of a text that is being generated, and guesses beyond it that a pass has
 * already gone over. */
#ifndef JT_AHEAD_H
#define JT_AHEAD_H

#include "junto/speculate.h"
#include "run/session.h"

typedef struct jt_ahead {
    jt_session *session;
    const jt_speculation *how; /* NULL: one token at a time */
    int32_t *draft;            /* [how->most] guesses, which the session holds */
    float *rows;           /* [how->most + 1, vocab] logits before each, and after */
    size_t guessed, right; /* of the last pass */
    size_t most;           /* guesses of the next pass */
    size_t rest, pause;    /* tokens to go without guessing; how long last time */
    size_t passes, drafted, accepted; /* since the start */
} jt_ahead;

/* JT_E_ARG (`most`), JT_E_UNSUPPORTED (a model with a state, which cannot go back),
 * JT_E_MEMORY. `how` may be NULL. Free also after a failure. */
jt_status jt_ahead_init(jt_ahead *a, jt_session *session, const jt_speculation *how,
                        jt_err *err);
void jt_ahead_free(jt_ahead *a);

/* Logits after the text, [vocab], and its length. */
const float *jt_ahead_logits(const jt_ahead *a);
int jt_ahead_length(const jt_ahead *a);

/* The text goes on with `token`, of which at most `room` more will follow. Runs the
 * model unless the token was guessed. */
jt_status jt_ahead_push(jt_ahead *a, int32_t token, size_t room, jt_err *err);

/* Let the session hold the text and nothing else. */
void jt_ahead_settle(jt_ahead *a);

#endif
