/* The loss of a batch from its last hidden states: head and cross entropy together. */
#ifndef JT_OUTPUT_LOSS_H
#define JT_OUTPUT_LOSS_H

#include "model/transformer.h"

enum { JT_OUTPUT_VALUES = 8 << 20 }; /* usual `most` */

typedef struct jt_output_seen {
    size_t counted; /* tokens that have a target */
    size_t hits;    /* of these that the model found likeliest */
} jt_output_seen;

/* As jt_cross_entropy on the logits of `hidden` [tokens, d], but only of tokens with a
 * target, and at most `most` logits (though those of one token) at a time: they go when
 * their share of the gradients of `hidden` and of the head is there. All of them with
 * their gradients would often be the largest part of what a step keeps. With `most` 0
 * they are all there, of all tokens in order, and on the tape as any operation. `seen`,
 * zeros before, may be NULL. */
double jt_output_loss(jt_context *ctx, const jt_model *model, const jt_tensor *hidden,
                      const int32_t *targets, float scale, size_t most,
                      jt_output_seen *seen);

#endif
