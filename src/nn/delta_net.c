#include "nn/delta_net.h"

#include <math.h>

#include "nn/norm.h"
#include "nn/scan.h"

typedef struct delta_pass {
    const jt_delta_net *layer;
    size_t tokens, keys, values;
    jt_tensor before, qkv; /* [tokens, 2 keys + values], around the convolution */
    jt_tensor z;           /* [tokens, values] */
    jt_tensor ba, b, a;    /* as in the layer: [tokens, ..] */
} delta_pass;

size_t jt_delta_net_state(const jt_delta_net *layer)
{
    return jt_causal_conv_state(&layer->conv) +
           layer->v_heads * layer->v_dim * layer->k_dim;
}

/* All projections of the input, in one parallel region. */
static void project(jt_context *ctx, delta_pass *p, jt_input *h)
{
    const jt_delta_net *m = p->layer;
    const jt_tensor *w[] = {&m->qkv, &m->z, &m->ba, &m->b, &m->a};
    jt_tensor *y[] = {&p->before, &p->z, &p->ba, &p->b, &p->a};
    jt_product products[sizeof w / sizeof *w];
    size_t count = 0;
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        if (!jt_has(w[i]))
            continue;
        *y[i] = jt_new(ctx, p->tokens, jt_rows(w[i]));
        products[count++] = jt_product_rows(y[i], w[i], h, 0, p->tokens);
    }
    jt_products(ctx, products, count);
    if (!jt_has(&m->ba))
        return;
    size_t group = m->v_heads / m->k_heads;
    p->b = jt_take(ctx, &p->ba, 2 * group, 0, group);
    p->a = jt_take(ctx, &p->ba, 2 * group, group, group);
}

/* Queries or keys, from column `at` on. */
static jt_tensor unit(jt_context *ctx, const delta_pass *p, size_t at, float length)
{
    jt_tensor x = jt_take(ctx, &p->qkv, jt_cols(&p->qkv), at, p->keys);
    return jt_unit_heads(ctx, &x, p->layer->k_dim, length);
}

static jt_tensor scan(jt_context *ctx, delta_pass *p, float *state,
                      const jt_places *places)
{
    const jt_delta_net *m = p->layer;
    jt_add_bias(ctx, &p->a, &m->dt_bias);
    jt_softplus(ctx, &p->a);
    jt_sigmoid(ctx, &p->b);
    jt_scan s = {
        .heads = m->v_heads,
        .rows = m->v_dim,
        .n = m->k_dim,
        .k_heads = m->k_heads,
        .tiled = m->tiled,
        .q = {unit(ctx, p, 0, 1.0f / sqrtf((float)m->k_dim)), 0, p->keys},
        .k = {unit(ctx, p, p->keys, 1.0f), 0, p->keys},
        .v = {p->qkv, 2 * p->keys, p->values},
        .step = p->a,
        .rate = m->rate,
        .beta = p->b,
    };
    return jt_scan_forward(ctx, &s, places, state);
}

jt_tensor jt_delta_net_forward(jt_context *ctx, const jt_delta_net *layer, jt_input *h,
                               float *state, const jt_places *places)
{
    delta_pass p = {.layer = layer,
                    .tokens = jt_rows(&h->x),
                    .keys = layer->k_heads * layer->k_dim,
                    .values = layer->v_heads * layer->v_dim};
    project(ctx, &p, h);
    jt_columns before = {p.before, 0, jt_cols(&p.before)};
    p.qkv = jt_causal_conv_forward(ctx, &layer->conv, &before, places, state);
    state += jt_causal_conv_state(&layer->conv);
    jt_tensor y = scan(ctx, &p, state, places);
    y = jt_rms_norm(ctx, &y, &layer->norm, layer->norm_eps);
    jt_input gated = jt_input_of(jt_glu(ctx, JT_SILU, &p.z, &y));
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
