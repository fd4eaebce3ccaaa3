/* Qwen 2 and 3, dense and mixtures; OLMoE, which has the same names. */
#include <stdio.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key experts[] = {
    {"num_experts|num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"norm_topk_prob", "expert_weights_norm", JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_key expert_width[] = {
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT},
    {0}};

static const jt_hf_key olmoe_clip[] = {{"clip_qkv", "attention.clamp_kqv", JT_HF_FLOAT},
                                       {0}};

static const jt_hf_row shared_expert[] = {
    {LAYER "mlp.shared_expert.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_expert.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_expert.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {LAYER "mlp.shared_expert_gate.weight", "blk.%.ffn_gate_inp_shexp.weight",
     &jt_hf_vector},
    {0}};

/* Layers without a router are dense. */
static jt_status export_dense_layers(jt_hf_job *job)
{
    int64_t layers = 0;
    json_t *dense = json_array();
    jt_hf_get_int(job, "block_count", &layers);
    for (int64_t i = 0; i < layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", (int)i);
        if (!jt_gguf_find(job->file, name))
            json_array_append_new(dense, json_integer(i));
    }
    JT_TRY(jt_hf_put(job, "decoder_sparse_step", json_integer(1)));
    return jt_hf_put(job, "mlp_only_layers", dense);
}

/* MiMo is Qwen2 with layers that predict further tokens. */
static const char *const mimo_skipped[] = {"mtp_layers.", NULL};

const jt_hf_family jt_hf_qwen2 = {
    .model_type = "qwen2|mimo",
    .architecture = "Qwen2ForCausalLM",
    .arch = "qwen2",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_dense},
    .skipped = mimo_skipped,
};

const jt_hf_family jt_hf_qwen2moe = {
    .model_type = "qwen2_moe",
    .architecture = "Qwen2MoeForCausalLM",
    .arch = "qwen2moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, experts, expert_width},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_dense,
                jt_hf_tensors_experts, shared_expert},
    .export = export_dense_layers,
};

const jt_hf_family jt_hf_qwen3 = {
    .model_type = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .arch = "qwen3",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_dense},
};

const jt_hf_family jt_hf_qwen3moe = {
    .model_type = "qwen3_moe",
    .architecture = "Qwen3MoeForCausalLM",
    .arch = "qwen3moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, experts,
             expert_width},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_dense, jt_hf_tensors_experts},
    .export = export_dense_layers,
};

const jt_hf_family jt_hf_olmoe = {
    .model_type = "olmoe",
    .architecture = "OlmoeForCausalLM",
    .arch = "olmoe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, experts, olmoe_clip},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_dense, jt_hf_tensors_experts},
};
