#include "model/hf_rows.h"

/* In this order they are tried; on export the first that fits wins. */
const jt_hf_family *const jt_hf_families[] = {
    &jt_hf_llama, &jt_hf_mixtral, &jt_hf_qwen2, &jt_hf_qwen2moe, &jt_hf_qwen3,
    &jt_hf_qwen3moe, &jt_hf_olmoe, &jt_hf_gemma, &jt_hf_gemma2, &jt_hf_gemma3,
    &jt_hf_olmo, &jt_hf_olmo2, &jt_hf_olmo3, &jt_hf_smollm3, &jt_hf_phi2, &jt_hf_glm4,
    &jt_hf_seed_oss, &jt_hf_exaone4, &jt_hf_cohere2, &jt_hf_nemotron, &jt_hf_ministral3,
    &jt_hf_llama4, &jt_hf_qwen3next, &jt_hf_qwen35, &jt_hf_qwen35moe, &jt_hf_jamba,
    &jt_hf_lfm2, &jt_hf_lfm2moe, &jt_hf_granitehybrid, &jt_hf_granitehybrid_dense,
    &jt_hf_nemotron_h_moe, &jt_hf_nemotron_h,
    /* DeepSeek-V2 takes what V3 leaves of their architecture. */
    &jt_hf_deepseek, &jt_hf_deepseek_v3, &jt_hf_deepseek_v2, &jt_hf_gpt_oss,
    &jt_hf_glm4_moe, &jt_hf_dots1,
    /* MiniMax-M2 takes what MiniMax-Text-01 leaves of their model type. */
    &jt_hf_minimax, &jt_hf_minimax_text_01, &jt_hf_minimax_m2, &jt_hf_exaone_moe,
    &jt_hf_afmoe, &jt_hf_ernie4_5, &jt_hf_ernie4_5_moe, &jt_hf_hunyuan_dense,
    &jt_hf_hunyuan_moe, &jt_hf_granite, &jt_hf_granitemoeshared, &jt_hf_granitemoe,
    &jt_hf_phi3, &jt_hf_phimoe, &jt_hf_falcon_h1, &jt_hf_kimi_linear,
    &jt_hf_glm4_moe_lite, &jt_hf_solar_open, &jt_hf_gemma4, &jt_hf_bailing_moe,
    &jt_hf_bailing_moe_v2, &jt_hf_grok1, &jt_hf_grok2, &jt_hf_dbrx, &jt_hf_arctic,
    &jt_hf_pangu_pro_moe, NULL};
