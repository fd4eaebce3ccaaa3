/* Optimisers: AdamW (Loshchilov & Hutter 2019), Adafactor (Shazeer & Stern 2018), SGD
 * with momentum, Muon (Jordan et al. 2024). Rates over time are in schedule.h.
 *
 * Parameters are F32. An optimiser owns only its state, which is a list of named
 * arrays, so that a checkpoint saves and restores it exactly: a run that is stopped and
 * resumed equals, bit for bit, one that was not.
 *
 *     double norm = jt_optim_grad_norm(optim, pool, &culprit);
 *     float scale = norm > 1.0 ? (float)(1.0 / norm) : 1.0f;
 *     jt_optim_step(optim, pool, jt_schedule_lr(&schedule, step), scale);
 *
 * The rules, with p the parameter, g its gradient times grad_scale, t = 1, 2, ...
 *
 *   AdamW      m += (1 - beta1)(g - m);  v = beta2 v + (1 - beta2) g^2
 *              p = (1 - lr decay) p
 *                - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
 *   Adafactor  beta = 1 - t^-0.8; running means, with beta, of g^2 + eps over each row
 *              (R) and each column (C) of a matrix; u = g / sqrt(R C / mean(R)).
 *              A vector keeps the mean V of each value: u = g / sqrt(V).
 *              p = (1 - lr decay) p - lr u / max(1, rms(u)), rms over the whole tensor.
 *              The rate is the given one, neither relative to the step nor to the
 *              scale of p (in transformers: relative_step and scale_parameter off).
 *              There is no first moment.
 *   SGD        g += decay p, as PyTorch has it;  m = momentum m + g;
 *              p -= lr m, or with nesterov p -= lr (g + momentum m)
 *   Muon       m += (1 - momentum)(g - m);  u = m, or with nesterov (as Jordan uses it)
 *              u = g + momentum (m - g);  O = u with its singular values moved near 1,
 *              by five Newton-Schulz steps in F32, each expert of a stack by itself
 *              p = (1 - lr decay) p - lr sqrt(max(1, rows / cols)) O
 */
#ifndef JT_OPTIM_H
#define JT_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "junto/status.h"
#include "kernels/kernels.h"

/* One parameter tensor, borrowed. A matrix [rows, cols]; a stack of experts is
 * [count, rows, cols]; a vector has rows 1 (rules for matrices also take a matrix of
 * one column as a vector). Names are distinct. A frozen parameter needs no gradient. */
typedef struct jt_param {
    const char *name;
    float *value, *grad; /* [count * rows * cols] */
    size_t count, rows, cols;
} jt_param;

typedef enum jt_optim_kind { JT_ADAMW, JT_ADAFACTOR, JT_SGD, JT_MUON } jt_optim_kind;

/* "adamw", "adafactor", "sgd", "muon"; false (unchanged) for another name. */
bool jt_optim_kind_named(const char *name, jt_optim_kind *kind);

/* How a group of parameters is trained. The first group whose pattern (a glob on the
 * name: "blk.*.ffn_*_exps.weight") matches a parameter has it; one that no group
 * matches is an error. Zeros mean the defaults that are named. */
typedef struct jt_optim_group {
    const char *pattern;
    jt_optim_kind kind; /* Muon is for matrices; vectors in its group get AdamW */
    bool frozen;        /* never changed, no state */
    float lr_scale;     /* times the scheduled rate; 0: 1 */
    float weight_decay;
    float beta1, beta2; /* AdamW; 0: 0.9, 0.95 */
    float eps;          /* AdamW; 0: 1e-8. Adafactor; 0: 1e-30 */
    float momentum;     /* SGD: 0 is none; Muon: 0 means 0.95 */
    bool nesterov;      /* SGD with momentum, and Muon */
} jt_optim_group;

typedef struct jt_optim jt_optim;

/* `params` and `groups` are copied; the names and arrays of the parameters are borrowed
 * and outlive the optimiser. Errors: JT_E_ARG (a parameter without a group or gradient,
 * a number out of range: named), JT_E_MEMORY. */
jt_status jt_optim_new(jt_optim **out, const jt_kernels *kernels,
                       const jt_param *params, size_t n_params,
                       const jt_optim_group *groups, size_t n_groups, jt_err *err);
void jt_optim_free(jt_optim *optim);

/* Euclidean norm of all gradients that are not frozen, in a fixed order of sums. Not
 * finite when any gradient is not; `culprit` (may be NULL) then names the first such
 * parameter, and is NULL otherwise. */
double jt_optim_grad_norm(jt_optim *optim, jt_pool *pool, const char **culprit);

/* One step with gradients multiplied by `grad_scale` (clipping, accumulation) and the
 * learning rate `lr`. Cannot fail: all memory was taken by jt_optim_new. The same bits
 * for any number of threads. */
void jt_optim_step(jt_optim *optim, jt_pool *pool, float lr, float grad_scale);

/* State, for checkpoints: the i-th array, to be read or overwritten, and its name
 * ("adamw.m/blk.0.attn_q.weight"); false past the last. The number of steps so far is
 * apart. */
typedef struct jt_optim_state {
    const char *name; /* valid as long as the optimiser */
    float *data;
    size_t n;
} jt_optim_state;
bool jt_optim_state_at(jt_optim *optim, size_t i, jt_optim_state *state);
int64_t jt_optim_steps(const jt_optim *optim);
void jt_optim_set_steps(jt_optim *optim, int64_t steps);

/* What an optimiser of these parameters would hold, and how many values it would
 * change. Values and gradients are not looked at; gradients must not be NULL. */
typedef struct jt_optim_size {
    size_t bytes, trained;
} jt_optim_size;
jt_status jt_optim_measure(const jt_param *params, size_t n_params,
                           const jt_optim_group *groups, size_t n_groups,
                           jt_optim_size *out, jt_err *err);

#endif
