/* The inside of a session. */
#ifndef JT_SESSION_INTERNAL_H
#define JT_SESSION_INTERNAL_H

#include "adapt/attach.h"
#include "junto/session.h"
#include "model/transformer.h"

struct jt_session {
    const jt_model *model;
    jt_context own;
    jt_context *ctx; /* own, or that of the session beside which this one runs */
    jt_hooks hooks;
    const jt_store *store;
    jt_attached adapters;
    jt_adapter_weigher weigher;
    jt_cache cache;     /* of the first cache.length tokens */
    int32_t *ids;       /* [capacity] the tokens of the context */
    int32_t *positions; /* [chunk] */
    float *logits;      /* [vocab], after the last token */
    bool has_logits;
    int capacity, length, chunk;
};

/* Whether `count` more tokens may follow: JT_E_ARG, JT_E_LIMIT. */
jt_status jt_session_check(const jt_session *s, const int32_t *tokens, size_t count,
                           jt_err *err);

/* After a truncation that the cache could not follow: run the tokens that are left
 * again. */
jt_status jt_session_remember(jt_session *s, jt_err *err);

/* The pass over the next `count` tokens is done; `logits` [vocab] of the last. */
void jt_session_advance(jt_session *s, size_t count, const float *logits);

/* The context ends after `length` tokens, the last pass having failed or not. */
void jt_session_go_back(jt_session *s, int length);

/* What the context of a pass met. */
jt_status jt_session_status(const jt_session *s, jt_err *err);

#endif
