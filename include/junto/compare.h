/* Two models over the same text: what they foresee, and which experts they choose.
 *
 * A is the model to compare with, B the one that differs from it: a quantisation, a
 * later checkpoint, one with fewer experts per token. Layers are compared where both
 * have the same number of experts. */
#ifndef JUNTO_COMPARE_H
#define JUNTO_COMPARE_H

#include <stddef.h>
#include <stdint.h>

#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How the routers of a layer agree. */
typedef struct jt_compare_layer {
    int layer, n_experts;
    uint64_t tokens, same; /* tokens whose set of experts is the same */
    uint64_t top1;         /* tokens whose first expert is the same */
    double jaccard;        /* mean of |both| / |either| */
    double kl;             /* mean of KL(A || B) of the scores over their sum, nats; NaN
                              where routers have different null experts, or scores that
                              are no distribution */
} jt_compare_layer;

/* Tokens by their agreement: mean of |both| / |either| over the layers. */
enum { JT_COMPARE_BINS = 5 };
JT_API extern const double jt_compare_edge[JT_COMPARE_BINS]; /* least of each: 0 .. 1 */
typedef struct jt_compare_bin {
    size_t tokens;
    double nll_a, nll_b; /* mean, of the token that follows */
} jt_compare_bin;

/* A token on which the routers disagree. */
typedef struct jt_compare_token {
    size_t index; /* among the tokens of the text */
    double agreement;
    int flipped;         /* layers whose set of experts differs */
    double nll_a, nll_b; /* of the token that follows */
} jt_compare_token;

/* Over the scored tokens of a text; nats. p is what A says, q what B says. */
typedef struct jt_comparison {
    size_t scored;
    double mean, median, p99, most; /* of KL(p || q) */
    double top1;                    /* share of tokens with the same likeliest token */
    double perplexity_a, perplexity_b;
    size_t n_layers; /* with experts in both; 0: what follows is empty */
    jt_compare_layer *layers;
    jt_compare_bin bins[JT_COMPARE_BINS];
    double correlation; /* of 1 - agreement and |nll_b - nll_a|; NaN when one is even */
    size_t n_flips;     /* tokens with the least agreement, below 1, the worst first */
    jt_compare_token *flips;
} jt_comparison;

/* Run both models over the text in windows of n_ctx tokens, as jt_measure_perplexity
 * does, and list at most `n_flips` tokens. Call jt_comparison_free after success.
 * Errors: JT_E_ARG (window, fewer tokens than one, vocabularies of different sizes),
 * JT_E_FORMAT (logits that are not finite), those of jt_session_eval. */
JT_API jt_status jt_compare_models(jt_session *a, jt_session *b, const int32_t *tokens,
                                   size_t count, int n_ctx, size_t n_flips,
                                   jt_progress progress, jt_comparison *result,
                                   jt_err *err);
JT_API void jt_comparison_free(jt_comparison *result); /* {0} is fine */

#ifdef __cplusplus
}
#endif
#endif
