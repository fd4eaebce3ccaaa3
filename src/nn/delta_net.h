/* The gated delta net (Yang et al. 2024, "Gated Delta Networks"), as the linear
 * attention of Qwen3-Next and Qwen3.5 has it (Qwen3NextGatedDeltaNet in transformers).
 * Queries and keys of a head are shared by some heads of values:
 *     (q, k, v) = silu(conv(W_qkv h))      z = W_z h      b, a = W_b h, W_a h
 *     q = q / |q| / sqrt(k_dim)            k = k / |k|
 *     beta = sigmoid(b)                    decay = exp(A softplus(a + b_dt))
 *     S = decay S                          S [v_dim, k_dim]
 *     S = S + beta (v - S k) k^T
 *     y = W_out (norm(S q) * silu(z))      RMS norm over each head
 */
#ifndef JT_DELTA_NET_H
#define JT_DELTA_NET_H

#include "nn/causal_conv.h"

typedef struct jt_delta_net {
    jt_tensor qkv; /* [2 k_heads k_dim + v_heads v_dim, d] */
    jt_tensor z;   /* [v_heads v_dim, d] */
    /* Either one matrix with, for each head of keys, the rows of b and then those of a
     * of its heads of values, [2 v_heads, d], or two of [v_heads, d]. */
    jt_tensor ba, b, a;
    jt_causal_conv conv; /* as many channels as qkv has rows, with silu */
    jt_tensor rate;      /* [v_heads]: A, negative */
    jt_tensor dt_bias;   /* [v_heads] */
    jt_tensor norm;      /* [v_dim] */
    jt_tensor out;       /* [d, v_heads v_dim] */
    size_t k_heads, v_heads, k_dim, v_dim;
    bool tiled; /* values of head i go with keys of head i % k_heads; otherwise
                   neighbouring heads of values share keys */
    float norm_eps;
} jt_delta_net;

/* Floats that it remembers from chunk to chunk. */
size_t jt_delta_net_state(const jt_delta_net *layer);

/* As jt_short_conv_forward. */
jt_tensor jt_delta_net_forward(jt_context *ctx, const jt_delta_net *layer, jt_input *h,
                               float *state, const jt_places *places);

#endif
