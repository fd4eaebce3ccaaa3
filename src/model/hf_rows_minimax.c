/* MiniMax-Text-01 and M1: lightning attention between layers of attention. There are
 * two forms of config.json: transformers' own, whose heads are rotated as a whole, and
 * that of the published code. */
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- rows ---- */

static const jt_hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-5"},
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"shared_intermediate_size", NULL, JT_HF_INT, "0"},
    {"postnorm", NULL, JT_HF_BOOL, "true"},
    {0}};

/* What is carried on of the residual stream, which is one number in GGUF, and what a
 * part adds to it, which must be itself: transformers' names and the published ones. */
static const jt_hf_key own_factors[] = {
    {"full_attn_alpha_factor", "residual_scale", JT_HF_FLOAT, "1"},
    {"linear_attn_alpha_factor", "residual_scale", JT_HF_FLOAT, "1"},
    {"mlp_alpha_factor", "residual_scale", JT_HF_FLOAT, "1"},
    {"full_attn_beta_factor", NULL, JT_HF_FLOAT, "1"},
    {"linear_attn_beta_factor", NULL, JT_HF_FLOAT, "1"},
    {"mlp_beta_factor", NULL, JT_HF_FLOAT, "1"},
    {0}};

#define FULL_ALPHA   "layernorm_full_attention_alpha|full_attn_alpha_factor"
#define LINEAR_ALPHA "layernorm_linear_attention_alpha|linear_attn_alpha_factor"
#define MLP_ALPHA    "layernorm_mlp_alpha|mlp_alpha_factor"
#define FULL_BETA    "layernorm_full_attention_beta|full_attn_beta_factor"
#define LINEAR_BETA  "layernorm_linear_attention_beta|linear_attn_beta_factor"
#define MLP_BETA     "layernorm_mlp_beta|mlp_beta_factor"

static const jt_hf_key published_factors[] = {
    {FULL_ALPHA, "residual_scale", JT_HF_FLOAT, "1"},
    {LINEAR_ALPHA, "residual_scale", JT_HF_FLOAT, "1"},
    {MLP_ALPHA, "residual_scale", JT_HF_FLOAT, "1"},
    {FULL_BETA, NULL, JT_HF_FLOAT, "1"},
    {LINEAR_BETA, NULL, JT_HF_FLOAT, "1"},
    {MLP_BETA, NULL, JT_HF_FLOAT, "1"},
    {"rotary_dim", "rope.dimension_count", JT_HF_INT},
    {0}};

static const jt_hf_row lightning[] = {
    {LAYER "self_attn.qkv_proj.weight", "blk.%.attn_qkv.weight"},
    {LAYER "self_attn.output_gate.weight", "blk.%.attn_gate.weight"},
    {LAYER "self_attn.norm.weight", "blk.%.attn_norm_2.weight"},
    {LAYER "self_attn.out_proj.weight", "blk.%.attn_output.weight",
     .beside = "attn_norm_2.weight"},
    {0}};

/* Functions of the sizes, which transformers saves with the weights. */
static const char *const decays[] = {"self_attn.slope_rate", "self_attn.query_decay",
                                     "self_attn.key_decay", "self_attn.diagonal_decay",
                                     NULL};

/* ---- hooks ---- */

/* Is layer `i` one of attention? attn_type_list has 1 for those. */
static bool is_full(const jt_hf_job *job, int i)
{
    const json_t *types = jt_hf_config(job, "attn_type_list");
    if (types)
        return json_integer_value(json_array_get(types, (size_t)i)) == 1;
    return jt_hf_layer_is(job, "layer_types", i, "full_attention");
}

static jt_status check_alphas(jt_hf_job *job)
{
    static const char *const paths[] = {FULL_ALPHA, LINEAR_ALPHA, MLP_ALPHA};
    double scale = 1.0;
    jt_hf_get_float(job, "residual_scale", &scale);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const json_t *value = jt_hf_config(job, paths[i]);
        double alpha = value ? json_number_value(value) : 1.0;
        if ((float)alpha != (float)scale)
            return jt_fail(job->err, JT_E_UNSUPPORTED,
                           "config.json: the alpha factors of attention, of linear "
                           "attention and of the experts differ");
    }
    return JT_OK;
}

static jt_status import(jt_hf_job *job)
{
    bool recurrent[JT_HF_MOST_LAYERS];
    int layers = 0;
    int64_t rotated;
    JT_TRY(check_alphas(job));
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++)
        recurrent[i] = !is_full(job, i);
    JT_TRY(jt_hf_set_flags(job, "attention.recurrent_layers", recurrent, layers));
    return jt_hf_get_int(job, "rope.dimension_count", &rotated)
               ? JT_OK
               : jt_hf_import_rope_dims(job, 1.0);
}

static jt_status export_own(jt_hf_job *job)
{
    return jt_hf_put_layers(job, "layer_types", "attn_norm_2.weight",
                            "linear_attention", "full_attention");
}

static jt_status export_published(jt_hf_job *job)
{
    int layers = 0;
    double base = 10000.0;
    JT_TRY(jt_hf_layers(job, &layers));
    json_t *types = json_array();
    for (int i = 0; i < layers; i++)
        json_array_append_new(
            types, json_integer(!jt_hf_layer_has(job, i, "attn_norm_2.weight")));
    JT_TRY(jt_hf_put(job, "attn_type_list", types));
    jt_hf_get_float(job, "rope.freq_base", &base);
    return jt_hf_put(job, "rope_theta", jt_hf_real((float)base));
}

/* MiniMax-M2, which goes by the same names, has attention only. */
static bool has_lightning(const jt_hf_job *job)
{
    json_int_t layers = jt_hf_whole(job, "num_hidden_layers", 0);
    for (int i = 0; i < layers && i < JT_HF_MOST_LAYERS; i++) {
        if (!is_full(job, i))
            return true;
    }
    return false;
}

/* Only the published form says how many values of a head are rotated. */
static bool is_own(const jt_hf_job *job)
{
    return has_lightning(job) && jt_hf_config(job, "layer_types") &&
           !jt_hf_config(job, "rotary_dim");
}

static bool is_published(const jt_hf_job *job)
{
    return has_lightning(job) &&
           (jt_hf_config(job, "attn_type_list") || jt_hf_config(job, "layer_types"));
}

static bool rotates_all(const jt_hf_job *job)
{
    int64_t rotated = 0, head = 0;
    return !jt_hf_get_int(job, "rope.dimension_count", &rotated) ||
           (jt_hf_get_int(job, "attention.key_length", &head) && rotated == head);
}

const jt_hf_family jt_hf_minimax = {
    .model_type = "minimax",
    .architecture = "MiniMaxForCausalLM",
    .arch = "minimax-01",
    .fits = rotates_all,
    .reads = is_own,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, keys, own_factors},
    .tensors = {jt_hf_tensors_ends, lightning, jt_hf_tensors_attention,
                jt_hf_tensors_mixtral},
    .skipped = decays,
    .import = import,
    .export = export_own,
};

const jt_hf_family jt_hf_minimax_text_01 = {
    .model_type = "minimax_text_01|minimax_m1|minimax",
    .architecture = "MiniMaxText01ForCausalLM",
    .arch = "minimax-01",
    .reads = is_published,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, keys, published_factors},
    .tensors = {jt_hf_tensors_ends, lightning, jt_hf_tensors_attention,
                jt_hf_tensors_mixtral},
    .skipped = decays,
    .import = import,
    .export = export_published,
};
