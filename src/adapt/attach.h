/* Adapters at work: a list of them attached to a context, whose products they change.
 */
#ifndef JT_ADAPT_ATTACH_H
#define JT_ADAPT_ATTACH_H

#include "adapt/blended.h"

enum { JT_MOST_ADAPTERS = 64 };

/* One adapter of the list. */
typedef struct jt_attachment {
    const jt_adapter *adapter;
    float scale;
    int32_t *slot; /* by number of the weight (jt_tensor.weight): which slot, or -1 */
    float **norm;  /* [slots] DoRA: [count * rows] norms of the changed rows */
    bool *stands;  /* [places] does it work there? */
    jt_blended *blended; /* of a routed mixture; or NULL */
} jt_attachment;

typedef struct jt_attached {
    const jt_model *model;
    size_t n_weights; /* numbers go up to it */
    jt_attachment list[JT_MOST_ADAPTERS];
    size_t count;
    const float *weight; /* [n_tokens, count] of the pass at hand, beside the scales;
                            NULL: all 1. Not with a tape */
    size_t n_tokens;
    jt_cache *first; /* of passes that come before a pass (X-LoRA); NULL: its own */
} jt_attached;

/* Attach an adapter, which must outlive `attached`, to a list that begins as {0} and
 * whose model is one and the same. With `trains` it stays attached where it is fresh
 * and whatever the scale. Errors: see jt_session_add_adapter. */
jt_status jt_attach(jt_attached *attached, jt_context *ctx, const jt_model *model,
                    const jt_adapter *adapter, float scale, bool trains, jt_err *err);
/* Take back the last one. */
void jt_detach_last(jt_attached *attached);
void jt_attached_free(jt_attached *attached); /* {0} is fine */

/* Its values have changed: norms are made anew. Cannot fail. */
void jt_attached_refresh(jt_attached *attached, jt_context *ctx);

/* What to put into ctx->change; nothing for an empty list. */
jt_product_change jt_attached_change(jt_attached *attached);

/* jt_transformer_forward with these adapters at work. */
jt_tensor jt_attached_forward(jt_attached *attached, jt_context *ctx,
                              const jt_model *model, const jt_chunk *chunk,
                              const jt_store *store, const jt_hooks *hooks);

/* Mixtures by rule: decide for the text of a sequence. Whether that has changed, so
 * that what layers remember is no longer of use. */
bool jt_attached_decide(jt_attached *attached, const int32_t *ids, size_t count);

/* Does one of them need a pass before each pass, with a cache of its own? */
bool jt_attached_looks_ahead(const jt_attached *attached);

#endif
