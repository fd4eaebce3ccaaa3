/* Mixtures with shared experts and a softmax router, and their dense relatives:
 * ERNIE 4.5, Hunyuan, Pangu Pro MoE. */
#include <math.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- ERNIE 4.5 ---- */

static const jt_hf_key ernie_keys[] = {{"use_bias", "blk.0.attn_q.bias", JT_HF_HAS},
                                       {0}};

static const jt_hf_row dense_biases[] = {
    {LAYER "mlp.gate_proj.bias", "blk.%.ffn_gate.bias"},
    {LAYER "mlp.up_proj.bias", "blk.%.ffn_up.bias"},
    {LAYER "mlp.down_proj.bias", "blk.%.ffn_down.bias"},
    {0}};

static const jt_hf_key ernie_moe_keys[] = {
    {"moe_num_experts", "expert_count", JT_HF_INT, .required = true},
    {"moe_k", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"moe_num_shared_experts", "expert_shared_count", JT_HF_INT},
    {"moe_layer_start_index", "leading_dense_block_count", JT_HF_INT, "0"},
    {"moe_layer_interval", "interleave_moe_layer_step", JT_HF_INT, "1"},
    {0}};

static const jt_hf_row ernie_moe_tensors[] = {
    {LAYER "mlp.moe_statics.e_score_correction_bias", "blk.%.exp_probs_b.bias",
     &jt_hf_vector},
    {0}};

static const char *const ernie_skipped[] = {"mtp_", NULL};

/* The shared experts are one as wide as all. */
static jt_status import_ernie_moe(jt_hf_job *job)
{
    int64_t width = 0, shared = 0;
    jt_hf_get_int(job, "expert_feed_forward_length", &width);
    jt_hf_get_int(job, "expert_shared_count", &shared);
    if (width < 1 || width > INT32_MAX || shared < 1 || shared > INT16_MAX)
        return JT_OK;
    return jt_hf_set_int(job, "expert_shared_feed_forward_length", width * shared);
}

static jt_status export_ernie_moe(jt_hf_job *job)
{
    int64_t layers = 0;
    jt_hf_get_int(job, "block_count", &layers);
    return jt_hf_put(job, "moe_layer_end_index", json_integer(layers - 1));
}

const jt_hf_family jt_hf_ernie4_5 = {
    .model_type = "ernie4_5",
    .architecture = "Ernie4_5ForCausalLM",
    .arch = "ernie4_5",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, ernie_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_dense,
                dense_biases},
};

const jt_hf_family jt_hf_ernie4_5_moe = {
    .model_type = "ernie4_5_moe",
    .architecture = "Ernie4_5_MoeForCausalLM",
    .arch = "ernie4_5-moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, ernie_keys, ernie_moe_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, jt_hf_tensors_dense,
                jt_hf_tensors_experts, jt_hf_tensors_shexp, ernie_moe_tensors},
    .skipped = ernie_skipped,
    .import = import_ernie_moe,
    .export = export_ernie_moe,
};

/* ---- Hunyuan ---- */

static const jt_hf_row hunyuan_norms[] = {
    {LAYER "self_attn.query_layernorm.weight", "blk.%.attn_q_norm.weight"},
    {LAYER "self_attn.key_layernorm.weight", "blk.%.attn_k_norm.weight"},
    {0}};

static const jt_hf_row hunyuan_experts[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "mlp.gate.wg.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "mlp.experts.#.gate_proj.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "mlp.experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "mlp.experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {LAYER "mlp.shared_mlp.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_mlp.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_mlp.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {0}};

static const jt_hf_key hunyuan_keys[] = {{"use_qk_norm", NULL, JT_HF_BOOL, "true"},
                                         {"use_cla", NULL, JT_HF_BOOL, "false"},
                                         {0}};

static const jt_hf_key hunyuan_moe_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT},
    {0}};

