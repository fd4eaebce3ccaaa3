/* Kimi-Linear: Kimi Delta Attention between layers of latent attention. config.json as
 * it is published has the sizes of the former in linear_attn_config, where layers count
 * from 1; transformers writes them beside the others. */
#include <string.h>

#include "model/hf_rows.h"

#define LAYER  "model.layers.%."
#define LINEAR "linear_attn_config."
#define MOE    LAYER "block_sparse_moe."

/* ---- transforms ---- */

static jt_status fail_shape(jt_hf_job *job, const char *wanted)
{
    return jt_fail(job->err, JT_E_FORMAT, "its shape is not %s", wanted);
}

/* The same values in other dimensions. */
static void reshape(jt_gguf_tensor *t, int n_dims, const uint64_t *shape)
{
    t->n_dims = n_dims;
    memcpy(t->shape, shape, (size_t)n_dims * sizeof *shape);
}

/* [channels, 1, width] or [channels, width] -> [1, channels, 1, width] */
static jt_status conv_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    bool flat = t->n_dims == 2;
    if (!flat && (t->n_dims != 3 || t->shape[1] != 1))
        return fail_shape(job, "[n, 1, k]");
    reshape(t, 4, (uint64_t[]){1, t->shape[0], 1, t->shape[flat ? 1 : 2]});
    return JT_OK;
}

static jt_status conv_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    uint64_t width = t->shape[t->n_dims - 1];
    if (t->n_dims < 2 || width == 0)
        return fail_shape(job, "[1, n, 1, k]");
    *hf = *t;
    reshape(hf, 3, (uint64_t[]){jt_hf_values(t) / width, 1, width});
    return JT_OK;
}

static jt_status rate_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(jt_hf_minus_exp.import(job, t));
    reshape(t, 4, (uint64_t[]){1, 1, jt_hf_values(t), 1});
    return JT_OK;
}

static jt_status rate_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf)
{
    JT_TRY(jt_hf_minus_exp.export(job, t, hf));
    reshape(hf, 4, (uint64_t[]){1, 1, jt_hf_values(t), 1});
    return JT_OK;
}

static const jt_hf_transform conv = {conv_import, conv_export};
static const jt_hf_transform rate = {rate_import, rate_export};

/* ---- rows ---- */

static const jt_hf_key size_keys[] = {
    {"num_hidden_layers", "block_count", JT_HF_INT, .required = true},
    {"model_max_length|max_position_embeddings", "context_length", JT_HF_INT,
     .required = true},
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},
    {"intermediate_size", "feed_forward_length", JT_HF_INT},
    {"num_attention_heads", "attention.head_count", JT_HF_INT, .required = true},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-5"},
    {LINEAR "short_conv_kernel_size|linear_conv_kernel_dim", "ssm.conv_kernel",
     JT_HF_INT, "4"},
    {LINEAR "head_dim|linear_head_dim", "kda.head_dim", JT_HF_INT, "128"},
    {"mla_use_nope", NULL, JT_HF_BOOL, "true"},
    {0}};

static const jt_hf_key expert_keys[] = {
    {"num_experts|num_local_experts", "expert_count", JT_HF_INT, .required = true},
    {"num_experts_per_token|num_experts_per_tok", "expert_used_count", JT_HF_INT,
     .required = true},
    {"num_shared_experts|n_shared_experts", "expert_shared_count", JT_HF_INT, "1"},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT,
     .required = true},
    {"first_k_dense_replace", "leading_dense_block_count", JT_HF_INT},
    {"moe_router_activation_func", "expert_gating_func", JT_HF_WORD, "sigmoid",
     .words = "softmax=1|sigmoid=2"},
    {"moe_renormalize|norm_topk_prob", "expert_weights_norm", JT_HF_BOOL, "true"},
    {"routed_scaling_factor", "expert_weights_scale", JT_HF_FLOAT, "1"},
    {"num_expert_group|n_group", "expert_group_count", JT_HF_INT, "1"},
    {"topk_group", "expert_group_used_count", JT_HF_INT, "1"},
    {"moe_layer_freq", NULL, JT_HF_INT, "1"},
    {0}};

