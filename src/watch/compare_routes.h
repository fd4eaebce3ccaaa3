/* Routes of two models, step by step: those of A are kept until B has run over the same
 * tokens. */
#ifndef JT_WATCH_COMPARE_ROUTES_H
#define JT_WATCH_COMPARE_ROUTES_H

#include "junto/compare.h"
#include "junto/moe.h"

/* Routes of one step of A in a layer, and the sums over all steps. */
typedef struct kept_route {
    int n_tokens, n_experts, k, n_rows;
    int32_t *expert; /* [tokens, k] */
    float *score;    /* [tokens, rows] */
    size_t expert_room, score_room;
    jt_compare_layer sums; /* jaccard and kl: the sums */
} kept_route;

/* What the layers say of a token of the step. */
typedef struct token_agreement {
    int layers, flipped;
    double shared; /* sum of |both| / |either| */
} token_agreement;

typedef struct route_comparison {
    kept_route *routes; /* [layers] */
    int n_layers;
    token_agreement *tokens; /* [most_tokens] of the step */
    size_t most_tokens;
} route_comparison;

jt_status jt_route_comparison_new(route_comparison *out, int n_layers,
                                  size_t most_tokens, jt_err *err);
void jt_route_comparison_free(route_comparison *routes);

/* Watchers for the session of A, and for that of B, which must run after it. */
jt_watcher jt_route_keeper(route_comparison *routes);
jt_watcher jt_route_comparer(route_comparison *routes);

/* A step begins: forget what the tokens of the last one were like. */
void jt_route_comparison_step(route_comparison *routes);

/* Layers that were compared, in a fresh array; the caller frees. JT_E_MEMORY. */
jt_status jt_route_comparison_layers(const route_comparison *routes,
                                     jt_compare_layer **layers, size_t *n, jt_err *err);

#endif
