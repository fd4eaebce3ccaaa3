/* The selective state space layer of Mamba (Gu and Dao 2023, algorithm 2), with the
 * norms that Jamba adds (Lieber et al. 2024; JambaMambaMixer in transformers):
 *     (x, z) = W_in h
 *     x = silu(conv(x))
 *     (dt, B, C) = W_x x                  each through an RMS norm where there is one
 *     dt = softplus(W_dt dt + b_dt)
 *     s = exp(dt A) s + dt x B            s [d_inner, d_state], row by row of x
 *     y = W_out ((s C + D x) * silu(z))
 */
#ifndef JT_MAMBA_H
#define JT_MAMBA_H

#include "nn/causal_conv.h"

typedef struct jt_mamba {
    jt_tensor in;                      /* [2 d_inner, d] */
    jt_causal_conv conv;               /* d_inner channels, with silu */
    jt_tensor x;                       /* [dt_rank + 2 d_state, d_inner] */
    jt_tensor dt, dt_bias;             /* [d_inner, dt_rank], [d_inner] */
    jt_tensor dt_norm, b_norm, c_norm; /* [dt_rank], [d_state], [d_state], or empty */
    jt_tensor a;                       /* [d_inner, d_state], negative */
    jt_tensor d;                       /* [d_inner] */
    jt_tensor out;                     /* [d, d_inner] */
    float norm_eps;
} jt_mamba;

/* Floats that it remembers from chunk to chunk. */
size_t jt_mamba_state(const jt_mamba *layer);

/* As jt_short_conv_forward. */
jt_tensor jt_mamba_forward(jt_context *ctx, const jt_mamba *layer, jt_input *h,
                           float *state, const jt_places *places);

#endif
