/* Virtual tokens in PEFT folders: one tensor "prompt_embeddings", which is what the
 * encoders of PEFT gave when it was saved (peft.utils.save_and_load and get_prompt of
 * peft_model.py).
 *
 *   PROMPT_TUNING, P_TUNING   [tokens, d] embeddings
 *   PREFIX_TUNING             [tokens, layers * 2 * kv_heads * head_dim]: of each layer
 *                             the key, as it is after norms and rotation, and the value
 */
#ifndef JT_ADAPT_PEFT_FRONT_H
#define JT_ADAPT_PEFT_FRONT_H

#include <jansson.h>

#include "adapt/adapter.h"
#include "adapt/peft_names.h"
#include "junto/safetensors.h"

/* Fill `a`, which is fresh and of the kind that the folder has. JT_E_UNSUPPORTED (other
 * tensors, an encoder and a decoder, layers that keep no keys), JT_E_FORMAT (shapes
 * that are not those of the model), JT_E_MEMORY. */
jt_status jt_peft_read_front(jt_adapter *a, const json_t *config,
                             const jt_safetensors *file, jt_peft_names *names,
                             jt_err *err);

/* What adapter_config.json says of them (NULL without memory), and the tensor. */
json_t *jt_peft_front_config(const jt_adapter *a, const jt_model *model);
jt_status jt_peft_write_front(jt_safetensors_writer *out, const jt_adapter *a,
                              jt_peft_names *names, jt_err *err);

#endif
