#include "tensor/tape.h"

#include <string.h>

void jt_tape_push(jt_context *ctx, jt_backward_fn *backward, const void *saved,
                  size_t size)
{
    if (!jt_tape_keeps(ctx))
        return;
    jt_tape_step *step = jt_scratch(ctx, 1, sizeof *step);
    void *copy = jt_scratch(ctx, 1, size);
    if (jt_failed(ctx))
        return;
    memcpy(copy, saved, size);
    *step = (jt_tape_step){ctx->tape->last, backward, copy};
    ctx->tape->last = step;
}

void jt_tape_backward(jt_context *ctx)
{
    for (jt_tape_step *step = ctx->tape->last; step && !jt_failed(ctx);
         step = step->before)
        step->backward(ctx, step->saved);
    ctx->tape->last = NULL;
}
