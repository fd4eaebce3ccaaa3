/* Score and select: how a mixture chooses.
 *
 * The router is a row of slots; the open families differ only in what stands in them. A
 * scorer and a selector are parts, registered by name, so that a config can say
 * `score=linear select=topk`. */
#ifndef JT_ROUTER_H
#define JT_ROUTER_H

#include "junto/moe.h"
#include "tensor/ops.h"

typedef struct jt_router jt_router;

/* Stage 1: how well does each expert fit each token? Logits [tokens, experts]. */
typedef struct jt_scorer {
    const char *name;
    void (*score)(jt_context *ctx, const jt_router *router, jt_input *x,
                  jt_tensor *logits);
} jt_scorer;

/* Stage 2: which experts does each token get, with what weight? Fills the route's slots
 * from the logits; `scores` [tokens, experts] is room for the values after gating,
 * which route->scores then points to. */
typedef struct jt_selector {
    const char *name;
    void (*select)(jt_context *ctx, const jt_router *router, const jt_tensor *logits,
                   jt_tensor *scores, jt_route *route);
} jt_selector;

/* What turns logits into scores. */
typedef enum jt_gating { JT_GATE_SOFTMAX, JT_GATE_SIGMOID } jt_gating;

struct jt_router {
    const jt_scorer *scorer;
    const jt_selector *selector;
    int n_experts, k;
    jt_tensor weight;         /* [experts, d] */
    jt_tensor bias;           /* [experts], on the logits; may be empty */
    jt_tensor selection_bias; /* [experts], on the scores, for selection only; may be
                                 empty (DeepSeek-V3) */
    jt_gating gating;
    bool gate_after;  /* gating over the k chosen logits instead of over all */
    bool renormalise; /* weights of a token are divided by their sum */
    float scale;      /* then multiplied by this; 1 for none */
};

/* Parts by name; NULL when there is none. */
const jt_scorer *jt_scorer_find(const char *name);
const jt_selector *jt_selector_find(const char *name);

#endif
