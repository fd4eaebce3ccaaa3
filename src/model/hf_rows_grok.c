/* Grok-1, in the names that it has since its weights are on Hugging Face (the release
 * itself is no folder; hpcai-tech/grok-1, vLLM's models/grok1.py), and Grok-2
 * (xai-org/grok-2, SGLang's models/grok.py). Formulas of Grok-1: model.py of
 * github.com/xai-org/grok-1. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- what both have ---- */

static const jt_hf_key keys[] = {
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"embedding_multiplier_scale", "embedding_scale", JT_HF_FLOAT},
    {"output_multiplier_scale", "logit_scale", JT_HF_FLOAT},
    {"attn_output_multiplier", "attention.output_scale", JT_HF_FLOAT},
    {0}};

static bool has_dense_part(const jt_hf_job *job)
{
    return jt_gguf_find(job->file, "blk.0.ffn_up.weight") != NULL;
}

/* Scores are divided by the root of the width of a head, if nothing else is said. */
static jt_status import_scale(jt_hf_job *job)
{
    double scale;
    int64_t dims = 0;
    JT_TRY(jt_hf_import_rope_dims(job, 1.0));
    jt_hf_get_int(job, "rope.dimension_count", &dims);
    if (dims < 1 || jt_hf_get_float(job, "attention.output_scale", &scale))
        return JT_OK;
    return jt_hf_set_float(job, "attention.output_scale", 1.0 / sqrt((double)dims));
}

/* What files of Grok-1 may leave out. */
static jt_status export_usual(jt_hf_job *job)
{
    static const struct {
        const char *gguf, *config;
        float usual;
    } numbers[] = {
        {"attention.output_scale", "attn_output_multiplier", 0.08838834764831845f},
        {"embedding_scale", "embedding_multiplier_scale", 78.38367176906169f},
        {"logit_scale", "output_multiplier_scale", 0.5773502691896257f},
        {"attn_logit_softcapping", "max_attn_value", 30.0f}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value = (double)numbers[i].usual;
        jt_hf_get_float(job, numbers[i].gguf, &value);
        JT_TRY(jt_hf_put(job, numbers[i].config, jt_hf_real((float)value)));
    }
    return JT_OK;
}

/* ---- Grok-1 ---- */

static const jt_hf_key grok1_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"max_attn_value", "attn_logit_softcapping", JT_HF_FLOAT, "30"},
    {0}};

static const jt_hf_row grok1_tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.scale", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {LAYER "pre_attn_norm.scale", "blk.%.attn_norm.weight"},
    {LAYER "attn.q_proj.weight", "blk.%.attn_q.weight"},
    {LAYER "attn.k_proj.weight", "blk.%.attn_k.weight"},
    {LAYER "attn.v_proj.weight", "blk.%.attn_v.weight"},
    {LAYER "attn.o_proj.weight", "blk.%.attn_output.weight"},
    {LAYER "post_attn_norm.scale", "blk.%.attn_output_norm.weight"},
    {LAYER "pre_moe_norm.scale", "blk.%.ffn_norm.weight"},
    {LAYER "moe_block.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "moe_block.experts.#.linear.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "moe_block.experts.#.linear_v.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "moe_block.experts.#.linear_1.weight", "blk.%.ffn_down_exps.weight"},
    {LAYER "post_moe_norm.scale", "blk.%.layer_output_norm.weight"},
    {0}};

static bool is_grok1(const jt_hf_job *job)
{
    return !has_dense_part(job);
}

const jt_hf_family jt_hf_grok1 = {
    .model_type = "grok-1",
    .architecture = "Grok1ModelForCausalLM",
    .arch = "grok",
    .fits = is_grok1,
    .keys = {jt_hf_keys_common, keys, grok1_keys},
    .tensors = {grok1_tensors},
    .import = import_scale,
    .export = export_usual,
};

/* ---- Grok-2 ---- */

