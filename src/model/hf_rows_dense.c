/* Dense families, each with a few names of its own: OLMo 1 to 3, SmolLM3, Phi-2, GLM-4,
 * Seed-OSS, EXAONE 4, Cohere 2, Nemotron, Ministral 3. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- lists ---- */

static const jt_hf_key biases[] = {{"attention_bias", "blk.0.attn_q.bias", JT_HF_HAS},
                                   {0}};

static const jt_hf_row norms_after[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "post_feedforward_layernorm.weight", "blk.%.post_ffw_norm.weight"},
    {0}};

static jt_status import_rotated(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 1.0);
}

static jt_status import_half_rotated(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 0.5);
}

/* ---- OLMo ----
 * The first has norms without weights and an epsilon that nothing says. */

static const jt_hf_key olmo_keys[] = {
    {NULL, "attention.layer_norm_epsilon", JT_HF_FLOAT, "1e-5"},
    {"clip_qkv", "attention.clamp_kqv", JT_HF_FLOAT},
    {0}};

const jt_hf_family jt_hf_olmo = {
    .model_type = "olmo",
    .architecture = "OlmoForCausalLM",
    .arch = "olmo",
    .keys = {jt_hf_keys_sizes, jt_hf_keys_silu, olmo_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, jt_hf_tensors_mlp},
};

static bool has_windows(const jt_hf_job *job)
{
    int64_t window = 0;
    return jt_hf_get_int(job, "attention.sliding_window", &window) && window > 0;
}

static bool has_no_windows(const jt_hf_job *job)
{
    return !has_windows(job);
}

const jt_hf_family jt_hf_olmo2 = {
    .model_type = "olmo2",
    .architecture = "Olmo2ForCausalLM",
    .arch = "olmo2",
    .fits = has_no_windows,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_qkvo, jt_hf_tensors_qk_norm,
                norms_after, jt_hf_tensors_mlp},
};

/* ---- OLMo 3: OLMo 2 with windows, in which the rotation is never scaled ---- */

static const jt_hf_key olmo3_keys[] = {
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "4096"},
    {"attention_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static jt_status import_olmo3(jt_hf_job *job)
{
    return jt_hf_import_pattern(job, true);
}

static jt_status export_olmo3(jt_hf_job *job)
{
    json_t *full = json_object_get(job->config, "rope_parameters");
    json_t *local = json_pack("{s:s,s:O}", "rope_type", "default", "rope_theta",
                              json_object_get(full, "rope_theta"));
    JT_TRY(jt_hf_put(
        job, "rope_parameters",
        json_pack("{s:O,s:o}", "full_attention", full, "sliding_attention", local)));
    return jt_hf_export_pattern(job);
}

const jt_hf_family jt_hf_olmo3 = {
    .model_type = "olmo3",
    .architecture = "Olmo3ForCausalLM",
    .arch = "olmo2",
    .fits = has_windows,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, olmo3_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_qkvo, jt_hf_tensors_qk_norm,
                norms_after, jt_hf_tensors_mlp},
    .import = import_olmo3,
    .export = export_olmo3,
};

/* ---- SmolLM3 ---- */

static const jt_hf_key smollm3_keys[] = {
    {"attention_bias", "blk.0.attn_q.bias", JT_HF_HAS},
    {"no_rope_layer_interval", NULL, JT_HF_INT, "4"},
    {"use_sliding_window", NULL, JT_HF_BOOL, "false"},
    {0}};

/* The family leaves every fourth layer without rotation. */
static jt_status import_smollm3(jt_hf_job *job)
{
    const json_t *rotated = jt_hf_config(job, "no_rope_layers");
    for (size_t i = 0; i < json_array_size(rotated); i++) {
        if (json_integer_value(json_array_get(rotated, i)) != ((i + 1) % 4 != 0))
            return jt_fail(job->err, JT_E_UNSUPPORTED,
                           "config.json: 'no_rope_layers' is not every fourth");
    }
    return import_rotated(job);
}

const jt_hf_family jt_hf_smollm3 = {
    .model_type = "smollm3",
    .architecture = "SmolLM3ForCausalLM",
    .arch = "smollm3",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, smollm3_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned,
                jt_hf_tensors_dense},
    .import = import_smollm3,
};

/* ---- Phi-2 ---- */

static const jt_hf_key phi2_keys[] = {
    {"layer_norm_eps", "attention.layer_norm_epsilon", JT_HF_FLOAT, "1e-5"},
    {"hidden_act", NULL, JT_HF_TEXT, "gelu_new"},
    {"qk_layernorm", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row phi2_tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.final_layernorm.weight", "output_norm.weight"},
    {"model.final_layernorm.bias", "output_norm.bias"},
    {"lm_head.weight", "output.weight"},
    {"lm_head.bias", "output.bias"},
    {LAYER "input_layernorm.bias", "blk.%.attn_norm.bias"},
    {LAYER "self_attn.dense.weight", "blk.%.attn_output.weight"},
    {LAYER "self_attn.dense.bias", "blk.%.attn_output.bias"},
    {LAYER "mlp.fc1.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.fc1.bias", "blk.%.ffn_up.bias"},
    {LAYER "mlp.fc2.weight", "blk.%.ffn_down.weight"},
    {LAYER "mlp.fc2.bias", "blk.%.ffn_down.bias"},
    {0}};

const jt_hf_family jt_hf_phi2 = {
    .model_type = "phi",
    .architecture = "PhiForCausalLM",
    .arch = "phi2",
    .keys = {jt_hf_keys_sizes, phi2_keys},
    .tensors = {phi2_tensors, jt_hf_tensors_attention},
    .import = import_half_rotated,
    .export = jt_hf_export_rope_dims,
};

/* ---- GLM-4 ----
 * Gate and up are one tensor on both sides. */

static const jt_hf_row glm4_tensors[] = {
    {LAYER "post_self_attn_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "post_mlp_layernorm.weight", "blk.%.post_ffw_norm.weight"},
    {LAYER "mlp.gate_up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"},
    {0}};

const jt_hf_family jt_hf_glm4 = {
    .model_type = "glm4",
    .architecture = "Glm4ForCausalLM",
    .arch = "glm4",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, biases},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, glm4_tensors},
    .import = import_half_rotated,
    .export = jt_hf_export_rope_dims,
};

