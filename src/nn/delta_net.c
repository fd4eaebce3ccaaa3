#include "nn/delta_net.h"

#include <math.h>

static const float length_eps = 1e-6f; /* under the root of |q| and |k| */

typedef struct delta_pass {
    const jt_kernels *kernels;
    const jt_delta_net *layer;
    float *s; /* [v_heads, v_dim, k_dim] */
    size_t tokens, keys, values;
    jt_tensor before, qkv; /* [tokens, 2 keys + values], around the convolution */
    jt_tensor z, y;        /* [tokens, values] */
    jt_tensor ba, b, a;    /* as in the layer: [tokens, ..] */
    jt_tensor beta, decay; /* [tokens, v_heads] */
} delta_pass;

static size_t scan_state(const jt_delta_net *layer)
{
    return layer->v_heads * layer->v_dim * layer->k_dim;
}

size_t jt_delta_net_state(const jt_delta_net *layer)
{
    return jt_causal_conv_state(&layer->conv) + scan_state(layer);
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
}

/* An RMS norm but for the number of values. */
void jt_delta_normalise(const jt_kernels *kernels, float *x, size_t n, float length)
{
    kernels->rms_norm(x, x, NULL, n, length_eps / (float)n);
    kernels->scale(x, length / sqrtf((float)n), x, n);
}

/* b and a of a token's head of values. */
static void gates_of(const delta_pass *p, size_t t, size_t head, float *b, float *a)
{
    size_t group = p->layer->v_heads / p->layer->k_heads;
    if (jt_has(&p->ba)) {
        const float *pair = jt_row(&p->ba, t) + head / group * 2 * group + head % group;
        *b = pair[0];
        *a = pair[group];
    } else {
        *b = jt_row(&p->b, t)[head];
        *a = jt_row(&p->a, t)[head];
    }
}

static void prepare_token(void *arg, size_t t)
{
    const delta_pass *p = arg;
    const jt_delta_net *m = p->layer;
    const float *rate = m->rate.data, *bias = m->dt_bias.data;
    float *q = jt_row(&p->qkv, t), *k = q + p->keys;
    float *beta = jt_row(&p->beta, t), *decay = jt_row(&p->decay, t);
    for (size_t at = 0; at < p->keys; at += m->k_dim) {
        jt_delta_normalise(p->kernels, q + at, m->k_dim, 1 / sqrtf((float)m->k_dim));
        jt_delta_normalise(p->kernels, k + at, m->k_dim, 1);
    }
    for (size_t i = 0; i < m->v_heads; i++) {
        float b, a;
        gates_of(p, t, i, &b, &a);
        beta[i] = 1 / (1 + expf(-b));
        decay[i] = a + bias[i];
    }
    p->kernels->softplus(decay, decay, m->v_heads);
    for (size_t i = 0; i < m->v_heads; i++)
        decay[i] = expf(rate[i] * decay[i]);
}

static void scan_head(void *arg, size_t head)
{
    const delta_pass *p = arg;
    const jt_delta_net *m = p->layer;
    size_t k_head = m->tiled ? head % m->k_heads : head / (m->v_heads / m->k_heads);
    size_t channels = jt_cols(&p->qkv);
    const float *q = jt_row(&p->qkv, 0) + k_head * m->k_dim;
    p->kernels->recur(&(jt_recur){
        .h = p->s + head * m->v_dim * m->k_dim,
        .y = jt_row(&p->y, 0) + head * m->v_dim,
        .k = q + p->keys,
        .q = q,
        .v = jt_row(&p->qkv, 0) + 2 * p->keys + head * m->v_dim,
        .decay = jt_row(&p->decay, 0) + head,
        .beta = jt_row(&p->beta, 0) + head,
        .y_stride = p->values,
        .k_stride = channels,
        .q_stride = channels,
        .v_stride = channels,
        .gate_stride = m->v_heads,
        .rows = m->v_dim,
        .n = m->k_dim,
        .tokens = p->tokens,
    });
}

static void gate_token(void *arg, size_t t)
{
    const delta_pass *p = arg;
    const jt_delta_net *m = p->layer;
    float *y = jt_row(&p->y, t);
    for (size_t at = 0; at < p->values; at += m->v_dim)
        p->kernels->rms_norm(y + at, y + at, m->norm.data, m->v_dim, m->norm_eps);
    p->kernels->glu(JT_SILU, y, jt_row(&p->z, t), y, p->values);
}

jt_tensor jt_delta_net_forward(jt_context *ctx, const jt_delta_net *layer, jt_input *h,
                               float *state, bool fresh)
{
    delta_pass p = {.kernels = ctx->kernels,
                    .layer = layer,
                    .s = state + jt_causal_conv_state(&layer->conv),
                    .tokens = jt_rows(&h->x),
                    .keys = layer->k_heads * layer->k_dim,
                    .values = layer->v_heads * layer->v_dim};
    if (fresh)
        jt_zero(ctx, state, jt_delta_net_state(layer));
    project(ctx, &p, h);
    p.beta = jt_new(ctx, p.tokens, layer->v_heads);
    p.decay = jt_new(ctx, p.tokens, layer->v_heads);
    p.y = jt_new(ctx, p.tokens, p.values);
    p.qkv = jt_causal_conv_forward(ctx, &layer->conv, p.before.data, jt_cols(&p.before),
                                   p.tokens, state);
    if (jt_failed(ctx))
        return p.y;
    jt_for_rows(ctx, p.tokens, 2 * p.tokens * p.keys, prepare_token, &p);
    jt_for_rows(ctx, layer->v_heads, p.tokens * scan_state(layer), scan_head, &p);
    jt_for_rows(ctx, p.tokens, 4 * p.tokens * p.values, gate_token, &p);
    jt_input y = jt_input_of(p.y);
    return jt_linear(ctx, &y, &layer->out, NULL);
}
