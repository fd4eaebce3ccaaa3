/* Gemma 4. Layers that see everything have wider heads than those with a window, and
 * fewer of keys; config.json says so in two ways. */
#include <stdio.h>

#include "model/hf_rows.h"

#define LAYER "model.layers.%."

static const jt_hf_key keys[] = {
    {"num_hidden_layers", "block_count", JT_HF_INT, .required = true},
    {"max_position_embeddings", "context_length", JT_HF_INT, "131072"},
    {"hidden_size", "embedding_length", JT_HF_INT, .required = true},
    {"num_attention_heads", "attention.head_count", JT_HF_INT, .required = true},
    {"vocab_size", "vocab_size", JT_HF_INT},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", JT_HF_FLOAT, "1e-6"},
    {"head_dim", "attention.key_length_swa", JT_HF_INT, "256"},
    {"head_dim", "attention.value_length_swa", JT_HF_INT, "256"},
    {"head_dim", "rope.dimension_count_swa", JT_HF_INT, "256"},
    {"rope_parameters.sliding_attention.rope_theta", "rope.freq_base_swa", JT_HF_FLOAT,
     "10000"},
    {"sliding_window", "attention.sliding_window", JT_HF_INT, "512"},
    {"final_logit_softcapping", "final_logit_softcapping", JT_HF_FLOAT},
    {"hidden_size_per_layer_input", "embedding_length_per_layer_input", JT_HF_INT,
     "256"},
    {"num_kv_shared_layers", "attention.shared_kv_layers", JT_HF_INT, "0"},
    {"num_experts", "expert_count", JT_HF_INT},
    {"top_k_experts", "expert_used_count", JT_HF_INT},
    {"moe_intermediate_size", "expert_feed_forward_length", JT_HF_INT},
    {"enable_moe_block", "blk.0.ffn_gate_inp.weight", JT_HF_HAS},
    {"hidden_activation", NULL, JT_HF_TEXT, "gelu_pytorch_tanh"},
    {"attention_bias", NULL, JT_HF_BOOL, "false"},
    {0}};

static const jt_hf_row tensors[] = {
    {"model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"},
    {"model.per_layer_model_projection.weight", "per_layer_model_proj.weight"},
    {"model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"},
    {LAYER "input_layernorm.weight", "blk.%.attn_norm.weight"},
    {LAYER "post_attention_layernorm.weight", "blk.%.post_attention_norm.weight"},
    {LAYER "pre_feedforward_layernorm.weight", "blk.%.ffn_norm.weight"},
    {LAYER "post_feedforward_layernorm.weight", "blk.%.post_ffw_norm.weight"},
    {LAYER "layer_scalar", "blk.%.layer_output_scale.weight"},
    {LAYER "per_layer_input_gate.weight", "blk.%.inp_gate.weight"},
    {LAYER "per_layer_projection.weight", "blk.%.proj.weight"},
    {LAYER "post_per_layer_input_norm.weight", "blk.%.post_norm.weight"},
    {0}};

/* Files may hold gates and ups of experts apart; folders do not. */
static jt_status gates_export(jt_hf_job *job, const jt_gguf_tensor *t,
                              jt_gguf_tensor *hf)
{
    return jt_hf_first_half.export(job, t, hf);
}

static jt_status ups_export(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf)
{
    return jt_hf_second_half.export(job, t, hf);
}

static const jt_hf_transform gates = {NULL, gates_export};
static const jt_hf_transform ups = {NULL, ups_export};

static const jt_hf_row experts[] = {
    {LAYER "post_feedforward_layernorm_1.weight", "blk.%.post_ffw_norm_1.weight"},
    {LAYER "post_feedforward_layernorm_2.weight", "blk.%.post_ffw_norm_2.weight"},
    {LAYER "pre_feedforward_layernorm_2.weight", "blk.%.pre_ffw_norm_2.weight"},
    {LAYER "router.proj.weight", "blk.%.ffn_gate_inp.weight"},
    {LAYER "router.scale", "blk.%.ffn_gate_inp.scale"},
    {LAYER "router.per_expert_scale", "blk.%.ffn_down_exps.scale"},
    {LAYER "experts.gate_up_proj", "blk.%.ffn_gate_up_exps.weight"},
    {LAYER "experts.gate_up_proj", "blk.%.ffn_gate_exps.weight", &gates},
    {LAYER "experts.gate_up_proj", "blk.%.ffn_up_exps.weight", &ups},
    {LAYER "experts.down_proj", "blk.%.ffn_down_exps.weight"},
    /* In folders with weights in four bits. */
    {LAYER "experts.#.gate_proj.weight", "blk.%.ffn_gate_exps.weight"},
    {LAYER "experts.#.up_proj.weight", "blk.%.ffn_up_exps.weight"},
    {LAYER "experts.#.down_proj.weight", "blk.%.ffn_down_exps.weight"},
    {0}};

static const char *const senses[] = {"embed_audio.", "audio_tower.", NULL};

static bool is_full(const jt_hf_job *job, int i)
{
    if (!jt_hf_config(job, "layer_types"))
        return i % 6 == 5;
    return jt_hf_layer_is(job, "layer_types", i, "full_attention");
}

/* What layer `i`, which sees everything, has of its own: as a number for all such
 * layers, or in an object for this one. */
