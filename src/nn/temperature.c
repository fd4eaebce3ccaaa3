/* The temperature of long contexts, forward and back: what multiplies queries, and so
 * their gradients. */
#include <math.h>

#include "nn/attention_pass.h"
#include "tensor/tape.h"

typedef struct sharpening {
    const jt_kernels *kernels;
    jt_temperature change;
    const int32_t *positions;
    jt_tensor q;
} sharpening;

static void sharpen(const sharpening *s, float *q, size_t t)
{
    const jt_temperature *change = &s->change;
    float position = (float)s->positions[t] + change->offset;
    float factor =
        1.0f + change->scale * logf(1.0f + floorf(position / change->length));
    if (factor != 1.0f)
        s->kernels->scale(q, factor, q, jt_cols(&s->q));
}

static void sharpen_row(void *arg, size_t t)
{
    const sharpening *s = arg;
    sharpen(s, jt_row(&s->q, t), t);
}

static void sharpen_back_row(void *arg, size_t t)
{
    const sharpening *s = arg;
    sharpen(s, jt_grad_row(&s->q, t), t);
}

static void sharpen_backward(jt_context *ctx, void *saved)
{
    const sharpening *s = saved;
    jt_for_rows(ctx, jt_rows(&s->q), jt_rows(&s->q) * jt_cols(&s->q), sharpen_back_row,
                saved);
}

void jt_attention_sharpen(jt_context *ctx, const jt_attention *a, jt_tensor *q,
                          const jt_places *at)
{
    if (jt_failed(ctx) || a->temperature.scale == 0.0f)
        return;
    sharpening s = {ctx->kernels, a->temperature, at->positions,
                    jt_some_rows(q, at->row, at->count)};
    jt_for_rows(ctx, at->count, at->count * jt_cols(q), sharpen_row, &s);
    jt_tape_push(ctx, sharpen_backward, &s, sizeof s);
}
