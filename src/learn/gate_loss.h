/* Losses on what decides in a mixture of adapters, and what is to be known of it. With
 * G gates, T tokens, the weights p [T, n] of all n adapters (a softmax):
 *
 *   by label   beta mean over gates and labelled tokens of -log p_label (MeteoRA, Xu et
 *              al. 2024, section 3.3)
 *   RSL        mean over gates of alpha sum_e P_e f_e + lambda mean_t H(p_t)
 * (LoRA-Mixer, Li et al. 2025), P_e the mean of p_e, f_e the share of the picks that
 * fell on e (without a gradient), H the entropy. The paper prints -lambda; what it
 * describes, peaked weights, needs +lambda, so lambda has a sign.
 */
#ifndef JT_GATE_LOSS_H
#define JT_GATE_LOSS_H

#include "moe/mixture.h"

typedef struct jt_gate_loss {
    float beta, alpha, lambda;
    int gates, n, k; /* k: adapters of a token when it is used */
    /* Of the pass at hand. */
    const int32_t *label; /* [tokens] the adapter of each, -1: none; NULL: all -1 */
    float scale;          /* of gradients */
    /* Sums over gates and tokens since they were set to 0; of passes without a tape. */
    double hits, labelled, entropy, tokens;
    double picks[256]; /* [n], over all gates */
} jt_gate_loss;

/* Looks at one gate. The loss may be moved without its term being attached anew. */
jt_route_term jt_gate_loss_term(jt_gate_loss *loss);
void jt_gate_loss_reset(jt_gate_loss *loss);

#endif
