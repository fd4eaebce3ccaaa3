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
typedef struct jt_hooks jt_hooks; /* moe/mixture.h */

/* A part may have a `check` (or NULL): JT_E_ARG when the router's other slots do not go
 * with it. */
typedef jt_status jt_part_check(const jt_router *router, jt_err *err);

/* Stage 1: how well does each expert fit each token? Logits [tokens, rows of the
 * router]. What is the same for all (jitter before, noise after) is in
 * jt_router_score. */
typedef struct jt_scorer {
    const char *name;
    bool plain_weight; /* works on a weight of type F32 only */
    jt_part_check *check;
    void (*score)(jt_context *ctx, const jt_router *router, const jt_route_site *site,
                  jt_input *x, jt_tensor *logits);
} jt_scorer;

/* What selection looks at. All arrays have a column for each row of the router. */
typedef struct jt_choice {
    const jt_router *router;
    const jt_tensor *logits; /* -infinity: a policy took this expert out */
    const jt_tensor *scores;
    const jt_tensor *values; /* what is compared: the scores, or the logits when the
                                gate comes after the choice */
    const float *bias;       /* [rows of the router], added to the values; NULL: none */
    jt_route *route;
} jt_choice;

/* Stage 2: which experts does each token get? Fills route->expert with rows of the
 * router, -1 in unused slots. What is the same for all (gating before, null experts,
 * capacity and weights after) is in jt_router_select. */
typedef struct jt_selector {
    const char *name;
    jt_part_check *check;
    void (*choose)(jt_context *ctx, const jt_choice *choice);
} jt_selector;

/* What turns logits into scores (moe/gate.h). */
typedef enum jt_gating {
    JT_GATE_SOFTMAX,
    JT_GATE_SIGMOID,
    JT_GATE_SQRT_SOFTPLUS, /* sqrt(log(1 + exp(x))) (DeepSeek-V4) */
    JT_GATE_SPARSEMIXER,   /* a softmax, with weights of its own (Phi-3.5-MoE) */
    JT_GATE_COUNT
} jt_gating;

struct jt_router {
    const jt_scorer *scorer;
    const jt_selector *selector;
    int n_experts, k;
    int n_null;       /* null experts: rows after those of the experts. A pick of
                         one leaves the slot unused (AdaMoE) */
    jt_tensor weight; /* [experts + null, d] */
    jt_tensor bias;   /* [experts + null], on the logits; may be empty */
    jt_tensor selection_bias; /* [experts + null], on the scores, for selection only;
                                 may be empty (DeepSeek-V3) */
    jt_tensor expert_scale;   /* [experts]: weights are multiplied by that of their
                                 expert at last; may be empty (Pangu) */
    float softcap; /* > 0: logits are softcap * tanh(logits / softcap) (Grok) */
    jt_gating gating;
    bool gate_after;  /* gating over the logits of the experts that the token uses,
                         null and dropped ones not among them, instead of over all */
    bool renormalise; /* weights of a token (of those same experts) are divided by their
                         sum, to which sum_eps was added */
    float sum_eps;    /* (LFM2: 1e-6) */
    float scale;      /* then multiplied by this; 1 for none */
    bool ahead;       /* it reads what the mixture before it read, so that its experts
                         are known a layer early; the first one reads its own (Pre-gated
                         MoE) */
    bool weigh_input; /* experts get weight * x, and their outputs are summed as they
                         are (Llama 4) */

    float temperature;         /* cosine: logits are divided by it */
    int n_groups, groups_used; /* grouped, group_limited: of n_experts / n_groups */
    int group_best; /* group_limited: a group's score is the sum of its so many best; 0
                       means 2 (DeepSeek-V3; V2: 1) */
    float top_p;    /* top_p: probability that a token's experts reach */

    /* Training only: where the site has a draw. */
    float jitter;       /* the router's input times a uniform number in 1 +- jitter */
    float noise;        /* Gaussian noise of this deviation on the logits */
    float capacity;     /* > 0: an expert takes at most ceil(capacity * k * tokens /
                           experts) tokens, others are dropped */
    bool drop_position; /* the last ones are dropped; otherwise the lowest scores */
};

/* Rows of the router. */
static inline int jt_router_rows(const jt_router *router)
{
    return router->n_experts + router->n_null;
}

/* Do the slots go together? JT_E_ARG with what does not. Tensors are not looked at. */
jt_status jt_router_check(const jt_router *router, jt_err *err);

/* Stage 1 as a whole: logits of the (jittered) input, with noise on them. */
void jt_router_score(jt_context *ctx, const jt_router *router,
                     const jt_route_site *site, jt_input *x, jt_tensor *logits);

/* Stage 2 as a whole: gate, let `policies` see the scores, choose, drop what exceeds
 * the capacity, weigh. `scores` [tokens, rows] is room for the gated logits; a token
 * all of whose experts are out has none but zeros. */
void jt_router_select(jt_context *ctx, const jt_router *router, const jt_hooks *hooks,
                      const jt_route_site *site, const jt_tensor *logits,
                      jt_tensor *scores, jt_route *route);

/* Parts by name; NULL when there is none. And the names: NULL after the last. */
const jt_scorer *jt_scorer_find(const char *name);
const jt_selector *jt_selector_find(const char *name);
const char *jt_scorer_name(size_t i);
const char *jt_selector_name(size_t i);

#endif
