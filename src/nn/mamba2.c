#include "nn/mamba2.h"

#include "nn/scan.h"

size_t jt_mamba2_state(const jt_mamba2 *layer)
{
    return jt_causal_conv_state(&layer->conv) +
           layer->heads * layer->head_dim * layer->d_state;
}

/* What the states make of (x, B, C) [tokens, ..] and of dt, the last of `all`. */
static jt_tensor scan(jt_context *ctx, const jt_mamba2 *m, const jt_tensor *all,
                      const jt_tensor *xbc, float *state, const jt_places *places)
{
    size_t inner = m->heads * m->head_dim, keys = m->groups * m->d_state;
    jt_scan s = {.heads = m->heads,
                 .rows = m->head_dim,
                 .n = m->d_state,
                 .k_heads = m->groups,
                 .k = {*xbc, inner, keys},
                 .q = {*xbc, inner + keys, keys},
                 .v = {*xbc, 0, inner},
                 .step =
                     jt_take(ctx, all, jt_cols(all), jt_cols(all) - m->heads, m->heads),
                 .rate = m->a};
    jt_add_bias(ctx, &s.step, &m->dt_bias);
    jt_softplus(ctx, &s.step);
    jt_tensor y = jt_scan_forward(ctx, &s, places, state);
    jt_scan_skip(ctx, &y, &m->d, &s.v);
    return y;
}

/* norm(y * silu(z)), each group by itself. */
static jt_tensor gate(jt_context *ctx, const jt_mamba2 *m, const jt_columns *z,
                      const jt_tensor *y)
{
    jt_tensor gated = jt_glu_columns(ctx, JT_SILU, z, y), norm = m->norm;
    if (!jt_has(&norm))
        return gated;
    norm.n_dims = 2;
    norm.shape[0] = m->groups;
    norm.shape[1] = jt_cols(y) / m->groups;
    return jt_rms_norm(ctx, &gated, &norm, m->norm_eps);
}

jt_tensor jt_mamba2_forward(jt_context *ctx, const jt_mamba2 *layer, jt_input *h,
                            float *state, const jt_places *places)
{
    size_t inner = layer->heads * layer->head_dim;
    jt_tensor all = jt_linear(ctx, h, &layer->in, NULL);
    jt_columns z = {all, 0, inner}, before = {all, inner, jt_rows(&layer->conv.weight)};
    jt_tensor xbc = jt_causal_conv_forward(ctx, &layer->conv, &before, places, state);
    state += jt_causal_conv_state(&layer->conv);
    jt_tensor y = scan(ctx, layer, &all, &xbc, state, places);
    jt_input gated = jt_input_of(gate(ctx, layer, &z, &y));
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
