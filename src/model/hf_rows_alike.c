/* Models that are another family but for their config.json: GLM-4.7-Flash is like
 * DeepSeek-V3, Solar Open like GLM-4.5. They are read; a folder that is written is one
 * of that other family. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key routed[] = {
    {"n_routed_experts", "expert_count", JT_HF_INT, .required = true},
    {"n_shared_experts", "expert_shared_count", JT_HF_INT, "1"},
    {NULL, "expert_gating_func", JT_HF_INT, "2"}, /* sigmoid */
    {"attention_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row correction[] = {
    {LAYER "mlp.gate.e_score_correction_bias", "blk.%.exp_probs_b.bias"}, {0}};

/* ---- GLM-4.7-Flash ---- */

static const jt_hf_key flash_keys[] = {{"rope_interleave", NULL, JT_HF_BOOL, "true"},
                                       {0}};

static jt_status import_flash(jt_hf_job *job)
{
    JT_TRY(jt_hf_import_dense_layers(job));
    return jt_hf_import_latent(job);
}

const jt_hf_family jt_hf_glm4_moe_lite = {
    .model_type = "glm4_moe_lite",
    .architecture = "Glm4MoeLiteForCausalLM",
    .arch = "deepseek2",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, jt_hf_keys_latent,
             routed, flash_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_latent, jt_hf_tensors_dense,
                jt_hf_tensors_experts, jt_hf_tensors_shexp, correction},
    .import = import_flash,
};

/* ---- Solar Open ---- */

/* All of its layers have experts. */
static const jt_hf_key solar_keys[] = {
    {NULL, "leading_dense_block_count", JT_HF_INT, "0"}, {0}};

static const jt_hf_row solar_norm[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"}, {0}};

static jt_status import_solar(jt_hf_job *job)
{
    return jt_hf_import_rope_dims(job, 1.0);
}

const jt_hf_family jt_hf_solar_open = {
    .model_type = "solar_open",
    .architecture = "SolarOpenForCausalLM",
    .arch = "glm4moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, routed,
             solar_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, solar_norm,
                jt_hf_tensors_experts, jt_hf_tensors_shexp, correction},
    .import = import_solar,
};
