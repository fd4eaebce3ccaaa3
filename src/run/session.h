/* The inside of a session. */
#ifndef JT_SESSION_INTERNAL_H
#define JT_SESSION_INTERNAL_H

#include "junto/session.h"
#include "model/transformer.h"

struct jt_session {
    const jt_model *model;
    jt_context ctx;
    jt_hooks hooks;
    const jt_store *store;
    jt_cache cache;     /* of the first cache.length tokens */
    int32_t *ids;       /* [capacity] the tokens of the context */
    int32_t *positions; /* [chunk] */
    float *logits;      /* [vocab], after the last token */
    bool has_logits;
    int capacity, length, chunk;
};

#endif
