/* The vocabulary of a mixture: routes, plans, policies and watchers.
 *
 * Every mixture layer is five stages: score, select, dispatch, apply, combine. Between
 * them travel plain structs. Two things may attach at the borders: a policy changes
 * scores or routes, a watcher reads them. See docs/architecture.md.
 */
#ifndef JUNTO_MOE_H
#define JUNTO_MOE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The parts of a forward pass whose time is kept apart: the five stages, and what lies
 * around them. */
#define JT_STAGE_LIST(X)      \
    X(ATTENTION, "attention") \
    X(SCORE, "score")         \
    X(SELECT, "select")       \
    X(DISPATCH, "dispatch")   \
    X(APPLY, "apply")         \
    X(COMBINE, "combine")     \
    X(DENSE, "dense")         \
    X(HEAD, "head")
typedef enum jt_stage {
#define X(name, text) JT_STAGE_##name,
    JT_STAGE_LIST(X)
#undef X
        JT_STAGE_COUNT
} jt_stage;
JT_API const char *jt_stage_name(jt_stage stage);

/* Which experts each token gets, and with what weight. A token may use any number of
 * experts from none to k: unused slots hold -1 and weight 0. */
typedef struct jt_route {
    int n_tokens, n_experts;
    int k;                 /* slots per token */
    int32_t *expert;       /* [tokens, k], -1 for an unused slot */
    float *weight;         /* [tokens, k] */
    const int32_t *picked; /* [tokens, k] what selection chose, before null experts (ids
                              from n_experts on) and those beyond the capacity were
                              taken out of `expert` */
    int n_rows;            /* of the router: experts and null experts */
    const float *scores;   /* [tokens, rows of the router], after gating */
    float *weight_grad; /* [tokens, k], with a tape: gradient of the weights; or NULL */
} jt_route;

/* A route turned around: for every expert its tokens. Rows are sorted by expert, then
 * by token. Built by one counting sort (jt_plan_build). */
typedef struct jt_plan {
    int n_tokens, n_experts;
    int k;          /* slots per token, as in the route */
    int n_rows;     /* used slots */
    int32_t *start; /* [experts + 1]: rows of expert e are start[e] .. start[e + 1] */
    int32_t *token; /* [rows] */
    float *weight;  /* [rows] */
    int32_t *row;   /* [tokens, k]: row of a slot, -1 for an unused one */
    float *weight_grad; /* [tokens, k], as in the route */
    bool in_order;      /* token = row for all rows, so that nothing is gathered */
} jt_plan;

/* Where a route was made. */
typedef struct jt_route_site {
    int layer;                /* index among all layers of the model */
    const int32_t *token_ids; /* [tokens] */
    const int32_t *positions; /* [tokens], in the context */
    size_t first;  /* rows of the pass before these: of sequences that run beside this
                      one, with other policies and watchers; 0 for one by itself */
    uint64_t draw; /* training: seed of whatever is random in this pass; else 0 */
    bool replay;   /* this pass repeats one that was run before, to save memory: what
                      keeps count must not count again */
    bool guess;    /* the store asks what this layer will choose, before its turn has
                      come: what keeps count must not count */
} jt_route_site;

/* Changes what the router does. Functions may be NULL. Experts here are the rows of the
 * router, null experts last. Policies run in the order
 * in which they were added. */
typedef struct jt_policy {
    const char *name;
    void *self;
    /* Experts per token of this layer, where the model, or the policies before, say
     * `k`: at least 1, at most all rows of the router. */
    int (*on_k)(void *self, const jt_route_site *site, int k);
    /* Router logits [tokens, experts] before gating and selection. -INFINITY takes an
     * expert out. */
    void (*on_logits)(void *self, const jt_route_site *site, float *logits,
                      int n_tokens, int n_experts);
    /* Scores [tokens, experts] after gating, and `bias` [experts], which selection
     * (only) adds to them: it holds the model's own and may be changed for this call.
     */
    void (*on_scores)(void *self, const jt_route_site *site, const float *scores,
                      int n_tokens, int n_experts, float *bias);
    /* The selected route: expert ids in range or -1, any finite weights. */
    void (*on_route)(void *self, const jt_route_site *site, jt_route *route);
} jt_policy;

/* Reads what the router and the experts did; not called for replays. Functions may be
 * NULL. */
typedef struct jt_watcher {
    const char *name;
    void *self;
    /* The route that the experts will follow. */
    void (*on_route)(void *self, const jt_route_site *site, const jt_route *route);
    /* What the experts gave, [plan rows, d], before weights: the expert of slot j of
     * token t in row plan->row[t * plan->k + j]. */
    void (*on_outputs)(void *self, const jt_route_site *site, const jt_plan *plan,
                       const float *outputs, size_t d);
} jt_watcher;

#ifdef __cplusplus
}
#endif
#endif
