#include "nn/short_conv.h"

size_t jt_short_conv_state(const jt_short_conv *layer)
{
    return jt_causal_conv_state(&layer->conv);
}

typedef struct gates {
    const jt_tensor *bcx; /* [tokens, 3 d] */
    const jt_tensor *y;   /* [tokens, d] */
    size_t d;
} gates;

/* x = B * x, in place */
static void gate_in(void *arg, size_t t)
{
    const gates *g = arg;
    float *b = jt_row(g->bcx, t), *x = b + 2 * g->d;
    for (size_t i = 0; i < g->d; i++)
        x[i] *= b[i];
}

/* y = C * y */
static void gate_out(void *arg, size_t t)
{
    const gates *g = arg;
    float *c = jt_row(g->bcx, t) + g->d, *y = jt_row(g->y, t);
    for (size_t i = 0; i < g->d; i++)
        y[i] *= c[i];
}

jt_tensor jt_short_conv_forward(jt_context *ctx, const jt_short_conv *layer,
                                jt_input *h, float *state, bool fresh)
{
    size_t tokens = jt_rows(&h->x), d = jt_cols(&h->x);
    if (fresh)
        jt_zero(ctx, state, jt_short_conv_state(layer));
    jt_tensor bcx = jt_linear(ctx, h, &layer->in, NULL), y = {0};
    gates g = {&bcx, &y, d};
    if (jt_failed(ctx))
        return y;
    jt_for_rows(ctx, tokens, tokens * d, gate_in, &g);
    y = jt_causal_conv_forward(ctx, &layer->conv, jt_row(&bcx, 0) + 2 * d, 3 * d,
                               tokens, state);
    if (jt_failed(ctx))
        return y;
    jt_for_rows(ctx, tokens, tokens * d, gate_out, &g);
    jt_input gated = jt_input_of(y);
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
