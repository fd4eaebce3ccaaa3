/* Training: a configuration in, a model out. docs/training.md describes the keys. */
#ifndef JUNTO_LEARN_H
#define JUNTO_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"
#include "junto/store.h"
#include "junto/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a run is about to cost. Bytes are what the process will hold at its peak beside
 * the code, the data files (which are mapped) and the tokenizer. */
typedef struct jt_train_plan {
    uint64_t n_params, n_active_params, n_trained_params;
    double flops_per_token; /* forward and backward */
    int64_t steps;
    uint64_t tokens_per_step, tokens;
    uint64_t epoch_tokens; /* in the data, for training */
    uint64_t weight_bytes, gradient_bytes, optimiser_bytes, activation_bytes,
        data_bytes, total_bytes;
    double peak_flops;     /* measured now: F32 products on the threads of the run, per
                              second */
    double seconds;        /* expected, at the usual share of that peak */
    jt_store_budget store; /* of a run with a budget; otherwise ram and slots are 0.
                              weight_bytes is then store.process: weights but the routed
                              experts, adapter, vocabulary, program; expert_bytes what
                              the cache of experts takes */
    uint64_t expert_bytes;
} jt_train_plan;

typedef enum jt_train_kind {
    JT_TRAIN_STEP,
    JT_TRAIN_EVAL,
    JT_TRAIN_SAVE
} jt_train_kind;

/* What happened. Numbers that have no meaning for a kind are 0. */
typedef struct jt_train_event {
    jt_train_kind kind;
    int64_t step, steps; /* steps done, of how many */
    uint64_t tokens;     /* seen so far */
    double loss;         /* nats per token: of the step, or held out over all domains */
    double lr, grad_norm;
    double tokens_per_second, seconds_left;
    /* Routing: losses with their coefficients; largest load over mean load less 1 (mean
     * and worst layer); true experts per token; share of dropped picks. */
    double balance_loss, z_loss, max_violation, worst_violation, experts_used, dropped;
    size_t n_domains; /* JT_TRAIN_EVAL */
    const char *const *domain;
    const double *domain_loss;
    const char *path;            /* JT_TRAIN_SAVE: checkpoint.gguf, model.gguf, .. */
    const jt_store_stats *store; /* of a run with a budget, so far; or NULL */
} jt_train_event;

typedef struct jt_train_options {
    const char *config;          /* path of a TOML or JSON file, or NULL: */
    const char *json;            /* the configuration itself */
    const char *const *settings; /* "key=value" on top of it */
    size_t n_settings;
    /* Of adapters: the experts of the model stay in their file (a GGUF file) and come
     * layer by layer, forward and back, so that the process takes no more than
     * store.ram (or the cache no more than store.slots); the results are the same to
     * the bit. io, engine and no_checks count; who leaves and what is read ahead follow
     * from the order of the passes. JT_E_LIMIT where the budget is too small. */
    jt_store_options store;
    bool resume;       /* go on from the checkpoint in the output folder */
    const char *trace; /* write what the routers do in training passes, labelled by
                          domain, to this file, which a resumed run must not find; NULL:
                          no trace */
    jt_trace_options trace_options;
    int trace_every; /* only of every so many steps; 0: of all */
    /* Returning non-zero asks to stop: the run saves a checkpoint and ends with
     * JT_E_INTERRUPTED. `fn` may be NULL. */
    int (*on_event)(void *user, const jt_train_event *event);
    void *user;
    jt_progress progress; /* reading and tokenising; then micro-batches of a step */
} jt_train_options;

/* Train as the configuration says. In its output folder appear
 *   config.json      every key with its value
 *   log.jsonl        one line per step and per evaluation
 *   curves.svg       loss, balance and rate over the steps, redrawn at each evaluation
 *   checkpoint.gguf  weights in F32 and the state of the optimiser: a model that runs,
 *                    and what --resume goes on from, to the same bits
 *   model.gguf       at the end: weights alone, in the type that was asked for
 * or, where [adapter] says that the model stays as it is,
 *   checkpoint.gguf      values of the adapter and the state of the optimiser
 *   adapter.safetensors  at the end, and with eval.patience whenever the held-out loss
 *                        is the best so far: the adapter
 * Everything is written beside and renamed. A folder with a checkpoint is refused
 * without `resume`. Errors: those of reading the configuration, data and model;
 * JT_E_FORMAT when a loss or gradient is not finite (which step, micro-batch, layer or
 * tensor; the last checkpoint stays); JT_E_IO when the disk is full (the last
 * checkpoint stays); JT_E_INTERRUPTED. */
JT_API jt_status jt_train(const jt_train_options *options, jt_err *err);

/* What jt_train would cost, without a step. */
JT_API jt_status jt_train_dry_run(const jt_train_options *options, jt_train_plan *plan,
                                  jt_err *err);

/* Every key of the configuration with its default and meaning: as TOML with comments,
 * or as the Markdown tables of docs/training.md. The caller frees; NULL without memory.
 */
JT_API char *jt_train_keys(bool markdown);

#ifdef __cplusplus
}
#endif
#endif
