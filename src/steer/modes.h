/* MoDES: an expert that was chosen is skipped where its gate, weighed by how much its
 * layer matters, is small (Huang et al. 2025, "MoDES: Accelerating Mixture-of-Experts
 * Multimodal Large Language Models via Dynamic Expert Skipping").
 *
 *   pi     weights of a token's experts, divided by their sum
 *   alpha  importance of a layer: mean over tokens of max(0, KL(p || p')), where p' is
 *          what the model says without the routed experts of that layer; divided by the
 *          sum over layers. A number for each class of tokens
 *   tau    a threshold for each class
 *   skip   expert i of a token of class m in layer l if alpha[l][m]^p pi_i < tau[m]
 *
 * The paper has p = 1. In a model of few layers that can be too unlike from layer to
 * layer, so thresholds are found for smaller powers, too. p = 0 is the gate alone.
 * The weights that are left stay as they are. Shared experts always work. */
#ifndef JT_STEER_MODES_H
#define JT_STEER_MODES_H

#include "steer/policy.h"

enum { JT_MODES_CLASSES = 2, JT_MODES_POWERS = 4 };
extern const float jt_modes_powers[JT_MODES_POWERS];

struct jt_modes {
    int n_layers;    /* of the model */
    int n_classes;   /* 2 where there are tokens of a second one */
    uint64_t model;  /* fingerprint */
    uint64_t tokens; /* it was found with */
    float *alpha;    /* [classes, layers]; 0 for layers without experts */
    jt_ids second;   /* ids of the tokens of the second class */
    jt_modes_point *point;
    size_t n_points;
};

/* The rule with its numbers, and how often it has been asked. */
typedef struct jt_modes_rule {
    int n_layers;
    float *alpha;         /* [classes, layers] to their power; owned */
    const jt_ids *second; /* or NULL */
    float tau[JT_MODES_CLASSES];
    uint64_t slots, skipped;
} jt_modes_rule;

static inline int jt_modes_class(const jt_modes_rule *rule, int32_t token)
{
    return rule->second && jt_ids_hold(rule->second, token);
}

/* The on_route of a jt_policy whose self is a jt_modes_rule. */
void jt_modes_skip(void *rule, const jt_route_site *site, jt_route *route);

/* Set rule->alpha (which has room) to the importances of `modes` to a power. */
void jt_modes_raise(jt_modes_rule *rule, const jt_modes *modes, float power);

/* Thresholds that skip the share `skip`: those of the point with this target, or in a
 * line between the two next to it. *power below 0: that of the cheapest point, and it
 * is told. JT_E_ARG tells what there is. */
jt_status jt_modes_thresholds(const jt_modes *modes, float *power, double skip,
                              float tau[JT_MODES_CLASSES], jt_err *err);

/* The two-pointer search of the paper, over a grid of n x m thresholds on which what is
 * skipped and what it costs both rise with either: the cheapest point (*i, *j) that
 * skips at least `target`; *found false when none does. At most log2(n) + n + m calls
 * of `measure`. */
typedef struct jt_frontier {
    size_t n, m;
    jt_status (*measure)(void *user, size_t i, size_t j, double *skipped, double *cost,
                         jt_err *err);
    void *user;
} jt_frontier;
jt_status jt_frontier_search(const jt_frontier *frontier, double target, size_t *i,
                             size_t *j, bool *found, jt_err *err);

#endif
