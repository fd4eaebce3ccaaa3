/* Falcon-H1: attention and Mamba-2 side by side. Its multipliers (config.json names
 * all) are multiplied into the matrices, as llama.cpp's files have them
 * (conversion/falcon_h1.py); a folder that is written says 1 for each. */
#include <string.h>

#include "base/half.h"
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- multipliers ---- */

/* So many rows of a matrix, and what they are multiplied by. */
typedef struct section {
    uint64_t rows;
    double factor;
} section;

enum { IN_SECTIONS = 5 }; /* z, x, B, C, dt */

/* The number at `path`, or item `i` of a list there; 1 where there is none. */
static double multiplier(const jt_hf_job *job, const char *path, size_t i)
{
    const json_t *value = jt_hf_config(job, path);
    if (json_is_array(value))
        value = json_array_get(value, i);
    return json_is_number(value) ? json_number_value(value) : 1.0;
}

/* One value of the tensor's type, rounded to it again. */
static void scale_value(void *to, const void *from, uint64_t i, jt_dtype dtype,
                        double factor)
{
    const uint16_t *half = from;
    if (dtype == JT_F32)
        ((float *)to)[i] = (float)(((const float *)from)[i] * factor);
    else if (dtype == JT_F16)
        ((uint16_t *)to)[i] =
            jt_float_to_f16((float)(jt_f16_to_float(half[i]) * factor));
    else
        ((uint16_t *)to)[i] =
            jt_float_to_bf16((float)(jt_bf16_to_float(half[i]) * factor));
}

static jt_status scale(jt_hf_job *job, jt_gguf_tensor *t, const section *part,
                       int count)
{
    uint64_t rows = 0, cols = t->n_dims == 2 ? t->shape[1] : 0, at = 0;
    bool changed = false;
    for (int i = 0; i < count; i++) {
        rows += part[i].rows;
        changed = changed || part[i].factor != 1.0;
    }
    if (cols == 0 || t->shape[0] != rows || t->pieces ||
        (t->dtype != JT_F32 && t->dtype != JT_F16 && t->dtype != JT_BF16))
        return jt_fail(job->err, JT_E_FORMAT, "its shape or type does not fit");
    if (!changed)
        return JT_OK;
    const void *from = t->data;
    jt_status status;
    void *to = jt_hf_room(job, t, &status);
    for (int i = 0; i < count && to; i++) {
        for (uint64_t end = at + part[i].rows * cols; at < end; at++)
            scale_value(to, from, at, t->dtype, part[i].factor);
    }
    return status;
}

static jt_status scale_all(jt_hf_job *job, jt_gguf_tensor *t, double factor)
{
    return scale(job, t, &(section){t->shape[0], factor}, 1);
}

static jt_status keep(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf)
{
    (void)job;
    *hf = *t;
    return JT_OK;
}

static bool is_tied(const jt_hf_job *job)
{
    return json_is_true(jt_hf_config(job, "tie_word_embeddings"));
}

static jt_status embedding_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "embedding_multiplier", 0));
}

/* Tied, it is the embedding; the rest of its factor is the key logit_scale. */
static jt_status head_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    const char *path = is_tied(job) ? "embedding_multiplier" : "lm_head_multiplier";
    return scale_all(job, t, multiplier(job, path, 0));
}

static jt_status qv_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "attention_in_multiplier", 0));
}

static jt_status k_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t,
                     multiplier(job, "attention_in_multiplier", 0) *
                         multiplier(job, "key_multiplier", 0));
}

static jt_status o_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "attention_out_multiplier", 0));
}

static jt_status ssm_out_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "ssm_out_multiplier", 0));
}

static jt_status gate_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "mlp_multipliers", 0));
}

static jt_status down_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return scale_all(job, t, multiplier(job, "mlp_multipliers", 1));
}

static jt_status ssm_in_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    int64_t inner = 0, heads = 0, groups = 0, state = 0;
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    jt_hf_get_int(job, "ssm.time_step_rank", &heads);
    jt_hf_get_int(job, "ssm.group_count", &groups);
    jt_hf_get_int(job, "ssm.state_size", &state);
    uint64_t b = (uint64_t)groups * (uint64_t)state;
    section part[IN_SECTIONS] = {
        {(uint64_t)inner}, {(uint64_t)inner}, {b}, {b}, {(uint64_t)heads}};
    for (size_t i = 0; i < IN_SECTIONS; i++)
        part[i].factor = multiplier(job, "ssm_in_multiplier", 0) *
                         multiplier(job, "ssm_multipliers", i);
    return scale(job, t, part, IN_SECTIONS);
}

static const jt_hf_transform embedding = {embedding_import, keep};
static const jt_hf_transform head = {head_import, keep};
static const jt_hf_transform queries = {qv_import, keep}; /* and values */
static const jt_hf_transform keys = {k_import, keep};
static const jt_hf_transform attention_out = {o_import, keep};
static const jt_hf_transform ssm_in = {ssm_in_import, keep};
static const jt_hf_transform ssm_out = {ssm_out_import, keep};
static const jt_hf_transform gate = {gate_import, keep};
static const jt_hf_transform down = {down_import, keep};

