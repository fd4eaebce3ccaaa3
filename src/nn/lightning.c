#include "nn/lightning.h"

#include <math.h>

/* Of the norm: what the published code has, whatever the other norms take. */
static const float norm_eps = 1e-6f;

typedef struct lightning_pass {
    const jt_kernels *kernels;
    const jt_lightning *layer;
    float *s; /* [heads, dim, dim] */
    size_t tokens, width;
    jt_tensor qkv;     /* [tokens, 3 heads dim] */
    jt_tensor gate, y; /* [tokens, heads dim] */
} lightning_pass;

float jt_lightning_slope_scale(int layer, int layers)
{
    return 1 - (float)layer / ((float)layers - 1 + 1e-5f) + 1e-5f;
}

size_t jt_lightning_state(const jt_lightning *layer)
{
    return layer->heads * layer->dim * layer->dim;
}

static void project(jt_context *ctx, lightning_pass *p, jt_input *h)
{
    const jt_lightning *m = p->layer;
    p->qkv = jt_new(ctx, p->tokens, jt_rows(&m->qkv));
    p->gate = jt_new(ctx, p->tokens, jt_rows(&m->gate));
    jt_product products[] = {
        jt_product_rows(&p->qkv, &m->qkv, h, 0, p->tokens),
        jt_product_rows(&p->gate, &m->gate, h, 0, p->tokens),
    };
    jt_products(ctx, products, 2);
}

static void activate_token(void *arg, size_t t)
{
    const lightning_pass *p = arg;
    float *qkv = jt_row(&p->qkv, t);
    p->kernels->glu(JT_SILU, qkv, qkv, NULL, jt_cols(&p->qkv));
}

static void scan_head(void *arg, size_t head)
{
    const lightning_pass *p = arg;
    const jt_lightning *m = p->layer;
    const float *q = jt_row(&p->qkv, 0) + head * 3 * m->dim;
    float power = -8 * (float)(head + 1) / (float)m->heads;
    float decay = expf(-m->slope_scale * exp2f(power));
    p->kernels->recur(&(jt_recur){
        .h = p->s + head * m->dim * m->dim,
        .y = jt_row(&p->y, 0) + head * m->dim,
        .k = q + m->dim,
        .q = q,
        .v = q + 2 * m->dim,
        .decay = &decay, /* of all tokens */
        .gate_stride = 0,
        .y_stride = p->width,
        .k_stride = jt_cols(&p->qkv),
        .q_stride = jt_cols(&p->qkv),
        .v_stride = jt_cols(&p->qkv),
        .rows = m->dim,
        .n = m->dim,
        .tokens = p->tokens,
    });
}

static void gate_token(void *arg, size_t t)
{
    const lightning_pass *p = arg;
    float *y = jt_row(&p->y, t);
    const float *gate = jt_row(&p->gate, t);
    p->kernels->rms_norm(y, y, p->layer->norm.data, p->width, norm_eps);
    for (size_t i = 0; i < p->width; i++)
        y[i] /= 1 + expf(-gate[i]);
}

jt_tensor jt_lightning_forward(jt_context *ctx, const jt_lightning *layer, jt_input *h,
                               float *state, const jt_places *places)
{
    lightning_pass p = {.kernels = ctx->kernels,
                        .layer = layer,
                        .s = state,
                        .tokens = jt_rows(&h->x),
                        .width = layer->heads * layer->dim};
    if (places->start == 0)
        jt_zero(ctx, state, jt_lightning_state(layer));
    project(ctx, &p, h);
    p.y = jt_new(ctx, p.tokens, p.width);
    if (jt_failed(ctx))
        return p.y;
    jt_for_rows(ctx, p.tokens, 3 * p.tokens * p.width, activate_token, &p);
    jt_for_rows(ctx, layer->heads, p.tokens * jt_lightning_state(layer), scan_head, &p);
    jt_for_rows(ctx, p.tokens, 4 * p.tokens * p.width, gate_token, &p);
    jt_input y = jt_input_of(p.y);
    return jt_linear(ctx, &y, &layer->out, NULL);
}
