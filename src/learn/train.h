/* The trainer: a model, its data and an optimiser, stepped as a configuration says. */
#ifndef JT_TRAIN_H
#define JT_TRAIN_H

#include "junto/learn.h"
#include "learn/balance.h"
#include "learn/checkpoint.h"
#include "learn/config.h"
#include "learn/data.h"
#include "learn/schedule.h"
#include "learn/tuning.h"
#include "learn/tuning_store.h"
#include "model/transformer.h"

typedef struct jt_trainer {
    const jt_config *config;
    const jt_train_options *options;
    char *checkpoint; /* path */
    jt_data *data;
    jt_model *model;
    jt_tuning *tuning; /* NULL: the model itself is trained */
    jt_cached *cached; /* of a run with a memory budget; otherwise NULL */
    jt_store_budget budget;
    const jt_store *store; /* of the experts */
    jt_variables variables;
    jt_optim *optim;
    jt_balance *balance;
    jt_schedule schedule;
    jt_context ctx;
    jt_hooks hooks;                                      /* of training passes */
    void (*on_batch)(void *user, const jt_batch *batch); /* before each; or NULL */
    void *user;                                          /* of on_batch */
    jt_batch batch;
    jt_cache cache; /* of a micro-batch */
    jt_progress_made made;
} jt_trainer;

/* Read the data, then make, import or (with options->resume) reopen the checkpoint in
 * the output folder and take the model into memory. Borrows both arguments. Errors as
 * jt_train. */
jt_status jt_trainer_new(jt_trainer **out, const jt_config *config,
                         const jt_train_options *options, jt_err *err);
void jt_trainer_free(jt_trainer *trainer); /* NULL is fine */

/* A pass with what is trained, the model or an adapter of it, at work. */
jt_tensor jt_trainer_forward(jt_trainer *trainer, const jt_chunk *chunk,
                             const jt_hooks *hooks);

/* What one step saw. */
typedef struct jt_step_report {
    double loss; /* nats per token, without the balance terms */
    double grad_norm, lr;
} jt_step_report;

/* One optimiser step over config->train.accumulate micro-batches. JT_E_FORMAT when
 * something is not finite: the variables are then those of before the step. */
jt_status jt_trainer_step(jt_trainer *trainer, jt_step_report *report, jt_err *err);

/* Held-out losses, nats per token, and shares of the tokens that the model found
 * likeliest. Those of all together weigh domains as the training data is mixed. */
typedef struct jt_evaluation {
    double loss, accuracy;
    size_t n_domains;
    double *domain_loss, *domain_accuracy; /* [n_domains] */
} jt_evaluation;

/* Evaluate with `hooks` (policies and watchers; `on_batch`, if not NULL, is called with
 * each batch before its pass). */
typedef struct jt_evaluation_options {
    const jt_hooks *hooks;
    void (*on_batch)(void *user, const jt_batch *batch);
    void *user;
} jt_evaluation_options;
jt_status jt_trainer_evaluate(jt_trainer *trainer, const jt_evaluation_options *options,
                              jt_evaluation *out, jt_err *err);
/* Mean loss of the batch at hand. */
jt_status jt_trainer_loss(jt_trainer *trainer, double *loss, jt_err *err);
void jt_evaluation_free(jt_evaluation *evaluation); /* {0} is fine */

/* The batch at hand as one span (sequences lie side by side, `first` keeps them apart),
 * and as a chunk with logits of all tokens: micro-batch number `index` of a run, which
 * no other is drawn like; -1: nothing is drawn. */
jt_span jt_trainer_span(jt_trainer *trainer);
jt_chunk jt_trainer_chunk(const jt_trainer *trainer, const jt_span *span,
                          int64_t index);

/* DIR/NAME in the output folder. The caller frees; NULL without memory. */
char *jt_trainer_path(const jt_trainer *trainer, const char *name);

/* Save a checkpoint, or what was trained, in the output folder; its name there:
 * "model.gguf" or "adapter.safetensors". */
const char *jt_trainer_product(const jt_trainer *trainer);
jt_status jt_trainer_save(jt_trainer *trainer, jt_err *err);
jt_status jt_trainer_export(jt_trainer *trainer, jt_err *err);

/* Where a run begins: an existing model, or sizes and perhaps a vocabulary. */
typedef struct jt_start_point {
    jt_model *model;         /* or NULL */
    jt_gguf *vocabulary;     /* or NULL */
    const jt_tokenizer *tok; /* of either; NULL for none */
    jt_tokenizer *own_tok;
} jt_start_point;

/* Open model.init (its experts apart, if `apart`), or data.tokenizer, or neither;
 * `checkpoint` (may be NULL) stands in for model.init. */
jt_status jt_start_open(jt_start_point *out, const jt_config *config,
                        const char *checkpoint, bool apart, jt_err *err);
void jt_start_close(jt_start_point *start);
/* Sizes of the model that will be trained; texts are borrowed from both. */
jt_status jt_start_sizes(const jt_start_point *start, const jt_config *config,
                         jt_sizes *out, jt_err *err);

/* Memory that the activations of a micro-batch will take, with their gradients and the
 * keys and values; `model` is the one that is trained, NULL for one that its sizes
 * describe; or `adapter` is, beside it. JT_E_ARG (unknown kernels). */
jt_status jt_plan_activation_bytes(uint64_t *out, const jt_sizes *sizes,
                                   const jt_model *model, const jt_adapter *adapter,
                                   const jt_config *config, jt_err *err);
/* The parameters of a tuning, and what it holds beside the model: all of `plan` but
 * steps, data, store, totals and time. */
jt_status jt_plan_tuning(jt_train_plan *plan, const jt_config *config,
                         const jt_sizes *sizes, const jt_model *model,
                         jt_tuning *tuning, jt_err *err);
/* Values of keys and queries, values and outputs of all layers: what a token that looks
 * at another multiplies. */
double jt_plan_looks(const jt_sizes *sizes, const jt_model *model);

/* Groups of parameters in the order in which they are tried: what never trains, those
 * of the configuration, vectors (without weight decay), all others. The caller frees.
 */
jt_status jt_config_groups(const jt_config *config, jt_optim_group **out, size_t *count,
                           jt_err *err);

/* Open the data sources of a configuration. Borrows `tok` (NULL with token files only).
 */
jt_status jt_config_data_open(jt_data **out, const jt_config *config,
                              const jt_tokenizer *tok, size_t n_vocab,
                              const jt_progress *progress, jt_err *err);

#endif
