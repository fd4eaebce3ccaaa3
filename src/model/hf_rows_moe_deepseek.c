/* DeepSeekMoE, DeepSeek-V2 and -V3, Kimi-K2. */
#include <math.h>
#include <string.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- keys ---- */

static const jt_hf_key keys[] = {
    {"n_routed_experts", "expert_count", JT_HF_INT, .required = true},
    {"n_shared_experts", "expert_shared_count", JT_HF_INT},
    {"moe_layer_freq", NULL, JT_HF_INT, "1"},
    {"attention_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

const jt_hf_key jt_hf_keys_latent[] = {
    {"q_lora_rank", "attention.q_lora_rank", JT_HF_INT},
    {"kv_lora_rank", "attention.kv_lora_rank", JT_HF_INT, "512"},
    {"v_head_dim", "attention.value_length_mla", JT_HF_INT},
    {"qk_rope_head_dim", "rope.dimension_count", JT_HF_INT, .required = true},
    {0}};

static const jt_hf_key v1_keys[] = {{"scoring_func", NULL, JT_HF_TEXT, "softmax"}, {0}};

#define GATING "softmax=1|sigmoid=2"

static const jt_hf_key v2_keys[] = {
    {"scoring_func", "expert_gating_func", JT_HF_WORD, "softmax", .words = GATING},
    {0}};

static const jt_hf_key v3_keys[] = {
    {"scoring_func", "expert_gating_func", JT_HF_WORD, "sigmoid", .words = GATING},
    {"topk_method", NULL, JT_HF_TEXT, "noaux_tc"},
    {"rope_interleave", NULL, JT_HF_BOOL, "true"},
    {0}};

/* ---- tensors ---- */

/* kv_b has, head after head, rows that make keys and rows that make values. GGUF has
 * the former as they are used when attention reads the compressed rows: turned. Older
 * files have kv_b itself, and count its keys and values. */
typedef struct heads {
    uint64_t count, key, value, rank;
} heads;

static jt_status read_heads(const jt_hf_job *job, heads *h)
{
    int64_t count = 0, key = 0, value = 0, rotated = 0, rank = 0;
    jt_hf_get_int(job, "attention.head_count", &count);
    if (!jt_hf_get_int(job, "attention.key_length_mla", &key))
        jt_hf_get_int(job, "attention.key_length", &key);
    if (!jt_hf_get_int(job, "attention.value_length_mla", &value))
        jt_hf_get_int(job, "attention.value_length", &value);
    jt_hf_get_int(job, "rope.dimension_count", &rotated);
    jt_hf_get_int(job, "attention.kv_lora_rank", &rank);
    *h = (heads){(uint64_t)count, (uint64_t)(key - rotated), (uint64_t)value,
                 (uint64_t)rank};
    return count > 0 && key > rotated && value > 0 && rank > 0
               ? JT_OK
               : jt_fail(job->err, JT_E_FORMAT, "the sizes of its heads are missing");
}

/* Row `i` of the keys (or values) of `head` lies there in kv_b. */
static uint64_t row_of(const heads *h, uint64_t head, uint64_t i, bool values)
{
    return head * (h->key + h->value) + (values ? h->key : 0) + i;
}

static bool fits(const jt_gguf_tensor *t, uint64_t a, uint64_t b, uint64_t c)
{
    return t->n_dims == (c ? 3 : 2) && t->shape[0] == a && t->shape[1] == b &&
           (!c || t->shape[2] == c) && t->dtype < JT_DTYPE_COUNT &&
           jt_dtype_block_values(t->dtype) == 1;
}

static jt_status fail_heads(jt_hf_job *job)
{
    return jt_fail(job->err, JT_E_FORMAT,
                   "its shape is not that of keys and values of all heads");
}

/* A copy of one value, there or back. */
static void move(const jt_gguf_tensor *from, uint64_t at, void *to, uint64_t to_at)
{
    size_t item = jt_dtype_block_bytes(from->dtype);
    memcpy((char *)to + to_at * item, (const char *)from->data + at * item, item);
}

static jt_status split_import(jt_hf_job *job, jt_gguf_tensor *t, bool values)
{
    heads h;
    jt_status status;
    JT_TRY(read_heads(job, &h));
    if (!fits(t, h.count * (h.key + h.value), h.rank, 0))
        return fail_heads(job);
    jt_gguf_tensor from = *t;
    uint64_t rows = values ? h.value : h.key;
    t->n_dims = 3;
    t->shape[0] = h.count;
    t->shape[1] = values ? rows : h.rank;
    t->shape[2] = values ? h.rank : rows;
    char *to = jt_hf_room(job, t, &status);
    uint64_t all = to ? h.count * rows : 0;
    for (uint64_t r = 0; r < all; r++) {
        uint64_t head = r / rows, i = r % rows, row = row_of(&h, head, i, values);
        for (uint64_t c = 0; c < h.rank; c++)
            move(&from, row * h.rank + c, to,
                 values ? r * h.rank + c : (head * h.rank + c) * rows + i);
    }
    return status;
}

static jt_status split_export(jt_hf_job *job, const jt_gguf_tensor *t,
                              jt_gguf_tensor *hf, bool values)
{
    heads h;
    jt_status status = JT_OK;
    JT_TRY(read_heads(job, &h));
    uint64_t rows = values ? h.value : h.key;
    if (!fits(t, h.count, values ? rows : h.rank, values ? h.rank : rows) ||
        (hf->n_dims && hf->dtype != t->dtype))
        return fail_heads(job);
    if (hf->n_dims == 0) {
        *hf = *t;
        hf->n_dims = 2;
        hf->shape[0] = h.count * (h.key + h.value);
        hf->shape[1] = h.rank;
        jt_hf_room(job, hf, &status);
    }
    void *to = (void *)(uintptr_t)hf->data;
    uint64_t all = to && status == JT_OK ? h.count * rows : 0;
    for (uint64_t r = 0; r < all; r++) {
        uint64_t head = r / rows, i = r % rows, row = row_of(&h, head, i, values);
        for (uint64_t c = 0; c < h.rank; c++)
            move(t, values ? r * h.rank + c : (head * h.rank + c) * rows + i, to,
                 row * h.rank + c);
    }
    return status;
}

static jt_status keys_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return split_import(job, t, false);
}

static jt_status keys_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    return split_export(job, t, hf, false);
}

