/* The transformer: one forward pass for all families. */
#ifndef JT_TRANSFORMER_H
#define JT_TRANSFORMER_H

#include "model/cache.h"

/* A chunk of tokens on its way through the layers. */
typedef struct jt_chunk {
    const int32_t *ids;       /* [count] */
    const int32_t *positions; /* [count] for rotation: from the start of the document */
    const int32_t *first;     /* [count] place in the cache where a token's document
                                 begins; NULL: 0 */
    size_t start;             /* place in the cache of the first token */
    size_t count;
    bool all_logits; /* of every token; otherwise of the last only */
    bool checkpoint; /* with a tape: keep only the input of each layer and run the layer
                        again for its gradients (activation checkpointing, Chen et al.
                        2016); the layers may then share their cache */
    jt_cache *twin;  /* of a second sequence of the same tokens that runs beside the
                        first, so that both read the weights once; its policies are
                        hooks->twin. NULL: none, and with a tape */
    uint64_t draw;   /* as in jt_route_site */
    bool replay;     /* the same */
    /* Sees the hidden states [count, d] after each layer; may be NULL. */
    void (*on_layer)(void *user, int layer, const jt_tensor *h);
    void *user;
} jt_chunk;

/* Run the layers over a chunk: what they remember goes into the cache, the result are
 * logits [count or 1, vocab] in scratch; with a twin its own follow, twice as many
 * rows. On failure the context holds the error. */
jt_tensor jt_transformer_forward(jt_context *ctx, const jt_model *model,
                                 const jt_chunk *chunk, jt_cache *cache,
                                 const jt_store *store, const jt_hooks *hooks);

#endif
