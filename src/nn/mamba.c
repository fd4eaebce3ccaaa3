#include "nn/mamba.h"

#include "nn/scan.h"

static size_t scan_state(const jt_mamba *layer)
{
    return jt_rows(&layer->a) * jt_cols(&layer->a);
}

size_t jt_mamba_state(const jt_mamba *layer)
{
    return jt_causal_conv_state(&layer->conv) + scan_state(layer);
}

/* `n` of the values that were selected for each token, through their norm. */
static jt_tensor selected(jt_context *ctx, const jt_mamba *m, const jt_tensor *all,
                          size_t at, size_t n, const jt_tensor *norm)
{
    jt_tensor y = jt_take(ctx, all, jt_cols(all), at, n);
    return jt_has(norm) ? jt_rms_norm(ctx, &y, norm, m->norm_eps) : y;
}

/* What B, C and dt are to the tokens, and what the states make of them. */
static jt_tensor scan(jt_context *ctx, const jt_mamba *m, const jt_tensor *x,
                      float *state, const jt_places *places)
{
    size_t n = jt_cols(&m->a), inner = jt_rows(&m->a), rank = jt_cols(&m->dt);
    jt_input input = jt_input_of(*x);
    jt_tensor all = jt_linear(ctx, &input, &m->x, NULL);
    jt_input low = jt_input_of(selected(ctx, m, &all, 0, rank, &m->dt_norm));
    jt_scan s = {.heads = 1,
                 .rows = inner,
                 .n = n,
                 .k_heads = 1,
                 .k = {selected(ctx, m, &all, rank, n, &m->b_norm), 0, n},
                 .q = {selected(ctx, m, &all, rank + n, n, &m->c_norm), 0, n},
                 .v = {*x, 0, inner},
                 .step = jt_linear(ctx, &low, &m->dt, &m->dt_bias),
                 .rate = m->a,
                 .by_value = true};
    jt_softplus(ctx, &s.step);
    jt_tensor y = jt_scan_forward(ctx, &s, places, state);
    jt_scan_skip(ctx, &y, &m->d, &s.v);
    return y;
}

jt_tensor jt_mamba_forward(jt_context *ctx, const jt_mamba *layer, jt_input *h,
                           float *state, const jt_places *places)
{
    size_t inner = jt_rows(&layer->a);
    jt_tensor xz = jt_linear(ctx, h, &layer->in, NULL);
    jt_columns before = {xz, 0, inner}, z = {xz, inner, inner};
    jt_tensor x = jt_causal_conv_forward(ctx, &layer->conv, &before, places, state);
    state += jt_causal_conv_state(&layer->conv);
    jt_tensor y = scan(ctx, layer, &x, state, places);
    jt_input gated = jt_input_of(jt_glu_columns(ctx, JT_SILU, &z, &y));
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
