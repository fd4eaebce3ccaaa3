/* Which expert leaves the cache: policies by name.
 *
 * A policy keeps a value for every expert of the model, also for those that are not in
 * the cache, and the resident expert with the smallest one leaves first. The live store
 * and the simulator drive the same code. */
#ifndef JT_STORE_POLICY_H
#define JT_STORE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

/* Experts of all layers in one row: those of layer l (counted among layers with
 * experts) are first[l] .. first[l + 1]. */
typedef struct jt_experts_map {
    int n_layers;
    const int *first; /* [n_layers + 1] */
    const int *k;     /* [n_layers] experts per token */
} jt_experts_map;

/* What a policy may know before it starts; NULL where it is not known. */
typedef struct jt_foreknowledge {
    const double *uses;  /* [experts] of each in a trace: pin */
    const int32_t *next; /* the experts that will be used, in order: belady */
    size_t n_next;
} jt_foreknowledge;

typedef struct jt_ranking jt_ranking;

typedef struct jt_cache_policy {
    const char *name, *help;
    bool simulated; /* it looks into the future */
    bool traced;    /* it needs the uses of a trace */
    /* `value` is there, all zero. */
    jt_status (*start)(jt_ranking *r, const jt_foreknowledge *known, jt_err *err);
    void (*use)(jt_ranking *r, int expert);
    /* May be NULL: `scores` [experts of the layer] sum to 1, or to less. */
    void (*score)(jt_ranking *r, int layer, const float *scores);
    /* May be NULL: what it needs beside the values. */
    size_t (*bytes)(const jt_experts_map *map);
    void (*stop)(jt_ranking *r);
} jt_cache_policy;

/* The i-th policy; NULL past the last. By name; NULL when there is none. */
const jt_cache_policy *jt_cache_policy_at(size_t i);
const jt_cache_policy *jt_cache_policy_find(const char *name);
#define JT_CACHE_POLICY_USUAL "learned"

struct jt_ranking {
    const jt_cache_policy *policy;
    jt_experts_map map;
    int n_experts; /* of all layers */
    int n_slots;
    double *value; /* [n_experts]: the smaller, the sooner it leaves */
    uint64_t uses; /* so far */
    void *more;    /* the policy's own */
};

/* JT_E_ARG (the policy needs what is not known), JT_E_MEMORY. `map` is borrowed. */
jt_status jt_ranking_start(jt_ranking *out, const jt_cache_policy *policy,
                           const jt_experts_map *map, int n_slots,
                           const jt_foreknowledge *known, jt_err *err);
void jt_ranking_stop(jt_ranking *r); /* {0} is fine */

/* A pass uses this expert, once however many tokens it has. */
void jt_ranking_use(jt_ranking *r, int expert);
/* What the router of a layer thinks of its experts, averaged over the tokens of a pass.
 */
void jt_ranking_score(jt_ranking *r, int layer, const float *scores);

#endif
