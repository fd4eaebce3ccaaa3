/* A session that goes on in the interludes of another one's pass. For files that have
 * included cmocka. */
#ifndef TEST_RUN_COMPANION_H
#define TEST_RUN_COMPANION_H

#include "run/session.h"

typedef struct companion {
    jt_session *session;
    const int32_t *text;
    size_t length;    /* of the text */
    size_t every;     /* how many questions there are to one token */
    size_t at, asked; /* tokens that came, questions */
} companion;

static inline bool companion_is_due(void *user)
{
    companion *b = user;
    return b->asked++ % b->every == 0 && b->at < b->length;
}

static inline void companion_goes_on(void *user)
{
    companion *b = user;
    jt_context *ctx = b->session->ctx;
    jt_context_aside aside = jt_context_put_aside(ctx);
    jt_part part = {b->session, b->text + b->at++, 1};
    assert_int_equal(jt_session_eval_together(&part, 1, NULL, NULL), JT_OK);
    jt_context_resume(ctx, &aside);
}

#endif
