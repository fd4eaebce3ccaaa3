/* Tuning of routed mixtures of adapters. */
#ifndef JT_TUNING_BLEND_H
#define JT_TUNING_BLEND_H

#include "adapt/blend.h"
#include "learn/config.h"
#include "learn/gate_loss.h"

/* Does the configuration ask for one? NULL: not. */
const jt_blend_method *jt_tuning_method(const jt_config *config);

/* The mixture of config->adapter: fresh LoRAs for the weights that match the target
 * (MixLoRA: for those of FFNs), or those of adapter.part. First values:
 *   fresh LoRAs   as jt_tuning_new
 *   gates         normal, deviation 0.02
 *   heads         uniform in +-1 / sqrt(inputs), as PyTorch's linear layers
 * JT_E_ARG, what jt_adapter_open gives, JT_E_MEMORY. */
jt_status jt_tuning_blend(jt_blend **out, const jt_config *config,
                          const jt_model *model, jt_err *err);

/* The tokens of a marker, which the caller frees; errors name `key`. */
jt_status jt_tuning_marker(jt_tokens *ids, const jt_model *model, const char *text,
                           const char *key, jt_err *err);

/* Is this part of it trained? */
bool jt_tuning_trains(const jt_config *config, const jt_blend_part *part);

/* The losses that the configuration asks for, without labels. */
jt_gate_loss jt_tuning_gate_loss(const jt_config *config, const jt_blend *blend);

#endif
