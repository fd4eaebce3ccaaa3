/* Inside of choosing among adapters. */
#ifndef JT_LEARN_CHOOSE_H
#define JT_LEARN_CHOOSE_H

#include "junto/choose.h"
#include "learn/data_impl.h"

struct jt_samples {
    jt_docs docs;
    size_t n, n_vocab;
};

/* Samples that are the training documents of a source. Errors as jt_samples_open. */
jt_status jt_samples_open_source(jt_samples **out, const jt_data_source *source,
                                 const jt_model *model, const jt_data_options *options,
                                 jt_err *err);

/* The tokens of sample i, those too that are not to be learnt. The caller frees; NULL
 * without memory. */
int32_t *jt_sample_ids(const jt_samples *samples, size_t i);

#endif
