/* Rows that many families share. Names: transformers' modelling files, and llama.cpp's
 * gguf-py/gguf/tensor_mapping.py and conversion/base.py. */
#include "model/hf_rows.h"

/* clang-format off */
#define SIZES                                                                        \
    {"num_hidden_layers", "block_count", JT_HF_INT, .required = true},               \
    {"max_position_embeddings", "context_length", JT_HF_INT, .required = true},      \
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},                \
    {"intermediate_size", "feed_forward_length", JT_HF_INT},                         \
    {"num_attention_heads", "attention.head_count", JT_HF_INT, .required = true},    \
    {"num_key_value_heads", "attention.head_count_kv", JT_HF_INT},                   \
    {"head_dim", "attention.key_length", JT_HF_INT},                                 \
    {"head_dim", "attention.value_length", JT_HF_INT},                               \
    {"vocab_size", "vocab_size", JT_HF_INT}
/* clang-format on */

const jt_hf_key jt_hf_keys_common[] = {
    SIZES,
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-6"},
    {0}};

const jt_hf_key jt_hf_keys_sizes[] = {SIZES, {0}};

const jt_hf_key jt_hf_keys_hybrid[] = {
    {"num_hidden_layers", "block_count", JT_HF_INT, .required = true},
    {"max_position_embeddings", "context_length", JT_HF_INT, .required = true},
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},
    {"intermediate_size", "feed_forward_length", JT_HF_INT},
    {"num_attention_heads", "attention.head_count", JT_HF_INT, .required = true},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {0}};

const jt_hf_key jt_hf_keys_silu[] = {{"hidden_act", NULL, JT_HF_TEXT, "silu"}, {0}};

const jt_hf_key jt_hf_keys_bias[] = {{"attention_bias", "blk.0.attn_q.bias", JT_HF_HAS},
                                     {0}};

const jt_hf_key jt_hf_keys_mixture[] = {
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"first_k_dense_replace", "leading_dense_block_count", JT_HF_INT},
    {"routed_scaling_factor", "expert_weights_scale", JT_HF_FLOAT},
    {"norm_topk_prob", "expert_weights_norm", JT_HF_BOOL},
    {"n_group", "expert_group_count", JT_HF_INT},
    {"topk_group", "expert_group_used_count", JT_HF_INT},
    {0}};

const jt_hf_row jt_hf_tensors_ends[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {0}};

#define LAYER "model.layers.%."

/* clang-format off */
#define QKVO \
    {LAYER "self_attn.q_proj.weight", "blk.%.attn_q.weight"}, \
    {LAYER "self_attn.q_proj.bias", "blk.%.attn_q.bias"}, \
    {LAYER "self_attn.k_proj.weight", "blk.%.attn_k.weight"}, \
    {LAYER "self_attn.k_proj.bias", "blk.%.attn_k.bias"}, \
    {LAYER "self_attn.v_proj.weight", "blk.%.attn_v.weight"}, \
    {LAYER "self_attn.v_proj.bias", "blk.%.attn_v.bias"}, \
    {LAYER "self_attn.o_proj.weight", "blk.%.attn_output.weight"}, \
    {LAYER "self_attn.o_proj.bias", "blk.%.attn_output.bias"}
/* clang-format on */

const jt_hf_row jt_hf_tensors_attention[] = {
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"}, QKVO, {0}};

const jt_hf_row jt_hf_tensors_qkvo[] = {QKVO, {0}};

const jt_hf_row jt_hf_tensors_attention_turned[] = {
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "self_attn.q_proj.weight", "blk.%.attn_q.weight", &jt_hf_rotate_q},
    {LAYER "self_attn.q_proj.bias", "blk.%.attn_q.bias", &jt_hf_rotate_q},
    {LAYER "self_attn.k_proj.weight", "blk.%.attn_k.weight", &jt_hf_rotate_k},
    {LAYER "self_attn.k_proj.bias", "blk.%.attn_k.bias", &jt_hf_rotate_k},
    {LAYER "self_attn.v_proj.weight", "blk.%.attn_v.weight"},
    {LAYER "self_attn.v_proj.bias", "blk.%.attn_v.bias"},
    {LAYER "self_attn.o_proj.weight", "blk.%.attn_output.weight"},
    {LAYER "self_attn.o_proj.bias", "blk.%.attn_output.bias"},
    {0}};

const jt_hf_row jt_hf_tensors_qk_norm[] = {
    {LAYER "self_attn.q_norm.weight", "blk.%.attn_q_norm.weight"},
    {LAYER "self_attn.k_norm.weight", "blk.%.attn_k_norm.weight"},
    {0}};

/* clang-format off */
#define MLP \
    {LAYER "mlp.gate_proj.weight", "blk.%.ffn_gate.weight"}, \
    {LAYER "mlp.up_proj.weight", "blk.%.ffn_up.weight"}, \
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"}
/* clang-format on */

const jt_hf_row jt_hf_tensors_dense[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"}, MLP, {0}};

const jt_hf_row jt_hf_tensors_mlp[] = {MLP, {0}};

const jt_hf_row jt_hf_tensors_experts[] = {
    {LAYER "mlp.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "mlp.experts.#.gate_proj.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "mlp.experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "mlp.experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

const jt_hf_row jt_hf_tensors_shexp[] = {
    {LAYER "mlp.shared_experts.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_experts.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_experts.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

const jt_hf_row jt_hf_tensors_mixtral[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "block_sparse_moe.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "block_sparse_moe.experts.#.w1.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w3.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w2.weight", "blk.%.ffn_down_exps.weight"},
    {0}};
