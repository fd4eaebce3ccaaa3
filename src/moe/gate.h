/* Gates: what turns logits into scores, and the slope of that. */
#ifndef JT_GATE_H
#define JT_GATE_H

#include "moe/router.h"

/* Gate `n` logits. An expert at -infinity (taken out by a policy) scores 0; so do all
 * when all are. */
void jt_gate(const jt_kernels *kernels, jt_gating gating, float *scores,
             const float *logits, size_t n);

/* Logits that would have these scores; of a softmax their mean is not known. Scores of
 * 0 and of 1 count as the nearest ones that differ. */
void jt_gate_inverse(jt_gating gating, float *logits, const float *scores, size_t n);

/* dlogits += the slopes of jt_gate along dscores. */
void jt_gate_back(const jt_kernels *kernels, jt_gating gating, float *dlogits,
                  const float *dscores, const float *scores, const float *logits,
                  size_t n);

/* The values that weights are made of: scores of the chosen experts, or their logits
 * gated among themselves (gate_after); see jt_router. */
void jt_gate_chosen(const jt_kernels *kernels, const jt_router *router,
                    const float *logits, const float *scores, size_t n,
                    const int32_t *chosen, int k, float *gated);

/* The weights of SparseMixer (Liu, Gao & Chen 2024, "GRIN: GRadient-INformed MoE", as
 * Phi-3.5-MoE evaluates it): that of the j-th expert is its share in a softmax over
 * those logits s that none of the experts before it has taken and that are near the
 * greatest of them, m: (m - s) / max(|s|, m) <= 0.02. An unused slot (-1) weighs 0. */
void jt_sparsemixer(const float *logits, size_t n, const int32_t *chosen, int k,
                    float *weight);

/* dlogits += the slopes of these weights; which logits are near has none. */
void jt_sparsemixer_back(const float *logits, size_t n, const int32_t *chosen, int k,
                         const float *dweight, float *dlogits);

#endif