/* ---- rows ---- */

static const jt_hf_key mamba_keys[] = {
    {"mamba_d_conv", "ssm.conv_kernel", JT_HF_INT, "4"},
    {"mamba_d_ssm", "ssm.inner_size", JT_HF_INT},
    {"mamba_d_state", "ssm.state_size", JT_HF_INT, "256"},
    {"mamba_n_heads", "ssm.time_step_rank", JT_HF_INT, "128"},
    {"mamba_n_groups", "ssm.group_count", JT_HF_INT, "1"},
    {"mamba_rms_norm", "blk.0.ssm_norm.weight", JT_HF_HAS},
    {"mamba_conv_bias", "blk.0.ssm_conv1d.bias", JT_HF_HAS},
    {"mamba_proj_bias", NULL, JT_HF_BOOL, "false"},
    {"projectors_bias", NULL, JT_HF_BOOL, "false"},
    {"attention_bias", NULL, JT_HF_BOOL, "false"},
    {"mlp_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight", &embedding},
    {"model.final_layernorm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight", &head},
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "self_attn.q_proj.weight", "blk.%.attn_q.weight", &queries},
    {LAYER "self_attn.k_proj.weight", "blk.%.attn_k.weight", &keys},
    {LAYER "self_attn.v_proj.weight", "blk.%.attn_v.weight", &queries},
    {LAYER "self_attn.o_proj.weight", "blk.%.attn_output.weight", &attention_out},
    {LAYER "mamba.in_proj.weight", "blk.%.ssm_in.weight", &ssm_in},
    {LAYER "mamba.conv1d.weight", "blk.%.ssm_conv1d.weight", &jt_hf_squeeze},
    {LAYER "mamba.conv1d.bias", "blk.%.ssm_conv1d.bias"},
    {LAYER "mamba.A_log", "blk.%.ssm_a", &jt_hf_minus_exp_column},
    {LAYER "mamba.D", "blk.%.ssm_d", &jt_hf_column},
    {LAYER "mamba.dt_bias", "blk.%.ssm_dt.bias"},
    {LAYER "mamba.norm.weight", "blk.%.ssm_norm.weight", &jt_hf_groups},
    {LAYER "mamba.out_proj.weight", "blk.%.ssm_out.weight", &ssm_out},
    {LAYER "pre_ff_layernorm.weight", "blk.%.ffn_norm"}, /* so in llama.cpp's files */
    {LAYER "feed_forward.gate_proj.weight", "blk.%.ffn_gate.weight", &gate},
    {LAYER "feed_forward.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "feed_forward.down_proj.weight", "blk.%.ffn_down.weight", &down},
    {0}};

/* ---- hooks ---- */

static jt_status import(jt_hf_job *job)
{
    int64_t width = 0, inner;
    json_int_t expand = jt_hf_whole(job, "mamba_expand", 2);
    jt_hf_get_int(job, "embedding_length", &width);
    if (json_is_true(jt_hf_config(job, "mamba_rms_norm")) &&
        !json_is_false(jt_hf_config(job, "mamba_norm_before_gate")))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: 'mamba_norm_before_gate' is true, expected false");
    if (expand < 1 || expand > 64 || width > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'mamba_expand' makes no sense");
    if (!jt_hf_get_int(job, "ssm.inner_size", &inner))
        JT_TRY(jt_hf_set_int(job, "ssm.inner_size", expand * width));
    double part = multiplier(job, "embedding_multiplier", 0);
    if (!is_tied(job) || !(part > 0.0))
        return JT_OK;
    return jt_hf_set_float(job, "logit_scale",
                           multiplier(job, "lm_head_multiplier", 0) / part);
}

static jt_status export(jt_hf_job *job)
{
    int64_t inner = 0, heads = 0;
    double logits = 1.0;
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    jt_hf_get_int(job, "ssm.time_step_rank", &heads);
    jt_hf_get_float(job, "logit_scale", &logits);
    JT_TRY(jt_hf_put(job, "mamba_d_head", json_integer(heads ? inner / heads : 0)));
    JT_TRY(jt_hf_put(job, "mamba_norm_before_gate", json_false()));
    JT_TRY(jt_hf_export_kv_heads(job)); /* llama.cpp's files have a list */
    return jt_hf_put(job, "lm_head_multiplier", jt_hf_real((float)logits));
}

const jt_hf_family jt_hf_falcon_h1 = {
    .model_type = "falcon_h1",
    .architecture = "FalconH1ForCausalLM",
    .arch = "falcon-h1",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, mamba_keys},
    .tensors = {tensors},
    .import = import,
    .export = export,
};
