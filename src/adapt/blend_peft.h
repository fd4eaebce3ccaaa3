/* X-LoRA folders of PEFT. */
#ifndef JT_ADAPT_BLEND_PEFT_H
#define JT_ADAPT_BLEND_PEFT_H

#include <jansson.h>

#include "adapt/blend.h"
#include "junto/safetensors.h"

bool jt_peft_is_xlora(const json_t *config);

/* The folder as peft's save_pretrained writes it: the head in `file`, each LoRA in a
 * folder of its own. JT_E_UNSUPPORTED (settings, and layers that the model's file has
 * cut otherwise), JT_E_FORMAT, and what reading the LoRAs gives. */
jt_status jt_blend_read_peft(jt_adapter **out, const char *folder, const json_t *config,
                             const jt_safetensors *file, const jt_model *model,
                             jt_err *err);

#endif
