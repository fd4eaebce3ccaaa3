/* Qwen3-Next and Qwen3.5: gated delta nets between layers of attention. Norms are
 * stored as w - 1, but those of the delta nets. */
#include <stdio.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."
#define NET   LAYER "linear_attn."

/* ---- the order of heads ----
 * Each head of keys serves `share` heads of values. */

typedef struct heads {
    uint64_t keys, share, k_dim, v_dim;
} heads;

static jt_status read_heads(jt_hf_job *job, heads *h)
{
    int64_t keys = 0, values = 0, state = 0, inner = 0;
    jt_hf_get_int(job, "ssm.group_count", &keys);
    jt_hf_get_int(job, "ssm.time_step_rank", &values);
    jt_hf_get_int(job, "ssm.state_size", &state);
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    if (keys < 1 || values < 1 || state < 1 || inner < 1 || values % keys ||
        inner % values || inner > 1 << 24 || keys * state > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "%lld heads of values do not share %lld of keys",
                       (long long)values, (long long)keys);
    *h = (heads){(uint64_t)keys, (uint64_t)(values / keys), (uint64_t)state,
                 (uint64_t)(inner / values)};
    return JT_OK;
}

static uint64_t *new_order(jt_hf_job *job, uint64_t rows, jt_status *status)
{
    uint64_t *order = jt_arena_alloc(&job->arena, (size_t)rows, sizeof *order);
    *status = order ? JT_OK : jt_fail_memory(job->err, "ordering rows");
    return order;
}

static jt_status fail_heads(jt_hf_job *job)
{
    return jt_fail(job->err, JT_E_FORMAT, "its shape is not that of whole heads");
}

/* Qwen3.5 lists all heads of values of the first head of keys, then those of the
 * second; GGUF the first heads of all, then the second ones. Heads of keys may come
 * before. */
static jt_status tiled_order(jt_hf_job *job, uint64_t rows, bool after_keys,
                             uint64_t **out)
{
    heads h;
    jt_status status;
    JT_TRY(read_heads(job, &h));
    uint64_t first = after_keys ? 2 * h.keys * h.k_dim : 0, values = h.keys * h.share;
    if (rows < first || (rows - first) % values != 0)
        return fail_heads(job);
    uint64_t *order = new_order(job, rows, &status), width = (rows - first) / values;
    for (uint64_t r = 0; r < rows && order; r++) {
        uint64_t head = (r - first) / width, in = (r - first) % width;
        uint64_t from = head % h.keys * h.share + head / h.keys;
        order[r] = r < first ? r : first + from * width + in;
    }
    *out = order;
    return status;
}

/* Qwen3-Next has q, k, v and z of a head of keys together; GGUF q, k and v of all heads
 * (`z` false) or z. */
static jt_status part_order(jt_hf_job *job, bool z, uint64_t **out, uint64_t *count,
                            uint64_t *rows)
{
    heads h;
    jt_status status;
    JT_TRY(read_heads(job, &h));
    uint64_t v = h.share * h.v_dim, one = 2 * h.k_dim + 2 * v, n = 0;
    uint64_t widths[] = {h.k_dim, h.k_dim, v, v};
    *rows = h.keys * one;
    uint64_t *order = new_order(job, *rows, &status);
    for (int part = z ? 3 : 0, end = z ? 4 : 3; part < end && order; part++) {
        uint64_t before = part == 0 ? 0 : part == 1 ? h.k_dim : 2 * h.k_dim;
        before += part == 3 ? v : 0;
        for (uint64_t k = 0; k < h.keys; k++) {
            for (uint64_t i = 0; i < widths[part]; i++)
                order[n++] = k * one + before + i;
        }
    }
    *out = order;
    *count = n;
    return status;
}

/* ---- transforms ---- */

static jt_status tile(jt_hf_job *job, jt_gguf_tensor *t, bool after_keys)
{
    uint64_t *order = NULL;
    JT_TRY(tiled_order(job, t->shape[0], after_keys, &order));
    return jt_hf_pick_rows(job, t, order, t->shape[0]);
}

