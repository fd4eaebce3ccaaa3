#include "model/family.h"

#include <string.h>

#include "junto/model.h"

/* ---- names of norms ---- */

static const jt_norm_names usual_norms = {"attn_norm", NULL, "ffn_norm"};
static const jt_norm_names misnamed_norms = {"attn_norm", NULL, "post_attention_norm"};
static const jt_norm_names around_norms = {"attn_norm", "post_attention_norm",
                                           "ffn_norm", "post_ffw_norm"};
static const jt_norm_names gemma4_norms = {
    "attn_norm",       "post_attention_norm", "ffn_norm",
    "post_ffw_norm",   "pre_ffw_norm_2",      "ffn_gate_inp.scale",
    "post_ffw_norm_1", "post_ffw_norm_2",     "post_norm"};
static const jt_norm_names after_norms = {NULL, "post_attention_norm", NULL,
                                          "post_ffw_norm"};
static const jt_norm_names parallel_norms = {"attn_norm"};
static const jt_norm_names single_norms = {"attn_norm", NULL, "attn_norm"};
static const jt_norm_names dbrx_norms = {"attn_norm", NULL, "attn_output_norm"};
static const jt_norm_names grok_norms = {"attn_norm", "attn_output_norm", "ffn_norm",
                                         "layer_output_norm"};
static const jt_norm_names grok2_norms = {"attn_norm", "attn_output_norm", "ffn_norm",
                                          "post_ffw_norm"};
static const jt_norm_names arctic_norms = {"attn_norm", NULL, "ffn_norm", NULL,
                                           "ffn_norm_exps"};

/* ---- windows ---- */

static const jt_windows all_windows = {0};
static const jt_windows gpt_oss_windows = {.full_every = 2};
static const jt_windows olmo2_windows = {.full_every = 4, .unscaled = true};
static const jt_windows gemma2_windows = {.usual = 4096, .full_every = 2};
static const jt_windows gemma3_windows = {.full_every = 6, .rope_base = 10000.0f};
static const jt_windows unrotated_windows = {.full_every = 4, .full_unrotated = true};
static const jt_windows llama4_windows = {
    .usual = 8192, .full_every = 4, .chunked = true, .full_unrotated = true};

/* ---- the families ---- */

