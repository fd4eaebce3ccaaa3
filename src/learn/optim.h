/* Optimisers: AdamW (Loshchilov & Hutter 2019), Adafactor (Shazeer & Stern 2018), SGD
 * with momentum, Muon (Jordan et al. 2024), and the schedules of their learning rate.
 *
 * Parameters are F32. An optimiser owns only its state, which is a list of named
 * arrays, so that a checkpoint saves and restores it exactly: a run that is stopped and
 * resumed equals, bit for bit, one that was not. */
#ifndef JT_OPTIM_H
#define JT_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "junto/status.h"

/* One parameter tensor, borrowed. A matrix [rows, cols]; a stack of experts is
 * [count, rows, cols]; a vector has rows 1. */
typedef struct jt_param {
    const char *name;
    float *value, *grad; /* [count * rows * cols] */
    size_t count, rows, cols;
} jt_param;

typedef enum jt_optim_kind { JT_ADAMW, JT_ADAFACTOR, JT_SGD, JT_MUON } jt_optim_kind;

/* How a group of parameters is trained. The first group whose pattern (a glob on the
 * name: "blk.*.ffn_*_exps.weight") matches a parameter has it; one that no group
 * matches is an error. Zeros mean the defaults that are named. */
typedef struct jt_optim_group {
    const char *pattern;
    jt_optim_kind kind; /* Muon is for matrices; vectors in its group get AdamW */
    bool frozen;        /* never changed, no state */
    float lr_scale;     /* times the scheduled rate; 0: 1 */
    float weight_decay; /* decoupled */
    float beta1, beta2; /* 0: 0.9, 0.95 */
    float eps;          /* 0: 1e-8 (Adafactor: 1e-30) */
    float momentum;     /* SGD: 0 is none; Muon: 0 means 0.95 */
    bool nesterov;
} jt_optim_group;

typedef struct jt_optim jt_optim;

/* `params` and `groups` are copied, names and arrays borrowed. Errors: JT_E_ARG (a
 * parameter without a group, a number out of range: named), JT_E_MEMORY. */
jt_status jt_optim_new(jt_optim **out, const jt_param *params, size_t n_params,
                       const jt_optim_group *groups, size_t n_groups, jt_err *err);
void jt_optim_free(jt_optim *optim);

/* Euclidean norm of all gradients that are not frozen, in a fixed order of sums. Not
 * finite when any gradient is not; `culprit` (may be NULL) then names that parameter.
 */
double jt_optim_grad_norm(const jt_optim *optim, jt_pool *pool, const char **culprit);

/* One step with gradients multiplied by `grad_scale` (clipping, accumulation) and the
 * learning rate `lr`. The same bits for any number of threads. */
void jt_optim_step(jt_optim *optim, jt_pool *pool, float lr, float grad_scale);

/* State, for checkpoints: the i-th array and its name ("adamw.m/blk.0.attn_q.weight"),
 * false past the last. The number of steps so far is apart. */
typedef struct jt_optim_state {
    const char *name; /* valid as long as the optimiser */
    float *data;
    size_t n;
} jt_optim_state;
bool jt_optim_state_at(jt_optim *optim, size_t i, jt_optim_state *state);
int64_t jt_optim_steps(const jt_optim *optim);
void jt_optim_set_steps(jt_optim *optim, int64_t steps);
size_t jt_optim_state_bytes(const jt_optim *optim);

/* ---- schedules ---------------------------------------------------------------------
 */

typedef enum jt_schedule_kind {
    JT_SCHEDULE_CONSTANT,
    JT_SCHEDULE_LINEAR, /* down to final_lr at the last step */
    JT_SCHEDULE_COSINE, /* the same along half a cosine */
    JT_SCHEDULE_WSD     /* warm-up, stable, decay (linear over the last decay_steps) */
} jt_schedule_kind;

typedef struct jt_schedule {
    jt_schedule_kind kind;
    float lr, final_lr;
    int64_t warmup_steps, steps, decay_steps;
} jt_schedule;

/* Rate of step `step` (the first is 0): linear from lr / warmup_steps in the warm-up.
 */
float jt_schedule_lr(const jt_schedule *schedule, int64_t step);
/* "constant", "linear", "cosine", "wsd"; "adamw", "adafactor", "sgd", "muon". */
bool jt_schedule_kind_named(const char *name, jt_schedule_kind *kind);
bool jt_optim_kind_named(const char *name, jt_optim_kind *kind);

#endif
