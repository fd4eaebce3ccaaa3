/* The inside of a loaded model: hyper-parameters, and weights as views of the file. */
#ifndef JT_MODEL_INTERNAL_H
#define JT_MODEL_INTERNAL_H

#include "junto/model.h"
#include "model/family.h"
#include "moe/mixture.h"
#include "nn/attention.h"

typedef struct jt_params {
    int n_layers, d_model, n_heads, n_kv_heads, k_dim, v_dim;
    int n_ctx_train, n_vocab;
    float norm_eps, clamp;
    jt_router router; /* of all mixture layers, its tensors empty; n_experts 0: none */
    jt_rope_params rope;
} jt_params;

/* How a layer mixes tokens: what the part of that name is. */
typedef enum jt_mixer { JT_MIX_ATTENTION } jt_mixer;

typedef struct jt_layer {
    jt_tensor attn_norm, ffn_norm; /* [d] */
    jt_mixer mixer;
    jt_attention attention;
    bool is_mixture;
    jt_mixture mixture; /* when is_mixture */
    jt_bank dense;      /* otherwise */
} jt_layer;

struct jt_model {
    jt_gguf *file;
    const jt_family *family;
    jt_params params;
    jt_tensor embedding;   /* [vocab, d] */
    jt_tensor output_norm; /* [d] */
    jt_tensor output;      /* [vocab, d]; the embedding where they are tied */
    jt_layer *layers;      /* [n_layers] */
    jt_rope rope;
    jt_tokenizer *tokenizer; /* NULL when the file has none */
};

/* Read "<arch>.*" and "junto.*" keys; every number is checked against sane bounds. */
jt_status jt_params_read(jt_params *out, const jt_gguf *file, const jt_family *family,
                         jt_err *err);

/* Find, check and bind all tensors. */
jt_status jt_weights_bind(jt_model *model, jt_err *err);

#endif
