/* The families of hf_rows_*.c, listed in hf_families.c. */
#ifndef JT_MODEL_HF_ROWS_H
#define JT_MODEL_HF_ROWS_H

#include "model/hf.h"

/* Fields that a row leaves out are zero, as everywhere; tables read better so. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* hf_rows_llama.c */
extern const jt_hf_family jt_hf_llama, jt_hf_mixtral;
/* hf_rows_qwen.c */
extern const jt_hf_family jt_hf_qwen2, jt_hf_qwen2moe, jt_hf_qwen3, jt_hf_qwen3moe,
    jt_hf_olmoe;

/* hf_rows_gemma.c */
extern const jt_hf_family jt_hf_gemma, jt_hf_gemma2, jt_hf_gemma3;
/* hf_rows_dense.c */
extern const jt_hf_family jt_hf_olmo, jt_hf_olmo2, jt_hf_olmo3, jt_hf_smollm3,
    jt_hf_phi2, jt_hf_glm4, jt_hf_seed_oss, jt_hf_exaone4, jt_hf_cohere2,
    jt_hf_nemotron, jt_hf_ministral3;
/* hf_rows_llama4.c */
extern const jt_hf_family jt_hf_llama4;
/* hf_rows_delta.c */
extern const jt_hf_family jt_hf_qwen3next, jt_hf_qwen35, jt_hf_qwen35moe;
/* hf_rows_hybrid.c */
extern const jt_hf_family jt_hf_jamba, jt_hf_lfm2, jt_hf_lfm2moe;
/* hf_rows_moe_deepseek.c */
extern const jt_hf_family jt_hf_deepseek, jt_hf_deepseek_v2, jt_hf_deepseek_v3;
/* hf_rows_moe_gpt_oss.c */
extern const jt_hf_family jt_hf_gpt_oss;
/* hf_rows_moe_sigmoid.c */
extern const jt_hf_family jt_hf_glm4_moe, jt_hf_dots1, jt_hf_minimax_m2,
    jt_hf_exaone_moe, jt_hf_afmoe;
/* hf_rows_moe_shared.c */
extern const jt_hf_family jt_hf_ernie4_5, jt_hf_ernie4_5_moe, jt_hf_hunyuan_dense,
    jt_hf_hunyuan_moe;
/* hf_rows_moe_granite.c */
extern const jt_hf_family jt_hf_granite, jt_hf_granitemoe, jt_hf_granitemoeshared;
/* hf_rows_moe_phi.c */
extern const jt_hf_family jt_hf_phi3, jt_hf_phimoe;
/* hf_rows_mamba2.c */
extern const jt_hf_family jt_hf_granitehybrid, jt_hf_granitehybrid_dense,
    jt_hf_nemotron_h, jt_hf_nemotron_h_moe;
/* hf_rows_bailing.c */
extern const jt_hf_family jt_hf_bailing_moe, jt_hf_bailing_moe_v2;
/* hf_rows_grok.c */
extern const jt_hf_family jt_hf_grok1, jt_hf_grok2;
/* hf_rows_dbrx.c */
extern const jt_hf_family jt_hf_dbrx;
/* hf_rows_arctic.c */
extern const jt_hf_family jt_hf_arctic, jt_hf_pangu_pro_moe;
/* hf_rows_falcon_h1.c */
extern const jt_hf_family jt_hf_falcon_h1;
/* hf_rows_alike.c */
extern const jt_hf_family jt_hf_glm4_moe_lite, jt_hf_solar_open;
/* hf_rows_gemma4.c */
extern const jt_hf_family jt_hf_gemma4;
/* hf_rows_kimi_linear.c */
extern const jt_hf_family jt_hf_kimi_linear;
/* hf_rows_minimax.c */
extern const jt_hf_family jt_hf_minimax, jt_hf_minimax_text_01;

#endif
