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

#endif