static const jt_hf_row delta_attention[] = {
    {LAYER "self_attn.k_proj.weight", "blk.%.attn_k.weight"},
    {LAYER "self_attn.v_proj.weight", "blk.%.attn_v.weight"},
    {LAYER "self_attn.q_conv1d.weight", "blk.%.ssm_conv1d_q.weight", &conv},
    {LAYER "self_attn.k_conv1d.weight", "blk.%.ssm_conv1d_k.weight", &conv},
    {LAYER "self_attn.v_conv1d.weight", "blk.%.ssm_conv1d_v.weight", &conv},
    {LAYER "self_attn.f_a_proj.weight", "blk.%.ssm_f_a.weight"},
    {LAYER "self_attn.f_b_proj.weight", "blk.%.ssm_f_b.weight"},
    {LAYER "self_attn.b_proj.weight", "blk.%.ssm_beta.weight"},
    {LAYER "self_attn.A_log", "blk.%.ssm_a", &rate},
    {LAYER "self_attn.dt_bias", "blk.%.ssm_dt.bias"},
    {LAYER "self_attn.g_a_proj.weight", "blk.%.ssm_g_a.weight"},
    {LAYER "self_attn.g_b_proj.weight", "blk.%.ssm_g_b.weight"},
    {LAYER "self_attn.o_norm.weight", "blk.%.ssm_norm.weight"},
    {0}};

/* transformers 5.23 writes dense FFNs where experts stand otherwise. */
static const jt_hf_row ffn[] = {
    {MOE "gate.e_score_correction_bias", "blk.%.exp_probs_b.bias"},
    {MOE "shared_experts.gate_proj.weight", "blk.%.ffn_gate_shexp.weight"},
    {MOE "shared_experts.up_proj.weight", "blk.%.ffn_up_shexp.weight"},
    {MOE "shared_experts.down_proj.weight", "blk.%.ffn_down_shexp.weight"},
    {LAYER "mlp.gate_proj.weight", "blk.%.ffn_gate.weight"},
    {LAYER "mlp.up_proj.weight", "blk.%.ffn_up.weight"},
    {LAYER "mlp.down_proj.weight", "blk.%.ffn_down.weight"},
    {MOE "gate_proj.weight", "blk.%.ffn_gate.weight"},
    {MOE "up_proj.weight", "blk.%.ffn_up.weight"},
    {MOE "down_proj.weight", "blk.%.ffn_down.weight"},
    {0}};

/* ---- hooks ---- */

/* Does the list of numbers at `path` hold this one? */
static bool lists(const jt_hf_job *job, const char *path, int number)
{
    const json_t *list = jt_hf_config(job, path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == number)
            return true;
    }
    return false;
}

/* Layers with latent attention have a head of keys, the others none. */
static jt_status import_layers(jt_hf_job *job)
{
    int32_t heads[JT_HF_MOST_LAYERS];
    int layers = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++)
        heads[i] = lists(job, LINEAR "full_attn_layers", i + 1) ||
                   jt_hf_layer_is(job, "layer_types", i, "full_attention");
    return jt_hf_set_ints(job, "attention.head_count_kv", heads, layers);
}

static jt_status import(jt_hf_job *job)
{
    int64_t heads = 0;
    jt_hf_get_int(job, "attention.head_count", &heads);
    if (jt_hf_whole(job, LINEAR "num_heads|linear_num_heads", heads) != heads)
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "config.json: delta attention has another number of heads "
                       "('num_heads') than latent attention");
    JT_TRY(jt_hf_import_latent(job));
    JT_TRY(jt_hf_import_dense_layers(job));
    return import_layers(job);
}

static jt_status put_layers(jt_hf_job *job)
{
    int layers = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    json_t *delta = json_array(), *latent = json_array();
    for (int i = 0; i < layers; i++)
        json_array_append_new(jt_hf_layer_has(job, i, "ssm_f_a.weight") ? delta
                                                                        : latent,
                              json_integer(i + 1));
    jt_status status = jt_hf_put(job, LINEAR "kda_layers", delta);
    jt_status other = jt_hf_put(job, LINEAR "full_attn_layers", latent);
    return status == JT_OK ? other : status;
}

static jt_status export(jt_hf_job *job)
{
    int64_t heads = 0;
    jt_hf_get_int(job, "attention.head_count", &heads);
    JT_TRY(jt_hf_export_latent(job));
    JT_TRY(jt_hf_put(job, LINEAR "num_heads", json_integer((json_int_t)heads)));
    return put_layers(job);
}

const jt_hf_family jt_hf_kimi_linear = {
    .model_type = "kimi_linear",
    .architecture = "KimiLinearForCausalLM",
    .arch = "kimi-linear",
    .keys = {size_keys, jt_hf_keys_silu, jt_hf_keys_latent, expert_keys},
    .tensors = {jt_hf_tensors_ends, jt_hf_tensors_latent, delta_attention,
                jt_hf_tensors_mixtral, ffn},
    .import = import,
    .export = export,
};