static jt_status untile(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf,
                        bool after_keys)
{
    uint64_t *order = NULL;
    JT_TRY(tiled_order(job, t->shape[0], after_keys, &order));
    return jt_hf_place_rows(job, t, hf, order, t->shape[0]);
}

static jt_status tiled_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return tile(job, t, false);
}

static jt_status tiled_export(jt_hf_job *job, const jt_gguf_tensor *t,
                              jt_gguf_tensor *hf)
{
    return untile(job, t, hf, false);
}

static jt_status qkv_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return tile(job, t, true);
}

static jt_status qkv_export(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf)
{
    return untile(job, t, hf, true);
}

static jt_status conv_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(jt_hf_squeeze.import(job, t));
    return tile(job, t, true);
}

static jt_status conv_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    jt_gguf_tensor flat = {0};
    JT_TRY(untile(job, t, &flat, true));
    return jt_hf_squeeze.export(job, &flat, hf);
}

static jt_status rate_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(jt_hf_minus_exp.import(job, t));
    return tile(job, t, false);
}

static jt_status rate_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    jt_gguf_tensor grouped = {0};
    JT_TRY(untile(job, t, &grouped, false));
    return jt_hf_minus_exp.export(job, &grouped, hf);
}

/* Columns in the order of heads: as rows of the matrix turned over. */
static jt_status columns_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(jt_hf_transposed.import(job, t));
    JT_TRY(tile(job, t, false));
    return jt_hf_transposed.import(job, t);
}

static jt_status columns_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                jt_gguf_tensor *hf)
{
    jt_gguf_tensor turned = {0}, grouped = {0};
    JT_TRY(jt_hf_transposed.export(job, t, &turned));
    JT_TRY(untile(job, &turned, &grouped, false));
    return jt_hf_transposed.export(job, &grouped, hf);
}

static jt_status part_import(jt_hf_job *job, jt_gguf_tensor *t, bool z)
{
    uint64_t *order = NULL, count, rows;
    JT_TRY(part_order(job, z, &order, &count, &rows));
    return t->shape[0] == rows ? jt_hf_pick_rows(job, t, order, count)
                               : fail_heads(job);
}

static jt_status part_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf, bool z)
{
    uint64_t *order = NULL, count, rows;
    JT_TRY(part_order(job, z, &order, &count, &rows));
    return t->shape[0] == count ? jt_hf_place_rows(job, t, hf, order, rows)
                                : fail_heads(job);
}

static jt_status qkv_part_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return part_import(job, t, false);
}

static jt_status qkv_part_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                 jt_gguf_tensor *hf)
{
    return part_export(job, t, hf, false);
}

static jt_status z_part_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return part_import(job, t, true);
}

static jt_status z_part_export(jt_hf_job *job, const jt_gguf_tensor *t,
                               jt_gguf_tensor *hf)
{
    return part_export(job, t, hf, true);
}

static const jt_hf_transform tiled = {tiled_import, tiled_export};
static const jt_hf_transform tiled_qkv = {qkv_import, qkv_export};
static const jt_hf_transform tiled_conv = {conv_import, conv_export};
static const jt_hf_transform tiled_rate = {rate_import, rate_export};
static const jt_hf_transform tiled_columns = {columns_import, columns_export};
static const jt_hf_transform qkv_part = {qkv_part_import, qkv_part_export};
static const jt_hf_transform z_part = {z_part_import, z_part_export};

/* ---- rows ---- */

static const jt_hf_key net_keys[] = {
    {"linear_conv_kernel_dim", "ssm.conv_kernel", JT_HF_INT, "4"},
    {"linear_key_head_dim", "ssm.state_size", JT_HF_INT, .required = true},
    {"linear_num_key_heads", "ssm.group_count", JT_HF_INT, .required = true},
    {"linear_num_value_heads", "ssm.time_step_rank", JT_HF_INT, .required = true},
    {"attention_bias", "blk.0.attn_output.bias", JT_HF_HAS},
    {0}};

