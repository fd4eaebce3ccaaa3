/* Granite 3: dense, mixtures, and mixtures with a shared expert. Their "shared MLP" is
 * the only FFN of models without experts. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key multipliers[] = {
    {"embedding_multiplier", "embedding_scale", JT_HF_FLOAT, "1.0"},
    {"residual_multiplier", "residual_scale", JT_HF_FLOAT, "1.0"},
    {"attention_multiplier", "attention.scale", JT_HF_FLOAT, "1.0"},
    {"logits_scaling", "logit_scale", JT_HF_FLOAT, "1.0"},
    {0}};

static const jt_hf_key mixture[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {0}};

static const jt_hf_key shared[] = {
    {"shared_intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT}, {0}};

static const jt_hf_row experts[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "block_sparse_moe.router.layer.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%.ffn_gate_exps.weight",
     &jt_hf_first_half},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%.ffn_up_exps.weight",
     &jt_hf_second_half},
    {LAYER "block_sparse_moe.output_linear.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

static const jt_hf_row shared_expert[] = {
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_gate_shexp.weight",
     &jt_hf_first_half},
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_up_shexp.weight",
     &jt_hf_second_half},
    {LAYER "shared_mlp.output_linear.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static jt_status import_dims(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 1.0);
}

static bool has_shared(const jt_hf_job *job)
{
    return jt_hf_any_layer(job, "ffn_gate_shexp.weight");
}

const jt_hf_family jt_hf_granite = {
    .model_type = "granite",
    .architecture = "GraniteForCausalLM",
    .arch = "granite",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, multipliers},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned,
                jt_hf_tensors_dense},
    .import = import_dims,
};

const jt_hf_family jt_hf_granitemoeshared = {
    .model_type = "granitemoeshared",
    .architecture = "GraniteMoeSharedForCausalLM",
    .arch = "granitemoe",
    .fits = has_shared,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, multipliers, mixture,
             shared},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, experts,
                shared_expert},
    .import = import_dims,
};

const jt_hf_family jt_hf_granitemoe = {
    .model_type = "granitemoe",
    .architecture = "GraniteMoeForCausalLM",
    .arch = "granitemoe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, multipliers, mixture},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, experts},
    .import = import_dims,
};
