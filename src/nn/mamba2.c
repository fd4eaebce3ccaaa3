#include "nn/mamba2.h"

#include <math.h>

typedef struct mamba2_pass {
    const jt_kernels *kernels;
    const jt_mamba2 *layer;
    float *s; /* [heads, head_dim, d_state] */
    size_t tokens, d_inner;
    jt_tensor all;         /* [tokens, ..]: z, (x, B, C) before the convolution, dt */
    jt_tensor xbc;         /* [tokens, d_inner + 2 groups d_state] */
    jt_tensor step, decay; /* [tokens, heads]: dt, exp(dt A) */
    jt_tensor u, y;        /* [tokens, d_inner]: dt x; the result */
} mamba2_pass;

static size_t scan_state(const jt_mamba2 *layer)
{
    return layer->heads * layer->head_dim * layer->d_state;
}

size_t jt_mamba2_state(const jt_mamba2 *layer)
{
    return jt_causal_conv_state(&layer->conv) + scan_state(layer);
}

/* How far each head goes with a token, and what that leaves of its state. */
static void step_token(void *arg, size_t t)
{
    const mamba2_pass *p = arg;
    const jt_mamba2 *m = p->layer;
    const float *dt = jt_row(&p->all, t) + jt_cols(&p->all) - m->heads;
    const float *bias = m->dt_bias.data, *a = m->a.data;
    float *step = jt_row(&p->step, t), *decay = jt_row(&p->decay, t);
    for (size_t i = 0; i < m->heads; i++)
        step[i] = dt[i] + bias[i];
    p->kernels->softplus(step, step, m->heads);
    for (size_t i = 0; i < m->heads; i++)
        decay[i] = expf(step[i] * a[i]);
}

static void scan_head(void *arg, size_t head)
{
    const mamba2_pass *p = arg;
    const jt_mamba2 *m = p->layer;
    size_t first = head * m->head_dim, n = m->head_dim, channels = jt_cols(&p->xbc);
    size_t group = head / (m->heads / m->groups);
    const float *b = jt_row(&p->xbc, 0) + p->d_inner + group * m->d_state;
    for (size_t t = 0; t < p->tokens; t++)
        p->kernels->scale(jt_row(&p->u, t) + first, jt_row(&p->step, t)[head],
                          jt_row(&p->xbc, t) + first, n);
    p->kernels->recur(&(jt_recur){
        .h = p->s + first * m->d_state,
        .y = jt_row(&p->y, 0) + first,
        .k = b,
        .q = b + m->groups * m->d_state,
        .v = jt_row(&p->u, 0) + first,
        .decay = jt_row(&p->decay, 0) + head,
        .y_stride = p->d_inner,
        .k_stride = channels,
        .q_stride = channels,
        .v_stride = p->d_inner,
        .gate_stride = m->heads,
        .rows = n,
        .n = m->d_state,
        .tokens = p->tokens,
    });
    for (size_t t = 0; t < p->tokens; t++)
        p->kernels->axpy(jt_row(&p->y, t) + first, ((const float *)m->d.data)[head],
                         jt_row(&p->xbc, t) + first, n);
}

static void gate_token(void *arg, size_t t)
{
    const mamba2_pass *p = arg;
    const jt_mamba2 *m = p->layer;
    size_t n = p->d_inner / m->groups;
    float *y = jt_row(&p->y, t);
    p->kernels->glu(JT_SILU, y, jt_row(&p->all, t), y, p->d_inner);
    for (size_t at = 0; jt_has(&m->norm) && at < p->d_inner; at += n)
        p->kernels->rms_norm(y + at, y + at, (const float *)m->norm.data + at, n,
                             m->norm_eps);
}

jt_tensor jt_mamba2_forward(jt_context *ctx, const jt_mamba2 *layer, jt_input *h,
                            float *state, bool fresh)
{
    mamba2_pass p = {.kernels = ctx->kernels,
                     .layer = layer,
                     .s = state + jt_causal_conv_state(&layer->conv),
                     .tokens = jt_rows(&h->x),
                     .d_inner = layer->heads * layer->head_dim};
    if (fresh)
        jt_zero(ctx, state, jt_mamba2_state(layer));
    p.all = jt_linear(ctx, h, &layer->in, NULL);
    p.step = jt_new(ctx, p.tokens, layer->heads);
    p.decay = jt_new(ctx, p.tokens, layer->heads);
    p.u = jt_new(ctx, p.tokens, p.d_inner);
    p.y = jt_new(ctx, p.tokens, p.d_inner);
    if (jt_failed(ctx))
        return p.y;
    p.xbc = jt_causal_conv_forward(ctx, &layer->conv, jt_row(&p.all, 0) + p.d_inner,
                                   jt_cols(&p.all), p.tokens, state);
    if (jt_failed(ctx))
        return p.y;
    jt_for_rows(ctx, p.tokens, 8 * p.tokens * layer->heads, step_token, &p);
    jt_for_rows(ctx, layer->heads, p.tokens * scan_state(layer), scan_head, &p);
    jt_for_rows(ctx, p.tokens, 4 * p.tokens * p.d_inner, gate_token, &p);
    jt_input y = jt_input_of(p.y);
    return jt_linear(ctx, &y, &layer->out, NULL);
}
