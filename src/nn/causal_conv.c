#include "nn/causal_conv.h"

#include <string.h>

#include "tensor/tape.h"

/* Channels that one item of the loop takes through all tokens. */
enum { RUN = 256 };

typedef struct conv_pass {
    const jt_kernels *kernels;
    const jt_causal_conv *conv;
    jt_columns x;
    jt_places at;
    size_t tokens, channels, width;
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
        return jt_columns_row(&p->x, (size_t)t) + c;
    return p->state + (size_t)(t + (ptrdiff_t)p->width - 1) * p->channels + c;
}

/* How many of the last `width` inputs of token t are those of its document. */
static size_t seen(const conv_pass *p, size_t t)
{
    size_t since = p->at.start + t - jt_places_first(&p->at, t) + 1;
    return since < p->width ? since : p->width;
}

/* What token t sees, the oldest first. */
static void inputs(const conv_pass *p, size_t t, size_t c,
                   const float *x[JT_CONV_MAX_WIDTH])
{
    static const float zeros[RUN];
    size_t unseen = p->width - seen(p, t);
    for (size_t j = 0; j < p->width; j++)
        x[j] = j < unseen ? zeros
                          : input(p, (ptrdiff_t)(t + j + 1) - (ptrdiff_t)p->width, c);
}

static void remember(const conv_pass *p, size_t c, size_t n)
{
    ptrdiff_t kept = (ptrdiff_t)p->width - 1;
    for (ptrdiff_t j = 0; j < kept; j++)
        memmove(p->state + (size_t)j * p->channels + c,
                input(p, (ptrdiff_t)p->tokens - kept + j, c), n * sizeof(float));
}

/* Before the activation. */
static void convolve(const conv_pass *p, size_t t, size_t c, size_t n, float *y)
{
    const float *weight = (const float *)p->conv->weight.data + c * p->width;
    const float *bias = p->conv->bias.data, *x[JT_CONV_MAX_WIDTH];
    inputs(p, t, c, x);
    p->kernels->conv(y, x, weight, bias ? bias + c : NULL, p->width, n);
}

static void convolve_run(void *arg, size_t i)
{
    const conv_pass *p = arg;
    size_t c = i * RUN, n = p->channels - c < RUN ? p->channels - c : RUN;
    for (size_t t = 0; t < p->tokens; t++) {
        float *y = jt_row(&p->y, t) + c;
        convolve(p, t, c, n, y);
        if (p->conv->silu)
            p->kernels->glu(JT_SILU, y, y, NULL, n);
    }
    remember(p, c, n);
}

static void for_runs(jt_context *ctx, const conv_pass *p, jt_pool_fn *fn)
{
    jt_for_rows(ctx, (p->channels + RUN - 1) / RUN, p->tokens * p->channels * p->width,
                fn, (void *)(uintptr_t)p);
}

/* ---- gradients: dw += dy x, dx += w dy ---- */

/* Weights of a run of channels and their gradients, turned: channels lie side by side.
 */
typedef struct turned {
    float w[JT_CONV_MAX_WIDTH][RUN], dw[JT_CONV_MAX_WIDTH][RUN];
} turned;

static void turn_weights(const conv_pass *p, size_t c, size_t n, turned *to)
{
    const float *w = (const float *)p->conv->weight.data + c * p->width;
    for (size_t j = 0; j < p->width; j++)
        for (size_t i = 0; i < n; i++) {
            to->w[j][i] = w[i * p->width + j];
            to->dw[j][i] = 0.0f;
        }
}

static void add_weights(const conv_pass *p, size_t c, size_t n, const turned *from)
{
    float *dw = p->conv->weight.grad + c * p->width;
    for (size_t j = 0; j < p->width; j++)
        for (size_t i = 0; i < n; i++)
            dw[i * p->width + j] += from->dw[j][i];
}

static void back_token(const conv_pass *p, size_t t, size_t c, size_t n, turned *both)
{
    float dy[RUN], before[RUN];
    memcpy(dy, jt_grad_row(&p->y, t) + c, n * sizeof *dy);
    if (p->conv->silu) {
        convolve(p, t, c, n, before);
        p->kernels->glu_back(JT_SILU, dy, NULL, dy, before, NULL, n);
    }
    if (p->conv->bias.grad)
        p->kernels->add(p->conv->bias.grad + c, dy, n);
    for (size_t j = p->width - seen(p, t); j < p->width; j++) {
        size_t from = t + j + 1 - p->width;
        const float *x = jt_columns_row(&p->x, from) + c, *w = both->w[j];
        float *dx = jt_columns_grad_row(&p->x, from) + c, *dw = both->dw[j];
        for (size_t i = 0; i < n; i++) {
            dw[i] += dy[i] * x[i];
            dx[i] += dy[i] * w[i];
        }
    }
}

static void back_run(void *arg, size_t i)
{
    const conv_pass *p = arg;
    size_t c = i * RUN, n = p->channels - c < RUN ? p->channels - c : RUN;
    turned both;
    turn_weights(p, c, n, &both);
    for (size_t t = 0; t < p->tokens; t++)
        back_token(p, t, c, n, &both);
    if (p->conv->weight.grad)
        add_weights(p, c, n, &both);
}

static void conv_backward(jt_context *ctx, void *saved)
{
    for_runs(ctx, saved, back_run);
}

jt_tensor jt_causal_conv_forward(jt_context *ctx, const jt_causal_conv *conv,
                                 const jt_columns *x, const jt_places *places,
                                 float *state)
{
    size_t tokens = jt_rows(&x->of);
    conv_pass p = {.kernels = ctx->kernels,
                   .conv = conv,
                   .x = *x,
                   .at = *places,
                   .tokens = tokens,
                   .channels = jt_rows(&conv->weight),
                   .width = jt_cols(&conv->weight),
                   .state = state,
                   .y = jt_new(ctx, tokens, x->n)};
    jt_places_check(ctx, places, 1);
    if (jt_failed(ctx))
        return p.y;
    for_runs(ctx, &p, convolve_run);
    jt_tape_push(ctx, conv_backward, &p, sizeof p);
    return p.y;
}
