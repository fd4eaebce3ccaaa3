/* Nested weights: blocks of Q2_K, and planes of one more bit of each code, so that any
 * number of bits comes from one file (D2MoE's matryoshka weights, section 4.2). Unlike
 * there, planes have no scales: they halve the cells of the codes before (blocks.h),
 * and scales are chosen with the errors of all widths in mind. */
#ifndef JT_NESTED_H
#define JT_NESTED_H

#include "junto/dtype.h"
#include "kernels/blocks.h"

enum { JT_NESTED_LEAST = 2, JT_NESTED_MOST = 6 };
enum { JT_NESTED_PLANES = JT_NESTED_MOST - JT_NESTED_LEAST };

/* Q2_K, N3, .. N6 for 2 to 6 bits. */
jt_dtype jt_nested_dtype(int bits);

/* Bytes of a plane of n values. */
static inline size_t jt_nested_plane_bytes(size_t n)
{
    return n / 8;
}

/* Encode n values (whole blocks) with `bits` bits: blocks of Q2_K, and bits - 2 planes,
 * each [n / 8]. `w` [n] as in jt_quantize_weighted. */
void jt_quantize_nested(jt_q2_k *base, uint8_t *const *plane, const float *x,
                        const float *w, size_t n, int bits);

/* Turn `n` blocks of `from` bits into such of `to` bits, in place: there is room for
 * them, and the planes, which hold the bits after `from`, lie elsewhere. */
void jt_nested_weave(void *blocks, size_t n, int from, int to,
                     const uint8_t *const *plane);

#endif
