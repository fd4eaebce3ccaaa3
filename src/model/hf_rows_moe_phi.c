/* Phi-3 and Phi-4, whose projections are fused, and Phi-3.5-MoE. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key window[] = {
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "0"}, {0}};

static const jt_hf_row phi3_tensors[] = {
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "self_attn.qkv_proj.weight", "blk.%.attn_qkv.weight"},
    {LAYER "self_attn.o_proj.weight", "blk.%.attn_output.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "mlp.gate_up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"},
    {0}};

static const jt_hf_key phimoe_keys[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"lm_head_bias", "output.bias", JT_HF_HAS},
    {0}};

static const jt_hf_row phimoe_tensors[] = {
    {"model.norm.bias", "output_norm.bias"},
    {"lm_head.bias", "output.bias"},
    {LAYER "input_layernorm.bias", "blk.%.attn_norm.bias"},
    {LAYER "post_attention_layernorm.bias", "blk.%.ffn_norm.bias"},
    {0}};

static jt_status import_dims(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 1.0);
}

/* What rotations are stretched by is the same for short and for long texts in all
 * published models, and in GGUF. */
static jt_status import_phimoe(jt_hf_job *job)
{
    const json_t *small =
        jt_hf_config(job, "rope_parameters.short_mscale|rope_scaling.short_mscale");
    const json_t *large =
        jt_hf_config(job, "rope_parameters.long_mscale|rope_scaling.long_mscale");
    if (small && large && json_number_value(small) != json_number_value(large))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: 'short_mscale' and 'long_mscale' differ");
    return import_dims(job);
}

/* No window is null in config.json. */
static jt_status export_phi3(jt_hf_job *job)
{
    if (json_integer_value(jt_hf_config(job, "sliding_window")) == 0)
        JT_TRY(jt_hf_put(job, "sliding_window", json_null()));
    return jt_hf_export_rope_dims(job);
}

/* Its code multiplies by numbers of its own for short and for long texts. */
static jt_status export_phimoe(jt_hf_job *job)
{
    double factor = 1.0;
    if (!jt_gguf_find(job->file, "rope_factors_long.weight"))
        return JT_OK;
    jt_hf_get_float(job, "rope.scaling.attn_factor", &factor);
    JT_TRY(jt_hf_put(job, "rope_parameters.short_mscale", jt_hf_real((float)factor)));
    return jt_hf_put(job, "rope_parameters.long_mscale", jt_hf_real((float)factor));
}

const jt_hf_family jt_hf_phi3 = {
    .model_type = "phi3",
    .architecture = "Phi3ForCausalLM",
    .arch = "phi3",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, window},
    .tensors = {jt_hf_tensors_ends, phi3_tensors},
    .import = import_dims,
    .export = export_phi3,
};

const jt_hf_family jt_hf_phimoe = {
    .model_type = "phimoe",
    .architecture = "PhimoeForCausalLM",
    .arch = "phimoe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, phimoe_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_mixtral,
                phimoe_tensors},
    .import = import_phimoe,
    .export = export_phimoe,
};
