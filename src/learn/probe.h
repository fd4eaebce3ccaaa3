/* Probes: what is asked of a trained model beside its loss. "NAME" or "NAME:A,B,...":
 * each argument gives metrics of its own.
 *
 *   k:2,4             loss@k=2: held-out loss with so many experts per token
 *   mask_top:0.125    loss@mask_top=0.125: that share of the experts, those which each
 *                     token likes best, is out; the next ones do the work
 *   mask_pick         loss@mask_pick: of the experts that a token would use, one at
 *                     random is out; the next one takes its place
 *   no_shared         loss@no_shared: without the shared expert; one routed one more
 *   groups:4          of batches of held-out text, with the experts in so many groups
 *                     of neighbours: spread@groups=4, picks of the busiest group less
 *                     those of the idlest, per token; peak@groups=4, the busiest over
 *                     the mean
 *   sources           loss@NAME and accuracy@NAME: of the held-out text of each source
 *   gates             of a mixture of adapters, on held-out text: gate_hits and, of
 *                     each source, gate_hits@NAME: share of the tokens that belong to
 *                     an adapter whose largest weight is that of this one; gate_entropy
 *                     of weights, in nats; gate_peak, load of the busiest adapter over
 *                     the mean
 *   experts_per_token experts_sd: deviation over tokens of the number of true experts
 *   locality:16       of held-out sequences, all layers together (watch/locality.h):
 * SRP of 16 tokens srp@locality=16, of tokens in random order shuffled@locality=16; hit
 * rates of caches of 2 k experts per layer, SCH of 16 tokens sch@locality=16 (of k:
 * sch_k@..), and lru@.., lfu@.., belady@.. modes:0.5         loss@modes=0.5,
 * loss@gate=0.5, loss@best=0.5, loss@even=0.5: that share of the chosen experts is
 * skipped (steer/modes.h) scmoe             accuracy@scmoe, accuracy@greedy: next
 * tokens that come out right rewire:0.01       loss@hard=0.01, ..: routers fitted to
 * texts of the rarest source random_load:8     no model: random logits for 64 experts
 * in so many groups, as many picks. topk_peak@groups=8, grouped_peak@groups=8: load of
 * the busiest group over the mean; topk_even@groups=8: share of batches in which all
 * groups have the same load recover_gamma:14  no model: recovered@gamma=14, the
 * coefficient that is fitted to a million picks from the congestion game with this one
 *
 *   caches:0.25       score@caches=0.25, ..: hits of caches of that share of the
 * experts hybrid:0.5        hss@hybrid=0.5, ..: two workers share experts
 * (store/hybrid.h) ring:4            beside@ring=4, ..: layers in sections
 * (store/ring.h) nested:4          loss@nested=2, ..: experts with so many bits of
 * nested weights widths:0.01       loss@mixed=0.01, ..: widths expert by expert paths
 * foretold@paths, ..: experts foretold from paths and from tokens
 *
 *   audit:0.1         kept@audit=0.1, ..: what is left of the text of the first source
 *                     without that share of the experts
 *
 * docs/recipes.md says more. */
#ifndef JT_PROBE_H
#define JT_PROBE_H

#include "learn/recipe_impl.h"
#include "learn/train.h"

/* Is this a probe? JT_E_ARG when not. */
jt_status jt_probe_check(const char *probe, jt_err *err);

/* Ask it of the trainer's model, which is afterwards as it was. Errors as
 * jt_trainer_evaluate; JT_E_ARG when the model has not what is asked for. */
jt_status jt_probe_run(const char *probe, jt_trainer *trainer, jt_metrics *metrics,
                       jt_err *err);

#endif
