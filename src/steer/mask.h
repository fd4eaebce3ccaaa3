/* Experts that are out. Null experts are no experts: they can always be had. */
#ifndef JT_STEER_MASK_H
#define JT_STEER_MASK_H

#include "junto/moe.h"

/* Nobody can choose the experts with is_out [n_experts]: the next ones do their work.
 */
void jt_mask_logits(const bool *is_out, int n_experts, float *logits, int n_tokens,
                    int n_rows);

/* They are chosen as always, and what they give is left out. */
void jt_mask_route(const bool *is_out, int n_experts, jt_route *route);

#endif
