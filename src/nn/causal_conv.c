#include "nn/causal_conv.h"

#include <string.h>

/* Channels that one item of the loop takes through all tokens. */
enum { RUN = 256 };

typedef struct conv_pass {
    const jt_kernels *kernels;
    const jt_causal_conv *conv;
    const float *x;
    size_t x_stride, tokens, channels, width;
    float *state;
    jt_tensor y;
} conv_pass;

size_t jt_causal_conv_state(const jt_causal_conv *conv)
{
    return (jt_cols(&conv->weight) - 1) * jt_rows(&conv->weight);
}

/* Channels from `c` on of the input of token t; -1 is the last one before the chunk. */
static const float *input(const conv_pass *p, ptrdiff_t t, size_t c)
{
    if (t >= 0)
        return p->x + (size_t)t * p->x_stride + c;
    return p->state + (size_t)(t + (ptrdiff_t)p->width - 1) * p->channels + c;
}

static void remember(const conv_pass *p, size_t c, size_t n)
{
    ptrdiff_t kept = (ptrdiff_t)p->width - 1;
    for (ptrdiff_t j = 0; j < kept; j++)
        memmove(p->state + (size_t)j * p->channels + c,
                input(p, (ptrdiff_t)p->tokens - kept + j, c), n * sizeof(float));
}

static void convolve_run(void *arg, size_t i)
{
    const conv_pass *p = arg;
    size_t c = i * RUN, n = p->channels - c < RUN ? p->channels - c : RUN;
    const float *weight = (const float *)p->conv->weight.data + c * p->width;
    const float *bias = p->conv->bias.data;
    const float *x[JT_CONV_MAX_WIDTH];
    for (size_t t = 0; t < p->tokens; t++) {
        float *y = jt_row(&p->y, t) + c;
        for (size_t j = 0; j < p->width; j++)
            x[j] = input(p, (ptrdiff_t)(t + j) - (ptrdiff_t)p->width + 1, c);
        p->kernels->conv(y, x, weight, bias ? bias + c : NULL, p->width, n);
        if (p->conv->silu)
            p->kernels->glu(JT_SILU, y, y, NULL, n);
    }
    remember(p, c, n);
}

jt_tensor jt_causal_conv_forward(jt_context *ctx, const jt_causal_conv *conv,
                                 const float *x, size_t x_stride, size_t tokens,
                                 float *state)
{
    conv_pass p = {.kernels = ctx->kernels,
                   .conv = conv,
                   .x = x,
                   .x_stride = x_stride,
                   .tokens = tokens,
                   .channels = jt_rows(&conv->weight),
                   .width = jt_cols(&conv->weight),
                   .state = state};
    p.y = jt_new(ctx, tokens, p.channels);
    if (!jt_failed(ctx))
        jt_for_rows(ctx, (p.channels + RUN - 1) / RUN, tokens * p.channels * p.width,
                    convolve_run, &p);
    return p.y;
}
