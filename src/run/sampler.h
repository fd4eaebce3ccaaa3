/* Sampling among some tokens. */
#ifndef JT_RUN_SAMPLER_H
#define JT_RUN_SAMPLER_H

#include "junto/generate.h"

/* As jt_sampler_next, but one of the tokens of a mask (jt_constraint_mask) over the
 * first n_mask. -1: it is empty. */
int32_t jt_sampler_next_of(jt_sampler *sampler, const float *logits,
                           const uint64_t *mask, size_t n_mask);

/* The token that was chosen and the `n_top` likeliest of logits [n], with the
 * logarithms of their probabilities (run/scored.c). */
void jt_score_token(jt_sampled *out, const float *logits, size_t n, int32_t chosen,
                    size_t n_top);

#endif
