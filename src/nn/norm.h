/* The norms around the parts of a layer. */
#ifndef JT_NORM_H
#define JT_NORM_H

#include "tensor/ops.h"

/* What a norm does to each row x of length n:
 *   RMS    x / sqrt(mean(x^2) + eps) * w                        (Zhang & Sennrich 2019)
 *   LAYER  (x - mean(x)) / sqrt(var(x) + eps) * w + b           (Ba et al. 2016)
 * An empty w is ones, an empty b zeros. NONE leaves x as it is. */
typedef enum jt_norm_kind { JT_NORM_RMS, JT_NORM_LAYER, JT_NORM_NONE } jt_norm_kind;

typedef struct jt_norm {
    jt_norm_kind kind;
    float eps;
    jt_tensor weight, bias; /* [n]; may be empty */
} jt_norm;

/* Of NONE the result is x itself; with a tape a copy, as x may change in place. */
jt_tensor jt_norm_forward(jt_context *ctx, const jt_norm *norm, const jt_tensor *x);

/* Every n values of the rows of x, a head, as x / |x| * length. */
jt_tensor jt_unit_heads(jt_context *ctx, const jt_tensor *x, size_t n, float length);

#endif
