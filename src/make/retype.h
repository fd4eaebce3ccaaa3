/* A tensor written with another type: some rows at a time, over a pool. */
#ifndef JT_MAKE_RETYPE_H
#define JT_MAKE_RETYPE_H

#include "base/pool.h"
#include "junto/gguf.h"

typedef struct jt_retype {
    jt_gguf_writer *writer; /* the tensor is the next one described */
    jt_pool *pool;
    jt_dtype to;
    /* Of the error of each value: [matrices, columns], a row for each index of all
     * dimensions but the last two; NULL: as jt_quantize. */
    const float *weights;
    /* Changes the values of a row, counted over all dimensions but the last; NULL: none
     * changes. */
    void (*change)(void *user, size_t row, float *values);
    jt_status (*written)(void *user, size_t bytes); /* may stop it */
    void *user;
} jt_retype;

/* Write all of `t`; its bytes as they are when type and values stay.
 * Rows must be whole blocks of the type. JT_E_MEMORY, those of writing. */
jt_status jt_retype_tensor(const jt_gguf_tensor *t, const jt_retype *how, jt_err *err);

#endif
