#include "nn/places.h"

#include "tensor/tape.h"

void jt_places_check(jt_context *ctx, const jt_places *places, size_t n)
{
    if (!jt_failed(ctx) && jt_tape_keeps(ctx) && (n != 1 || places->start != 0))
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "gradients of a part of a context, or of several");
}
