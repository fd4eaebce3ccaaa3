/* Mamba-2 between layers of attention: Granite 4, Nemotron-H. */
#include <stdio.h>
#include <string.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- Granite 4 ---- */

static const jt_hf_key granite_keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-6"},
    {"mamba_d_conv", "ssm.conv_kernel", JT_HF_INT, "4"},
    {"mamba_d_state", "ssm.state_size", JT_HF_INT, "256"},
    {"mamba_n_heads", "ssm.time_step_rank", JT_HF_INT, "128"},
    {"mamba_n_groups", "ssm.group_count", JT_HF_INT, "1"},
    {"attention_multiplier", "attention.scale", JT_HF_FLOAT, "1"},
    {"embedding_multiplier", "embedding_scale", JT_HF_FLOAT, "1"},
    {"residual_multiplier", "residual_scale", JT_HF_FLOAT, "1"},
    {"logits_scaling", "logit_scale", JT_HF_FLOAT, "1"},
    {"shared_intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT},
    {"num_local_experts", "expert_count", JT_HF_INT, "0"},
    {"mamba_proj_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_key granite_used[] = {
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, "2"}, {0}};

#define MAMBA2(from)                                                       \
    {from "in_proj.weight", "blk.%.ssm_in.weight"},                        \
        {from "conv1d.weight", "blk.%.ssm_conv1d.weight", &jt_hf_squeeze}, \
        {from "conv1d.bias", "blk.%.ssm_conv1d.bias"},                     \
        {from "A_log", "blk.%.ssm_a", &jt_hf_minus_exp_column},            \
        {from "D", "blk.%.ssm_d", &jt_hf_column},                          \
        {from "dt_bias", "blk.%.ssm_dt.bias"},                             \
        {from "norm.weight", "blk.%.ssm_norm.weight", &jt_hf_groups},      \
    {                                                                      \
        from "out_proj.weight", "blk.%.ssm_out.weight"                     \
    }

static const jt_hf_row granite_mamba[] = {
    MAMBA2(LAYER "mamba."),
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {0}};

static const jt_hf_row granite_experts[] = {
    {LAYER "block_sparse_moe.router.layer.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%.ffn_gate_exps.weight",
     &jt_hf_first_half},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%.ffn_up_exps.weight",
     &jt_hf_second_half},
    {LAYER "block_sparse_moe.output_linear.weight", "blk.%.ffn_down_exps.weight"},
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_gate_shexp.weight",
     &jt_hf_first_half},
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_up_shexp.weight",
     &jt_hf_second_half},
    {LAYER "shared_mlp.output_linear.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static const jt_hf_row granite_dense[] = {
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_gate.weight",
     &jt_hf_first_half},
    {LAYER "shared_mlp.input_linear.weight", "blk.%.ffn_up.weight", &jt_hf_second_half},
    {LAYER "shared_mlp.output_linear.weight", "blk.%.ffn_down.weight"},
    {0}};

static bool has_experts(const jt_hf_job *job)
{
    return jt_hf_whole(job, "num_local_experts", 0) > 0;
}

static bool is_rotated(const jt_hf_job *job)
{
    const char *kind = json_string_value(jt_hf_config(job, "position_embedding_type"));
    return kind && strcmp(kind, "rope") == 0;
}

static jt_status import_granite(jt_hf_job *job)
{
    int64_t width = 0;
    json_int_t expand = jt_hf_whole(job, "mamba_expand", 2);
    jt_hf_get_int(job, "embedding_length", &width);
    if (expand < 1 || expand > 64 || width > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'mamba_expand' makes no sense");
    JT_TRY(jt_hf_set_int(job, "ssm.inner_size", expand * width));
    JT_TRY(jt_hf_set_bool(job, "rope.scaling.finetuned", is_rotated(job)));
    JT_TRY(jt_hf_import_rope_dims(job, 1.0));
    return jt_hf_import_kinds(job, "layer_types", "attention|full_attention");
}

static jt_status export_granite(jt_hf_job *job)
{
    char key[64];
    bool rotated = true;
    int64_t inner = 0, heads = 1;
    snprintf(key, sizeof key, "%s.rope.scaling.finetuned", job->family->arch);
    jt_gguf_get_bool(job->file, key, &rotated);
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    jt_hf_get_int(job, "ssm.time_step_rank", &heads);
    JT_TRY(jt_hf_put(job, "position_embedding_type",
                     json_string(rotated ? "rope" : "nope")));
    JT_TRY(jt_hf_put(job, "mamba_d_head", json_integer(heads ? inner / heads : 0)));
    JT_TRY(jt_hf_put_expand(job));
    JT_TRY(jt_hf_export_kv_heads(job));
    return jt_hf_put_layers(job, "layer_types", "attn_output.weight", "attention",
                            "mamba");
}

const jt_hf_family jt_hf_granitehybrid = {
    .model_type = "granitemoehybrid",
    .architecture = "GraniteMoeHybridForCausalLM",
    .arch = "granitehybrid",
    .exports = JT_HF_MIXTURE,
    .reads = has_experts,
    .keys = {jt_hf_keys_hybrid, jt_hf_keys_silu, granite_keys, granite_used},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, granite_mamba,
                granite_experts},
    .import = import_granite,
    .export = export_granite,
};

