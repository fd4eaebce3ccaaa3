/* The factors of low-rank changes as decoding reads them fastest: in 16 bits where that
 * says the same, one after the other in memory, B in panels (kernels.h).
 *
 * What sequences with adapters of their own cost follows these bytes: those of the
 * model are read once for all sequences of a pass, those of the adapters are not. */
#ifndef JT_ADAPT_FACTORS_H
#define JT_ADAPT_FACTORS_H

#include "kernels/kernels.h"
#include "tensor/ops.h"

/* Matrices of one size, `bytes` apart. */
typedef struct jt_factor {
    const char *data;
    size_t bytes;
    jt_dtype dtype; /* F32, F16 or BF16: all values are said exactly */
    bool panels;
} jt_factor;

/* Of a stack of low-rank changes: all that a pass looks at, in a line of the cache. */
typedef struct jt_factors {
    jt_factor a, b; /* A by rows, B in panels */
    size_t rows;    /* of a matrix of B */
    uint32_t rank;
    float scale; /* of the slot */
} jt_factors;

/* How the matrices [count, rows, cols] of F32 will lie; the bytes that they need, 0
 * where they are read as they are. */
size_t jt_factor_plan(jt_factor *f, const jt_tensor *t, bool panels,
                      const jt_kernels *kernels);
/* Then fill them in, from `memory` on, which lives as long as they do; what follows. */
char *jt_factor_fill(jt_factor *f, const jt_tensor *t, char *memory,
                     const jt_kernels *kernels);

/* Room for factors that need `bytes` in all; free() it. NULL without memory. */
char *jt_factors_room(size_t bytes);

/* Let a product with A, whose w is of the right shape, read matrix i; that of B (or
 * NULL) is what is read then. */
void jt_factor_product(const jt_factor *a, const jt_factor *b, size_t i,
                       jt_product *product);

/* u gets matrix i of B and goes. */
void jt_factor_add_up(const jt_factor *b, size_t i, jt_thin_up u,
                      const jt_kernels *kernels);
/* Where its row `row` is, for what comes before it to ask for. */
const void *jt_factor_at(const jt_factor *b, size_t i, size_t row, size_t rank);

#endif
