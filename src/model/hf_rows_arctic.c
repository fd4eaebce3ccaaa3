/* Snowflake Arctic (modeling_arctic.py of the checkpoint) and Pangu Pro MoE
 * (modeling_pangu_moe.py of the checkpoint, vllm-ascend's models/pangu_moe.py). */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- Arctic: experts beside a dense FFN ---- */

static const jt_hf_key arctic_keys[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {0}};

static const jt_hf_row arctic_tensors[] = {
    {LAYER "residual_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "residual_mlp.w1.weight", "blk.%.ffn_gate.weight"},
    {LAYER "residual_mlp.w3.weight", "blk.%.ffn_up.weight"},
    {LAYER "residual_mlp.w2.weight", "blk.%.ffn_down.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm_exps.weight"},
    {LAYER "block_sparse_moe.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "block_sparse_moe.experts.#.w1.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w3.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "block_sparse_moe.experts.#.w2.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

/* Unlike what its code takes for granted, the published model is a mixture in every
 * layer, beside a dense FFN. */
static jt_status import_arctic(jt_hf_job *job)
{
    if (jt_hf_whole(job, "moe_layer_frequency", 2) != 1 ||
        !json_is_true(jt_hf_config(job, "parallel_attn_mlp_res")))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: expected 'moe_layer_frequency' of 1 and "
                       "'parallel_attn_mlp_res'");
    return jt_hf_import_rope_dims(job, 1.0);
}

static jt_status export_arctic(jt_hf_job *job)
{
    JT_TRY(jt_hf_put(job, "moe_layer_frequency", json_integer(1)));
    return jt_hf_put(job, "parallel_attn_mlp_res", json_true());
}

const jt_hf_family jt_hf_arctic = {
    .model_type = "arctic",
    .architecture = "ArcticForCausalLM",
    .arch = "arctic",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, arctic_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, arctic_tensors},
    .import = import_arctic,
    .export = export_arctic,
};

/* ---- Pangu Pro MoE: the best expert of each group ---- */

static const jt_hf_key pangu_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT},
    {0}};

static const jt_hf_row pangu_tensors[] = {
    {LAYER "mlp.router_scale", "blk.%.ffn_down_exps.scale", &jt_hf_vector},
    {LAYER "mlp.shared_expert.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_expert.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_expert.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

/* There are as many groups as experts are used. */
static jt_status import_pangu(jt_hf_job *job)
{
    int64_t used = 0;
    jt_hf_get_int(job, "expert_used_count", &used);
    return jt_hf_set_int(job, "expert_group_count", used);
}

static jt_status export_pangu(jt_hf_job *job)
{
    int64_t used = 0, groups = 0;
    jt_hf_get_int(job, "expert_used_count", &used);
    jt_hf_get_int(job, "expert_group_count", &groups);
    if (used != groups)
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "%lld of %lld groups are used, which a folder cannot say",
                       (long long)used, (long long)groups);
    return JT_OK;
}

const jt_hf_family jt_hf_pangu_pro_moe = {
    .model_type = "PanguProMoE",
    .architecture = "PanguProMoEForCausalLM",
    .arch = "pangu-pro-moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, pangu_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_dense,
                jt_hf_tensors_experts, pangu_tensors},
    .import = import_pangu,
    .export = export_pangu,
};
