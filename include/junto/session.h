/* Sessions: one text in progress on a model, with its KV cache, threads and scratch.
 *
 *     jt_session *s;
 *     jt_session_new(&s, model, NULL, &err);
 *     jt_session_eval(s, tokens.ids, tokens.count, NULL, &err);
 *     const float *logits = jt_session_logits(s);     // [vocab], after the last token
 */
#ifndef JUNTO_SESSION_H
#define JUNTO_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/moe.h"
#include "junto/status.h"
#include "junto/store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_session jt_session;

/* Zero means the default of each field. */
typedef struct jt_session_options {
    int n_ctx;   /* tokens that fit; default 4096 or the model's, if that is less; -1:
                    all that the model was trained for */
    int chunk;   /* prompt tokens per forward pass; default 256, with ram up to 2048 */
    int threads; /* default: all processors that the process may use */
    const char *cpu;     /* kernel level "scalar", "avx2", "avx512", "neon", "dotprod";
                            default: JUNTO_CPU or the best that the processor has */
    const char *kv_type; /* of the keys and values that are kept: "f16" (default) halves
                            the memory and its reading and costs about 1e-3 of the
                            largest logit; "f32" is exact; "q8_0" and "q4_0" take 17/32
                            and 9/32 of f16 (heads must be multiples of 32 long) */
    const char *k_type, *v_type; /* of keys and of values, where they differ */
    const char *adapter_type;  /* of the values of low-rank adapters: "exact"; "q8_0", 8
                                  bits with a scale for 32, which are half the bytes of
                                  F16; "auto" (default), the latter for weights that are
                                  quantised too */
    jt_store_options store;    /* of a model that was loaded apart */
    bool no_repack;            /* read the weights as they lie in the file. By default
                                  a weight is arranged for the processor when it is
                                  first used, which takes as much memory as it, where
                                  there is that much; results are the same */
    struct jt_session *beside; /* use the threads, the scratch and the store of this
                                  session, which must live longer; not at the same time
                                  as it does. `threads`, `cpu`, `adapter_type` and what
                                  `store` is about are then its own. Of its budget
                                  contexts beside it have no part */
} jt_session_options;

/* `options` may be NULL. Errors: JT_E_ARG, JT_E_UNSUPPORTED (cpu, a way to read),
 * JT_E_LIMIT (store.ram is too small: says what would do), JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_session_new(jt_session **out, const jt_model *model,
                                const jt_session_options *options, jt_err *err);
JT_API void jt_session_free(jt_session *session); /* NULL is fine */

/* At most 16 of each; the structs are copied, `self` must outlive the session. */
JT_API jt_status jt_session_add_policy(jt_session *session, const jt_policy *policy,
                                       jt_err *err);
JT_API jt_status jt_session_add_watcher(jt_session *session, const jt_watcher *watcher,
                                        jt_err *err);

typedef struct jt_eval_options {
    /* When set: called with the logits of every evaluated token, [rows, vocab], `first`
     * counted from the start of this call. Otherwise only the last token's are
     * computed. A failure ends the evaluation with that status. */
    jt_status (*on_logits)(void *user, size_t first, const float *logits, size_t rows,
                           jt_err *err);
    void *user;
    jt_progress progress; /* tokens done; asked between chunks */
} jt_eval_options;

/* Append tokens to the context and run the model over them, in chunks. `options` may be
 * NULL. Errors: JT_E_ARG (no tokens, an id outside the vocabulary), JT_E_LIMIT (does
 * not fit into the context; nothing was evaluated), JT_E_MEMORY, JT_E_INTERRUPTED,
 * JT_E_IO (an expert could not be read, or the file has changed).
 * After a failure the context is as before the call. */
JT_API jt_status jt_session_eval(jt_session *session, const int32_t *tokens,
                                 size_t count, const jt_eval_options *options,
                                 jt_err *err);

/* The next tokens of one of several sessions. */
typedef struct jt_part {
    jt_session *session;
    const int32_t *tokens;
    size_t count;
} jt_part;

/* jt_session_eval for n different sessions of one model at once: every weight is read
 * once for all of them, and each gets the logits, bit for bit, that it would have got
 * alone. The threads are those of the first, and its `chunk` bounds the tokens of a
 * pass. Policies and watchers act on their own session; adapters on their own tokens.
 * One with another store than the first (sessions `beside` each other share it), a
 * watcher of what the experts gave (on_outputs), a twin, a weigher of adapters,
 * adapters on latent attention, or rewiring runs by itself. `progress` (may be NULL) is
 * asked between passes. Errors: as jt_session_eval, JT_E_ARG for a session that comes
 * twice or is of another model; after a failure all contexts are as before. */
JT_API jt_status jt_session_eval_together(const jt_part *parts, size_t n,
                                          const jt_progress *progress, jt_err *err);

/* Logits after the last evaluated token, [vocab]; borrowed, valid until the next call
 * that changes the session; NULL before the first. */
JT_API const float *jt_session_logits(const jt_session *session);

/* Tokens in the context, and how many fit. */
JT_API int jt_session_length(const jt_session *session);
JT_API int jt_session_capacity(const jt_session *session);
/* Keep only the first `length` tokens. Where the cache has lost what the next token
 * needs (layers that see a window keep little more than it, a recurrent state goes
 * forward only), the next jt_session_eval runs the tokens that are left once more, with
 * policies but without watchers. */
JT_API void jt_session_truncate(jt_session *session, int length);

/* Keep what the context shares with the beginning of `tokens`, but never all of them,
 * and drop the rest; returns how many of `tokens` are kept. To evaluate those that
 * follow makes the context equal to `tokens`. */
JT_API size_t jt_session_reuse(jt_session *session, const int32_t *tokens,
                               size_t count);

/* What the store did so far; false: the weights are mapped, there is none. */
JT_API bool jt_session_store_stats(const jt_session *session, jt_store_stats *stats);
/* Where an expert of a layer is now; HERE for whatever no store looks after. */
JT_API jt_residency jt_session_residency(const jt_session *session, int layer,
                                         int expert);

JT_API int jt_session_threads(const jt_session *session);
/* Bytes of the KV cache at its full capacity. */
JT_API uint64_t jt_session_kv_bytes(const jt_session *session);
JT_API const char *jt_session_cpu(const jt_session *session); /* "avx512" */

/* Seconds spent in each part of the forward passes since jt_session_new or the last
 * jt_session_reset_times, [JT_STAGE_COUNT]. */
JT_API const double *jt_session_times(const jt_session *session);
JT_API void jt_session_reset_times(jt_session *session);

#ifdef __cplusplus
}
#endif
#endif
