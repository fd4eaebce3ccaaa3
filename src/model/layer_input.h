/* What layers learn of the tokens besides the hidden states: embeddings of each layer
 * (Gemma 3n and Gemma 4 of 2B and 4B; transformers' project_per_layer_inputs).
 *
 *   e = sqrt(n) layer_embedding[token]          [layers * n]
 *   p = norm(layer_projection h / sqrt(d))      [layers * n], the n of each layer
 *   inputs = (p + e) / sqrt(2)                  of the embedded tokens h, once
 *
 * and in each layer, after its FFN,
 *
 *   h += norm(input_up (f(input_gate h) * inputs of the layer)). */
#ifndef JT_LAYER_INPUT_H
#define JT_LAYER_INPUT_H

#include "model/bind.h"

/* Bind the model's part, and that of a layer. Nothing where jt_params.layer_width is 0.
 */
jt_status jt_bind_layer_inputs(jt_binder *b, jt_model *model);
jt_status jt_bind_layer_input(jt_binder *b, jt_layer *layer);

/* The inputs of all layers [tokens, layers * n], in scratch; empty where there are
 * none. `h` are the embedded tokens `ids`. */
jt_tensor jt_layer_inputs(jt_context *ctx, const jt_model *model, const int32_t *ids,
                          const jt_tensor *h);

/* Let layer `index` add its part to h; nothing for empty inputs. */
void jt_layer_input_add(jt_context *ctx, const jt_model *model, int index,
                        const jt_tensor *inputs, jt_tensor *h);

#endif
