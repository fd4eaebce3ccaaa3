#include "model/hf_rows.h"

/* In this order they are tried; on export the first that fits wins. */
const jt_hf_family *const jt_hf_families[] = {
    &jt_hf_llama, &jt_hf_mixtral,  &jt_hf_qwen2, &jt_hf_qwen2moe,
    &jt_hf_qwen3, &jt_hf_qwen3moe, &jt_hf_olmoe, NULL};
