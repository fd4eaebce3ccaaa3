#include "nn/lightning.h"

#include <math.h>

#include "nn/scan.h"

/* Of the norm: what the published code has, whatever the other norms take. */
static const float norm_eps = 1e-6f;

float jt_lightning_slope_scale(int layer, int layers)
{
    return 1 - (float)layer / ((float)layers - 1 + 1e-5f) + 1e-5f;
}

size_t jt_lightning_state(const jt_lightning *layer)
{
    return layer->heads * layer->dim * layer->dim;
}

/* The silu of queries, keys and values, and what the gates are made of. */
static void project(jt_context *ctx, const jt_lightning *m, jt_input *h, jt_tensor *qkv,
                    jt_tensor *gate)
{
    const jt_tensor none = {0};
    size_t tokens = jt_rows(&h->x);
    *qkv = jt_new(ctx, tokens, jt_rows(&m->qkv));
    *gate = jt_new(ctx, tokens, jt_rows(&m->gate));
    jt_product products[] = {
        jt_product_rows(qkv, &m->qkv, h, 0, tokens),
        jt_product_rows(gate, &m->gate, h, 0, tokens),
    };
    jt_products(ctx, products, 2);
    *qkv = jt_glu(ctx, JT_SILU, qkv, &none);
}

/* Constants: the logarithm of what is left of each head's state. */
static jt_tensor slopes(jt_context *ctx, const jt_lightning *m)
{
    jt_tensor rate = jt_new(ctx, 1, m->heads);
    for (size_t i = 0; i < m->heads && !jt_failed(ctx); i++) {
        float power = -8 * (float)(i + 1) / (float)m->heads;
        ((float *)rate.data)[i] = -m->slope_scale * exp2f(power);
    }
    return rate;
}

jt_tensor jt_lightning_forward(jt_context *ctx, const jt_lightning *layer, jt_input *h,
                               float *state, const jt_places *places)
{
    size_t dim = layer->dim, width = layer->heads * dim;
    jt_tensor qkv, gate;
    project(ctx, layer, h, &qkv, &gate);
    jt_scan s = {
        .heads = layer->heads,
        .rows = dim,
        .n = dim,
        .k_heads = layer->heads,
        .q = {jt_take(ctx, &qkv, 3 * dim, 0, dim), 0, width},
        .k = {jt_take(ctx, &qkv, 3 * dim, dim, dim), 0, width},
        .v = {jt_take(ctx, &qkv, 3 * dim, 2 * dim, dim), 0, width},
        .rate = slopes(ctx, layer),
    };
    jt_tensor y = jt_scan_forward(ctx, &s, places, state);
    y = jt_rms_norm(ctx, &y, &layer->norm, norm_eps);
    jt_sigmoid(ctx, &gate);
    jt_columns normed = {y, 0, width}, open = {gate, 0, width};
    jt_input gated = jt_input_of(jt_multiply(ctx, &normed, &open));
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
