/* Llama 1 to 3, Mistral, SmolLM; Mixtral. GGUF has one architecture for all of them. */
#include "model/hf_rows.h"

static const jt_hf_key mixtral_keys[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, "8"},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, "2"},
    {0}};

/* rope.dimension_count is written for this architecture even where it is the whole
 * head. */
static jt_status import_dims(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 1.0);
}

const jt_hf_family jt_hf_llama = {
    .model_type = "llama|mistral|smollm",
    .architecture = "LlamaForCausalLM",
    .arch = "llama",
    .exports = JT_HF_DENSE,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned,
                jt_hf_tensors_dense},
    .import = import_dims,
};

const jt_hf_family jt_hf_mixtral = {
    .model_type = "mixtral",
    .architecture = "MixtralForCausalLM",
    .arch = "llama",
    .exports = JT_HF_MIXTURE,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, mixtral_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned,
                jt_hf_tensors_mixtral},
    .import = import_dims,
};
