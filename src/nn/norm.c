#include "nn/norm.h"

#include <math.h>

jt_tensor jt_norm_forward(jt_context *ctx, const jt_norm *norm, const jt_tensor *x)
{
    if (norm->kind == JT_NORM_NONE)
        return ctx->tape ? jt_copy(ctx, x) : *x;
    jt_tensor centered = norm->kind == JT_NORM_LAYER ? jt_center(ctx, x) : *x;
    jt_tensor y = jt_rms_norm(ctx, &centered, &norm->weight, norm->eps);
    jt_add_bias(ctx, &y, &norm->bias);
    return y;
}

/* An RMS norm but for the number of values. */
jt_tensor jt_unit_heads(jt_context *ctx, const jt_tensor *x, size_t n, float length)
{
    static const float eps = 1e-6f; /* under the root of |x| */
    const jt_tensor none = {0};
    jt_tensor heads = *x;
    heads.shape[0] = jt_rows(x) * jt_cols(x) / n;
    heads.shape[1] = n;
    jt_tensor y = jt_rms_norm(ctx, &heads, &none, eps / (float)n);
    y.shape[0] = jt_rows(x);
    y.shape[1] = jt_cols(x);
    jt_scale(ctx, &y, length / sqrtf((float)n));
    return y;
}
