/* Contexts that are kept in memory beside those of sessions, so that a text which
 * begins like an earlier one need not be run again from its start, whatever has
 * happened to the session that ran it. The least recently used make room. */
#ifndef JT_RUN_KEPT_H
#define JT_RUN_KEPT_H

#include "run/session.h"

typedef struct jt_kept_context {
    jt_cache cache; /* as large as its text */
    int32_t *ids;   /* [cache.length] */
    uint64_t tag;
    size_t bytes;
    unsigned long long used; /* the larger, the later */
} jt_kept_context;

typedef struct jt_kept {
    size_t most_bytes;
    jt_kept_context *list; /* [count] */
    size_t count, capacity, bytes;
    unsigned long long clock;
} jt_kept;

void jt_kept_free(jt_kept *kept); /* all zero, but for most_bytes, is empty */

/* Keep what a plain session holds that has the adapters `tag` (any number, 0: none);
 * not where that is a few tokens, is larger than all that may be kept, or memory is
 * short. Kept texts with which it begins go. */
void jt_kept_put(jt_kept *kept, const jt_session *session, uint64_t tag);

/* The context, run with the same adapters, that holds most of the beginning of tokens
 * [count], and in *common how many; NULL: none holds any. It stays until the next
 * jt_kept_put. */
const jt_kept_context *jt_kept_find(jt_kept *kept, uint64_t tag, const int32_t *tokens,
                                    size_t count, size_t *common);

#endif
