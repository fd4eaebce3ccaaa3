/* Adapters on golden models: the PEFT folders of tests/adapters and what peft computes
 * with them (make_adapters.py there). */
#ifndef ADAPTED_H
#define ADAPTED_H

#include "golden.h"

typedef struct adapted {
    golden g; /* logits: those with the adapter */
    jt_adapter *adapter;
    const float *plain; /* without it */
} adapted;

/* `folder` of golden/hf, adapter `name`. */
void adapted_open(adapted *a, const char *folder, const char *name);
void adapted_close(adapted *a);

void adapted_must(jt_status status, const jt_err *err);

/* Logits of all tokens with `n` adapters, each times its scale; the caller frees. */
float *adapted_run(const golden *g, const jt_session_options *options,
                   jt_adapter *const *adapters, const float *scales, size_t n);

#endif
