/* What the routers of a trained model did with some text, token by token: what caches,
 * predictors and schedules of recipes are tried on. */
#ifndef JT_ROUTES_H
#define JT_ROUTES_H

#include "learn/train.h"
#include "store/policy.h"

typedef struct jt_routes {
    size_t n_tokens, seq_len; /* whole sequences */
    int n_layers, n_experts, k;
    int32_t *id;     /* [tokens] */
    int32_t *place;  /* [tokens] position in its document */
    int32_t *expert; /* [tokens, layers, k] within its layer; -1: an unused slot */
    float *score;    /* [tokens, layers, experts] of the router, sum 1 */
    double *seconds; /* [passes, layers] that each layer took */
    size_t n_passes;
    int *first, *uses; /* of `map` */
    jt_experts_map map;
    /* Room, and the pass at hand. */
    size_t room[5], begun;
    double lap;
    bool out_of_memory;
} jt_routes;

typedef enum jt_routes_of { JT_ROUTES_HELD_OUT, JT_ROUTES_TRAINING } jt_routes_of;

/* Run batches through the model and keep what happens: those that evaluations look at,
 * source after source, or `batches` batches of training text that the training has not
 * seen. Layers of mixtures only; JT_E_ARG when these are not alike. */
jt_status jt_routes_take(jt_routes *out, jt_trainer *trainer, jt_routes_of of,
                         size_t batches, jt_err *err);
void jt_routes_free(jt_routes *routes); /* {0} is fine */

static inline const int32_t *jt_routes_row(const jt_routes *r, size_t token, int layer)
{
    return r->expert + (token * (size_t)r->n_layers + (size_t)layer) * (size_t)r->k;
}

/* How many experts of the token its router likes better than that of slot `slot`. */
int jt_routes_rank(const jt_routes *r, size_t token, int layer, int slot);

static inline const float *jt_routes_scores(const jt_routes *r, size_t token, int layer)
{
    return r->score +
           (token * (size_t)r->n_layers + (size_t)layer) * (size_t)r->n_experts;
}

#endif