const jt_hf_family jt_hf_granitehybrid_dense = {
    .model_type = "granitemoehybrid",
    .architecture = "GraniteMoeHybridForCausalLM",
    .arch = "granitehybrid",
    .exports = JT_HF_DENSE,
    .keys = {jt_hf_keys_hybrid, jt_hf_keys_silu, granite_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, granite_mamba,
                granite_dense},
    .import = import_granite,
    .export = export_granite,
};

/* ---- Nemotron-H ----
 * A layer is one thing alone: M Mamba-2, * attention, - an FFN, E experts. */

#define NEMOTRON "backbone.layers.%."

static const jt_hf_key nemotron_keys[] = {
    {"max_position_embeddings", "context_length", JT_HF_INT, .required = true},
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},
    {"num_attention_heads", "attention.head_count", JT_HF_INT, .required = true},
    {"head_dim|attention_head_dim", "attention.key_length", JT_HF_INT,
     .required = true},
    {"head_dim|attention_head_dim", "attention.value_length", JT_HF_INT},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {"layer_norm_epsilon|rms_norm_eps|norm_eps", "attention.layer_norm_rms_epsilon",
     JT_HF_FLOAT, "1e-5"},
    {"layer_norm_epsilon|rms_norm_eps|norm_eps", "attention.layer_norm_epsilon",
     JT_HF_FLOAT}, /* llama.cpp asks for it */
    {"conv_kernel", "ssm.conv_kernel", JT_HF_INT, "4"},
    {"ssm_state_size", "ssm.state_size", JT_HF_INT, "128"},
    {"mamba_num_heads", "ssm.time_step_rank", JT_HF_INT, .required = true},
    {"n_groups", "ssm.group_count", JT_HF_INT, "8"},
    {"mlp_hidden_act", NULL, JT_HF_TEXT, "relu2"},
    {NULL, "rope.scaling.finetuned", JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_key nemotron_moe_keys[] = {
    {"n_routed_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"n_shared_experts", "expert_shared_count", JT_HF_INT, "1"},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT,
     .required = true},
    {"moe_shared_expert_intermediate_size", "expert_shared_feed_forward_length",
     JT_HF_INT},
    {"norm_topk_prob", "expert_weights_norm", JT_HF_BOOL, "true"},
    {"routed_scaling_factor", "expert_weights_scale", JT_HF_FLOAT, "1"},
    {"n_group", "expert_group_count", JT_HF_INT, "1"},
    {"topk_group", "expert_group_used_count", JT_HF_INT, "1"},
    {0}};

static const jt_hf_row nemotron_tensors[] = {
    {"backbone.embeddings.weight", "token_embd.weight"},
    {"backbone.norm_f.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    MAMBA2(NEMOTRON "mixer."),
    {NEMOTRON "norm.weight", "blk.%.attn_norm.weight"},
    {NEMOTRON "mixer.q_proj.weight", "blk.%.attn_q.weight", &jt_hf_rotate_q},
    {NEMOTRON "mixer.k_proj.weight", "blk.%.attn_k.weight", &jt_hf_rotate_k},
    {NEMOTRON "mixer.v_proj.weight", "blk.%.attn_v.weight"},
    {NEMOTRON "mixer.o_proj.weight", "blk.%.attn_output.weight"},
    {NEMOTRON "mixer.up_proj.weight", "blk.%.ffn_up.weight"},
    {NEMOTRON "mixer.down_proj.weight", "blk.%.ffn_down.weight"},
    {0}};

static const jt_hf_row nemotron_experts[] = {
    {NEMOTRON "mixer.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {NEMOTRON "mixer.gate.e_score_correction_bias", "blk.%.exp_probs_b.bias"},
    {NEMOTRON "mixer.experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {NEMOTRON "mixer.experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {NEMOTRON "mixer.shared_experts.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {NEMOTRON "mixer.shared_experts.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static const char kinds_list[] = "layers_block_type";

/* What layer `i` is, as a letter; '\0' after the last. */
static char kind_of(const jt_hf_job *job, int i)
{
    const char *pattern =
        json_string_value(jt_hf_config(job, "hybrid_override_pattern"));
    if (pattern && !jt_hf_config(job, kinds_list))
        return strlen(pattern) > (size_t)i ? pattern[i] : '\0';
    if (jt_hf_layer_is(job, kinds_list, i, "attention|full_attention"))
        return '*';
    if (jt_hf_layer_is(job, kinds_list, i, "mamba|linear_attention"))
        return 'M';
    if (jt_hf_layer_is(job, kinds_list, i, "mlp"))
        return '-';
    return jt_hf_layer_is(job, kinds_list, i, "moe") ? 'E' : '\0';
}

static bool has_moe_layers(const jt_hf_job *job)
{
    for (int i = 0; kind_of(job, i); i++) {
        if (kind_of(job, i) == 'E')
            return true;
    }
    return false;
}

static jt_status import_nemotron_h(jt_hf_job *job)
{
    bool attention[JT_HF_MOST_LAYERS];
    int32_t widths[JT_HF_MOST_LAYERS];
    int layers = 0;
    bool mixture = job->family->exports == JT_HF_MIXTURE;
    json_int_t width =
        jt_hf_whole(job, mixture ? "moe_intermediate_size" : "intermediate_size", 0);
    for (char kind; layers < JT_HF_MOST_LAYERS && (kind = kind_of(job, layers));
         layers++) {
        attention[layers] = kind == '*';
        widths[layers] = kind == '-' || kind == 'E' ? (int32_t)width : 0;
    }
    if (layers == 0 || layers == JT_HF_MOST_LAYERS || width < 0 || width > INT32_MAX)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: '%s' or 'hybrid_override_pattern' makes no sense",
                       kinds_list);
    JT_TRY(jt_hf_set_int(job, "block_count", layers));
    JT_TRY(jt_hf_set_ints(job, "feed_forward_length", widths, layers));
    int64_t heads = 0;
    json_int_t dim = jt_hf_whole(job, "mamba_head_dim", 64);
    jt_hf_get_int(job, "ssm.time_step_rank", &heads);
    if (dim < 1 || dim > 1 << 15 || heads > 1 << 15)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'mamba_head_dim' makes no sense");
    JT_TRY(jt_hf_set_int(job, "ssm.inner_size", dim * heads));
    return jt_hf_set_kv_heads(job, attention, layers);
}

/* The letters, which every version of transformers reads. */
static jt_status export_nemotron_h(jt_hf_job *job)
{
    char pattern[JT_HF_MOST_LAYERS + 1] = "";
    int layers = 0;
    int64_t inner = 0, heads = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++)
        pattern[i] = jt_hf_layer_has(job, i, "ssm_in.weight")         ? 'M'
                     : jt_hf_layer_has(job, i, "attn_output.weight")  ? '*'
                     : jt_hf_layer_has(job, i, "ffn_gate_inp.weight") ? 'E'
                                                                      : '-';
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    jt_hf_get_int(job, "ssm.time_step_rank", &heads);
    JT_TRY(jt_hf_put(job, "hybrid_override_pattern", json_string(pattern)));
    JT_TRY(jt_hf_put(job, "num_hidden_layers", json_integer(layers)));
    JT_TRY(jt_hf_put(job, "mamba_head_dim", json_integer(heads ? inner / heads : 0)));
    for (int i = 0; i < layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_up.weight", i);
        const jt_gguf_tensor *up = jt_gguf_find(job->file, name);
        if (up)
            JT_TRY(jt_hf_put(job, "intermediate_size",
                             json_integer((json_int_t)up->shape[0])));
    }
    return jt_hf_export_kv_heads(job);
}

const jt_hf_family jt_hf_nemotron_h_moe = {
    .model_type = "nemotron_h",
    .architecture = "NemotronHForCausalLM",
    .arch = "nemotron_h_moe",
    .exports = JT_HF_MIXTURE,
    .reads = has_moe_layers,
    .keys = {nemotron_keys, nemotron_moe_keys},
    .tensors = {nemotron_tensors, nemotron_experts},
    .skipped = (const char *const[]){"mtp.", NULL},
    .import = import_nemotron_h,
    .export = export_nemotron_h,
};

const jt_hf_family jt_hf_nemotron_h = {
    .model_type = "nemotron_h",
    .architecture = "NemotronHForCausalLM",
    .arch = "nemotron_h",
    .keys = {nemotron_keys},
    .tensors = {nemotron_tensors},
    .import = import_nemotron_h,
    .export = export_nemotron_h,
};
