/* The inside of a loaded model: hyper-parameters, and weights as views of the file. */
#ifndef JT_MODEL_INTERNAL_H
#define JT_MODEL_INTERNAL_H

#include "junto/model.h"
#include "model/family.h"
#include "model/recurrent.h"
#include "moe/mixture.h"
#include "nn/attention.h"
#include "nn/latent.h"
#include "tensor/tiles.h"

typedef struct jt_params {
    int n_layers, d_model, n_heads, n_kv_heads, k_dim, v_dim;
    int local_k_dim, local_v_dim; /* of heads in layers with a window */
    int kv_rank, q_rank; /* of latent attention; 0: none, and queries without */
    int n_ctx_train, n_vocab;
    float norm_eps, clamp;
    float attention_scale;   /* of the dot products; 0: 1 / sqrt(k_dim) */
    float attention_softcap; /* 0 for none */
    int window;    /* tokens that layers with a window see; 0: no such layers */
    int borrowers; /* of the layers so many, the last, have no keys and values of their
                      own: they read those of a layer before */
    int layer_width; /* of the embeddings that each layer has; 0: none */
    jt_temperature temperature;
    float embedding_scale, residual_scale, logit_scale; /* 1 for none */
    float carried_scale; /* of the residual stream (jt_family.carries_normed) */
    float logit_softcap; /* 0 for none */
    jt_router router; /* of all mixture layers, its tensors empty; n_experts 0: none */
    jt_rope_params rope[JT_ROPE_USES]; /* dims 0: not used */
    jt_recurrent_params recurrent;
} jt_params;

/* How a layer mixes tokens: what the part of that name is. */
typedef enum jt_mixer {
    JT_MIX_ATTENTION,
    JT_MIX_LATENT,
    JT_MIX_RECURRENT,
    JT_MIX_BOTH, /* attention and recurrent, added (jt_family.abreast) */
    JT_MIX_NONE  /* the layer is an FFN only (jt_family.single) */
} jt_mixer;

typedef struct jt_layer {
    jt_norm norm[JT_NORM_PLACES];
    jt_mixer mixer;
    int keys_of; /* the layer whose keys and values attention reads: usually this one */
    jt_attention attention;
    jt_latent latent;
    jt_recurrent recurrent;
    bool is_mixture;
    jt_mixture mixture;             /* when is_mixture */
    jt_bank dense;                  /* otherwise, and beside it (jt_beside) */
    jt_tensor input_gate, input_up; /* [n, d], [d, n] (layer_input.h); or empty */
    jt_tensor scale; /* [1]: of the hidden states after the layer; or empty */
} jt_layer;

typedef struct jt_apart jt_apart; /* model/apart.h */

struct jt_model {
    jt_gguf *file;
    const jt_family *family;
    jt_params params;
    const jt_norm_names *norm_names;
    jt_tensor embedding;                                     /* [vocab, d] */
    jt_tensor layer_embedding, layer_projection, layer_norm; /* [vocab, layers * n],
                            [layers * n, d], [n] (layer_input.h); or empty */
    jt_norm output_norm;
    jt_tensor output;      /* [vocab, d]; the embedding where they are tied */
    jt_tensor output_bias; /* [vocab]; may be empty */
    jt_layer *layers;      /* [n_layers] */
    jt_rope rope[JT_ROPE_USES];
    jt_tokenizer *tokenizer; /* NULL when the file has none */
    jt_apart *apart;         /* of jt_model_load_apart; otherwise NULL */
    jt_tiles *tiles;         /* of the weights, which do not change; or NULL */
};

/* Read "<arch>.*" and "junto.*" keys; every number is checked against sane bounds. */
jt_status jt_params_read(jt_params *out, const jt_gguf *file, const jt_family *family,
                         jt_err *err);

/* Find, check and bind all tensors. */
jt_status jt_weights_bind(jt_model *model, jt_err *err);

#endif
