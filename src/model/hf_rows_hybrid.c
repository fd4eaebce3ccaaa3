/* Attention between layers with a state: Jamba (Mamba) and LFM2 (short convolutions).
 */
#include <stdio.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- Jamba ---- */

static const jt_hf_key jamba_keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-6"},
    {"mamba_d_conv", "ssm.conv_kernel", JT_HF_INT, "4"},
    {"mamba_d_state", "ssm.state_size", JT_HF_INT, "16"},
    {"mamba_dt_rank", "ssm.time_step_rank", JT_HF_INT, .required = true},
    {"num_experts", "expert_count", JT_HF_INT, "16"},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, "2"},
    {"mamba_proj_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row jamba_tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.final_layernorm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {LAYER "mamba.in_proj.weight", "blk.%.ssm_in.weight"},
    {LAYER "mamba.conv1d.weight", "blk.%.ssm_conv1d.weight", &jt_hf_squeeze},
    {LAYER "mamba.conv1d.bias", "blk.%.ssm_conv1d.bias"},
    {LAYER "mamba.x_proj.weight", "blk.%.ssm_x.weight"},
    {LAYER "mamba.dt_proj.weight", "blk.%.ssm_dt.weight"},
    {LAYER "mamba.dt_proj.bias", "blk.%.ssm_dt.bias"},
    {LAYER "mamba.dt_layernorm.weight", "blk.%.ssm_dt_norm.weight"},
    {LAYER "mamba.b_layernorm.weight", "blk.%.ssm_b_norm.weight"},
    {LAYER "mamba.c_layernorm.weight", "blk.%.ssm_c_norm.weight"},
    {LAYER "mamba.A_log", "blk.%.ssm_a", &jt_hf_minus_exp},
    {LAYER "mamba.D", "blk.%.ssm_d"},
    {LAYER "mamba.out_proj.weight", "blk.%.ssm_out.weight"},
    {0}};

