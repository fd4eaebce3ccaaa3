/* The gated short convolution of LFM2 (Liquid AI; Lfm2ShortConv in transformers):
 *     (B, C, x) = W_in h
 *     y = W_out (C * conv(B * x))
 * where * goes value by value. */
#ifndef JT_SHORT_CONV_H
#define JT_SHORT_CONV_H

#include "nn/causal_conv.h"

typedef struct jt_short_conv {
    jt_tensor in;        /* [3 d, d]: rows of B, of C, of x */
    jt_causal_conv conv; /* d channels */
    jt_tensor out;       /* [d, d] */
} jt_short_conv;

/* Floats that it remembers from chunk to chunk. */
size_t jt_short_conv_state(const jt_short_conv *layer);

/* A chunk of tokens after those of the state, which moves on. A document begins
 * afresh, whatever the state holds. With a tape the chunk is all there is: start 0.
 * [tokens, d]. */
jt_tensor jt_short_conv_forward(jt_context *ctx, const jt_short_conv *layer,
                                jt_input *h, float *state, const jt_places *places);

#endif
