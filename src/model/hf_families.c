#include "model/hf_rows.h"

/* In this order they are tried; on export the first that fits wins. */
const jt_hf_family *const jt_hf_families[] = {
    &jt_hf_llama,
    &jt_hf_mixtral,
    &jt_hf_qwen2,
    &jt_hf_qwen2moe,
    &jt_hf_qwen3,
    &jt_hf_qwen3moe,
    &jt_hf_olmoe,
    &jt_hf_gemma,
    &jt_hf_gemma2,
    &jt_hf_gemma3,
    &jt_hf_olmo,
    &jt_hf_olmo2,
    &jt_hf_smollm3,
    &jt_hf_phi2,
    &jt_hf_glm4,
    &jt_hf_seed_oss,
    &jt_hf_exaone4,
    &jt_hf_cohere2,
    &jt_hf_nemotron,
    &jt_hf_ministral3,
    &jt_hf_llama4,
    NULL};
