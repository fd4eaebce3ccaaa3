/* Tuning in a memory budget: the experts of the model stay in their file, and come
 * layer by layer, up with the forward pass and down again with the gradients (they are
 * frozen, so that what passes them is all that they are needed for). Each layer is in
 * memory as a whole while it works; the next one in that order is read meanwhile. */
#ifndef JT_TUNING_STORE_H
#define JT_TUNING_STORE_H

#include "junto/learn.h"
#include "learn/config.h"
#include "model/model.h"
#include "store/cached.h"

/* Does a run have a store? */
bool jt_is_stored(const jt_train_options *options);

/* Can a run of this configuration have one? JT_E_ARG, JT_E_UNSUPPORTED. */
jt_status jt_stored_check(const jt_config *config, const jt_train_options *options,
                          jt_err *err);

/* The store of a run on a model that was loaded apart, without slots yet, and the
 * division of its budget, whose `process` is known: all that the process holds when the
 * adapter and the data are there. plan->gradient_bytes, optimiser_bytes and
 * activation_bytes come on top. JT_E_LIMIT (the budget is too small: says what would
 * do), JT_E_ARG (too few slots), errors of jt_cached_new. */
jt_status jt_stored_divide(jt_cached **out, jt_store_budget *budget,
                           const jt_model *model, const jt_config *config,
                           const jt_train_options *options, const jt_train_plan *plan,
                           jt_err *err);

/* Scratch for activations that are reckoned to take so much: an eighth more, as one
 * block. */
uint64_t jt_scratch_room(uint64_t activation_bytes);

#endif
