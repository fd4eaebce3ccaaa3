/* A causal depthwise convolution over tokens: each channel sees its own last inputs,
 *     y[t, c] = bias[c] + sum over j < width of w[c, j] x[t - width + 1 + j, c],
 * with zeros before the first token of the document. Between chunks it remembers the
 * inputs of the last width - 1 tokens. */
#ifndef JT_CAUSAL_CONV_H
#define JT_CAUSAL_CONV_H

#include "nn/places.h"
#include "tensor/ops.h"

#define JT_CONV_MAX_WIDTH 16

typedef struct jt_causal_conv {
    jt_tensor weight; /* [channels, width] F32, the weight of the oldest input first */
    jt_tensor bias;   /* [channels], or empty */
    bool silu;        /* y goes through x / (1 + exp(-x)) */
} jt_causal_conv;

/* Floats of the state [width - 1, channels]. */
size_t jt_causal_conv_state(const jt_causal_conv *conv);

/* A chunk; x is as wide as there are channels: [tokens, channels]. With a tape the
 * chunk is all there is: start 0. */
jt_tensor jt_causal_conv_forward(jt_context *ctx, const jt_causal_conv *conv,
                                 const jt_columns *x, const jt_places *places,
                                 float *state);

#endif
