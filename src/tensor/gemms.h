/* Matrix products of floats over the pool: what training is made of. */
#ifndef JT_GEMMS_H
#define JT_GEMMS_H

#include "tensor/context.h"

/* Run `count` products in one parallel region, as precise as the context says. Products
 * that follow each other and have the same C add to it in this order; apart from that,
 * none may write what another reads or writes. Scratch memory and precision need not be
 * set. A value depends neither on the threads nor on what else is in the list. */
void jt_gemms(jt_context *ctx, const jt_gemm *list, size_t count);

#endif
