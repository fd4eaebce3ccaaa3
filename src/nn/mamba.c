#include "nn/mamba.h"

#include <string.h>

/* Channels that one item of the loop takes through all tokens. */
enum { RUN = 64 };

typedef struct mamba_pass {
    const jt_kernels *kernels;
    const jt_mamba *layer;
    float *s; /* [d_inner, d_state] */
    size_t tokens, d_inner, d_state, rank;
    jt_tensor xz;       /* [tokens, 2 d_inner] */
    jt_tensor x, y;     /* [tokens, d_inner] */
    jt_tensor selected; /* [tokens, rank + 2 d_state]: dt, B, C */
    jt_tensor low, dt;  /* [tokens, rank], [tokens, d_inner] */
} mamba_pass;

static size_t scan_state(const jt_mamba *layer)
{
    return jt_rows(&layer->a) * jt_cols(&layer->a);
}

size_t jt_mamba_state(const jt_mamba *layer)
{
    return jt_causal_conv_state(&layer->conv) + scan_state(layer);
}

/* dt, B and C of a token through their norms; dt by itself, to be multiplied. */
static void norm_token(void *arg, size_t t)
{
    const mamba_pass *p = arg;
    const jt_mamba *m = p->layer;
    float *dt = jt_row(&p->selected, t), *b = dt + p->rank, *c = b + p->d_state;
    if (jt_has(&m->dt_norm)) {
        p->kernels->rms_norm(dt, dt, m->dt_norm.data, p->rank, m->norm_eps);
        p->kernels->rms_norm(b, b, m->b_norm.data, p->d_state, m->norm_eps);
        p->kernels->rms_norm(c, c, m->c_norm.data, p->d_state, m->norm_eps);
    }
    memcpy(jt_row(&p->low, t), dt, p->rank * sizeof *dt);
}

static void scan_run(void *arg, size_t i)
{
    const mamba_pass *p = arg;
    const jt_mamba *m = p->layer;
    size_t first = i * RUN, n = p->d_inner - first < RUN ? p->d_inner - first : RUN;
    size_t selected = jt_cols(&p->selected);
    const float *b = jt_row(&p->selected, 0) + p->rank;
    const float *d = (const float *)m->d.data + first;
    for (size_t t = 0; t < p->tokens; t++) {
        float *dt = jt_row(&p->dt, t) + first;
        p->kernels->softplus(dt, dt, n);
    }
    p->kernels->recur(&(jt_recur){
        .h = p->s + first * p->d_state,
        .y = jt_row(&p->y, 0) + first,
        .k = b,
        .q = b + p->d_state,
        .v = jt_row(&p->x, 0) + first,
        .rate = (const float *)m->a.data + first * p->d_state,
        .step = jt_row(&p->dt, 0) + first,
        .y_stride = p->d_inner,
        .k_stride = selected,
        .q_stride = selected,
        .v_stride = p->d_inner,
        .step_stride = p->d_inner,
        .rows = n,
        .n = p->d_state,
        .tokens = p->tokens,
    });
    for (size_t t = 0; t < p->tokens; t++) {
        float *y = jt_row(&p->y, t) + first;
        const float *x = jt_row(&p->x, t) + first;
        const float *z = jt_row(&p->xz, t) + p->d_inner + first;
        for (size_t c = 0; c < n; c++)
            y[c] += d[c] * x[c];
        p->kernels->glu(JT_SILU, y, z, y, n);
    }
}

/* What B, C and dt are to the tokens of the chunk. */
static void select_steps(jt_context *ctx, mamba_pass *p)
{
    const jt_mamba *m = p->layer;
    jt_input x = jt_input_of(p->x);
    p->selected = jt_linear(ctx, &x, &m->x, NULL);
    p->low = jt_new(ctx, p->tokens, p->rank);
    if (jt_failed(ctx))
        return;
    jt_for_rows(ctx, p->tokens, p->tokens * jt_cols(&p->selected), norm_token, p);
    jt_input low = jt_input_of(p->low);
    p->dt = jt_linear(ctx, &low, &m->dt, &m->dt_bias);
}

jt_tensor jt_mamba_forward(jt_context *ctx, const jt_mamba *layer, jt_input *h,
                           float *state, bool fresh)
{
    mamba_pass p = {.kernels = ctx->kernels,
                    .layer = layer,
                    .s = state + jt_causal_conv_state(&layer->conv),
                    .tokens = jt_rows(&h->x),
                    .d_inner = jt_rows(&layer->a),
                    .d_state = jt_cols(&layer->a),
                    .rank = jt_cols(&layer->dt)};
    if (fresh)
        jt_zero(ctx, state, jt_mamba_state(layer));
    p.xz = jt_linear(ctx, h, &layer->in, NULL);
    p.x = jt_causal_conv_forward(ctx, &layer->conv, p.xz.data, 2 * p.d_inner, p.tokens,
                                 state);
    select_steps(ctx, &p);
    p.y = jt_new(ctx, p.tokens, p.d_inner);
    if (jt_failed(ctx))
        return p.y;
    /* an exponential for each value of the state */
    jt_for_rows(ctx, (p.d_inner + RUN - 1) / RUN, p.tokens * scan_state(layer),
                scan_run, &p);
    jt_input y = jt_input_of(p.y);
    return jt_linear(ctx, &y, &layer->out, NULL);
}
