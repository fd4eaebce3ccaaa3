/* Grouped-query attention with a KV cache (Vaswani et al. 2017; Ainslie et al. 2023).
 */
#ifndef JT_ATTENTION_H
#define JT_ATTENTION_H

#include "nn/rope.h"
#include "tensor/ops.h"

/* Normalisation of queries and keys before the rotation. */
typedef enum jt_qk_norm {
    JT_QK_NORM_NONE,
    JT_QK_NORM_HEAD, /* each head by itself; weights [head_dim] (Qwen3) */
    JT_QK_NORM_WHOLE /* all heads together; weights [heads * head_dim] (OLMoE) */
} jt_qk_norm;

typedef struct jt_attention {
    jt_tensor q, k, v, o;                     /* [out, in] */
    jt_tensor q_bias, k_bias, v_bias, o_bias; /* may be empty */
    jt_tensor q_norm, k_norm;                 /* as qk_norm says */
    jt_qk_norm qk_norm;
    int n_heads, n_kv_heads;
    int k_dim, v_dim; /* of a head; queries are k_dim long */
    float scale;      /* of the dot products: 1 / sqrt(k_dim) */
    float clamp;      /* > 0: q, k and v are clamped to +-clamp after the norms */
    float norm_eps;
    int window; /* > 0: a token sees this many, the last of which is itself */
} jt_attention;

/* Keys and values of one layer: k [kv_heads, rows, k_dim], v likewise. The token at
 * place p lies in row p % rows; rows are all places, or a multiple of JT_ATTN_BLOCK
 * that has room for the window and a chunk. */
typedef struct jt_kv_layer {
    void *k, *v;
    jt_dtype k_type, v_type;
    size_t rows;
} jt_kv_layer;

/* Attention of a chunk of tokens whose first has position `start` in the cache: their
 * keys and values go into it, every token sees those up to its own, from position
 * first[t] on (packed documents; NULL: from 0). With a tape the chunk must be all there
 * is: start 0, F32 keys and values. [tokens, d]. */
jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *attention,
                               jt_input *x, const jt_rope *rope,
                               const jt_angles *angles, jt_kv_layer *kv, size_t start,
                               const int32_t *first);

#endif
