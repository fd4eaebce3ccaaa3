/* Adapters at work: a list of them attached to a context, whose products they change.
 */
#ifndef JT_ADAPT_ATTACH_H
#define JT_ADAPT_ATTACH_H

#include "adapt/blended.h"

enum { JT_MOST_ADAPTERS = 64 };

/* An adapter made ready for the weights of a model. */
typedef struct jt_attachment {
    const jt_adapter *adapter;
    float scale;
    int32_t *slot; /* by number of the weight (jt_tensor.weight): which slot, or -1 */
    jt_factors *factors; /* [slots] of low-rank kinds that are not trained; or NULL */
    char *factor_memory;
    size_t factor_bytes;
    float **norm;  /* [slots] DoRA: [count * rows] norms of the changed rows */
    size_t prompt; /* tokens of the sequence whose embeddings it rewrites */
    const int32_t *prompt_ids;
    uint64_t prompt_hash;
    bool *stands;        /* [places] does it work there? */
    jt_blended *blended; /* of a routed mixture; or NULL */
    jt_decided decided;  /* then */
    size_t round;  /* what it changes is changed in one go with what others of its round
                      do, after earlier rounds */
    bool borrowed; /* all but what is decided for the sequence is another's */
} jt_attachment;

/* The adapters of one sequence. */
typedef struct jt_attached {
    const jt_model *model;
    jt_attachment list[JT_MOST_ADAPTERS];
    size_t count;
    const float *weight; /* [n_tokens, count] of the pass at hand, beside the scales;
                            NULL: all 1. Not with a tape, nor beside other sequences */
    size_t n_tokens;
    const jt_tensor *laid; /* embeddings of the virtual tokens of the pass at hand;
                              NULL: it is one of tokens */
    jt_cache *first; /* of passes that come before a pass (X-LoRA); NULL: its own */
} jt_attached;

/* Make an adapter, which must live longer, ready for a model. With `trains` it works
 * where it is fresh and whatever the scale. Free also after a failure. Errors: see
 * jt_session_add_adapter. */
jt_status jt_attachment_make(jt_attachment *out, jt_context *ctx, const jt_model *model,
                             const jt_adapter *adapter, float scale, bool trains,
                             jt_err *err);
void jt_attachment_free(jt_attachment *at);            /* {0} is fine */
uint64_t jt_attachment_bytes(const jt_attachment *at); /* beside those of the adapter */
/* Make the factors of its slots, which are all of weights of `file`, by the rule of the
 * context. JT_E_MEMORY. */
jt_status jt_attachment_factors(jt_attachment *at, const jt_context *ctx,
                                const jt_gguf *file, jt_err *err);
/* May one that was made for a scale of 1 be used at any other? */
bool jt_attachment_fits_all_scales(const jt_adapter *adapter);

/* Attach an adapter to a list that begins as {0} and whose model is one and the same.
 * Errors as above, and JT_E_LIMIT. */
jt_status jt_attach(jt_attached *attached, jt_context *ctx, const jt_model *model,
                    const jt_adapter *adapter, float scale, bool trains, jt_err *err);
/* Attach what was made ready, and must live longer; `scale` is that which it was made
 * for, or it fits all of them. JT_E_LIMIT. */
jt_status jt_attach_made(jt_attached *attached, const jt_model *model,
                         const jt_attachment *made, float scale, jt_err *err);
/* Take back the last one. */
void jt_detach_last(jt_attached *attached);
void jt_attached_free(jt_attached *attached); /* {0} is fine; then it is {0} again */

/* Its values have changed: norms are made anew. Cannot fail. */
void jt_attached_refresh(jt_attached *attached, jt_context *ctx);

/* jt_transformer_forward with these adapters at work on all of the chunk. */
jt_tensor jt_attached_forward(jt_attached *attached, jt_context *ctx,
                              const jt_model *model, const jt_chunk *chunk,
                              const jt_store *store, const jt_hooks *hooks);

/* The same for the spans of a chunk, each with adapters of its own, or none: those of
 * `attached` [n_spans]. Every weight is read once for all; what adapters add is made in
 * the same parallel regions. Without a tape, and not with all_logits. */
jt_tensor jt_attached_forward_spans(jt_attached *const *attached, jt_context *ctx,
                                    const jt_model *model, const jt_chunk *chunk,
                                    const jt_store *store, const jt_hooks *hooks);

/* Mixtures by rule, and adapters of prompts: decide for the text of a sequence, which
 * stays until the next call. Whether that has changed, so that what layers remember is
 * no longer of use. */
bool jt_attached_decide(jt_attached *attached, const int32_t *ids, size_t count);

/* Does one of them decide so? */
bool jt_attached_by_rule(const jt_attached *attached);

/* Does one of them need a pass before each pass, with a cache of its own? */
bool jt_attached_looks_ahead(const jt_attached *attached);

#endif
