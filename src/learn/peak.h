/* What this machine can multiply at most: the measure for the speed of training. */
#ifndef JT_PEAK_H
#define JT_PEAK_H

#include "tensor/context.h"

/* Square F32 products, each of one thread, by the kernels that training uses. Their
 * matrices stay in the caches. */
enum { JT_PEAK_SIDE = 384, JT_PEAK_PRODUCTS = 16 };
typedef struct jt_peak {
    const jt_kernels *kernels;
    float *matrices; /* [products, 3, side, side] */
    char *scratch;   /* [products] */
} jt_peak;

/* JT_E_MEMORY. */
jt_status jt_peak_init(jt_peak *peak, const jt_kernels *kernels, jt_err *err);
void jt_peak_free(jt_peak *peak); /* {0} is fine */

/* All products once, over the pool: the operations that this was. */
double jt_peak_run(const jt_peak *peak, jt_pool *pool);

#endif