static const jt_hf_key expert_keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_tok", "expert_used_count", JT_HF_INT, .required = true},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT,
     .required = true},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", JT_HF_INT},
    {"norm_topk_prob", "expert_weights_norm", JT_HF_BOOL, "true"},
    {"decoder_sparse_step", NULL, JT_HF_INT, "1"},
    {0}};

static const jt_hf_row common[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight", &jt_hf_plus_one},
    {"lm_head.weight", "output.weight"},
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight", &jt_hf_plus_one},
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight",
     &jt_hf_plus_one},
    {LAYER "self_attn.q_norm.weight", "blk.%.attn_q_norm.weight", &jt_hf_plus_one},
    {LAYER "self_attn.k_norm.weight", "blk.%.attn_k_norm.weight", &jt_hf_plus_one},
    {NET "norm.weight", "blk.%.ssm_norm.weight"},
    {0}};

static const jt_hf_row next_net[] = {
    {NET "in_proj_qkvz.weight", "blk.%.attn_qkv.weight", &qkv_part},
    {NET "in_proj_qkvz.weight", "blk.%.attn_gate.weight", &z_part},
    {NET "in_proj_ba.weight", "blk.%.ssm_ba.weight"},
    {NET "conv1d.weight", "blk.%.ssm_conv1d.weight", &jt_hf_squeeze},
    {NET "A_log", "blk.%.ssm_a", &jt_hf_minus_exp},
    {NET "dt_bias", "blk.%.ssm_dt.bias"},
    {NET "out_proj.weight", "blk.%.ssm_out.weight"},
    {0}};

static const jt_hf_row tiled_net[] = {
    {NET "in_proj_qkv.weight", "blk.%.attn_qkv.weight", &tiled_qkv},
    {NET "in_proj_z.weight", "blk.%.attn_gate.weight", &tiled},
    {NET "in_proj_b.weight", "blk.%.ssm_beta.weight", &tiled},
    {NET "in_proj_a.weight", "blk.%.ssm_alpha.weight", &tiled},
    {NET "conv1d.weight", "blk.%.ssm_conv1d.weight", &tiled_conv},
    {NET "A_log", "blk.%.ssm_a", &tiled_rate},
    {NET "dt_bias", "blk.%.ssm_dt.bias", &tiled},
    {NET "out_proj.weight", "blk.%.ssm_out.weight", &tiled_columns},
    {0}};

/* One matrix per expert, or (as Qwen3.5 is published) all in one. */
static const jt_hf_row experts[] = {
    {LAYER "mlp.gate.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "mlp.experts.#.gate_proj.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "mlp.experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "mlp.experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {LAYER "mlp.experts.gate_up_proj", "blk.%.ffn_gate_exps.weight", &jt_hf_first_half},
    {LAYER "mlp.experts.gate_up_proj", "blk.%.ffn_up_exps.weight", &jt_hf_second_half},
    {LAYER "mlp.experts.down_proj", "blk.%.ffn_down_exps.weight"},
    {LAYER "mlp.shared_expert.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {LAYER "mlp.shared_expert.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {LAYER "mlp.shared_expert.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {LAYER "mlp.shared_expert_gate.weight", "blk.%.ffn_gate_inp_shexp.weight",
     &jt_hf_vector},
    {0}};

/* Predictors of further tokens are left out. */
static const char *const predictors[] = {"mtp.", NULL};

/* ---- hooks ---- */

/* Which layers have a state, and where the first without one is. */
static jt_status import_layers(jt_hf_job *job)
{
    bool recurrent[JT_HF_MOST_LAYERS];
    int layers = 0, every = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++) {
        recurrent[i] = jt_hf_layer_is(job, "layer_types", i, "linear_attention");
        if (!every && !recurrent[i])
            every = i + 1;
    }
    const json_t *said = jt_hf_config(job, "full_attention_interval");
    if (json_is_integer(said) || !jt_hf_config(job, "layer_types"))
        every = said ? (int)json_integer_value(said) : 4;
    if (jt_hf_config(job, "layer_types"))
        JT_TRY(jt_hf_set_flags(job, "attention.recurrent_layers", recurrent, layers));
    return jt_hf_set_int(job, "full_attention_interval", every);
}

static jt_status import_net(jt_hf_job *job)
{
    int64_t values = 0;
    const json_t *dim = jt_hf_config(job, "linear_value_head_dim");
    jt_hf_get_int(job, "ssm.time_step_rank", &values);
    if (!json_is_integer(dim) || json_integer_value(dim) < 1 ||
        json_integer_value(dim) > 1 << 20 || values > 1 << 10)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'linear_value_head_dim' or "
                       "'linear_num_value_heads' makes no sense");
    JT_TRY(jt_hf_set_int(job, "ssm.inner_size", json_integer_value(dim) * values));
    JT_TRY(import_layers(job));
    return jt_hf_import_rope_dims(job, 0.25);
}