static json_int_t own_number(const jt_hf_job *job, int i, const char *name,
                             const char *global, json_int_t otherwise)
{
    char path[128];
    snprintf(path, sizeof path, "per_layer_config.%d.%s|%s", i, name, global);
    return jt_hf_whole(job, path, otherwise);
}

static jt_status import_widths(jt_hf_job *job, int layers)
{
    int32_t widths[JT_HF_MOST_LAYERS];
    json_int_t width = jt_hf_whole(job, "intermediate_size", 0);
    json_int_t own = layers - jt_hf_whole(job, "num_kv_shared_layers", 0);
    if (width < 1 || width > 1 << 24)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'intermediate_size' is missing or makes no sense");
    if (!json_is_true(jt_hf_config(job, "use_double_wide_mlp")))
        return jt_hf_set_int(job, "feed_forward_length", width);
    for (int i = 0; i < layers; i++)
        widths[i] = (int32_t)(i < own ? width : 2 * width);
    return jt_hf_set_ints(job, "feed_forward_length", widths, layers);
}

static jt_status import(jt_hf_job *job)
{
    int32_t heads[JT_HF_MOST_LAYERS];
    int layers = 0;
    json_int_t usual = jt_hf_whole(job, "num_key_value_heads", 4), dim = 512;
    JT_TRY(jt_hf_layers(job, &layers));
    for (int i = 0; i < layers; i++) {
        json_int_t count = usual;
        if (is_full(job, i)) {
            dim = own_number(job, i, "head_dim", "global_head_dim", 512);
            count = own_number(job, i, "num_key_value_heads",
                               "num_global_key_value_heads", usual);
        }
        if (count < 1 || count > INT16_MAX || dim < 1 || dim > INT16_MAX)
            return jt_fail(job->err, JT_E_FORMAT,
                           "config.json: 'num_key_value_heads' or 'head_dim' of layer "
                           "%d makes no sense",
                           i);
        heads[i] = (int32_t)count;
    }
    JT_TRY(jt_hf_set_ints(job, "attention.head_count_kv", heads, layers));
    JT_TRY(jt_hf_set_int(job, "attention.key_length", dim));
    JT_TRY(jt_hf_set_int(job, "attention.value_length", dim));
    JT_TRY(jt_hf_set_int(job, "rope.dimension_count", dim));
    JT_TRY(import_widths(job, layers));
    return jt_hf_import_pattern(job, true);
}

/* How many layers, from the first, have keys and values of their own. */
static int keepers(const jt_hf_job *job, int layers)
{
    int64_t borrowers = 0;
    jt_hf_get_int(job, "attention.shared_kv_layers", &borrowers);
    return borrowers < 0 || borrowers > layers ? layers : layers - (int)borrowers;
}

/* An FFN in a layer without keys and values may be twice as wide. */
static jt_status export_widths(jt_hf_job *job, int layers)
{
    int64_t width = 0, last = 0, inputs = 0;
    job->layer = 0;
    jt_hf_get_int(job, "feed_forward_length", &width);
    job->layer = layers - 1;
    jt_hf_get_int(job, "feed_forward_length", &last);
    job->layer = -1;
    JT_TRY(jt_hf_put(job, "intermediate_size", json_integer((json_int_t)width)));
    JT_TRY(jt_hf_put(job, "use_double_wide_mlp", json_boolean(last == 2 * width)));
    jt_hf_get_int(job, "embedding_length_per_layer_input", &inputs);
    const jt_gguf_tensor *table =
        jt_gguf_find(job->file, "per_layer_token_embd.weight");
    if (!inputs || !table)
        return JT_OK;
    return jt_hf_put(job, "vocab_size_per_layer_input",
                     json_integer((json_int_t)table->shape[0]));
}

/* Both ropes in one object, and the heads of both kinds of layers. */
static jt_status export_heads(jt_hf_job *job)
{
    static const char *const paths[] = {"num_key_value_heads",
                                        "num_global_key_value_heads"};
    int layers = 0, alike = 0;
    int64_t dim = 0, heads = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    JT_TRY(export_widths(job, layers));
    int own = keepers(job, layers);
    jt_hf_get_int(job, "attention.key_length", &dim);
    for (int i = 0; i < layers; i++) {
        bool full = jt_hf_layer_is(job, "layer_types", i, "full_attention");
        alike += full && i < own && !jt_hf_layer_has(job, i, "attn_v.weight");
        job->layer = i;
        if (jt_hf_get_int(job, "attention.head_count_kv", &heads))
            JT_TRY(jt_hf_put(job, paths[full], json_integer((json_int_t)heads)));
    }
    job->layer = -1;
    JT_TRY(jt_hf_put(job, "attention_k_eq_v", json_boolean(alike > 0)));
    return jt_hf_put(job, "global_head_dim", json_integer((json_int_t)dim));
}

static jt_status export(jt_hf_job *job)
{
    JT_TRY(jt_hf_export_two_ropes(job));
    JT_TRY(jt_hf_export_pattern(job));
    return export_heads(job);
}

const jt_hf_family jt_hf_gemma4 = {
    .model_type = "gemma4_text|gemma4",
    .architecture = "Gemma4ForCausalLM",
    .arch = "gemma4",
    .keys = {keys},
    .tensors = {jt_hf_tensors_ends, tensors, jt_hf_tensors_qkvo, jt_hf_tensors_qk_norm,
                jt_hf_tensors_mlp, experts},
    .skipped = senses,
    .import = import,
    .export = export,
};
