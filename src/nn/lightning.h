/* Lightning attention: linear attention whose heads forget at fixed paces, the slower
 * the deeper the layer lies (Qin et al. 2024, "Various Lengths, Constant Speed";
 * MiniMax 2025, "MiniMax-01", section 2.2; MiniMaxLightningAttention in transformers):
 *     q, k, v = silu(W_qkv h)              rows of W_qkv: q, k and v of each head
 *     S = exp(-slope) S + v k^T            S [dim, dim]
 *     y = W_out (norm(S q) * sigmoid(W_g h))   RMS norm over all heads
 * where * goes value by value, and slope is slope_scale 2^(-8 i / heads) for head i of
 * 1 .. heads. */
#ifndef JT_LIGHTNING_H
#define JT_LIGHTNING_H

#include "nn/places.h"
#include "tensor/ops.h"

typedef struct jt_lightning {
    jt_tensor qkv;  /* [3 heads dim, d] */
    jt_tensor gate; /* [heads dim, d] */
    jt_tensor norm; /* [heads dim] */
    jt_tensor out;  /* [d, heads dim] */
    size_t heads, dim;
    float slope_scale;
} jt_lightning;

/* The slope scale of a layer: from 1 for the first to about 0 for the last. */
float jt_lightning_slope_scale(int layer, int layers);

/* Floats that it remembers from chunk to chunk. */
size_t jt_lightning_state(const jt_lightning *layer);

/* As jt_short_conv_forward. */
jt_tensor jt_lightning_forward(jt_context *ctx, const jt_lightning *layer, jt_input *h,
                               float *state, const jt_places *places);

#endif
