/* Kimi Delta Attention (Kimi Team 2025, "Kimi Linear", section 3): a gated delta net
 * whose heads forget each value of the key at its own pace, with gates made from a few
 * numbers (KimiLinearDeltaAttention in transformers):
 *     q, k, v = silu(conv(W_q h)), silu(conv(W_k h)), silu(conv(W_v h))
 *     q = q / |q| / sqrt(dim)              k = k / |k|
 *     beta = sigmoid(W_b h)                one number for a head
 *     a = exp(A softplus(F_b F_a h + b_dt))    [dim] for a head
 *     S = S diag(a)                        S [dim, dim]: rows of values
 *     S = S + beta (v - S k) k^T
 *     y = W_out (norm(S q) * sigmoid(G_b G_a h))      RMS norm over each head
 */
#ifndef JT_KIMI_DELTA_H
#define JT_KIMI_DELTA_H

#include "nn/causal_conv.h"

enum { JT_KIMI_Q, JT_KIMI_K, JT_KIMI_V, JT_KIMI_QKV };

typedef struct jt_kimi_delta {
    jt_tensor in[JT_KIMI_QKV];        /* [heads dim, d] */
    jt_causal_conv conv[JT_KIMI_QKV]; /* heads dim channels, with silu */
    jt_tensor b;                      /* [heads, d] */
    jt_tensor f_a, f_b;               /* [rank, d], [heads dim, rank] */
    jt_tensor dt_bias;                /* [heads dim] */
    jt_tensor rate;                   /* [heads]: A, negative */
    jt_tensor g_a, g_b;               /* as f_a, f_b */
    jt_tensor norm;                   /* [dim] */
    jt_tensor out;                    /* [d, heads dim] */
    size_t heads, dim;
    float norm_eps;
} jt_kimi_delta;

/* Floats that it remembers from chunk to chunk. */
size_t jt_kimi_delta_state(const jt_kimi_delta *layer);

/* As jt_short_conv_forward. */
jt_tensor jt_kimi_delta_forward(jt_context *ctx, const jt_kimi_delta *layer,
                                jt_input *h, float *state, const jt_places *places);

#endif
