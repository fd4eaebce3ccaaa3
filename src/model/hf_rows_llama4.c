/* Llama 4: experts in stacks [expert, in, out], gate and up in one. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key keys[] = {
    {"intermediate_size_mlp", "feed_forward_length", JT_HF_INT, .required = true},
    {"intermediate_size", "expert_feed_forward_length", JT_HF_INT, .required = true},
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, "1"},
    {"interleave_moe_layer_step", "interleave_moe_layer_step", JT_HF_INT, "1"},
    {"attention_chunk_size", "attention.sliding_window", JT_HF_INT, "8192"},
    {"floor_scale", "attention.temperature_length", JT_HF_FLOAT, "8192"},
    {"attn_scale", "attention.temperature_scale", JT_HF_FLOAT, "0.1"},
    {"no_rope_layer_interval", NULL, JT_HF_INT, "4"},
    {0}};

static const jt_hf_row tensors[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "feed_forward.gate_proj.weight", "blk.%.ffn_gate.weight"},
    {LAYER "feed_forward.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "feed_forward.down_proj.weight", "blk.%.ffn_down.weight"},
    {LAYER "feed_forward.router.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "feed_forward.experts.gate_up_proj", "blk.%.ffn_gate_exps.weight",
     &jt_hf_first_half_t},
    {LAYER "feed_forward.experts.gate_up_proj", "blk.%.ffn_up_exps.weight",
     &jt_hf_second_half_t},
    {LAYER "feed_forward.experts.down_proj", "blk.%.ffn_down_exps.weight",
     &jt_hf_transposed},
    {LAYER "feed_forward.shared_expert.gate_proj.weight",
     "blk.%.ffn_gate_shexp.weight"},
    {LAYER "feed_forward.shared_expert.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "feed_forward.shared_expert.down_proj.weight",
     "blk.%.ffn_down_shexp.weight"},
    {0}};

/* Models of 128 experts are those without norms of queries and keys. */
static bool has_norms(const jt_hf_job *job)
{
    int64_t experts = 0;
    jt_hf_get_int(job, "expert_count", &experts);
    return experts != 128;
}

static jt_status import(jt_hf_job *job)
{
    const json_t *norms = jt_hf_config(job, "use_qk_norm");
    const json_t *rotated = jt_hf_config(job, "no_rope_layers");
    if (norms && json_is_true(norms) != has_norms(job))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: 'use_qk_norm' is not as in models of as many "
                       "experts");
    for (size_t i = 0; i < json_array_size(rotated); i++) {
        if (json_integer_value(json_array_get(rotated, i)) != ((i + 1) % 4 != 0))
            return jt_fail(job->err, JT_E_UNSUPPORTED,
                           "config.json: 'no_rope_layers' is not every fourth");
    }
    if (json_is_false(jt_hf_config(job, "attn_temperature_tuning")))
        JT_TRY(jt_hf_set_float(job, "attention.temperature_scale", 0.0));
    return jt_hf_import_rope_dims(job, 1.0);
}

static jt_status export(jt_hf_job *job)
{
    double scale = 0.1;
    jt_hf_get_float(job, "attention.temperature_scale", &scale);
    JT_TRY(jt_hf_put(job, "attn_temperature_tuning", json_boolean(scale != 0.0)));
    return jt_hf_put(job, "use_qk_norm", json_boolean(has_norms(job)));
}

const jt_hf_family jt_hf_llama4 = {
    .model_type = "llama4_text",
    .architecture = "Llama4ForCausalLM",
    .arch = "llama4",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, tensors},
    .import = import,
    .export = export,
};