/* ---- Seed-OSS ---- */

static const jt_hf_key seed_keys[] = {
    {"attention_bias", "blk.0.attn_q.bias", JT_HF_HAS},
    {"attention_out_bias", "blk.0.attn_output.bias", JT_HF_HAS},
    {0}};

static const jt_hf_row seed_norm[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"}, {0}};

const jt_hf_family jt_hf_seed_oss = {
    .model_type = "seed_oss",
    .architecture = "SeedOssForCausalLM",
    .arch = "seed_oss",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, seed_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, seed_norm,
                jt_hf_tensors_mlp},
};

/* ---- EXAONE 4 ---- */

static const jt_hf_key exaone4_keys[] = {
    {"sliding_window", "attention.sliding_window", JT_HF_INT}, {0}};

static jt_status import_exaone4(jt_hf_job *job)
{
    return jt_hf_import_pattern(job, true);
}

const jt_hf_family jt_hf_exaone4 = {
    .model_type = "exaone4",
    .architecture = "Exaone4ForCausalLM",
    .arch = "exaone4",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, exaone4_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_qkvo, jt_hf_tensors_qk_norm,
                norms_after, jt_hf_tensors_mlp},
    .import = import_exaone4,
    .export = jt_hf_export_pattern,
};

/* ---- Cohere 2 ---- */

static const jt_hf_key cohere2_keys[] = {
    {"layer_norm_eps", "attention.layer_norm_epsilon", JT_HF_FLOAT, "1e-5"},
    {"logit_scale", "logit_scale", JT_HF_FLOAT, "0.0625"},
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "4096"},
    {"use_qk_norm", NULL, JT_HF_BOOL, "false"},
    {"rotary_pct", NULL, JT_HF_FLOAT, "1"},
    {NULL, "rope.scaling.type", JT_HF_TEXT, "none"},
    {0}};

static jt_status import_cohere2(jt_hf_job *job)
{
    JT_TRY(import_rotated(job));
    return jt_hf_import_pattern(job, false);
}

const jt_hf_family jt_hf_cohere2 = {
    .model_type = "cohere2",
    .architecture = "Cohere2ForCausalLM",
    .arch = "cohere2",
    .keys = {jt_hf_keys_sizes, jt_hf_keys_silu, cohere2_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_mlp},
    .import = import_cohere2,
    .export = jt_hf_export_pattern,
};

/* ---- Nemotron ----
 * Norms are stored as w - 1. */

static const jt_hf_key nemotron_keys[] = {
    {"norm_eps", "attention.layer_norm_epsilon", JT_HF_FLOAT, "1e-5"},
    {"hidden_act", NULL, JT_HF_TEXT, "relu2"},
    {NULL, "rope.scaling.type", JT_HF_TEXT, "none"}, /* or what the rope says */
    {0}};

static const jt_hf_row nemotron_tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight", &jt_hf_plus_one},
    {"model.norm.bias", "output_norm.bias"},
    {"lm_head.weight", "output.weight"},
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight", &jt_hf_plus_one},
    {LAYER "input_layernorm.bias", "blk.%.attn_norm.bias"},
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight", &jt_hf_plus_one},
    {LAYER "post_attention_layernorm.bias", "blk.%.ffn_norm.bias"},
    {0}};

const jt_hf_family jt_hf_nemotron = {
    .model_type = "nemotron",
    .architecture = "NemotronForCausalLM",
    .arch = "nemotron",
    .keys = {jt_hf_keys_sizes, nemotron_keys},
    .tensors = {nemotron_tensors, jt_hf_tensors_qkvo, jt_hf_tensors_mlp},
    .import = import_half_rotated,
    .export = jt_hf_export_rope_dims,
};

/* ---- Ministral 3 ----
 * Queries grow with the logarithm of the position. */

static const jt_hf_key ministral3_keys[] = {
    {"rope_parameters.mscale_all_dim", "rope.scaling.yarn_log_multiplier", JT_HF_FLOAT},
    {"rope_parameters.llama_4_scaling_beta", "attention.temperature_scale",
     JT_HF_FLOAT},
    {0}};

const jt_hf_family jt_hf_ministral3 = {
    .model_type = "ministral3",
    .architecture = "Ministral3ForCausalLM",
    .arch = "mistral3",
    .exports = JT_HF_DENSE,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, ministral3_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned,
                jt_hf_tensors_dense},
    .import = import_rotated,
};
