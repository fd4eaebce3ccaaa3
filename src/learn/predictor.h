/* A small net that reads the last tokens and foretells the experts of all layers,
 * before the model runs (ExpertFlow's routing path predictor; a window of tokens in the
 * place of its T5 encoder): h = sum over j of E_j[id of the token j places before],  j
 * < JT_PREDICTOR_WINDOW logits of layer l = rows of layer l of  W2 silu(W1 h) trained
 * by cross-entropy against the experts that routers chose, all alike. */
#ifndef JT_PREDICTOR_H
#define JT_PREDICTOR_H

#include "learn/routes.h"

enum { JT_PREDICTOR_WINDOW = 4 };

typedef struct jt_predictor jt_predictor;

/* Train it on all tokens of `routes`, `epochs` times. The context is in use meanwhile.
 * JT_E_MEMORY, errors of the context. */
jt_status jt_predictor_train(jt_predictor **out, jt_context *ctx,
                             const jt_routes *routes, int n_vocab, int epochs,
                             jt_err *err);
void jt_predictor_free(jt_predictor *predictor); /* NULL is fine */

/* Probabilities [tokens, layers, experts] for all tokens of `routes`, each layer's sum
 * being 1. */
jt_status jt_predictor_run(jt_predictor *predictor, jt_context *ctx,
                           const jt_routes *routes, float *out, jt_err *err);

size_t jt_predictor_params(const jt_predictor *predictor);

#endif