static const jt_hf_key grok2_keys[] = {
    {"num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"attn_logit_softcapping", "attn_logit_softcapping", JT_HF_FLOAT, "30"},
    {"router_logit_softcapping", "router_logit_softcapping", JT_HF_FLOAT, "30"},
    {"final_logit_softcapping", "final_logit_softcapping", JT_HF_FLOAT},
    {"attn_temperature_len", "attention.temperature_length", JT_HF_INT},
    {"residual_moe", "blk.0.ffn_up.weight", JT_HF_HAS},
    {0}};

/* ---- experts cut for several devices ----
 * As published each device has some of the inner values of an expert: rows of w1 and
 * w3, columns of w2 (SGLang loads file "-TP-003" on device 3). */

#define EXPERT LAYER "block_sparse_moe.experts.#."

/* Part `part` of a tensor; the first goes by the name of the whole. */
static const jt_safetensor *find_part(jt_hf_job *job, const char *pattern,
                                      uint64_t expert, uint64_t part)
{
    char name[JT_HF_NAME_BYTES], full[JT_HF_NAME_BYTES + 8];
    jt_hf_name(name, sizeof name, pattern, job->layer, (int)expert);
    snprintf(full, sizeof full, part ? "%s.TP-%03d" : "%s", name, (int)part);
    return jt_hf_find(job, full);
}

/* The stack of all parts, whose shape is that of *t, which are those of the first
 * device; `along` is the dimension that was cut. */
static jt_status join(jt_hf_job *job, jt_gguf_tensor *t, const char *pattern, int along)
{
    enum { MOST_PARTS = 1000 };
    uint64_t parts = 1;
    int64_t width = 0;
    while (parts < MOST_PARTS && find_part(job, pattern, 0, parts))
        parts++;
    if (t->n_dims != 3 || t->dtype >= JT_DTYPE_COUNT)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of a matrix");
    if (jt_hf_get_int(job, "expert_feed_forward_length", &width) &&
        t->shape[along] * parts != (uint64_t)width)
        return jt_fail(job->err, JT_E_FORMAT,
                       "%d part(s) of %llu inner values are not the %lld of an expert",
                       (int)parts, (unsigned long long)t->shape[along],
                       (long long)width);
    if (parts == 1)
        return JT_OK;
    uint64_t rows = t->shape[1], cols = t->shape[2];
    size_t row = jt_dtype_row_bytes(t->dtype, (size_t)cols);
    t->shape[along] *= parts;
    jt_status status;
    char *to = jt_hf_room(job, t, &status);
    for (uint64_t i = 0; i < t->shape[0] * parts && status == JT_OK; i++) {
        uint64_t expert = i / parts, part = i % parts;
        const jt_safetensor *from = find_part(job, pattern, expert, part);
        if (!from || from->n_dims != 2 || from->shape[0] != rows ||
            from->shape[1] != cols || from->bytes != rows * row)
            return jt_fail(job->err, JT_E_FORMAT,
                           "part %d of expert %d is missing, or not like the first",
                           (int)part, (int)expert);
        for (uint64_t r = 0; r < rows && to; r++) {
            uint64_t at =
                along == 1 ? i * rows + r : (expert * rows + r) * parts + part;
            memcpy(to + at * row, (const char *)from->data + r * row, row);
        }
    }
    return status;
}

static jt_status w1_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return join(job, t, EXPERT "w1.weight", 1);
}

static jt_status w3_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return join(job, t, EXPERT "w3.weight", 1);
}

static jt_status w2_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return join(job, t, EXPERT "w2.weight", 2);
}

static jt_status same_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    (void)job;
    *hf = *t;
    return JT_OK;
}

static const jt_hf_transform w1 = {w1_import, same_export};
static const jt_hf_transform w3 = {w3_import, same_export};
static const jt_hf_transform w2 = {w2_import, same_export};

static const jt_hf_row grok2_tensors[] = {
    {LAYER "pre_attn_norm.weight", "blk.%.attn_norm.weight"},
    {LAYER "post_attn_norm.weight", "blk.%.attn_output_norm.weight"},
    {LAYER "pre_moe_norm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "block_sparse_moe.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {EXPERT "w1.weight", "blk.%.ffn_gate_exps.weight", &w1},
    {EXPERT "w3.weight", "blk.%.ffn_up_exps.weight", &w3},
    {EXPERT "w2.weight", "blk.%.ffn_down_exps.weight", &w2},
    {LAYER "post_moe_norm.weight", "blk.%.post_ffw_norm.weight"},
    {0}};

/* Its model type is that of another model. */
static bool reads_grok2(const jt_hf_job *job)
{
    const char *architecture =
        json_string_value(json_array_get(jt_hf_config(job, "architectures"), 0));
    return architecture && strcmp(architecture, "Grok1ForCausalLM") == 0;
}

/* "original" is the rotation without any scaling, whatever factor stands beside it. */
static jt_status import_grok2(jt_hf_job *job)
{
    const json_t *type = jt_hf_config(job, "rope_type");
    const char *word = json_string_value(type);
    if (type && !(word && strcmp(word, "original") == 0))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: 'rope_type' is '%.40s', expected 'original'",
                       word ? word : "?");
    return import_scale(job);
}

const jt_hf_family jt_hf_grok2 = {
    .model_type = "git",
    .architecture = "Grok1ForCausalLM",
    .arch = "grok",
    .fits = has_dense_part,
    .reads = reads_grok2,
    .keys = {jt_hf_keys_common, keys, grok2_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_qkvo, grok2_tensors,
                jt_hf_tensors_mlp},
    .import = import_grok2,
};
