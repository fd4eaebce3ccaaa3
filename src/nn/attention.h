/* Grouped-query attention with a KV cache (Vaswani et al. 2017; Ainslie et al. 2023),
 * and what open models have added to it. */
#ifndef JT_ATTENTION_H
#define JT_ATTENTION_H

#include "nn/places.h"
#include "tensor/ops.h"

/* Normalisation of queries and keys. */
typedef enum jt_qk_norm {
    JT_QK_NORM_NONE,
    JT_QK_NORM_HEAD, /* each head by itself; weights [head_dim], or none (ones) */
    JT_QK_NORM_WHOLE /* all heads together; weights [heads * head_dim] (OLMoE) */
} jt_qk_norm;

/* Queries of a token at position p are multiplied by
 *   1 + scale * ln(1 + floor((p + offset) / length))
 * so that attention stays sharp in long contexts (Llama 4, "inference-time temperature
 * tuning"). A scale of 0: not at all. */
typedef struct jt_temperature {
    float scale, length, offset;
} jt_temperature;

typedef struct jt_attention {
    jt_tensor qkv, qkv_bias; /* q, k and v as one tensor, whose rows those then are; or
                                empty */
    jt_tensor q, k, v, o;    /* [out, in]; without v values are what k makes, before
                                norms and rotation (Gemma 4) */
    jt_tensor q_bias, k_bias, v_bias, o_bias; /* may be empty */
    jt_tensor q_norm, k_norm;                 /* as qk_norm says */
    jt_tensor gate;  /* [heads * v_dim, d]: sigmoids of gate . x multiply what the heads
                        give out; or empty (AFMoE) */
    jt_tensor sinks; /* [n_heads] one more score per head, without a value; or empty */
    jt_qk_norm qk_norm;
    bool norm_late;   /* norms come after the rotation: of heads only */
    bool v_norm;      /* values are normed, too: each head, without weights */
    bool gated;       /* q has for each head the query, then as many gates: sigmoids of
                         them multiply what the head gives out (Qwen3-Next) */
    jt_rope_use rope; /* which rotation of the model, if any */
    int n_heads, n_kv_heads;
    int k_dim, v_dim; /* of a head; queries are k_dim long */
    float scale;      /* of the dot products: usually 1 / sqrt(k_dim) */
    float softcap;    /* > 0: scores are softcap * tanh(score / softcap) */
    float clamp;      /* > 0: q, k and v are clamped to +-clamp after the norms */
    float norm_eps;
    int window;   /* > 0: a token sees this many, the last of which is itself */
    bool chunked; /* the window is that of the piece of so many positions in which
                     the token lies (Llama 4) */
    jt_temperature temperature;
} jt_attention;

/* Let q, k and v (and their biases) be the rows of qkv, where there is one. */
void jt_attention_cut(jt_attention *attention);

/* Put the key [kv_heads * k_dim] and the value [kv_heads * v_dim] of a token, as they
 * are after norms and rotation, at a place of the cache. */
void jt_attention_remember(const jt_kernels *kernels, const jt_attention *attention,
                           const jt_kv_layer *kv, size_t place, const float *k,
                           const float *v);

/* Attention of the tokens of a pass, of one context or of n, one after the other: their
 * keys and values go into the cache, every token sees those of its document and window
 * up to its own. With a tape there must be one context and the pass all of it: start 0,
 * F32 keys and values. [tokens, d]. */
jt_tensor jt_attention_forward(jt_context *ctx, const jt_attention *attention,
                               jt_input *x, const jt_places *places, size_t n);

#endif
