/* Gemma 1 to 3. Norms are stored as w - 1. */
#include <math.h>
#include <string.h>

#include "model/family.h"
#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key activation[] = {
    {"hidden_activation", NULL, JT_HF_TEXT, "gelu_pytorch_tanh"}, {0}};

static const jt_hf_key gemma2_keys[] = {
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "4096"},
    {"attn_logit_softcapping", "attn_logit_softcapping", JT_HF_FLOAT, "0"},
    {"final_logit_softcapping", "final_logit_softcapping", JT_HF_FLOAT, "0"},
    {0}};

/* Folders of the first Gemma 3 leave out what is as in the configuration's class. */
static const jt_hf_key gemma3_keys[] = {
    {"num_hidden_layers", "block_count", JT_HF_INT, .required = true},
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},
    {"intermediate_size", "feed_forward_length", JT_HF_INT, .required = true},
    {"max_position_embeddings", "context_length", JT_HF_INT, "131072"},
    {"num_attention_heads", "attention.head_count", JT_HF_INT, "8"},
    {"num_key_value_heads", "attention.head_count_kv", JT_HF_INT, "4"},
    {"head_dim", "attention.key_length", JT_HF_INT, "256"},
    {"head_dim", "attention.value_length", JT_HF_INT, "256"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-6"},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "4096"},
    {"final_logit_softcapping", "final_logit_softcapping", JT_HF_FLOAT},
    {"rope_parameters.sliding_attention.rope_theta|rope_local_base_freq",
     "rope.freq_base_swa", JT_HF_FLOAT, "10000"},
    {0}};

static const jt_hf_row ends[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight", &jt_hf_plus_one},
    {"lm_head.weight", "output.weight"},
    {0}};

static const jt_hf_row layer[] = {
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight", &jt_hf_plus_one},
    {LAYER "self_attn.q_norm.weight", "blk.%.attn_q_norm.weight", &jt_hf_plus_one},
    {LAYER "self_attn.k_norm.weight", "blk.%.attn_k_norm.weight", &jt_hf_plus_one},
    {0}};

static const jt_hf_row norm_before[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight", &jt_hf_plus_one},
    {0}};

static const jt_hf_row norms_around[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight",
     &jt_hf_plus_one},
    {LAYER "pre_feedforward_layernorm.weight", "blk.%.ffn_norm.weight",
     &jt_hf_plus_one},
    {LAYER "post_feedforward_layernorm.weight", "blk.%.post_ffw_norm.weight",
     &jt_hf_plus_one},
    {0}};

/* ---- what scores are divided by the root of ---- */

static double usual_scalar(const jt_hf_job *job)
{
    const jt_family *f = jt_family_find(job->family->arch, strlen(job->family->arch));
    int64_t layers = 0, width = 0, heads = 1, dim = 0;
    jt_hf_get_int(job, "block_count", &layers);
    jt_hf_get_int(job, "embedding_length", &width);
    jt_hf_get_int(job, "attention.head_count", &heads);
    jt_hf_get_int(job, "attention.key_length", &dim);
    return (double)(layers == f->wide_scale_layers && heads ? width / heads : dim);
}

static jt_status import_scalar(jt_hf_job *job)
{
    const json_t *scalar = jt_hf_config(job, "query_pre_attn_scalar");
    double value = json_number_value(scalar);
    if (!scalar || value == usual_scalar(job))
        return JT_OK;
    if (!(value > 0.0))
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'query_pre_attn_scalar' is no positive number");
    return jt_hf_set_float(job, "attention.scale", 1.0 / sqrt(value));
}

static jt_status export_scalar(jt_hf_job *job)
{
    double scale, value = usual_scalar(job);
    if (jt_hf_get_float(job, "attention.scale", &scale) && scale > 0.0)
        value = round(1e3 / (scale * scale)) / 1e3;
    return jt_hf_put(job, "query_pre_attn_scalar", json_real(value));
}

/* ---- the rest ---- */

/* Folders of the first Gemma say "gelu" and mean the approximation. */
static jt_status export_gemma(jt_hf_job *job)
{
    return jt_hf_put(job, "hidden_act", json_string("gelu_pytorch_tanh"));
}

static jt_status import_gemma2(jt_hf_job *job)
{
    JT_TRY(import_scalar(job));
    return jt_hf_import_pattern(job, false);
}

/* A cap of nothing is written as null. */
static jt_status export_gemma2(jt_hf_job *job)
{
    static const char *const caps[] = {"attn_logit_softcapping",
                                       "final_logit_softcapping"};
    for (int i = 0; i < 2; i++) {
        double cap;
        if (!jt_hf_get_float(job, caps[i], &cap) || cap == 0.0)
            JT_TRY(jt_hf_put(job, caps[i], json_null()));
    }
    JT_TRY(export_scalar(job));
    return jt_hf_export_pattern(job);
}

static jt_status import_gemma3(jt_hf_job *job)
{
    static const char base[] = "rope_parameters.full_attention.rope_theta|"
                               "rope_parameters.rope_theta|rope_theta";
    if (!jt_hf_config(job, base))
        JT_TRY(jt_hf_set_float(job, "rope.freq_base", 1e6));
    return import_gemma2(job);
}

static jt_status export_gemma3(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_two_ropes(job));
    JT_TRY(export_scalar(job));
    return jt_hf_export_pattern(job);
}

const jt_hf_family jt_hf_gemma = {
    .model_type = "gemma",
    .architecture = "GemmaForCausalLM",
    .arch = "gemma",
    .keys = {jt_hf_keys_common},
    .tensors = {ends, layer, norm_before, jt_hf_tensors_qkvo, jt_hf_tensors_mlp},
    .export = export_gemma,
};

const jt_hf_family jt_hf_gemma2 = {
    .model_type = "gemma2",
    .architecture = "Gemma2ForCausalLM",
    .arch = "gemma2",
    .keys = {jt_hf_keys_common, activation, gemma2_keys},
    .tensors = {ends, layer, norms_around, jt_hf_tensors_qkvo, jt_hf_tensors_mlp},
    .import = import_gemma2,
    .export = export_gemma2,
};

const jt_hf_family jt_hf_gemma3 = {
    .model_type = "gemma3_text",
    .architecture = "Gemma3ForCausalLM",
    .arch = "gemma3",
    .keys = {gemma3_keys, activation},
    .tensors = {ends, layer, norms_around, jt_hf_tensors_qkvo, jt_hf_tensors_mlp},
    .import = import_gemma3,
    .export = export_gemma3,
};
