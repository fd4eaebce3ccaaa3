/* The factors of low-rank changes as decoding reads them fastest: in few bits, one
 * after the other in memory, B in panels (kernels.h).
 *
 * What sequences with adapters of their own cost follows these bytes: those of the
 * model are read once for all sequences of a pass, those of the adapters are not. So
 * changes to a quantised weight have 8 bits a value, with a scale for 32 of a row,
 * which is as fine as Q8_0 and finer than all other such weights; all others 16 where
 * that says every value exactly. */
#ifndef JT_ADAPT_FACTORS_H
#define JT_ADAPT_FACTORS_H

#include "kernels/kernels.h"
#include "tensor/ops.h"

typedef enum jt_factor_part {
    JT_FACTOR_A, /* rows of many values, in panels only with 8 bits; gates too */
    JT_FACTOR_B
} jt_factor_part;

/* Matrices of one size, `bytes` apart. */
typedef struct jt_factor {
    const char *data;
    size_t bytes;
    jt_dtype dtype; /* F32, F16 or BF16: all values are said exactly; Q8_0: of 8 bits */
    bool panels;
} jt_factor;

/* Of a stack of low-rank changes: all that a pass looks at, in a line of the cache. */
typedef struct jt_factors {
    jt_factor a, b; /* A by rows, B in panels */
    size_t rows;    /* of a matrix of B */
    uint32_t rank;
    float scale; /* of the slot */
} jt_factors;

/* "auto", which NULL is too, "exact", "q8_0". JT_E_ARG. */
jt_status jt_factor_rule_named(jt_factor_rule *rule, const char *name, jt_err *err);

/* May the factors of changes to a weight of this type have 8 bits? */
bool jt_factors_rounded(jt_factor_rule rule, jt_dtype weight);

/* How the matrices [count, rows, cols] of F32, which are A or B, will lie; the bytes
 * that they need, 0 where they are read as they are. With `rounded` they get 8 bits
 * where that is less, and all values finite. */
size_t jt_factor_plan(jt_factor *f, const jt_tensor *t, jt_factor_part part,
                      bool rounded, const jt_kernels *kernels);
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
