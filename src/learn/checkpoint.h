/* Checkpoints: a model in F32 that runs like any other, and beside its tensors the
 * state of the optimiser, so that training goes on to the same bits.
 *
 * A run always starts from a checkpoint: a fresh one first writes that of step 0. What
 * is not the model's goes under "junto.train.": the keys step and tokens, and a tensor
 * "junto.train/ARRAY" for each array of the optimiser. */
#ifndef JT_CHECKPOINT_H
#define JT_CHECKPOINT_H

#include "learn/variables.h"
#include "model/blueprint.h"

/* Write the checkpoint of step 0 for a fresh model. Its vocabulary is that of the GGUF
 * file `tokenizer` (NULL: none). Errors: those of reading that and of writing. */
jt_status jt_checkpoint_create(const char *path, const jt_blueprint *blueprint,
                               const jt_gguf *tokenizer, uint64_t seed, jt_err *err);

/* The same from an existing model of any types. `n_null` > 0 gives routers without null
 * experts that many (AdaMoE: their rows begin as copies of those of the experts, in
 * turn), and then `n_used` > 0 is the new number of slots. */
jt_status jt_checkpoint_import(const char *path, const jt_model *model, int n_null,
                               int n_used, jt_err *err);

typedef struct jt_progress_made {
    int64_t step;
    uint64_t tokens;
} jt_progress_made;

/* Write the variables and the optimiser's state, with the keys of the model's file. */
jt_status jt_checkpoint_save(const char *path, const jt_model *model,
                             const jt_variables *variables, jt_optim *optim,
                             const jt_progress_made *made, jt_err *err);

/* The same without a model: variables that are no weights of it (an adapter's). */
jt_status jt_checkpoint_save_variables(const char *path, const jt_variables *variables,
                                       jt_optim *optim, const jt_progress_made *made,
                                       jt_err *err);
/* Read them back. JT_E_FORMAT when one is missing or of another size. */
jt_status jt_checkpoint_read_variables(const jt_gguf *file, jt_variables *variables,
                                       jt_err *err);

/* What a checkpoint says of its training; 0 where it says nothing. */
jt_progress_made jt_checkpoint_made(const jt_gguf *file);
/* Put its optimiser state, if it has one, into `optim`. JT_E_FORMAT when an array is
 * missing or of another size. */
jt_status jt_checkpoint_restore(const jt_gguf *file, jt_optim *optim, jt_err *err);

/* Write the model alone; matrices whose rows allow it become `dtype`, except routers.
 */
jt_status jt_checkpoint_export(const char *path, const jt_model *model,
                               const jt_variables *variables, jt_dtype dtype,
                               jt_err *err);

#endif