/* A number, or one for each layer, which must be the same. */
static jt_status import_each(jt_hf_job *job, const char *config, const char *gguf,
                             int64_t usual)
{
    json_t *value = jt_hf_config(job, config);
    json_t *one = json_is_array(value) ? json_array_get(value, 0) : value;
    for (size_t i = 1; i < json_array_size(value); i++) {
        if (!json_equal(json_array_get(value, i), one))
            return jt_fail(job->err, JT_E_UNSUPPORTED,
                           "config.json: '%s' is not the same in all layers", config);
    }
    if (one && (!json_is_integer(one) || json_integer_value(one) < 1 ||
                json_integer_value(one) > INT32_MAX))
        return jt_fail(job->err, JT_E_FORMAT, "config.json: '%s' is not a count",
                       config);
    return jt_hf_set_int(job, gguf, one ? json_integer_value(one) : usual);
}

/* Its configuration has a base that is stretched by a power of `alpha`; a file has the
 * result (NTK-aware scaling). */
static jt_status import_base(jt_hf_job *job)
{
    json_t *alpha = jt_hf_config(job, "rope_parameters.alpha|rope_scaling.alpha");
    double base = 10000.0;
    int64_t dims = 0, width = 0, heads = 1;
    if (!json_is_number(alpha) || json_number_value(alpha) <= 0.0)
        return JT_OK;
    jt_hf_get_float(job, "rope.freq_base", &base);
    jt_hf_get_int(job, "embedding_length", &width);
    jt_hf_get_int(job, "attention.head_count", &heads);
    if (!jt_hf_get_int(job, "attention.key_length", &dims))
        dims = heads ? width / heads : 0;
    if (dims <= 2)
        return jt_fail(job->err, JT_E_FORMAT, "config.json: heads of %lld dimensions",
                       (long long)dims);
    double power = (double)dims / (double)(dims - 2);
    return jt_hf_set_float(job, "rope.freq_base",
                           base * pow(json_number_value(alpha), power));
}

static jt_status import_hunyuan_moe(jt_hf_job *job)
{
    int64_t width = 0;
    jt_hf_get_int(job, "feed_forward_length", &width);
    JT_TRY(
        import_each(job, "moe_intermediate_size", "expert_feed_forward_length", width));
    JT_TRY(import_each(job, "moe_topk", "expert_used_count", 1));
    JT_TRY(import_each(job, "num_shared_expert", "expert_shared_count", 1));
    return import_base(job);
}

static jt_status export_hunyuan_moe(jt_hf_job *job)
{
    int64_t used = 1, width = 0, shared = 1, all = 0;
    jt_hf_get_int(job, "expert_used_count", &used);
    jt_hf_get_int(job, "expert_shared_count", &shared);
    jt_hf_get_int(job, "feed_forward_length", &all);
    if (jt_hf_get_int(job, "expert_feed_forward_length", &width) && width != all)
        JT_TRY(jt_hf_put(job, "moe_intermediate_size", json_integer(width)));
    JT_TRY(jt_hf_put(job, "intermediate_size", json_integer(all)));
    JT_TRY(jt_hf_put(job, "num_shared_expert", json_integer(shared)));
    return jt_hf_put(job, "moe_topk", json_integer(used));
}

const jt_hf_family jt_hf_hunyuan_dense = {
    .model_type = "hunyuan_v1_dense",
    .architecture = "HunYuanDenseV1ForCausalLM",
    .arch = "hunyuan-dense",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, hunyuan_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, hunyuan_norms,
                jt_hf_tensors_dense},
    .import = import_base,
};

const jt_hf_family jt_hf_hunyuan_moe = {
    .model_type = "hunyuan_v1_moe",
    .architecture = "HunYuanMoEV1ForCausalLM",
    .arch = "hunyuan-moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_bias, hunyuan_keys,
             hunyuan_moe_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, hunyuan_norms,
                hunyuan_experts},
    .import = import_hunyuan_moe,
    .export = export_hunyuan_moe,
};
