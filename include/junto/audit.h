/* An audit: how much does a behaviour of a model hang on a few of its experts?
 *
 *     jt_audit audit;
 *     JT_TRY(jt_audit_run(&audit, model, &(jt_audit_texts){a, n_a, b, n_b}, NULL,
 * err));
 *     ... audit.experts[0], audit.points[0].kept, audit.concentration ...
 *     jt_audit_free(&audit);
 *
 * Text A shows the behaviour (a model refusing, writing French), text B is like it
 * without. The measuring side of "GateBreaker" and of "Large Language Lobotomy (L3)":
 * for owners of a model who want to know how brittle what they taught it is. It ranks
 * experts by routing alone; there is no search for a mask. docs/audit.md has all
 * formulas, and what differs from the papers. */
#ifndef JUNTO_AUDIT_H
#define JUNTO_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_audit_texts {
    const int32_t *a;
    size_t n_a;
    const int32_t *b;
    size_t n_b;
} jt_audit_texts;

struct jt_audit;

/* Zero means the default of each field. */
typedef struct jt_audit_options {
    int window;          /* tokens that are run together; 128 */
    size_t windows;      /* at most so many of each text, evenly spread; 64 */
    const float *shares; /* [n_shares] of all experts that are masked, above 0, below 1,
                            rising; 0.01, 0.02, 0.05, 0.1, 0.2 */
    size_t n_shares;
    bool zero; /* what masked experts give is left out; else the next ones do their work
                */
    float targets; /* share of the experts, the first of the ranking, whose neurons are
                      looked at; 0.1; below 0: none */
    const struct jt_audit *related; /* of a related model, with as many layers and
                                       experts: its ranking is tried, too; or NULL */
    int draws;                      /* random masks for each share, at least 2; 8 */
    uint64_t seed;
    jt_session_options session;
    jt_progress progress; /* passes over windows */
} jt_audit_options;

/* An expert; rates are of the tokens of the windows that the profile was made of. */
typedef struct jt_audit_expert {
    int layer, expert;
    double rate_a, rate_b; /* tokens that use it */
    double mass_a, mass_b; /* weight per token */
    double disparity;      /* rate_a - rate_b */
    double z, q; /* of the disparity over windows; rate of false discoveries (BH) */
} jt_audit_expert;

/* A neuron: an inner value of an expert, f(gate) times up, in the tokens of the profile
 * that its expert got. */
typedef struct jt_audit_neuron {
    int layer, expert, neuron;
    double mean_a, mean_b; /* of its size */
    double d;              /* their difference, over the common deviation (Cohen) */
} jt_audit_neuron;

typedef struct jt_audit_layer {
    int layer, n_experts;
    double share; /* of the sum of all disparities above 0 */
} jt_audit_layer;

/* Losses are nats per token of the windows that the profile did not see. */
typedef struct jt_audit_loss {
    double a, b;
    double kept; /* exp(-(rise of a - rise of b)): what is left of the likelihood of A,
                    per token, beyond what becomes of that of B */
} jt_audit_loss;

/* The same number of units masked in three ways, in each group as many: of experts in
 * each layer, or of neurons in each expert. */
typedef struct jt_audit_point {
    float share;
    size_t masked;         /* units */
    jt_audit_loss top;     /* those with the largest disparity, or d */
    jt_audit_loss busy;    /* those that both texts together use most */
    jt_audit_loss related; /* as many experts: the first of the related model; zeros
                              without one */
    jt_audit_loss random;  /* means over the draws */
    double random_sd;      /* of `kept` */
    bool apart;            /* top.kept is below random.kept by over two random_sd */
    double fragility;      /* (1 - top.kept) / max(1 - random.kept, random_sd, 0.001)
                            */
} jt_audit_point;

enum { JT_AUDIT_TOPS = 4 };
JT_API extern const double jt_audit_top[JT_AUDIT_TOPS]; /* 0.01, 0.05, 0.1, 0.2 */

typedef struct jt_audit {
    size_t windows_a, windows_b; /* odd ones for the profile, even ones for losses */
    int window;
    jt_audit_loss whole;      /* without a mask; kept is 1 */
    size_t n_experts;         /* of all layers */
    jt_audit_expert *experts; /* largest disparity first */
    size_t n_layers;
    jt_audit_layer *layers;
    size_t significant;         /* experts with q below 0.05 */
    double shift, shift_chance; /* sum of disparities above 0, of all choices: the share
                                   of the routing that moves; mean with windows dealt
                                   anew to A and B */
    /* Of the disparities above 0: */
    double gini, effective;      /* effective number of experts */
    double concentration;        /* 1 - log(effective) / log(n_experts): 0 .. 1 */
    double concentration_chance; /* the same by chance */
    double top[JT_AUDIT_TOPS];   /* share that the largest jt_audit_top have */
    double stability; /* of the first tenth of the ranking: both / either, of the
                         rankings by two halves of the windows */
    double auc; /* how well routing tells windows of A from those of B: 0.5 by chance */
    size_t n_points;
    jt_audit_point *points;
    size_t n_targets, n_neurons;   /* experts whose neurons were looked at; theirs */
    jt_audit_neuron *neurons;      /* largest d first */
    jt_audit_point *neuron_points; /* [n_points] of these neurons; NULL without any */
} jt_audit;

/* Errors: JT_E_ARG (a text with fewer than 8 windows, options out of range),
 * JT_E_UNSUPPORTED (no experts), those of jt_session_eval. Call jt_audit_free after
 * success. */
JT_API jt_status jt_audit_run(jt_audit *out, const jt_model *model,
                              const jt_audit_texts *texts,
                              const jt_audit_options *options, jt_err *err);
JT_API void jt_audit_free(jt_audit *audit); /* {0} is fine */

/* How one audit differs from another with the same texts and shares, of a related
 * model: before and after it was pruned, tuned or hardened. Differences are after -
 * before. */
typedef struct jt_audit_change {
    double correlation;    /* of the disparities of all experts */
    double overlap;        /* of the first tenth of the rankings: both / either */
    double loss_a, loss_b; /* without masks */
    double gini, concentration;
    double lost, lost_neurons; /* 1 - kept, mean of all points */
    double fragility;          /* the same */
    bool harder; /* fragility and Gini fell, what masks take fell by over `margin`, and
                    neither loss rose by as much */
} jt_audit_change;

/* JT_E_ARG unless both have as many layers, experts and points. */
JT_API jt_status jt_audit_compare(jt_audit_change *out, const jt_audit *before,
                                  const jt_audit *after, double margin, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
