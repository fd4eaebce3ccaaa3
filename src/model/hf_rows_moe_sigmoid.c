/* Mixtures that choose by sigmoids and a correction: GLM-4.5, dots.llm1, MiniMax-M2,
 * EXAONE-MoE, AFMoE (Trinity). */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* Shared experts and the correction of the router. */
static const jt_hf_row corrected[] = {
    {LAYER "mlp.gate.e_score_correction_bias", "blk.%.exp_probs_b.bias"},
    {LAYER "mlp.shared_experts.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_experts.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_experts.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static const jt_hf_key sigmoid[] = {
    {NULL, "expert_gating_func", JT_HF_INT, "2"},
    {"scoring_func|score_func", NULL, JT_HF_TEXT, "sigmoid"},
    {0}};

static const jt_hf_key routed[] = {
    {"n_routed_experts", "expert_count", JT_HF_INT, .required = true},
    {"n_shared_experts", "expert_shared_count", JT_HF_INT},
    {0}};

/* ---- GLM-4.5 ---- */

static const jt_hf_key glm_keys[] = {
    {"use_qk_norm", "blk.0.attn_q_norm.weight", JT_HF_HAS}, {0}};

static const jt_hf_row glm_tensors[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "mlp.gate_proj.weight", "blk.%.ffn_gate.weight"},
    {LAYER "mlp.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"},
    {0}};

static jt_status import_half(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 0.5);
}

const jt_hf_family jt_hf_glm4_moe = {
    .model_type = "glm4_moe|glm4v_moe_text|glm4v_moe",
    .architecture = "Glm4MoeForCausalLM",
    .arch = "glm4moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_bias, jt_hf_keys_mixture, routed, sigmoid,
             glm_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                glm_tensors, jt_hf_tensors_experts, corrected},
    .import = import_half,
    .export = jt_hf_export_rope_dims,
};

/* ---- dots.llm1 ---- */

static const jt_hf_key dots_keys[] = {{"scoring_func", "expert_gating_func", JT_HF_WORD,
                                       "sigmoid",
                                       .words = "softmax=1|sigmoid=2|noaux_tc=2"},
                                      {0}};

/* All of its layers see everything, whatever window its configuration has. */
static jt_status export_full(jt_hf_job *job)
{
    return jt_hf_export_pattern(job);
}

const jt_hf_family jt_hf_dots1 = {
    .model_type = "dots1",
    .architecture = "Dots1ForCausalLM",
    .arch = "dots1",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, jt_hf_keys_mixture,
             routed, dots_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_dense, jt_hf_tensors_experts, corrected},
    .export = export_full,
};

/* ---- MiniMax-M2 ---- */

static const jt_hf_key minimax_keys[] = {
    {"num_local_experts|num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"use_qk_norm", NULL, JT_HF_BOOL, "true"},
    {0}};

static const jt_hf_row minimax_tensors[] = {
    {LAYER "block_sparse_moe.e_score_correction_bias", "blk.%.exp_probs_b.bias"}, {0}};

/* The published configuration counts rotated dimensions, transformers a share. */
static jt_status import_minimax(jt_hf_job *job)
{
    json_t *dims = jt_hf_config(job, "rotary_dim");
    if (json_is_integer(dims) && json_integer_value(dims) >= 2 &&
        json_integer_value(dims) <= 65536)
        return jt_hf_set_int(job, "rope.dimension_count", json_integer_value(dims));
    return jt_hf_import_rope_dims(job, 1.0);
}

static jt_status export_minimax(jt_hf_job *job)
{
    int64_t dims;
    if (jt_hf_get_int(job, "rope.dimension_count", &dims))
        JT_TRY(jt_hf_put(job, "rotary_dim", json_integer(dims)));
    return jt_hf_export_rope_dims(job);
}

static const char *const minimax_skipped[] = {"mtp.", NULL};

const jt_hf_family jt_hf_minimax_m2 = {
    .model_type = "minimax_m2|minimax",
    .architecture = "MiniMaxM2ForCausalLM",
    .arch = "minimax-m2",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, minimax_keys, sigmoid},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_mixtral, minimax_tensors},
    .skipped = minimax_skipped,
    .import = import_minimax,
    .export = export_minimax,
};

