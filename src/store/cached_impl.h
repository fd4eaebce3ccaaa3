/* The inside of the cached store. */
#ifndef JT_STORE_CACHED_IMPL_H
#define JT_STORE_CACHED_IMPL_H

#include "base/pool.h"
#include "kernels/nested.h"
#include "store/cached.h"
#include "store/guess.h"
#include "store/slots.h"
#include "store/sweep.h"

/* Reads of a slot: parts, and planes of each. */
enum { JT_SLOT_READS = JT_PARTS * (1 + JT_NESTED_PLANES) };

/* Why an expert cannot be used, beside what a read says. */
enum { JT_READ_DAMAGED = -3 };

struct jt_cached {
    jt_store store;
    jt_stored stored;
    jt_store_options options; /* names only */
    int *first, *k;           /* of `map` */
    jt_experts_map map;
    const jt_cache_policy *policy;
    jt_guess_layer *guess_layers; /* [n_layers] */
    jt_guesses guesses;
    jt_sweep sweep; /* then there are no guesses */
    float *scores;  /* [experts of a layer] */
    double *uses;   /* a copy, until the policy has started; may be NULL */

    jt_reader *reader;
    jt_pool *pool;
    char *slab;
    size_t slot_bytes, area[JT_PARTS];
    jt_slots slots;
    jt_ranking ranking;
    jt_read *reads;       /* [slots * JT_SLOT_READS] */
    unsigned char *under; /* [slots] parts under way */
    int *error;           /* [slots] of the parts that have ended */

    bool *unchecked; /* [slots] nobody has looked at the checksum */
    uint64_t *sums;  /* room for those of the pieces of a slot */

    /* Nested experts: bits with which they come, and that they can earn; 0: not nested.
     * Of each slot the planes that it has or waits for, those that are woven into its
     * blocks, and tokens that used it since it came. */
    int low, high;
    uint8_t *planes, *woven;
    uint32_t *earned;
    uint8_t *strip; /* planes of a part, while they are woven */
    uint64_t bit_sum, bit_uses;

    /* The lease in progress, of layer `layer` (-1: none). */
    int layer;
    const jt_plan *plan;
    const jt_interlude *interlude; /* of the pool otherwise: none during a lease */
    int *wanted, n_wanted;         /* experts without a slot yet */
    int next_wanted;               /* the first of them */
    int *coming, n_coming; /* slots whose experts are to be used in a later wave */
    int *wave, n_wave;     /* slots of the wave that is being computed */
    int failed, failure;   /* the expert that could not be read, and why; -1: none */

    size_t unforgotten; /* bytes read through the page cache that it may still hold */
    double disk_speed;
    uint64_t sampled;           /* bytes that measuring it read */
    double lately, busy_lately; /* seconds, and those of the disk, of the last layers */
    double last_seconds;        /* the clock, and */
    double last_busy;           /* that of the disk, when the last one asked */
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
size_t jt_cached_part_bytes(const jt_cached *c, int expert, int part);
int jt_cached_layer_of(const jt_cached *c, int expert);
/* Where it lies in one piece; NULL: its parts lie apart. */
const jt_whole *jt_cached_whole(const jt_cached *c, int expert);
jt_status jt_cached_open_checks(jt_cached *c, int n_slots, jt_err *err);
/* Leave out of the wave, and of the cache, who is not what was written. */
void jt_cached_check_wave(jt_cached *c);
/* Whole blocks for bytes that begin at any remainder. */
size_t jt_cached_room(size_t bytes);

/* cached_bits.c: nested experts. */
/* What the options say and the file has. JT_E_ARG, JT_E_UNSUPPORTED. */
jt_status jt_cached_choose_bits(jt_cached *c, jt_err *err);
jt_status jt_cached_open_bits(jt_cached *c, int n_slots, jt_err *err);
/* Room in a slot for a part with all planes that it may get; 0 for those of experts in
 * one piece. */
size_t jt_cached_part_room(const jt_cached *c, const jt_stored_layer *layer, int part);
/* Begin to read the planes of a slot from plane `from` on. */
void jt_cached_read_planes(jt_cached *c, int slot, int from, bool urgent);
/* They are there. */
void jt_cached_weave(jt_cached *c, int slot);
/* The type of a part that has planes in its slot. */
jt_dtype jt_cached_dtype(const jt_cached *c, int slot, const jt_stored_layer *layer,
                         int part);
/* An expert is about to come on a guess, or for the tokens of the lease. */
void jt_cached_expect(jt_cached *c, int slot, bool guess);
/* It is used by the lease. */
void jt_cached_count(jt_cached *c, int slot);
/* It is, and came on a guess: it gets what it would have come with. */
void jt_cached_confirm(jt_cached *c, int slot);
/* The hottest experts of the lease are read first. */
void jt_cached_sort_wanted(jt_cached *c);
/* The lease has ended: read the planes that its experts have earned, the hottest first,
 * behind all that is urgent. */
void jt_cached_read_earned(jt_cached *c);

/* Bytes of part `part` of an expert of a layer; 0: there is no such part. */
size_t jt_stored_part_bytes(const jt_stored_layer *layer, int expert, int part);

/* The functions of the store. */
jt_status jt_cached_acquire(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err);
jt_status jt_cached_advance(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err);
void jt_cached_release(void *self, const jt_bank *bank, jt_lease *lease);
void jt_cached_learn(void *self, const jt_route_site *site, const jt_route *route);
void jt_cached_foresee(void *self, jt_context *ctx, const jt_hooks *hooks,
                       const jt_route_site *site, const jt_tensor *h);

#endif
