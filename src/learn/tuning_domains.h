/* Tuning of domain adapters (MixDA: adapt/kind_mixda.c). */
#ifndef JT_TUNING_DOMAINS_H
#define JT_TUNING_DOMAINS_H

#include "learn/tuning.h"

/* Values between the layers of a gate. */
float jt_domains_gate_width(const jt_config *config, const jt_model *model);

/* Stage two: t->adapter from those of adapter.part. JT_E_ARG, what jt_adapter_open
 * gives, JT_E_MEMORY. */
jt_status jt_domains_join(jt_tuning *t, const jt_model *model, jt_err *err);

/* Stage one: tokens of sources from adapter.keep_from on are kept as they were; of a
 * batch: which, and they have no other loss. Nothing for other kinds. JT_E_MEMORY. */
jt_status jt_domains_keep(jt_tuning *t, jt_err *err);
void jt_domains_batch(jt_tuning *t, jt_batch *batch, float scale);

#endif
