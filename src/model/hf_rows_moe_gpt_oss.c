/* gpt-oss: gates and ups of experts take turns, all parts have biases, and published
 * weights are MXFP4 blocks. */
#include <string.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key keys[] = {
    {"num_local_experts|num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok|experts_per_token", "expert_used_count", JT_HF_INT,
     .required = true},
    {"intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "128"},
    {"attention_bias", NULL, JT_HF_BOOL, "true"},
    {"swiglu_limit", NULL, JT_HF_FLOAT, "7.0"},
    {"swiglu_alpha", NULL, JT_HF_FLOAT, "1.702"},
    {0}};

/* ---- biases ---- */

/* Every second value of [experts, 2 ff]. */
static jt_status bias_import(jt_hf_job *job, jt_gguf_tensor *t, uint64_t which)
{
    jt_status status;
    if (t->n_dims != 2 || t->shape[1] % 2 != 0)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of two biases");
    JT_TRY(jt_hf_as_f32(job, t));
    const float *from = t->data;
    t->shape[1] /= 2;
    float *to = jt_hf_room(job, t, &status);
    size_t n = to ? jt_hf_values(t) : 0;
    for (size_t i = 0; i < n; i++)
        to[i] = from[2 * i + which];
    return status;
}

static jt_status bias_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf, uint64_t which)
{
    jt_status status = JT_OK;
    if (t->n_dims != 2 || t->dtype != JT_F32)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of a bias");
    if (hf->n_dims == 0) {
        *hf = *t;
        hf->shape[1] *= 2;
        jt_hf_room(job, hf, &status);
    } else if (hf->shape[1] != 2 * t->shape[1]) {
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of its partner");
    }
    const float *from = t->data;
    float *to = (float *)(uintptr_t)hf->data;
    size_t n = to && status == JT_OK ? jt_hf_values(t) : 0;
    for (size_t i = 0; i < n; i++)
        to[2 * i + which] = from[i];
    return status;
}

static jt_status gate_bias_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return bias_import(job, t, 0);
}

static jt_status gate_bias_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                  jt_gguf_tensor *hf)
{
    return bias_export(job, t, hf, 0);
}

static jt_status up_bias_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return bias_import(job, t, 1);
}

static jt_status up_bias_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                jt_gguf_tensor *hf)
{
    return bias_export(job, t, hf, 1);
}

static const jt_hf_transform gate_bias = {gate_bias_import, gate_bias_export};
static const jt_hf_transform up_bias = {up_bias_import, up_bias_export};

/* ---- MXFP4 ---- */

enum { CODES = 16, BLOCK = 17, VALUES = 32 }; /* bytes, bytes, values */

/* Rows `which`, `which` + `step`, .. of codes [experts, rows, blocks, 16] with the
 * exponents [experts, rows, blocks] of the tensor named `scales`. */
static jt_status blocks_import(jt_hf_job *job, jt_gguf_tensor *t, const char *scales,
                               uint64_t which, uint64_t step)
{
    jt_status status;
    const jt_safetensor *exponents = jt_hf_source(job, scales);
    const unsigned char *from = t->data;
    if (t->n_dims != 4 || t->shape[3] != CODES || t->shape[1] % step != 0)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of MXFP4 blocks");
    uint64_t rows = t->shape[0] * t->shape[1], blocks = t->shape[2];
    if (!exponents || exponents->type != JT_ST_U8 || exponents->n_dims != 3 ||
        memcmp(exponents->shape, t->shape, 3 * sizeof *t->shape) != 0)
        return jt_fail(job->err, JT_E_FORMAT, "its scales do not fit it");
    const unsigned char *scale = exponents->data;
    t->dtype = JT_MXFP4;
    t->n_dims = 3;
    t->shape[1] /= step;
    t->shape[2] = blocks * VALUES;
    unsigned char *to = jt_hf_room(job, t, &status);
    for (uint64_t r = which; r < rows && to; r += step) {
        for (uint64_t b = r * blocks; b < (r + 1) * blocks; b++, to += BLOCK) {
            to[0] = scale[b];
            jt_hf_order_fp4(to + 1, from + b * CODES, VALUES);
        }
    }
    return status;
}

#define EXPERTS LAYER "mlp.experts."

static jt_status gate_blocks_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return blocks_import(job, t, EXPERTS "gate_up_proj_scales", 0, 2);
}

static jt_status up_blocks_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return blocks_import(job, t, EXPERTS "gate_up_proj_scales", 1, 2);
}

static jt_status down_blocks_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return blocks_import(job, t, EXPERTS "down_proj_scales", 0, 1);
}

static const jt_hf_transform gate_blocks = {gate_blocks_import, NULL};
static const jt_hf_transform up_blocks = {up_blocks_import, NULL};
static const jt_hf_transform down_blocks = {down_blocks_import, NULL};

/* ---- rows ---- */

static const jt_hf_row tensors[] = {
    {LAYER "self_attn.sinks", "blk.%.attn_sinks.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "mlp.router.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "mlp.router.bias", "blk.%.ffn_gate_inp.bias"},
    {EXPERTS "gate_up_proj", "blk.%.ffn_gate_exps.weight", &jt_hf_even_t},
    {EXPERTS "gate_up_proj", "blk.%.ffn_up_exps.weight", &jt_hf_odd_t},
    {EXPERTS "down_proj", "blk.%.ffn_down_exps.weight", &jt_hf_transposed},
    {EXPERTS "gate_up_proj_bias", "blk.%.ffn_gate_exps.bias", &gate_bias},
    {EXPERTS "gate_up_proj_bias", "blk.%.ffn_up_exps.bias", &up_bias},
    {EXPERTS "down_proj_bias", "blk.%.ffn_down_exps.bias"},
    /* In folders only: GGUF files with blocks become BF16, which holds their values. */
    {EXPERTS "gate_up_proj_blocks", "blk.%.ffn_gate_exps.weight", &gate_blocks},
    {EXPERTS "gate_up_proj_blocks", "blk.%.ffn_up_exps.weight", &up_blocks},
    {EXPERTS "down_proj_blocks", "blk.%.ffn_down_exps.weight", &down_blocks},
    {0}};

static jt_status import(jt_hf_job *job)
{
    return jt_hf_import_pattern(job, false);
}

/* The ramp of YaRN ends between pairs. */
static jt_status export(jt_hf_job *job)
{
    if (jt_hf_config(job, "rope_parameters.factor"))
        JT_TRY(jt_hf_put(job, "rope_parameters.truncate", json_false()));
    return jt_hf_export_pattern(job);
}

const jt_hf_family jt_hf_gpt_oss = {
    .model_type = "gpt_oss",
    .architecture = "GptOssForCausalLM",
    .arch = "gpt-oss",
    .keys = {jt_hf_keys_common, keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_attention, tensors},
    .import = import,
    .export = export,
};
