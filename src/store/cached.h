/* Experts that stay in their file: a cache of equal slots under a hard limit, filled by
 * asynchronous reads.
 *
 * A lease gives the experts that are there at once and the others wave by wave as they
 * come, so that computing and reading overlap. A plan may ask for more experts than
 * there are slots: what was computed makes room for what is to come, and each expert is
 * read once. A read that fails fails the lease that needs it and nothing else. */
#ifndef JT_STORE_CACHED_H
#define JT_STORE_CACHED_H

#include "base/reader.h"
#include "junto/store.h"
#include "moe/mixture.h"
#include "nn/norm.h"

/* Where a part of an expert lies. */
typedef struct jt_extent {
    const jt_source *source;
    uint64_t offset;
} jt_extent;

/* An expert in one piece, with its checksum. */
typedef struct jt_whole {
    jt_extent at; /* a multiple of JT_READ_ALIGN */
    size_t bytes; /* another one */
    uint64_t sum;
} jt_whole;

/* The experts of one layer. */
typedef struct jt_stored_layer {
    const jt_bank *bank;    /* shapes and types; its data is not looked at */
    jt_extent *extent;      /* [experts * JT_PARTS] */
    const jt_whole *whole;  /* [experts] that hold these parts; NULL: they lie apart */
    jt_extent *plane;       /* [experts * JT_PARTS * JT_NESTED_PLANES], or NULL */
    int n_planes[JT_PARTS]; /* that each part has beside its Q2_K (kernels/nested.h) */
    const jt_router *router;
    const jt_norm *norm; /* before the router */
} jt_stored_layer;

/* All experts of a model that are stored, and the files in which they lie. */
typedef struct jt_stored {
    const jt_source *sources;
    int n_sources;
    const jt_stored_layer *layers;
    int n_layers;
} jt_stored;

/* Experts of all layers; the fewest slots that a cache can have. */
int jt_stored_experts(const jt_stored *stored);
int jt_stored_least_slots(const jt_stored *stored);

typedef struct jt_cached jt_cached;

/* jt_store_options.prefetch of passes that go up the layers and down again
 * (store/sweep.h), which a session has none of. */
#define JT_PREFETCH_ORDER "order"

/* All but the slots; what `stored` points to is borrowed. JT_E_ARG (an unknown name),
 * JT_E_UNSUPPORTED (an engine or a way to read that was asked for is not there),
 * JT_E_IO, JT_E_MEMORY. */
jt_status jt_cached_new(jt_cached **out, const jt_stored *stored,
                        const jt_store_options *options, jt_err *err);
/* Bytes of a slot: any expert fits, wherever its parts begin in a block of the disk. */
size_t jt_cached_slot_bytes(const jt_cached *c);
/* Bytes of an expert in the file, on average; of nested ones with so many bits. */
double jt_cached_expert_bytes(const jt_cached *c, int bits);
/* The same with the bits that it comes with. */
double jt_cached_miss_bytes(const jt_cached *c);
/* Then the slots. Measures how to read, unless the options say. The threads of `pool`,
 * which compute what it gives, are kept awake while a lease waits; it has no interludes
 * during a lease, as one is all that there can be. */
jt_status jt_cached_open(jt_cached *c, int n_slots, jt_pool *pool, jt_err *err);
void jt_cached_free(jt_cached *c); /* NULL is fine */

/* The store, as long as `c`, for any number of sequences, one pass at a time. Banks
 * that are not stored are used where they lie. */
const jt_store *jt_cached_store(const jt_cached *c);
/* Begins reads that wait, while others compute. */
jt_tender jt_cached_tender(jt_cached *c);

/* Where an expert of a layer of the model is now. */
jt_residency jt_cached_residency(const jt_cached *c, int layer, int expert);

/* Memory of what it learns: taken bit by bit as tokens pass. */
size_t jt_cached_learning_bytes(const jt_cached *c);

/* All but the budget. */
void jt_cached_stats(const jt_cached *c, jt_store_stats *out);

#endif
