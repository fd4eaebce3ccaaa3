/* The reference quantisers, one per format: `n` floats to n / values blocks. Codes of
 * values that are not finite are arbitrary. */
#ifndef JT_QUANTIZE_H
#define JT_QUANTIZE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/half.h"
#include "kernels/blocks.h"

/* The integer nearest to x in low .. high; low for a NaN. */
static inline int jt_nearest(float x, int low, int high)
{
    if (!(x > (float)low))
        return low;
    return x < (float)high ? (int)lrintf(x) : high;
}

#define X(suffix, lower, values, group, bias, offset, top) \
    void jt_quantize_##lower(jt_##lower *dst, const float *src, size_t n);
JT_ENCODED_LIST(X)
#undef X

#endif
