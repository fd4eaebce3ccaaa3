/* What a model makes of a text as one vector: its hidden states after the last layer
 * and the final norm, their mean over the tokens or the last one, of length 1. */
#ifndef JT_RUN_EMBED_H
#define JT_RUN_EMBED_H

#include "run/session.h"

typedef struct jt_embedder {
    jt_session *session;
    bool mean;   /* otherwise the last token's */
    double *sum; /* [d] */
} jt_embedder;

/* From the next token on; the context must be empty, and the session then runs by
 * itself. Lies still until its end. JT_E_MEMORY. */
jt_status jt_embedder_begin(jt_embedder *e, jt_session *session, bool mean,
                            jt_err *err);
/* The vector of the tokens that were run, [d]. */
void jt_embedder_read(const jt_embedder *e, float *out);
void jt_embedder_end(jt_embedder *e); /* all zero is fine */

#endif
