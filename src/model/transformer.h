/* The transformer: one forward pass for all families. */
#ifndef JT_TRANSFORMER_H
#define JT_TRANSFORMER_H

#include "model/cache.h"

/* Tokens of a chunk that follow each other in one context. */
typedef struct jt_span {
    jt_cache *cache;
    size_t start; /* place in the cache of the first token */
    size_t count; /* at least 1 */
} jt_span;

/* Mixtures that stand in place of the dense FFNs of some layers (MixLoRA), for the next
 * `tokens` of a chunk. */
typedef struct jt_instead {
    size_t tokens;
    const jt_mixture *const *ffn; /* [layers], or NULL; NULL: nowhere */
    const jt_route_term *term;    /* of these; or NULL */
} jt_instead;

/* The parts of a layer: attention or what stands for it, and the FFN or its experts. */
typedef enum jt_half { JT_HALF_MIXER, JT_HALF_FFN } jt_half;

/* Changes what flows between the parts of a model: adapters that are no change of a
 * weight (src/adapt/place.c). Functions may be NULL. */
struct jt_chunk;
typedef struct jt_between {
    void *self;
    /* The rows h [count, d] of a chunk before the first layer. */
    void (*embedded)(void *self, jt_context *ctx, const struct jt_chunk *chunk,
                     jt_tensor *h);
    /* What a half will read: may put another input in place of x. */
    void (*before)(void *self, jt_context *ctx, int layer, jt_half half, jt_input *x);
    /* What it gave for x, before any norm: may put another tensor in place of y. */
    void (*after)(void *self, jt_context *ctx, int layer, jt_half half, jt_input *x,
                  jt_tensor *y);
    /* The keys and values that the virtual tokens of a chunk have in a layer, k and v
     * of *out. False: those that it makes of them. */
    bool (*give)(void *self, int layer, jt_given *out);
} jt_between;

/* Tokens on their way through the layers: of one context, or of several, whose spans
 * stand one after the other. Every weight is read once for all of them. */
typedef struct jt_chunk {
    const jt_span *spans; /* [n_spans], each with a cache of its own */
    size_t n_spans;
    size_t count;             /* tokens of all spans */
    const int32_t *ids;       /* [count] */
    const int32_t *positions; /* [count] for rotation: from the start of the document */
    const int32_t *first;     /* [count] place in the cache where a token's document
                                 begins; NULL: 0 */
    const int32_t *front;     /* [count] the number of the virtual token that stands
                                 there in training, -1: none does; NULL: nowhere */
    bool all_logits;          /* of every token; otherwise of the last of each span */
    bool hidden; /* instead of logits the hidden states [count, d] that the output
                    reads */
    const jt_instead *instead; /* [n_instead] token after token; with a tape one */
    size_t n_instead;
    const jt_between *between; /* or NULL */
    bool checkpoint; /* with a tape: keep only the input of each layer and run the layer
                        again for its gradients (activation checkpointing, Chen et al.
                        2016); the layers may then share their cache */
    uint64_t draw;   /* as in jt_route_site */
    bool replay;     /* the same */
    /* Sees the hidden states [count, d] after each layer; may be NULL. */
    void (*on_layer)(void *user, int layer, const jt_tensor *h);
    void *user;
} jt_chunk;

/* Run the layers over a chunk: what they remember goes into the caches, the result are
 * logits [count or n_spans, vocab] in scratch. With a tape there must be one span, and
 * the chunk live until the gradients are done. On failure the context holds the error.
 */
jt_tensor jt_transformer_forward(jt_context *ctx, const jt_model *model,
                                 const jt_chunk *chunk, const jt_store *store,
                                 const jt_hooks *hooks);

/* Logits [rows, vocab] of hidden states that a chunk asked for (`hidden`), or of some
 * of their rows. */
jt_tensor jt_transformer_head(jt_context *ctx, const jt_model *model,
                              const jt_tensor *hidden);

#endif
