/* Losses on logits. */
#ifndef JT_LOSS_H
#define JT_LOSS_H

#include "tensor/context.h"

/* Mean negative log likelihood, in nats, of targets [rows of logits]; rows with a
 * target below 0 do not count (when none does the loss is 0). `counted` (may be NULL)
 * gets the number of rows that do. With a tape, `scale` times the loss is what
 * jt_tape_backward takes the gradient of. Not finite when the logits are not. */
double jt_cross_entropy(jt_context *ctx, const jt_tensor *logits,
                        const int32_t *targets, float scale, size_t *counted);

#endif