/* clang-format off */
static const jt_family families[] = {
    /* Llama 1-3, Mistral, SmolLM; with experts: Mixtral. Converters reorder the rows of q
     * and k so that rotation pairs are neighbours. */
    {.arch = "llama", .models = "llama mistral mixtral", .kind = JT_EITHER,
     .upcycled = "llama", .windows = &all_windows, .renormalise = true},
    {.arch = "smollm3", .kind = JT_DENSE, .rope_off_every = 4},
    /* Maverick, of 128 experts, has no norms of queries and keys. */
    {.arch = "llama4", .models = "llama4_text llama4", .qk_norm = JT_QK_NORM_HEAD,
     .qk_norm_late = true, .qk_norm_plain = true, .qk_norm_rotated = true,
     .qk_norm_not = 128, .windows = &llama4_windows,
     .temperature = {0.1f, 8192.0f, 1.0f}, .temperature_unrotated = true,
     .gating = JT_GATE_SIGMOID, .weigh_input = true},
    {.arch = "mistral3", .models = "mistral3 ministral3", .kind = JT_EITHER,
     .renormalise = true},

    {.arch = "qwen2", .models = "qwen2 mimo", .kind = JT_DENSE, .upcycled = "llama",
     .rope_neox = true},
    /* Weights are the plain softmax values, unless the file says otherwise. */
    {.arch = "qwen2moe", .models = "qwen2_moe", .rope_neox = true},
    {.arch = "qwen3", .kind = JT_DENSE, .upcycled = "qwen3moe", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD},
    {.arch = "qwen3moe", .models = "qwen3_moe", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .renormalise = true},

    {.arch = "olmo", .kind = JT_DENSE, .norm = JT_NORM_LAYER, .norm_plain = true},
    /* OLMo 3 has windows. */
    {.arch = "olmo2", .models = "olmo2 olmo3", .kind = JT_DENSE, .rope_neox = true,
     .qk_norm = JT_QK_NORM_WHOLE, .windows = &olmo2_windows, .norms = &after_norms},
    {.arch = "olmoe", .rope_neox = true, .qk_norm = JT_QK_NORM_WHOLE},

    /* One shared expert as wide as several; the first layer is dense. */
    {.arch = "deepseek"},

    /* Also Kimi-K2, whose files say how it routes, and the Lite models without q_a. */
    {.arch = "deepseek2", .models = "deepseek_v2 deepseek_v3 kimi_k2 glm4_moe_lite", .latent = true,
     .yarn_scores = true, .group_max = true},

    {.arch = "phi2", .models = "phi", .kind = JT_DENSE, .rope_neox = true,
     .norms = &parallel_norms, .norm = JT_NORM_LAYER, .parallel = true,
     .activation = JT_GELU, .ffn_plain = true},
    {.arch = "phi3", .kind = JT_DENSE, .rope_neox = true, .windows = &all_windows,
     .ffn_fused = true},
    {.arch = "phimoe", .rope_neox = true, .norm = JT_NORM_LAYER,
     .gating = JT_GATE_SPARSEMIXER, .gate_after = true},

    {.arch = "gemma", .kind = JT_DENSE, .rope_neox = true, .activation = JT_GELU,
     .embedding_root = true},

    {.arch = "gemma2", .kind = JT_DENSE, .rope_neox = true, .softcap = 50.0f,
     .wide_scale_layers = 46, .windows = &gemma2_windows, .norms = &around_norms,
     .activation = JT_GELU, .embedding_root = true},
    {.arch = "gemma3", .models = "gemma3_text gemma3", .kind = JT_DENSE,
     .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD, .wide_scale_layers = 62,
     .windows = &gemma3_windows, .norms = &around_norms, .activation = JT_GELU,
     .embedding_root = true},

    {.arch = "gemma4", .models = "gemma4_text gemma4", .kind = JT_EITHER,
     .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD, .v_norm = true,
     .attention_scale = 1.0f, .windows = &gemma3_windows, .norms = &gemma4_norms,
     .activation = JT_GELU, .beside = JT_BESIDE_NORMED, .embedding_root = true,
     .layer_inputs = true, .renormalise = true},

    {.arch = "gpt-oss", .models = "gpt_oss", .rope_neox = true, .yarn_exact = true,
     .windows = &gpt_oss_windows, .norms = &misnamed_norms,
     .activation = JT_SWIGLU_OAI, .gate_after = true},

    {.arch = "cohere2", .kind = JT_DENSE, .windows = &unrotated_windows,
     .norms = &parallel_norms, .norm = JT_NORM_LAYER, .parallel = true},
    {.arch = "exaone4", .kind = JT_DENSE, .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .windows = &unrotated_windows, .norms = &after_norms},

    {.arch = "granite", .kind = JT_DENSE, .logits_divided = true},
    {.arch = "granitemoe", .models = "granitemoe granitemoeshared",
     .logits_divided = true, .gate_after = true},

    {.arch = "glm4", .kind = JT_DENSE, .norms = &around_norms, .ffn_fused = true},
    {.arch = "glm4moe", .models = "glm4_moe solar_open", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .qk_norm_optional = true, .norms = &misnamed_norms,
     .gating = JT_GATE_SIGMOID, .renormalise = true},

    {.arch = "ernie4_5", .kind = JT_DENSE},
    {.arch = "ernie4_5-moe", .models = "ernie4_5_moe", .renormalise = true},

    {.arch = "bailingmoe", .models = "bailing_moe"},
    {.arch = "bailingmoe2", .models = "bailing_moe_v2", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .gating = JT_GATE_SIGMOID, .renormalise = true},
    {.arch = "dots1", .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD},
    {.arch = "minimax-m2", .models = "minimax_m2", .rope_neox = true,
     .qk_norm = JT_QK_NORM_WHOLE, .gating = JT_GATE_SIGMOID, .renormalise = true},
    {.arch = "seed_oss", .kind = JT_DENSE, .rope_neox = true,
     .norms = &misnamed_norms},

    {.arch = "hunyuan-moe", .models = "hunyuan_v1_moe", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .qk_norm_late = true, .renormalise = true},
    {.arch = "hunyuan-dense", .models = "hunyuan_v1_dense", .kind = JT_DENSE,
     .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD, .qk_norm_late = true},
    {.arch = "exaone-moe", .models = "exaone_moe", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .windows = &unrotated_windows,
     .gating = JT_GATE_SIGMOID, .renormalise = true},
    {.arch = "afmoe", .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD,
     .windows = &unrotated_windows, .norms = &around_norms, .embedding_root = true,
     .gating = JT_GATE_SIGMOID, .renormalise = true},

    {.arch = "dbrx", .rope_neox = true, .norms = &dbrx_norms, .norm = JT_NORM_LAYER,
     .renormalise = true},
    /* Weights are the softmax values, as in the published code. */
    {.arch = "grok", .models = "grok-1 grok-2", .rope_neox = true, .softcap = 30.0f,
     .attention_scale = 0.08838834764831845f, .norms = &grok_norms,
     .norms_or = &grok2_norms, .activation = JT_GELU, .beside = JT_BESIDE_SHARED,
     .embedding_scale = 78.38367176906169f, .logit_scale = 0.5773502691896257f},
    {.arch = "arctic", .norms = &arctic_norms, .beside = JT_BESIDE_EXPERTS,
     .renormalise = true},
    {.arch = "nemotron", .kind = JT_DENSE, .rope_neox = true, .norm = JT_NORM_LAYER,
     .activation = JT_RELU2, .ffn_plain = true},
    /* Pangu Pro MoE: one expert of each group, each with a scale of its own. */
    {.arch = "pangu-pro-moe", .models = "PanguProMoE", .rope_neox = true,
     .select = "grouped"},

    {.arch = "jamba", .kind = JT_EITHER, .recurrent = true, .rope_off_every = 1},
    {.arch = "lfm2", .kind = JT_DENSE, .recurrent = true, .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .norm_last = "token_embd_norm"},
    {.arch = "lfm2moe", .models = "lfm2_moe", .recurrent = true, .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .norm_last = "token_embd_norm",
     .gating = JT_GATE_SIGMOID, .renormalise = true, .sum_eps = 1e-6f},
    {.arch = "granitehybrid", .kind = JT_EITHER, .models = "granitemoehybrid",
     .recurrent = true, .rope_switch = true, .logits_divided = true, .gate_after = true},
    {.arch = "falcon-h1", .models = "falcon_h1", .kind = JT_DENSE, .recurrent = true,
     .abreast = true, .rope_neox = true},
    {.arch = "nemotron_h", .kind = JT_DENSE, .recurrent = true, .rope_off_every = 1,
     .norms = &single_norms, .single = true, .activation = JT_RELU2, .ffn_plain = true,
     .gating = JT_GATE_SIGMOID, .renormalise = true},
    {.arch = "nemotron_h_moe", .models = "nemotron_h", .recurrent = true,
     .rope_off_every = 1, .norms = &single_norms, .single = true,
     .activation = JT_RELU2, .ffn_plain = true, .gating = JT_GATE_SIGMOID,
     .renormalise = true},
    {.arch = "qwen3next", .models = "qwen3_next", .recurrent = true, .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD, .attention_gated = true, .norms = &misnamed_norms,
     .renormalise = true},
    {.arch = "qwen35", .kind = JT_DENSE, .models = "qwen3_5 qwen3_5_text",
     .recurrent = true, .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD, .attention_gated = true,
     .norms = &misnamed_norms},
    {.arch = "qwen35moe", .models = "qwen3_5_moe qwen3_5_moe_text", .recurrent = true,
     .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD, .attention_gated = true,
     .norms = &misnamed_norms, .renormalise = true},
    /* Kimi Delta Attention between layers of latent attention without rotation. */
    {.arch = "kimi-linear", .models = "kimi_linear", .recurrent = true, .latent = true,
     .rope_off_every = 1, .gating = JT_GATE_SIGMOID, .renormalise = true},
    /* Lightning attention between layers of attention. */
    {.arch = "minimax-01", .models = "minimax minimax_text_01 minimax_m1",
     .recurrent = true, .rope_neox = true, .carries_normed = true, .renormalise = true},

    /* Junto's own, for models that no other family describes: any router, shared experts
     * with or without a gate. */
    {.arch = "junto", .kind = JT_EITHER, .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD},
};
/* clang-format on */

