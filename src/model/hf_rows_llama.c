/* Llama 1 to 3, Mistral, SmolLM; Mixtral. GGUF has one architecture for all of them. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key biases[] = {{"attention_bias", "blk.0.attn_q.bias", JT_HF_HAS},
                                   {0}};

static const jt_hf_row attention[] = {
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

static const jt_hf_key mixtral_keys[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, "8"},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, "2"},
    {0}};

static const jt_hf_row mixtral_experts[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "block_sparse_moe.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "block_sparse_moe.experts.#.w1.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w3.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w2.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

/* rope.dimension_count is written for this architecture even where it is the whole
 * head. */
static jt_status import_dims(jt_hf_job *job)
{
    int64_t dims = 0, width = 0, heads = 0;
    if (!jt_hf_get_int(job, "attention.key_length", &dims)) {
        jt_hf_get_int(job, "embedding_length", &width);
        jt_hf_get_int(job, "attention.head_count", &heads);
        dims = heads ? width / heads : 0;
    }
    return jt_hf_set_int(job, "rope.dimension_count", dims);
}

const jt_hf_family jt_hf_llama = {
    .model_type = "llama|mistral|smollm",
    .architecture = "LlamaForCausalLM",
    .arch = "llama",
    .exports = JT_HF_DENSE,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, biases},
    .tensors = {jt_hf_tensors_ends, attention, jt_hf_tensors_dense},
    .import = import_dims,
};

const jt_hf_family jt_hf_mixtral = {
    .model_type = "mixtral",
    .architecture = "MixtralForCausalLM",
    .arch = "llama",
    .exports = JT_HF_MIXTURE,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, mixtral_keys},
    .tensors = {jt_hf_tensors_ends, attention, mixtral_experts},
    .import = import_dims,
};
