/* All parameters of a model by name, for training and for tools that change models. */
#ifndef JT_PARAMETERS_H
#define JT_PARAMETERS_H

#include "model/model.h"

typedef void jt_parameter_fn(void *user, const char *name, jt_tensor *tensor);

/* Call `fn` with every tensor that is there, in the order of the forward pass, under
 * the name that it has in GGUF files; `fn` may point it elsewhere. A tied output
 * follows the embedding and is not named. */
void jt_model_each_parameter(jt_model *model, jt_parameter_fn *fn, void *user);

/* Before a training: JT_E_UNSUPPORTED where a part of the model has no gradients. */
jt_status jt_model_trains(const jt_model *model, jt_err *err);

#endif
