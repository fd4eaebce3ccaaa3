/* DBRX: names and numbers of its own, and the experts of a layer in one matrix.
 * transformers' modeling_dbrx.py. */
#include <string.h>

#include "format/gguf_file.h"
#include "model/hf_rows.h"

#define LAYER     "transformer.blocks.%."
#define ATTENTION LAYER "norm_attn_norm."

static const jt_hf_key keys[] = {
    {"n_layers", "block_count", JT_HF_INT, .required = true},
    {"max_seq_len", "context_length", JT_HF_INT, .required = true},
    {"d_model", "embedding_length", JT_HF_INT, .required = true},
    {"n_heads", "attention.head_count", JT_HF_INT, .required = true},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {"attn_config.kv_n_heads", "attention.head_count_kv", JT_HF_INT, "1"},
    {"attn_config.clip_qkv", "attention.clamp_kqv", JT_HF_FLOAT},
    {"ffn_config.ffn_hidden_size", "feed_forward_length", JT_HF_INT, .required = true},
    {"ffn_config.moe_num_experts", "expert_count", JT_HF_INT, .required = true},
    {"ffn_config.moe_top_k", "expert_used_count", JT_HF_INT, .required = true},
    {"ffn_config.moe_normalize_expert_weights", NULL, JT_HF_FLOAT, "1"},
    {"ffn_config.ffn_act_fn.name", NULL, JT_HF_TEXT, "silu"},
    {NULL, "attention.layer_norm_epsilon", JT_HF_FLOAT, "1e-5"},
    {0}};

/* ---- experts: [experts * ff, d] there, gates and ups [experts, ff, d] in GGUF,
 * downs [experts, d, ff] ---- */

static jt_status stack_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    int64_t experts = 0;
    jt_hf_get_int(job, "expert_count", &experts);
    if (t->n_dims != 2 || experts < 1 || t->shape[0] % (uint64_t)experts != 0)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of whole experts");
    t->n_dims = 3;
    t->shape[2] = t->shape[1];
    t->shape[1] = t->shape[0] / (uint64_t)experts;
    t->shape[0] = (uint64_t)experts;
    return JT_OK;
}

static jt_status stack_export(jt_hf_job *job, const jt_gguf_tensor *t,
                              jt_gguf_tensor *hf)
{
    jt_status status;
    jt_gguf_tensor from = *t;
    if (t->n_dims != 3)
        return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of experts");
    size_t row = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[2]);
    *hf = *t;
    hf->n_dims = 2;
    hf->shape[0] = t->shape[0] * t->shape[1];
    hf->shape[1] = t->shape[2];
    from.bytes = (size_t)hf->shape[0] * row;
    char *to = jt_hf_room(job, hf, &status);
    for (uint64_t r = 0; r < hf->shape[0] && to; r++)
        memcpy(to + r * row, jt_gguf_row(&from, r), row);
    return status;
}

static jt_status down_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(stack_import(job, t));
    return jt_hf_transposed.import(job, t);
}

static jt_status down_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    jt_gguf_tensor turned = {0};
    JT_TRY(jt_hf_transposed.export(job, t, &turned));
    *hf = turned;
    hf->n_dims = 2;
    hf->shape[0] = turned.shape[0] * turned.shape[1];
    hf->shape[1] = turned.shape[2];
    return JT_OK;
}

static const jt_hf_transform stack = {stack_import, stack_export};
static const jt_hf_transform down = {down_import, down_export};

static const jt_hf_row tensors[] = {
    {"transformer.wte.weight", "token_embd.weight"},
    {"transformer.norm_f.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {ATTENTION "norm_1.weight", "blk.%.attn_norm.weight"},
    {ATTENTION "attn.Wqkv.weight", "blk.%.attn_qkv.weight"},
    {ATTENTION "attn.out_proj.weight", "blk.%.attn_output.weight"},
    {ATTENTION "norm_2.weight", "blk.%.attn_output_norm.weight"},
    {LAYER "ffn.router.layer.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "ffn.experts.mlp.w1", "blk.%.ffn_gate_exps.weight", &stack},
    {LAYER "ffn.experts.mlp.v1", "blk.%.ffn_up_exps.weight", &stack},
    {LAYER "ffn.experts.mlp.w2", "blk.%.ffn_down_exps.weight", &down},
    {0}};

/* The published configuration has the base of the rotation among the numbers of
 * attention. */
static jt_status import(jt_hf_job *job)
{
    const json_t *base = jt_hf_config(
        job, "rope_parameters.rope_theta|attn_config.rope_theta|rope_theta");
    return json_is_number(base)
               ? jt_hf_set_float(job, "rope.freq_base", json_number_value(base))
               : JT_OK;
}

static jt_status export(jt_hf_job *job)
{
    json_t *base = jt_hf_config(job, "rope_parameters.rope_theta");
    return jt_hf_put(job, "attn_config.rope_theta", json_incref(base));
}

const jt_hf_family jt_hf_dbrx = {
    .model_type = "dbrx",
    .architecture = "DbrxForCausalLM",
    .arch = "dbrx",
    .keys = {keys},
    .tensors = {tensors},
    .import = import,
    .export = export,
};
