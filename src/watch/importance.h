/* The inside of importance. */
#ifndef JT_WATCH_IMPORTANCE_H
#define JT_WATCH_IMPORTANCE_H

#include "junto/gguf.h"
#include "junto/shrink.h"

typedef struct jt_seen {
    char *name;
    size_t n_matrices, n_columns;
    double *sums;     /* [matrices, columns] */
    uint64_t *counts; /* [matrices] tokens */
} jt_seen;

/* One matrix in memory, and where what reaches it is added. */
typedef struct jt_seen_at {
    const void *data;
    size_t seen, matrix;
} jt_seen_at;

struct jt_importance {
    jt_seen *seen;
    size_t count, room;
    char **datasets;
    size_t n_datasets, datasets_room;
    uint64_t chunks;
    uint32_t chunk_size;
    /* While gathering: the matrices of the model, by address. */
    jt_seen_at *at;
    size_t n_at, at_room;
};

/* An entry by name; NULL: none. */
jt_seen *jt_importance_find(const jt_importance *importance, const char *name);
/* A new entry of zeros, name copied. JT_E_MEMORY. */
jt_status jt_importance_add(jt_importance *importance, jt_str name, size_t n_matrices,
                            size_t n_columns, jt_err *err);
jt_status jt_importance_add_dataset(jt_importance *importance, jt_str name,
                                    jt_err *err);

/* As jt_importance_load, from an open file. */
jt_status jt_importance_read(jt_importance **out, const jt_gguf *file, jt_err *err);

/* How many matrices saw no token, and how many fewer than JT_IMPORTANCE_PRIOR. False
 * when none saw any. */
enum { JT_IMPORTANCE_PRIOR = 64 };
bool jt_importance_tell(const jt_seen *seen, size_t *unseen, size_t *few);

/* How importance becomes weights of the error: for each matrix the mean squares of its
 * columns, [matrices, columns], as far as its tokens tell. A matrix of few tokens is
 * drawn towards the mean of all that are stacked with it, as if it had seen
 * JT_IMPORTANCE_PRIOR tokens of theirs; one without any gets that mean. No weight is 0.
 * For entries of which jt_importance_tell said true. */
void jt_importance_weights(const jt_seen *seen, float *weights);

#endif