static const jt_hf_row jamba_ffn[] = {
    {LAYER "pre_ff_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "feed_forward.gate_proj.weight", "blk.%.ffn_gate.weight"},
    {LAYER "feed_forward.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "feed_forward.down_proj.weight", "blk.%.ffn_down.weight"},
    {LAYER "feed_forward.router.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "feed_forward.experts.#.gate_proj.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "feed_forward.experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "feed_forward.experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

static jt_status import_jamba(jt_hf_job *job)
{
    bool attention[JT_HF_MOST_LAYERS];
    int layers = 0;
    int64_t width = 0, experts = 0;
    json_int_t period = jt_hf_whole(job, "attn_layer_period", 8);
    json_int_t offset = jt_hf_whole(job, "attn_layer_offset", 4);
    json_int_t expand = jt_hf_whole(job, "mamba_expand", 2);
    JT_TRY(jt_hf_layers(job, &layers));
    jt_hf_get_int(job, "embedding_length", &width);
    jt_hf_get_int(job, "expert_count", &experts);
    if (period < 1 || expand < 1 || expand > 64 || width > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'attn_layer_period' or 'mamba_expand' makes no "
                       "sense");
    for (int i = 0; i < layers; i++)
        attention[i] = i % period == offset;
    JT_TRY(jt_hf_set_kv_heads(job, attention, layers));
    if (experts == 1) /* a dense model */
        JT_TRY(jt_hf_set_int(job, "expert_used_count", 1));
    return jt_hf_set_int(job, "ssm.inner_size", expand * width);
}

/* Layers that have the tensor `name` lie at offset, offset + period, .. */
static jt_status export_period(jt_hf_job *job, const char *name, const char *what)
{
    char path[64];
    int layers = 0, first = -1, second = -1;
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++) {
        if (!jt_hf_layer_has(job, i, name))
            continue;
        second = first >= 0 && second < 0 ? i : second;
        first = first < 0 ? i : first;
    }
    int offset = first < 0 ? layers : first;
    int period = second < 0 ? layers + (first < 0) : second - first;
    for (int i = 0; i < layers; i++) {
        if (jt_hf_layer_has(job, i, name) != (i % period == offset))
            return jt_fail(job->err, JT_E_UNSUPPORTED,
                           "layers with '%s' are not every n-th, which a folder of "
                           "type 'jamba' cannot say",
                           name);
    }
    snprintf(path, sizeof path, "%s_layer_offset", what);
    JT_TRY(jt_hf_put(job, path, json_integer(offset)));
    snprintf(path, sizeof path, "%s_layer_period", what);
    return jt_hf_put(job, path, json_integer(period));
}

static jt_status export_jamba(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_kv_heads(job));
    JT_TRY(jt_hf_put_expand(job));
    JT_TRY(export_period(job, "ffn_gate_inp.weight", "expert"));
    return export_period(job, "attn_output.weight", "attn");
}

const jt_hf_family jt_hf_jamba = {
    .model_type = "jamba",
    .architecture = "JambaForCausalLM",
    .arch = "jamba",
    .keys = {jt_hf_keys_hybrid, jt_hf_keys_silu, jamba_keys},
    .tensors = {jamba_tensors, jt_hf_tensors_attention, jamba_ffn},
    .import = import_jamba,
    .export = export_jamba,
};

/* ---- LFM2 ---- */

static const jt_hf_key lfm2_keys[] = {
    {"norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-5"},
    {"conv_L_cache", "shortconv.l_cache", JT_HF_INT, "3"},
    {"conv_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_key lfm2moe_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT,
     .required = true},
    {"num_dense_layers", "leading_dense_block_count", JT_HF_INT, "2"},
    {NULL, "expert_gating_func", JT_HF_INT, "2"}, /* sigmoid */
    {"norm_topk_prob", "expert_weights_norm", JT_HF_BOOL, "true"},
    {"routed_scaling_factor", "expert_weights_scale", JT_HF_FLOAT, "1"},
    {0}};

static const jt_hf_row lfm2_tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.embedding_norm.weight", "token_embd_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {LAYER "operator_norm.weight", "blk.%.attn_norm.weight"},
    {LAYER "ffn_norm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "conv.in_proj.weight", "blk.%.shortconv.in_proj.weight"},
    {LAYER "conv.conv.weight", "blk.%.shortconv.conv.weight", &jt_hf_squeeze},
    {LAYER "conv.out_proj.weight", "blk.%.shortconv.out_proj.weight"},
    {LAYER "self_attn.q_proj.weight", "blk.%.attn_q.weight"},
    {LAYER "self_attn.k_proj.weight", "blk.%.attn_k.weight"},
    {LAYER "self_attn.v_proj.weight", "blk.%.attn_v.weight"},
    {LAYER "self_attn.out_proj.weight", "blk.%.attn_output.weight"},
    {LAYER "self_attn.q_layernorm.weight", "blk.%.attn_q_norm.weight"},
    {LAYER "self_attn.k_layernorm.weight", "blk.%.attn_k_norm.weight"},
    {LAYER "feed_forward.w1.weight", "blk.%.ffn_gate.weight"},
    {LAYER "feed_forward.w3.weight", "blk.%.ffn_up.weight"},
    {LAYER "feed_forward.w2.weight", "blk.%.ffn_down.weight"},
    {0}};

static const jt_hf_row lfm2moe_tensors[] = {
    {LAYER "feed_forward.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "feed_forward.expert_bias", "blk.%.exp_probs_b.bias"},
    {LAYER "feed_forward.experts.#.w1.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "feed_forward.experts.#.w3.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "feed_forward.experts.#.w2.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

/* Older configurations list the layers with attention; without a list all have it
 * (transformers' Lfm2Config). */
static jt_status import_lfm2moe(jt_hf_job *job)
{
    bool attention[JT_HF_MOST_LAYERS];
    int layers = 0;
    const json_t *listed = jt_hf_config(job, "full_attn_idxs");
    if (jt_hf_config(job, "layer_types"))
        return jt_hf_import_kinds(job, "layer_types", "full_attention");
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++)
        attention[i] = !listed;
    for (size_t i = 0; i < json_array_size(listed); i++) {
        const json_t *item = json_array_get(listed, i);
        json_int_t layer = json_is_integer(item) ? json_integer_value(item) : -1;
        if (layer < 0 || layer >= layers)
            return jt_fail(job->err, JT_E_FORMAT,
                           "config.json: 'full_attn_idxs' names a layer that is none "
                           "of %d",
                           layers);
        attention[layer] = true;
    }
    return jt_hf_set_kv_heads(job, attention, layers);
}

/* The width of the FFN may follow from another number (two thirds of it, rounded up:
 * transformers' Lfm2MLP). */
static jt_status import_lfm2(jt_hf_job *job)
{
    json_int_t width = jt_hf_whole(job, "block_ff_dim|intermediate_size", 0);
    json_int_t unit = jt_hf_whole(job, "block_multiple_of", 256);
    const json_t *factor = jt_hf_config(job, "block_ffn_dim_multiplier");
    if (width < 1 || width > 1 << 24 || unit < 1 || unit > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'block_ff_dim' or 'block_multiple_of' makes no "
                       "sense");
    if (!json_is_false(jt_hf_config(job, "block_auto_adjust_ff_dim"))) {
        width = 2 * width / 3;
        if (json_is_number(factor) && json_number_value(factor) < 100.0)
            width = (json_int_t)(json_number_value(factor) * (double)width);
        width = (width + unit - 1) / unit * unit;
    }
    JT_TRY(jt_hf_set_int(job, "feed_forward_length", width));
    return import_lfm2moe(job);
}

static jt_status export_lfm2moe(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_kv_heads(job));
    JT_TRY(jt_hf_put(job, "use_expert_bias",
                     json_boolean(jt_hf_any_layer(job, "exp_probs_b.bias"))));
    return jt_hf_put_layers(job, "layer_types", "attn_output.weight", "full_attention",
                            "conv");
}

static jt_status export_lfm2(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_kv_heads(job));
    JT_TRY(jt_hf_put(job, "block_auto_adjust_ff_dim", json_false()));
    return jt_hf_put_layers(job, "layer_types", "attn_output.weight", "full_attention",
                            "conv");
}

const jt_hf_family jt_hf_lfm2 = {
    .model_type = "lfm2",
    .architecture = "Lfm2ForCausalLM",
    .arch = "lfm2",
    .keys = {jt_hf_keys_hybrid, lfm2_keys},
    .tensors = {lfm2_tensors},
    .import = import_lfm2,
    .export = export_lfm2,
};

const jt_hf_family jt_hf_lfm2moe = {
    .model_type = "lfm2_moe",
    .architecture = "Lfm2MoeForCausalLM",
    .arch = "lfm2moe",
    .keys = {jt_hf_keys_hybrid, lfm2_keys, lfm2moe_keys},
    .tensors = {lfm2_tensors, lfm2moe_tensors},
    .import = import_lfm2moe,
    .export = export_lfm2moe,
};
