/* Variables: all parameters of a model as F32 values in memory with a gradient beside
 * each, so that they can be trained. The model's tensors point here afterwards. */
#ifndef JT_VARIABLES_H
#define JT_VARIABLES_H

#include "learn/optim.h"
#include "model/model.h"

typedef struct jt_variables {
    jt_param *list; /* [count], as optimisers take them */
    size_t count;
    size_t values;       /* of all together */
    float *value, *grad; /* [values] */
    char (*name)[96];    /* [count] */
} jt_variables;

/* Decode all parameters of `model` into memory and turn its tensors there. The model's
 * file stays open (its keys and vocabulary are used), the pages of its weights are
 * given back. Borrows the model, which must not run after jt_variables_free.
 * JT_E_MEMORY. */
jt_status jt_variables_take(jt_variables *out, jt_model *model, jt_err *err);
/* Only the list: names and shapes, without values. JT_E_MEMORY. */
jt_status jt_variables_list(jt_variables *out, jt_model *model, jt_err *err);
void jt_variables_free(jt_variables *variables); /* {0} is fine */

void jt_variables_zero_grad(jt_variables *variables, jt_pool *pool);

/* The parameter of that name; NULL when there is none. */
const jt_param *jt_variables_find(const jt_variables *variables, const char *name);

#endif
