/* Ling and Ring: BailingMoE, and BailingMoE V2 (Ling 2.0). Names and formulas:
 * github.com/inclusionAI/Ling, models/modeling_bailing_moe.py, and
 * modeling_bailing_moe_v2.py of the Ling 2.0 checkpoints. */
#include <string.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

/* ---- what both have ---- */

static const jt_hf_key keys[] = {
    {"num_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_shared_experts", "expert_shared_count", JT_HF_INT},
    {"use_bias", "blk.0.attn_output.bias", JT_HF_HAS},
    {"norm_head", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row tensors[] = {
    {"model.word_embeddings.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "attention.dense.weight", "blk.%.attn_output.weight"},
    {LAYER "attention.dense.bias", "blk.%.attn_output.bias"},
    {0}};

/* The first checkpoints of the second version say `bailing_moe`, too. */
static bool is_v2(const jt_hf_job *job)
{
    static const char name[] = "BailingMoeV2";
    const char *type = json_string_value(jt_hf_config(job, "model_type"));
    const char *architecture =
        json_string_value(json_array_get(jt_hf_config(job, "architectures"), 0));
    return (type && strcmp(type, "bailing_moe_v2") == 0) ||
           (architecture && strncmp(architecture, name, strlen(name)) == 0);
}

static bool is_v1(const jt_hf_job *job)
{
    return !is_v2(job);
}

/* ---- the first version ----
 * Queries, keys and values are one matrix there and three in GGUF; rows of queries and
 * keys go from halves to neighbours, as jt_hf_rotate_q has them. */

enum { QUERY, KEY, VALUE };

/* Where the rows of a part lie in the whole. */
static jt_status part_order(jt_hf_job *job, int part, uint64_t **out, uint64_t *count,
                            uint64_t *rows)
{
    int64_t heads = 0, shared = 0, dims = 0;
    jt_hf_get_int(job, "attention.head_count", &heads);
    shared = heads;
    jt_hf_get_int(job, "attention.head_count_kv", &shared);
    jt_hf_get_int(job, "rope.dimension_count", &dims);
    if (heads < 1 || heads > INT16_MAX || shared < 1 || shared > heads || dims < 2 ||
        dims % 2 || dims > INT16_MAX)
        return jt_fail(job->err, JT_E_FORMAT, "the sizes of its heads make no sense");
    uint64_t q = (uint64_t)(heads * dims), k = (uint64_t)(shared * dims);
    uint64_t head = (uint64_t)dims, first = part == QUERY ? 0 : part == KEY ? q : q + k;
    *rows = q + 2 * k;
    *count = part == QUERY ? q : k;
    *out = jt_arena_alloc(&job->arena, (size_t)*count, sizeof **out);
    if (!*out)
        return jt_fail_memory(job->err, "ordering rows");
    for (uint64_t r = 0; r < *count; r++) {
        uint64_t in = r % head, half = in / 2 + in % 2 * (head / 2);
        (*out)[r] = first + (part == VALUE ? r : r - in + half);
    }
    return JT_OK;
}

static jt_status part_import(jt_hf_job *job, jt_gguf_tensor *t, int part)
{
    uint64_t *order, count = 0, rows = 0;
    JT_TRY(part_order(job, part, &order, &count, &rows));
    if (t->shape[0] != rows)
        return jt_fail(job->err, JT_E_FORMAT, "%llu rows, expected %llu",
                       (unsigned long long)t->shape[0], (unsigned long long)rows);
    return jt_hf_pick_rows(job, t, order, count);
}

static jt_status part_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf, int part)
{
    uint64_t *order, count = 0, rows = 0;
    JT_TRY(part_order(job, part, &order, &count, &rows));
    if (t->shape[0] != count)
        return jt_fail(job->err, JT_E_FORMAT, "%llu rows, expected %llu",
                       (unsigned long long)t->shape[0], (unsigned long long)count);
    return jt_hf_place_rows(job, t, hf, order, rows);
}

/* A pair of functions for each part. */
#define PART(name, part)                                                    \
    static jt_status name##_import(jt_hf_job *job, jt_gguf_tensor *t)       \
    {                                                                       \
        return part_import(job, t, part);                                   \
    }                                                                       \
    static jt_status name##_export(jt_hf_job *job, const jt_gguf_tensor *t, \
                                   jt_gguf_tensor *hf)                      \
    {                                                                       \
        return part_export(job, t, hf, part);                               \
    }                                                                       \
    static const jt_hf_transform name = {name##_import, name##_export}

PART(query_rows, QUERY);
PART(key_rows, KEY);
PART(value_rows, VALUE);

static const jt_hf_key v1_keys[] = {{"use_qkv_bias", "blk.0.attn_q.bias", JT_HF_HAS},
                                    {0}};

static const jt_hf_row v1_tensors[] = {
    {LAYER "attention.query_key_value.weight", "blk.%.attn_q.weight", &query_rows},
    {LAYER "attention.query_key_value.weight", "blk.%.attn_k.weight", &key_rows},
    {LAYER "attention.query_key_value.weight", "blk.%.attn_v.weight", &value_rows},
    {LAYER "attention.query_key_value.bias", "blk.%.attn_q.bias", &query_rows},
    {LAYER "attention.query_key_value.bias", "blk.%.attn_k.bias", &key_rows},
    {LAYER "attention.query_key_value.bias", "blk.%.attn_v.bias", &value_rows},
    {0}};

static jt_status import_v1(jt_hf_job *job)
{
    JT_TRY(jt_hf_set_float(job, "expert_weights_scale", 1.0));
    return jt_hf_import_rope_dims(job, 1.0);
}

const jt_hf_family jt_hf_bailing_moe = {
    .model_type = "bailing_moe",
    .architecture = "BailingMoeForCausalLM",
    .arch = "bailingmoe",
    .reads = is_v1,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, keys, v1_keys},
    .tensors = {tensors, v1_tensors, jt_hf_tensors_dense, jt_hf_tensors_experts,
                jt_hf_tensors_shexp},
    .import = import_v1,
};

/* ---- the second ---- */

static const jt_hf_key v2_keys[] = {{"use_qkv_bias", "blk.0.attn_qkv.bias", JT_HF_HAS},
                                    {"use_qk_norm", NULL, JT_HF_BOOL, "true"},
                                    {"score_function", "expert_gating_func", JT_HF_WORD,
                                     "sigmoid", .words = "softmax=1|sigmoid=2"},
                                    {"moe_shared_expert_intermediate_size",
                                     "expert_shared_feed_forward_length", JT_HF_INT},
                                    {0}};

static const jt_hf_row v2_tensors[] = {
    {LAYER "attention.query_key_value.weight", "blk.%.attn_qkv.weight"},
    {LAYER "attention.query_key_value.bias", "blk.%.attn_qkv.bias"},
    {LAYER "attention.query_layernorm.weight", "blk.%.attn_q_norm.weight"},
    {LAYER "attention.key_layernorm.weight", "blk.%.attn_k_norm.weight"},
    {LAYER "mlp.gate.expert_bias", "blk.%.exp_probs_b.bias"},
    {0}};

/* Shared experts are one, as wide as config.json says, or as all of them. */
static jt_status import_shared_width(jt_hf_job *job)
{
    static const char name[] = "expert_shared_feed_forward_length";
    int64_t width = 0, count = 0, said;
    jt_hf_get_int(job, "expert_feed_forward_length", &width);
    jt_hf_get_int(job, "expert_shared_count", &count);
    return jt_hf_get_int(job, name, &said) ? JT_OK
                                           : jt_hf_set_int(job, name, width * count);
}

/* Some configurations count rotated dimensions, others give a share of a head. */
static jt_status import_v2(jt_hf_job *job)
{
    JT_TRY(import_shared_width(job));
    json_int_t dims = jt_hf_whole(job, "rotary_dim", 0);
    if (dims >= 2 && dims <= INT16_MAX)
        return jt_hf_set_int(job, "rope.dimension_count", dims);
    return jt_hf_import_rope_dims(job, 1.0);
}

/* The published code reads the share from config.json itself. */
static jt_status export_v2(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_rope_dims(job));
    json_t *share = jt_hf_config(job, "rope_parameters.partial_rotary_factor");
    JT_TRY(jt_hf_put(job, "partial_rotary_factor", json_incref(share)));
    return jt_hf_put(job, "moe_router_enable_expert_bias",
                     json_boolean(jt_hf_any_layer(job, "exp_probs_b.bias")));
}

const jt_hf_family jt_hf_bailing_moe_v2 = {
    .model_type = "bailing_moe_v2|bailing_moe",
    .architecture = "BailingMoeV2ForCausalLM",
    .arch = "bailingmoe2",
    .reads = is_v2,
    .keys = {jt_hf_keys_common, jt_hf_keys_silu, jt_hf_keys_mixture, keys, v2_keys},
    .tensors = {tensors, v2_tensors, jt_hf_tensors_dense, jt_hf_tensors_experts,
                jt_hf_tensors_shexp},
    .import = import_v2,
    .export = export_v2,
};
