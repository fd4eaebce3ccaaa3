#include "nn/kimi_delta.h"

#include <math.h>

#include "nn/norm.h"
#include "nn/scan.h"

typedef struct kimi_pass {
    const jt_kimi_delta *layer;
    size_t tokens, width;
    jt_tensor before[JT_KIMI_QKV], qkv[JT_KIMI_QKV]; /* [tokens, heads dim] */
    jt_tensor beta;                                  /* [tokens, heads] */
    jt_tensor step, gate;                            /* [tokens, heads dim] */
} kimi_pass;

static size_t scan_state(const jt_kimi_delta *layer)
{
    return layer->heads * layer->dim * layer->dim;
}

static size_t conv_states(const jt_kimi_delta *layer)
{
    size_t floats = 0;
    for (int i = 0; i < JT_KIMI_QKV; i++)
        floats += jt_causal_conv_state(&layer->conv[i]);
    return floats;
}

size_t jt_kimi_delta_state(const jt_kimi_delta *layer)
{
    return conv_states(layer) + scan_state(layer);
}

/* All projections of the input in one parallel region, then the second halves of the
 * gates in another. */
static void project(jt_context *ctx, kimi_pass *p, jt_input *h)
{
    const jt_kimi_delta *m = p->layer;
    jt_tensor f = {0}, g = {0};
    const jt_tensor *w[] = {&m->in[JT_KIMI_Q], &m->in[JT_KIMI_K],
                            &m->in[JT_KIMI_V], &m->b,
                            &m->f_a,           &m->g_a};
    jt_tensor *y[] = {&p->before[JT_KIMI_Q],
                      &p->before[JT_KIMI_K],
                      &p->before[JT_KIMI_V],
                      &p->beta,
                      &f,
                      &g};
    enum { FIRST = sizeof w / sizeof *w };
    jt_product products[FIRST];
    for (size_t i = 0; i < FIRST; i++) {
        *y[i] = jt_new(ctx, p->tokens, jt_rows(w[i]));
        products[i] = jt_product_rows(y[i], w[i], h, 0, p->tokens);
    }
    jt_products(ctx, products, FIRST);
    jt_input f_in = jt_input_of(f), g_in = jt_input_of(g);
    p->step = jt_new(ctx, p->tokens, p->width);
    p->gate = jt_new(ctx, p->tokens, p->width);
    jt_product second[] = {
        jt_product_rows(&p->step, &m->f_b, &f_in, 0, p->tokens),
        jt_product_rows(&p->gate, &m->g_b, &g_in, 0, p->tokens),
    };
    jt_products(ctx, second, 2);
}

static float *convolve(jt_context *ctx, kimi_pass *p, const jt_places *places,
                       float *state)
{
    for (int i = 0; i < JT_KIMI_QKV; i++) {
        const jt_causal_conv *conv = &p->layer->conv[i];
        jt_columns before = {p->before[i], 0, p->width};
        p->qkv[i] = jt_causal_conv_forward(ctx, conv, &before, places, state);
        state += jt_causal_conv_state(conv);
    }
    return state;
}

static jt_tensor scan(jt_context *ctx, kimi_pass *p, float *state,
                      const jt_places *places)
{
    const jt_kimi_delta *m = p->layer;
    jt_add_bias(ctx, &p->step, &m->dt_bias);
    jt_softplus(ctx, &p->step);
    jt_sigmoid(ctx, &p->beta);
    jt_scan s = {
        .heads = m->heads,
        .rows = m->dim,
        .n = m->dim,
        .k_heads = m->heads,
        .q = {jt_unit_heads(ctx, &p->qkv[JT_KIMI_Q], m->dim, 1 / sqrtf((float)m->dim)),
              0, p->width},
        .k = {jt_unit_heads(ctx, &p->qkv[JT_KIMI_K], m->dim, 1), 0, p->width},
        .v = {p->qkv[JT_KIMI_V], 0, p->width},
        .step = p->step,
        .rate = m->rate,
        .beta = p->beta,
        .by_key = true,
    };
    return jt_scan_forward(ctx, &s, places, state);
}

/* The state: those of the three convolutions, then S. */
jt_tensor jt_kimi_delta_forward(jt_context *ctx, const jt_kimi_delta *layer,
                                jt_input *h, float *state, const jt_places *places)
{
    kimi_pass p = {
        .layer = layer, .tokens = jt_rows(&h->x), .width = layer->heads * layer->dim};
    project(ctx, &p, h);
    state = convolve(ctx, &p, places, state);
    jt_tensor y = scan(ctx, &p, state, places);
    y = jt_rms_norm(ctx, &y, &layer->norm, layer->norm_eps);
    jt_sigmoid(ctx, &p.gate);
    jt_columns normed = {y, 0, p.width}, open = {p.gate, 0, p.width};
    jt_input gated = jt_input_of(jt_multiply(ctx, &normed, &open));
    return jt_linear(ctx, &gated, &layer->out, NULL);
}