static jt_status values_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return split_import(job, t, true);
}

static jt_status values_export(jt_hf_job *job, const jt_gguf_tensor *t,
                               jt_gguf_tensor *hf)
{
    return split_export(job, t, hf, true);
}

static jt_status whole_export(jt_hf_job *job, const jt_gguf_tensor *t,
                              jt_gguf_tensor *hf)
{
    (void)job;
    *hf = *t;
    return JT_OK;
}

static const jt_hf_transform whole = {NULL, whole_export};
static const jt_hf_transform key_rows = {keys_import, keys_export};
static const jt_hf_transform value_rows = {values_import, values_export};

const jt_hf_row jt_hf_tensors_latent[] = {
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "self_attn.q_proj.weight", "blk.%.attn_q.weight"},
    {LAYER "self_attn.q_a_proj.weight", "blk.%.attn_q_a.weight"},
    {LAYER "self_attn.q_a_layernorm.weight", "blk.%.attn_q_a_norm.weight"},
    {LAYER "self_attn.q_b_proj.weight", "blk.%.attn_q_b.weight"},
    {LAYER "self_attn.kv_a_proj_with_mqa.weight", "blk.%.attn_kv_a_mqa.weight"},
    {LAYER "self_attn.kv_a_layernorm.weight", "blk.%.attn_kv_a_norm.weight"},
    {LAYER "self_attn.kv_b_proj.weight", "blk.%.attn_k_b.weight", &key_rows},
    {LAYER "self_attn.kv_b_proj.weight", "blk.%.attn_v_b.weight", &value_rows},
    {LAYER "self_attn.kv_b_proj.weight", "blk.%.attn_kv_b.weight", &whole},
    {LAYER "self_attn.o_proj.weight", "blk.%.attn_output.weight"},
    {0}};

static const jt_hf_row correction[] = {
    {LAYER "mlp.gate.e_score_correction_bias", "blk.%.exp_probs_b.bias"}, {0}};

/* ---- hooks ---- */