/* ---- EXAONE-MoE ---- */

static const jt_hf_key exaone_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_shared_experts", "expert_shared_count", JT_HF_INT, "1"},
    {"first_k_dense_replace|first_last_k_dense_replace", "leading_dense_block_count",
     JT_HF_INT, "0"},
    {"sliding_window", "attention.sliding_window", JT_HF_INT},
    {NULL, "nextn_predict_layers", JT_HF_INT, "0"},
    {0}};

static const jt_hf_row exaone_tensors[] = {
    {LAYER "mlp.e_score_correction_bias", "blk.%.exp_probs_b.bias"},
    {LAYER "mlp.shared_experts.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_experts.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_experts.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static jt_status import_exaone(jt_hf_job *job)
{
    int64_t width = 0, shared = 0;
    jt_hf_get_int(job, "expert_feed_forward_length", &width);
    jt_hf_get_int(job, "expert_shared_count", &shared);
    JT_TRY(jt_hf_set_int(job, "expert_shared_feed_forward_length", width * shared));
    return jt_hf_import_pattern(job, true);
}

static jt_status export_exaone(jt_hf_job *job)
{
    int64_t layers = 0, dense = 0;
    json_t *types = json_array();
    jt_hf_get_int(job, "block_count", &layers);
    jt_hf_get_int(job, "leading_dense_block_count", &dense);
    for (int64_t i = 0; i < layers && i < INT16_MAX; i++)
        json_array_append_new(types, json_string(i < dense ? "dense" : "sparse"));
    JT_TRY(jt_hf_put(job, "mlp_layer_types", types));
    return jt_hf_export_pattern(job);
}

static const char *const exaone_skipped[] = {"mtp.", NULL};

const jt_hf_family jt_hf_exaone_moe = {
    .model_type = "exaone_moe",
    .architecture = "ExaoneMoeForCausalLM",
    .arch = "exaone-moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, sigmoid,
             exaone_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                jt_hf_tensors_dense, jt_hf_tensors_experts, exaone_tensors},
    .skipped = exaone_skipped,
    .import = import_exaone,
    .export = export_exaone,
};

/* ---- AFMoE ---- */

static const jt_hf_key afmoe_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"num_shared_experts", "expert_shared_count", JT_HF_INT},
    {"num_dense_layers", "leading_dense_block_count", JT_HF_INT},
    {"route_scale", "expert_weights_scale", JT_HF_FLOAT},
    {"route_norm", "expert_weights_norm", JT_HF_BOOL, "true"},
    {"n_group", "expert_group_count", JT_HF_INT},
    {"topk_group", "expert_group_used_count", JT_HF_INT},
    {"sliding_window", "attention.sliding_window", JT_HF_INT},
    {"mup_enabled", NULL, JT_HF_BOOL, "true"},
    {0}};

static const jt_hf_row afmoe_tensors[] = {
    {LAYER "self_attn.gate_proj.weight", "blk.%.attn_gate.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "pre_mlp_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "post_mlp_layernorm.weight", "blk.%.post_ffw_norm.weight"},
    {LAYER "mlp.gate_proj.weight", "blk.%.ffn_gate.weight"},
    {LAYER "mlp.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"},
    {LAYER "mlp.router.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "mlp.expert_bias", "blk.%.exp_probs_b.bias"},
    {0}};

static jt_status import_afmoe(jt_hf_job *job)
{
    JT_TRY(jt_hf_import_rope_dims(job, 1.0));
    return jt_hf_import_pattern(job, false);
}

static jt_status export_afmoe(jt_hf_job *job)
{
    return jt_hf_export_pattern(job);
}

const jt_hf_family jt_hf_afmoe = {
    .model_type = "afmoe",
    .architecture = "AfmoeForCausalLM",
    .arch = "afmoe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, afmoe_keys, sigmoid},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_qk_norm,
                afmoe_tensors, jt_hf_tensors_experts, jt_hf_tensors_shexp},
    .import = import_afmoe,
    .export = export_afmoe,
};
