/* The tape: what a forward pass did, to be undone in reverse (reverse-mode
 * differentiation).
 *
 * A context with a tape records, for each operation, a function that adds the gradients
 * of its inputs from the gradients of its outputs, and what that function needs. The
 * forward code is the same with and without: an operation calls jt_tape_push at its
 * end. Gradients lie beside the values (jt_tensor.grad): those of activations in the
 * same scratch arena, zero at first; those of parameters where their owner put them. An
 * empty one is not wanted. */
#ifndef JT_TAPE_H
#define JT_TAPE_H

#include "tensor/context.h"

typedef void jt_backward_fn(jt_context *ctx, void *saved);

typedef struct jt_tape_step {
    struct jt_tape_step *before;
    jt_backward_fn *backward;
    void *saved;
} jt_tape_step;

struct jt_tape {
    jt_tape_step *last;
    bool forgets; /* nothing is kept: for a pass that will run again with a tape that
                     does, to the same bits */
    float *room;  /* [room_values] for the fresh gradients of a block: jt_fresh_begin */
    size_t room_values, room_used;
};

/* Whether there is a tape that keeps what it is given. */
static inline bool jt_tape_keeps(const jt_context *ctx)
{
    return ctx->tape && !ctx->tape->forgets;
}

/* Record `backward` with a copy of `size` bytes at `saved`. Nothing happens without a
 * tape or in a failed context. */
void jt_tape_push(jt_context *ctx, jt_backward_fn *backward, const void *saved,
                  size_t size);

/* Run all steps from the last to the first and empty the tape. The caller has set the
 * gradient of what it wants to minimise (a loss operation does so by itself). */
void jt_tape_backward(jt_context *ctx);

#endif
