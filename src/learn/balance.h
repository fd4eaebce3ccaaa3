/* Balance: what keeps all experts of a layer in use while a model trains.
 *
 * With E experts, k picked by each of T tokens, f_i the share of all picks (before the
 * capacity: an expert that is over it must see so) that fell on expert i, p_i(t) its
 * share of the scores of token t (softmax: the score), P_i its mean:
 *
 *   balance loss   alpha E sum_i f_i P_i, no gradient through f (Switch; DeepSeekMoE).
 *                  The scope says over which tokens f counts: each sequence by itself
 *                  (P too; then the mean over sequences), the micro-batch, or the
 *                  global batch: all micro-batches of this step so far ("Demons in the
 *                  Detail": with one micro-batch a step the two are the same).
 *                  Null experts (AdaMoE) count as experts; with null_mean each has the
 *                  mean f of all of them.
 *   z-loss         beta mean_t (log sum_i exp logit_i(t))^2 (ST-MoE)
 *   bias           after each step: bias_i += rate sign(1 / E - f_i), f that of the
 *                  whole step, seen by selection only (DeepSeek-V3, loss-free)
 *
 *   BIP            before each selection, `rounds` times, from the q of the batch
 *                  before: p_t = max(0, (k + 1)-th largest s_ti - q_i over i), q_i =
 *                  max(0, (c + 1)-th largest s_ti - p_t over t), where c =
 *                  ceil(k T / E) is the room of an expert; the selection bias is -q
 *                  (BIP-Based Balancing)
 *
 * Every mixture layer adds its own terms. Bias and BIP keep their vector in the model's
 * selection_bias tensors, so a saved model selects as it was trained to. */
#ifndef JT_BALANCE_H
#define JT_BALANCE_H

#include "model/model.h"

typedef enum jt_balance_scope {
    JT_SCOPE_SEQUENCE,
    JT_SCOPE_MICRO,
    JT_SCOPE_GLOBAL
} jt_balance_scope;

/* "sequence", "micro", "global"; false (unchanged) for another name. */
bool jt_balance_scope_named(const char *name, jt_balance_scope *scope);

typedef struct jt_balance_options {
    float loss; /* alpha; 0: none */
    jt_balance_scope scope;
    float micro_loss; /* alpha of a second term of scope micro */
    bool null_mean;
    float z_loss;    /* beta */
    float bias_rate; /* not together with bip_rounds */
    int bip_rounds;
    size_t seq_len;                   /* tokens of a sequence, for that scope */
    const jt_mixture *const *instead; /* [layers] as in jt_chunk; or NULL */
} jt_balance_options;

typedef struct jt_balance jt_balance;

/* When bias_rate or bip_rounds is set, the model's mixture layers must have writable
 * selection_bias tensors. BIP prices scores, so it needs the gate before the choice.
 * Borrows the model. JT_E_ARG, JT_E_MEMORY. */
jt_status jt_balance_new(jt_balance **out, jt_model *model,
                         const jt_balance_options *options, jt_err *err);
void jt_balance_free(jt_balance *balance); /* NULL is fine */

/* Attach to the passes of training (not to those of evaluation). JT_E_LIMIT. */
jt_status jt_balance_attach(jt_balance *balance, jt_hooks *hooks, jt_err *err);

/* A step: begin; for each micro-batch jt_balance_micro, forward, backward; end (bias
 * updates). `scale` multiplies the gradients, as that of the main loss. */
void jt_balance_begin(jt_balance *balance);
void jt_balance_micro(jt_balance *balance, float scale);
void jt_balance_end(jt_balance *balance);

/* What the last step saw, means over its micro-batches and the mixture layers. */
typedef struct jt_balance_report {
    double loss, z_loss;    /* with their coefficients */
    double max_violation;   /* most picks of a true expert over their mean, less 1, of
                               the whole step; mean over layers */
    double worst_violation; /* of the layer where it is largest */
    double experts_used;    /* true experts per token */
    double dropped; /* share of the picks of true experts that went nowhere for lack of
                       capacity */
} jt_balance_report;
jt_balance_report jt_balance_last(const jt_balance *balance);

#endif
