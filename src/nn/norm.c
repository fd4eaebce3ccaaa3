#include "nn/norm.h"

jt_tensor jt_norm_forward(jt_context *ctx, const jt_norm *norm, const jt_tensor *x)
{
    if (norm->kind == JT_NORM_NONE)
        return ctx->tape ? jt_copy(ctx, x) : *x;
    jt_tensor centered = norm->kind == JT_NORM_LAYER ? jt_center(ctx, x) : *x;
    jt_tensor y = jt_rms_norm(ctx, &centered, &norm->weight, norm->eps);
    jt_add_bias(ctx, &y, &norm->bias);
    return y;
}
