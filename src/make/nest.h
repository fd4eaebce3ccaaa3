/* A stack of experts written as nested weights: Q2_K, then plane after plane
 * (docs/formats.md, "Nested experts"). */
#ifndef JT_MAKE_NEST_H
#define JT_MAKE_NEST_H

#include "base/pool.h"
#include "junto/gguf.h"

typedef struct jt_nest {
    jt_gguf_writer *writer; /* the stack and its planes are the next ones described */
    jt_pool *pool;
    int bits;                                       /* 3 .. 6 */
    const float *weights;                           /* as in jt_retype */
    jt_status (*written)(void *user, size_t bytes); /* may stop it */
    void *user;
} jt_nest;

/* Can it be nested: experts, three dimensions, rows of whole blocks? */
bool jt_nest_can(const jt_gguf_tensor *t);
/* Bytes of the planes. */
uint64_t jt_nest_plane_bytes(const jt_gguf_tensor *t, int bits);
/* Describe the planes of `t`, whose own description has just been added. */
jt_status jt_nest_describe(jt_gguf_writer *writer, const jt_gguf_tensor *t, int bits,
                           jt_err *err);
/* Write the stack and its planes. JT_E_MEMORY, those of writing. */
jt_status jt_nest_tensor(const jt_gguf_tensor *t, const jt_nest *how, jt_err *err);

#endif