enum { FAMILIES = sizeof families / sizeof *families };

const jt_family *jt_family_at(size_t i)
{
    return i < FAMILIES ? &families[i] : NULL;
}

const jt_family *jt_family_find(const char *arch, size_t len)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strlen(families[i].arch) == len && memcmp(families[i].arch, arch, len) == 0)
            return &families[i];
    }
    return NULL;
}

const jt_norm_names *jt_family_norms(const jt_family *family)
{
    return family->norms ? family->norms : &usual_norms;
}

const char *jt_family_last_norm(const jt_family *family)
{
    return family->norm_last ? family->norm_last : "output_norm";
}

bool jt_family_trains(const jt_family *f)
{
    return !f->untrained;
}

bool jt_family_plain(const jt_family *f)
{
    return !f->norms && f->norm == JT_NORM_RMS && f->activation == JT_SILU &&
           !f->ffn_fused && !f->ffn_plain && !f->beside && !f->parallel &&
           !f->embedding_scale && !f->embedding_root && !f->logits_divided &&
           !f->latent && !(f->windows && f->windows->usual) && !f->rope_off_every &&
           !f->qk_norm_late && !f->attention_gated && !f->recurrent;
}

const char *jt_family_name(size_t i)
{
    return i < FAMILIES ? families[i].arch : NULL;
}
