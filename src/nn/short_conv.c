#include "nn/short_conv.h"

size_t jt_short_conv_state(const jt_short_conv *layer)
{
    return jt_causal_conv_state(&layer->conv);
}

jt_tensor jt_short_conv_forward(jt_context *ctx, const jt_short_conv *layer,
                                jt_input *h, float *state, const jt_places *places)
{
    size_t d = jt_cols(&h->x);
    jt_tensor all = jt_linear(ctx, h, &layer->in, NULL);
    jt_columns b = {all, 0, d}, c = {all, d, d}, x = {all, 2 * d, d};
    jt_columns gated = {jt_multiply(ctx, &b, &x), 0, d};
    jt_columns mixed = {
        jt_causal_conv_forward(ctx, &layer->conv, &gated, places, state), 0, d};
    jt_input y = jt_input_of(jt_multiply(ctx, &c, &mixed));
    return jt_linear(ctx, &y, &layer->out, NULL);
}
