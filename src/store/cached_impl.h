/* The inside of the cached store. */
#ifndef JT_STORE_CACHED_IMPL_H
#define JT_STORE_CACHED_IMPL_H

#include "base/pool.h"
#include "store/cached.h"
#include "store/guess.h"
#include "store/slots.h"

struct jt_cached {
    jt_store store;
    jt_stored stored;
    jt_store_options options; /* names only */
    int *first, *k;           /* of `map` */
    jt_experts_map map;
    const jt_cache_policy *policy;
    jt_guess_layer *guess_layers; /* [n_layers] */
    jt_guesses guesses;
    float *scores; /* [experts of a layer] */
    double *uses;  /* a copy, until the policy has started; may be NULL */

    jt_reader *reader;
    jt_pool *pool;
    char *slab;
    size_t slot_bytes, area[JT_PARTS];
    jt_slots slots;
    jt_ranking ranking;
    jt_read *reads;       /* [slots * JT_PARTS] */
    unsigned char *under; /* [slots] parts under way */
    int *error;           /* [slots] of the parts that have ended */

    /* The lease in progress, of layer `layer` (-1: none). */
    int layer;
    int *wanted, n_wanted; /* experts without a slot yet */
    int next_wanted;       /* the first of them */
    int *coming, n_coming; /* slots whose experts are to be used in a later wave */
    int *wave, n_wave;     /* slots of the wave that is being computed */
    int failed, failure;   /* the expert that could not be read, and why; -1: none */

    size_t unforgotten; /* bytes read through the page cache that it may still hold */
    double disk_speed;
    uint64_t sampled;           /* bytes that measuring it read */
    double lately, read_lately; /* seconds, and bytes that came, of the last layers */
    double last_seconds;        /* the clock, and */
    uint64_t last_read;         /* the bytes, when the last one asked */
    uint64_t tokens, hits, hits_ahead, misses, ahead, ahead_used;
    uint64_t lacking[JT_LACKING_MOST + 1];
    int half_lacking; /* 0 or 1 */
    double stall_seconds;
};

/* Measure how fast the disk gives experts, in each way of `ways` (false: buffered,
 * true: direct), with the slab as room. */
jt_status jt_cached_choose_io(jt_cached *c, jt_err *err);

/* Take note of reads that have ended, and begin others in their place. */
void jt_cached_tend(jt_cached *c);
/* Begin to read an expert into its slot. */
void jt_cached_read(jt_cached *c, int slot, bool urgent);
/* The place of part `part` of the expert in `slot`. */
char *jt_cached_place(const jt_cached *c, int slot, int part);
const jt_extent *jt_cached_extent(const jt_cached *c, int expert, int part);
int jt_cached_layer_of(const jt_cached *c, int expert);
/* Bytes of part `part` of one expert of a layer; 0: there is no such part. */
size_t jt_stored_part_bytes(const jt_stored_layer *layer, int part);

/* The functions of the store. */
jt_status jt_cached_acquire(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err);
jt_status jt_cached_advance(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err);
void jt_cached_release(void *self, const jt_bank *bank, jt_lease *lease);
void jt_cached_foresee(void *self, jt_context *ctx, const jt_hooks *hooks,
                       const jt_route_site *site, const jt_tensor *h);

#endif
