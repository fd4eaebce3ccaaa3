/* The layer of Mamba-2 (Dao and Gu 2024, "Transformers are SSMs"; the Mamba layers of
 * Granite 4, Bamba, Nemotron-H and Falcon-H1 in transformers). Heads of x share the
 * B and C of their group, and each head forgets at its own pace:
 *     (z, x, B, C, dt) = W_in h
 *     (x, B, C) = silu(conv(x, B, C))
 *     dt = softplus(dt + b_dt)                       one number for a head
 *     s = exp(dt A) s + dt x B^T                     s [head_dim, d_state]
 *     y = s C + D x
 *     y = W_out norm(y * silu(z))                    RMS norm over each group, if any
 */
#ifndef JT_MAMBA2_H
#define JT_MAMBA2_H

#include "nn/causal_conv.h"

typedef struct jt_mamba2 {
    jt_tensor in;        /* [2 d_inner + 2 groups d_state + heads, d] */
    jt_causal_conv conv; /* d_inner + 2 groups d_state channels, with silu */
    jt_tensor dt_bias;   /* [heads] */
    jt_tensor a;         /* [heads], negative */
    jt_tensor d;         /* [heads] */
    jt_tensor norm;      /* [d_inner], or empty */
    jt_tensor out;       /* [d, d_inner] */
    size_t heads, head_dim, groups, d_state;
    float norm_eps;
} jt_mamba2;

/* Floats that it remembers from chunk to chunk. */
size_t jt_mamba2_state(const jt_mamba2 *layer);

/* As jt_short_conv_forward. */
jt_tensor jt_mamba2_forward(jt_context *ctx, const jt_mamba2 *layer, jt_input *h,
                            float *state, const jt_places *places);

#endif
