/* Rewiring (Su et al. 2025, "Rewiring Experts on the Fly: Continuous Rerouting for
 * Better Online Adaptation in Mixture-of-Expert Models"): while a text goes on, a
 * vector is added to the router logits of each layer, fitted to that text.
 *
 *   z' = z + delta[l]                for all tokens of layer l; 0 at the start of a
 * text fit: `steps` steps of Adam on the mean cross-entropy of the next tokens of the
 * whole context, weights frozen, chosen experts constant: gradients reach delta by the
 *        weights of the experts that were chosen
 *   when: at the end of the prompt, then after every `every` tokens
 *   where: C[l] = -1/k sum_j log p[l, j], mean over tokens, p the probabilities of the
 *        chosen experts; hard: the layers with the largest C (a share of all); soft:
 * all, with steps times C[l] over the largest C
 *
 * The paper's text calls a large C decisive, though -log p grows as p falls; so the
 * other sign can be had. Rates are not stated in what could be read of it. */
#ifndef JT_STEER_REWIRE_H
#define JT_STEER_REWIRE_H

#include "nn/attention.h"
#include "steer/policy.h"

typedef struct jt_rewire {
    int steps, every, prompt, window;
    float lr, share;
    int soft;       /* 0: hard */
    int low;        /* layers with the smallest C instead */
    int stale;      /* keep the keys and values of before a fit */
    int exact;      /* products of a fit in F32; otherwise in BF16 */
    const bool *in; /* [n_layers] layers that may be steered */
    size_t fitted;  /* tokens of the context that the last fit saw; 0: none yet */
    uint64_t fits;
    /* All [n_layers, n_rows]. */
    size_t n_layers, n_rows;
    float *delta, *grad, *mean, *square;
    uint64_t updates;   /* of Adam, since the start of the text */
    double *confidence; /* [n_layers] sums over tokens */
    float *rate;        /* [n_layers] factor of the steps; 0: the layer stays */
    bool listens;       /* confidences are gathered */
    jt_model view;      /* with the biases below in its routers */
    jt_layer *layers;   /* of the view */
    float *bias;        /* [n_layers, n_rows] as in the model, or 0 */
} jt_rewire;

/* Fit to the first `count` tokens of the context of `session`, at least 2. Errors:
 * those of a pass. */
jt_status jt_rewire_fit(jt_rewire *rewire, jt_session *session, size_t count,
                        jt_err *err);

/* Mean cross-entropy over the context's tokens `first` to before `end` with the delta
 * that is there; its gradient goes into rewire->grad. */
jt_status jt_rewire_gradient(jt_rewire *rewire, jt_session *session, size_t first,
                             size_t end, double *loss, jt_err *err);

#endif
