/* MoSA (Zhang et al. 2023, "Split & merge: unlocking the potential of visual adapters
 * via sparse training", sections 3.2 and 3.3; formulas as in the authors' code): while
 * bottleneck adapters are trained, every matrix U is a mixture of sparse experts.
 *
 *   split    the entries of U fall at random into `experts` parts of equal size
 *   draw     for each pass and place one part is at work, the others are 0 and have no
 *            gradient; D and the biases work and learn always (the hierarchical form)
 *   agree    the same batch passes twice, with draws of their own:
 *            loss = CE(p1) + agree / 2 (KL(p2 || p1) + KL(p1 || p2)), the first of each
 *            divergence taken as a constant
 *   merge    the sum of the parts is U: nothing is to be done, and what is kept and run
 *            is a plain adapter
 *
 * The parts have no common entry, so U itself holds them all. */
#ifndef JT_LEARN_MOSA_H
#define JT_LEARN_MOSA_H

#include "adapt/made.h"

typedef struct jt_mosa jt_mosa;

/* Split the matrices of an adapter (kind bottleneck), which must outlive it. JT_E_ARG
 * (another kind), JT_E_MEMORY. */
jt_status jt_mosa_new(jt_mosa **out, jt_adapter *adapter, size_t experts, uint64_t seed,
                      jt_err *err);
void jt_mosa_free(jt_mosa *mosa); /* NULL is fine */

/* From here to the end the adapter has the parts that `draw` says; its gradients go to
 * U at the end. */
void jt_mosa_begin(jt_mosa *mosa, uint64_t draw);
void jt_mosa_end(jt_mosa *mosa);

/* Values that U has, of all places. */
size_t jt_mosa_values(const jt_mosa *mosa);

/* ---- agreeing ---- */

/* p [rows, vocab] becomes the probabilities that logits give. */
void jt_mosa_probabilities(jt_context *ctx, const jt_tensor *logits, float *p);

/* Add to the gradients of logits those of `factor` times the mean over rows with a
 * target of (KL(q || p) + KL(p || q)) / 2, q being constant, and p where it comes
 * first. */
void jt_mosa_agree(jt_context *ctx, const jt_tensor *logits, const float *q,
                   const int32_t *targets, float factor);

#endif
