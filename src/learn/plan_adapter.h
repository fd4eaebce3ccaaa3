/* What adapters add to the memory of activations. All counts are floats for one token
 * of a micro-batch, with gradients where the tape has them; layers count from 0. */
#ifndef JT_PLAN_ADAPTER_H
#define JT_PLAN_ADAPTER_H

#include "adapt/adapter.h"

/* Beside the weights of a layer, `expert_rows` being the experts of a token. */
double jt_plan_adapter_values(const jt_adapter *adapter, int layer, double expert_rows);
/* On top of that for a while, when gradients come to the layer. */
double jt_plan_adapter_back(const jt_adapter *adapter, int layer);
/* Beside all layers: of a pass before the pass; of prompts that are rewritten, as if
 * all text were prompts. */
double jt_plan_adapter_ahead(const jt_adapter *adapter, double d_model);

/* Does a mixture of adapters stand in place of the dense FFN of a layer? What that
 * takes then. */
bool jt_plan_adapter_instead(const jt_adapter *adapter, int layer);
double jt_plan_adapter_ffn(const jt_adapter *adapter, int layer, double d_model);

#endif