static jt_status export_net(jt_hf_job *job)
{
    heads h;
    JT_TRY(read_heads(job, &h));
    JT_TRY(jt_hf_put(job, "linear_value_head_dim", json_integer((json_int_t)h.v_dim)));
    JT_TRY(jt_hf_put_layers(job, "layer_types", "ssm_out.weight", "linear_attention",
                            "full_attention"));
    return jt_hf_export_rope_dims(job);
}

/* Text has one position; images have three, in sections of the frequencies. */
static jt_status import_sections(jt_hf_job *job)
{
    int32_t sections[4] = {11, 11, 10, 0};
    const json_t *said = jt_hf_config(job, "rope_parameters.mrope_section|"
                                           "rope_scaling.mrope_section");
    for (size_t i = 0; i < 3 && json_array_size(said) == 3; i++)
        sections[i] = (int32_t)json_integer_value(json_array_get(said, i));
    JT_TRY(jt_hf_set_ints(job, "rope.dimension_sections", sections, 4));
    return import_net(job);
}

static jt_status export_sections(jt_hf_job *job)
{
    char key[64];
    int64_t s[3] = {11, 11, 10};
    snprintf(key, sizeof key, "%s.rope.dimension_sections", job->family->arch);
    const jt_gguf_kv *kv = jt_gguf_kv_find(job->file, key);
    for (uint64_t i = 0; i < 3 && kv; i++)
        jt_gguf_item_i64(kv, i, &s[i]);
    JT_TRY(jt_hf_put(
        job, "rope_parameters.mrope_section",
        json_pack("[I,I,I]", (json_int_t)s[0], (json_int_t)s[1], (json_int_t)s[2])));
    JT_TRY(jt_hf_put(job, "rope_parameters.mrope_interleaved", json_true()));
    return export_net(job);
}

const jt_hf_family jt_hf_qwen3next = {
    .model_type = "qwen3_next",
    .architecture = "Qwen3NextForCausalLM",
    .arch = "qwen3next",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, net_keys, expert_keys},
    .tensors = {common, jt_hf_tensors_qkvo, next_net, experts},
    .skipped = predictors,
    .import = import_net,
    .export = export_net,
};

const jt_hf_family jt_hf_qwen35 = {
    .model_type = "qwen3_5_text",
    .architecture = "Qwen3_5ForCausalLM",
    .arch = "qwen35",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, net_keys},
    .tensors = {common, jt_hf_tensors_qkvo, tiled_net, jt_hf_tensors_mlp},
    .skipped = predictors,
    .import = import_sections,
    .export = export_sections,
};

const jt_hf_family jt_hf_qwen35moe = {
    .model_type = "qwen3_5_moe_text",
    .architecture = "Qwen3_5MoeForCausalLM",
    .arch = "qwen35moe",
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, net_keys, expert_keys},
    .tensors = {common, jt_hf_tensors_qkvo, tiled_net, experts},
    .skipped = predictors,
    .import = import_sections,
    .export = export_sections,
};