/* Rotated values and compressed rows are the keys of one head, which all heads read. */
jt_status jt_hf_import_latent(jt_hf_job *job)
{
    int64_t rank = 0, rotated = 0, value;
    json_t *plain = jt_hf_config(job, "qk_nope_head_dim");
    json_t *all = jt_hf_config(job, "rope_parameters.mscale_all_dim|"
                                    "rope_scaling.mscale_all_dim");
    json_t *scale = jt_hf_config(job, "rope_parameters.mscale|rope_scaling.mscale");
    jt_hf_get_int(job, "attention.kv_lora_rank", &rank);
    jt_hf_get_int(job, "rope.dimension_count", &rotated);
    if (!json_is_integer(plain) || json_integer_value(plain) < 1 ||
        json_integer_value(plain) > 65536)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'qk_nope_head_dim' is not a size");
    if (!jt_hf_get_int(job, "attention.value_length_mla", &value))
        return jt_fail(job->err, JT_E_FORMAT, "config.json: 'v_head_dim' is missing");
    JT_TRY(jt_hf_set_int(job, "attention.head_count_kv", 1));
    JT_TRY(jt_hf_set_int(job, "attention.key_length", rank + rotated));
    JT_TRY(jt_hf_set_int(job, "attention.value_length", rank));
    JT_TRY(jt_hf_set_int(job, "attention.key_length_mla",
                         json_integer_value(plain) + rotated));
    if (!json_is_number(all))
        return JT_OK;
    if (!json_is_number(scale) ||
        fabs(json_number_value(all) - json_number_value(scale)) > 1e-6)
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: 'mscale' and 'mscale_all_dim' differ");
    return jt_hf_set_float(job, "rope.scaling.yarn_log_multiplier",
                           0.1 * json_number_value(all));
}

jt_status jt_hf_export_latent(jt_hf_job *job)
{
    heads h;
    double multiplier;
    JT_TRY(read_heads(job, &h));
    JT_TRY(jt_hf_put(job, "qk_nope_head_dim", json_integer((json_int_t)h.key)));
    JT_TRY(jt_hf_put(job, "v_head_dim", json_integer((json_int_t)h.value)));
    JT_TRY(jt_hf_put(job, "num_key_value_heads", json_integer((json_int_t)h.count)));
    json_object_del(job->config, "head_dim"); /* of compressed rows */
    if (!jt_hf_get_float(job, "rope.scaling.yarn_log_multiplier", &multiplier))
        return JT_OK;
    float scale = (float)(10.0 * multiplier);
    JT_TRY(jt_hf_put(job, "rope_parameters.mscale", jt_hf_real(scale)));
    return jt_hf_put(job, "rope_parameters.mscale_all_dim", jt_hf_real(scale));
}

/* Lite models choose among all experts. */
static jt_status export_v2(jt_hf_job *job)
{
    int64_t groups = 1;
    jt_hf_get_int(job, "expert_group_count", &groups);
    JT_TRY(jt_hf_put(job, "topk_method",
                     json_string(groups > 1 ? "group_limited_greedy" : "greedy")));
    return jt_hf_export_latent(job);
}

static jt_status import_v1(jt_hf_job *job)
{
    JT_TRY(jt_hf_set_float(job, "expert_weights_scale", 1.0));
    return jt_hf_import_rope_dims(job, 1.0);
}

static bool is_v3(const jt_hf_job *job)
{
    int64_t gating = 0;
    return jt_hf_get_int(job, "expert_gating_func", &gating) && gating == 2;
}

const jt_hf_family jt_hf_deepseek = {
    .model_type = "deepseek",
    .architecture = "DeepseekForCausalLM",
    .arch = "deepseek",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, keys, v1_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention_turned, jt_hf_tensors_dense,
                jt_hf_tensors_experts, jt_hf_tensors_shexp},
    .import = import_v1,
};

const jt_hf_family jt_hf_deepseek_v3 = {
    .model_type = "deepseek_v3|kimi_k2",
    .architecture = "DeepseekV3ForCausalLM",
    .arch = "deepseek2",
    .fits = is_v3,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, keys,
             jt_hf_keys_latent, v3_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_latent, jt_hf_tensors_dense,
                jt_hf_tensors_experts, jt_hf_tensors_shexp, correction},
    .import = jt_hf_import_latent,
    .export = jt_hf_export_latent,
};

const jt_hf_family jt_hf_deepseek_v2 = {
    .model_type = "deepseek_v2",
    .architecture = "DeepseekV2ForCausalLM",
    .arch = "deepseek2",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, keys,
             jt_hf_keys_latent, v2_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_latent, jt_hf_tensors_dense,
                jt_hf_tensors_experts, jt_hf_tensors_shexp},
    .import = jt_hf_import_latent,
    .export = export_v2,
};
