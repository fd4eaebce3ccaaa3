/* The quantisers, one per format: `n` floats to n / values blocks, so that the squared
 * error, each value's times its weight w >= 0, is small. Codes of values or weights
 * that are not finite are arbitrary.
 *
 * All follow the same plan. Given the codes, the best scale (and minimum) is a matter
 * of least squares; given those, the best code of each value is the nearest one. A
 * search over a few scales finds a good start, and the two steps in turn improve on it
 * (Lloyd 1982). Where scales are themselves rounded, to halves or to a few bits of a
 * step of the block, the last word is had by what the rounded ones give. */
#ifndef JT_QUANTIZE_H
#define JT_QUANTIZE_H

#include <stddef.h>

#include "kernels/blocks.h"

#define X(suffix, lower, values, group, bias, offset, top) \
    void jt_quantize_##lower(jt_##lower *dst, const float *x, const float *w, size_t n);
JT_ENCODED_LIST(X)
#undef X

#endif
