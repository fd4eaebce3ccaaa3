#include "nn/kimi_delta.h"

#include <math.h>

static const float length_eps = 1e-6f; /* under the root of |q| and |k| */

/* The state: those of the three convolutions, then S. */
typedef struct kimi_pass {
    const jt_kernels *kernels;
    const jt_kimi_delta *layer;
    float *s; /* [heads, dim, dim] */
    size_t tokens, width;
    jt_tensor before[JT_KIMI_QKV], qkv[JT_KIMI_QKV]; /* [tokens, heads dim] */
    jt_tensor beta;                                  /* [tokens, heads] */
    jt_tensor fade, gate, y;                         /* [tokens, heads dim] */
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
    p->fade = jt_new(ctx, p->tokens, p->width);
    p->gate = jt_new(ctx, p->tokens, p->width);
    jt_product second[] = {
        jt_product_rows(&p->fade, &m->f_b, &f_in, 0, p->tokens),
        jt_product_rows(&p->gate, &m->g_b, &g_in, 0, p->tokens),
    };
    jt_products(ctx, second, 2);
}

static void convolve(jt_context *ctx, kimi_pass *p, const jt_places *places,
                     float *state)
{
    for (int i = 0; i < JT_KIMI_QKV && !jt_failed(ctx); i++) {
        const jt_causal_conv *conv = &p->layer->conv[i];
        jt_columns before = {p->before[i], 0, p->width};
        p->qkv[i] = jt_causal_conv_forward(ctx, conv, &before, places, state);
        state += jt_causal_conv_state(conv);
    }
}

/* x / |x| * length: an RMS norm but for the number of values. */
static void normalise(const jt_kernels *kernels, float *x, size_t n, float length)
{
    kernels->rms_norm(x, x, NULL, n, length_eps / (float)n);
    kernels->scale(x, length / sqrtf((float)n), x, n);
}

static void prepare_token(void *arg, size_t t)
{
    const kimi_pass *p = arg;
    const jt_kimi_delta *m = p->layer;
    const float *rate = m->rate.data, *bias = m->dt_bias.data;
    float *beta = jt_row(&p->beta, t), *fade = jt_row(&p->fade, t);
    for (size_t i = 0; i < p->width; i++)
        fade[i] += bias[i];
    p->kernels->softplus(fade, fade, p->width);
    for (size_t head = 0; head < m->heads; head++) {
        size_t at = head * m->dim;
        normalise(p->kernels, jt_row(&p->qkv[JT_KIMI_Q], t) + at, m->dim,
                  1 / sqrtf((float)m->dim));
        normalise(p->kernels, jt_row(&p->qkv[JT_KIMI_K], t) + at, m->dim, 1);
        beta[head] = 1 / (1 + expf(-beta[head]));
        for (size_t i = at; i < at + m->dim; i++)
            fade[i] = expf(rate[head] * fade[i]);
    }
}

static void scan_head(void *arg, size_t head)
{
    const kimi_pass *p = arg;
    const jt_kimi_delta *m = p->layer;
    size_t at = head * m->dim;
    p->kernels->recur(&(jt_recur){
        .h = p->s + at * m->dim,
        .y = jt_row(&p->y, 0) + at,
        .k = jt_row(&p->qkv[JT_KIMI_K], 0) + at,
        .q = jt_row(&p->qkv[JT_KIMI_Q], 0) + at,
        .v = jt_row(&p->qkv[JT_KIMI_V], 0) + at,
        .fade = jt_row(&p->fade, 0) + at,
        .beta = jt_row(&p->beta, 0) + head,
        .y_stride = p->width,
        .k_stride = p->width,
        .q_stride = p->width,
        .v_stride = p->width,
        .fade_stride = p->width,
        .gate_stride = m->heads,
        .rows = m->dim,
        .n = m->dim,
        .tokens = p->tokens,
    });
}

static void gate_token(void *arg, size_t t)
{
    const kimi_pass *p = arg;
    const jt_kimi_delta *m = p->layer;
    float *y = jt_row(&p->y, t);
    const float *gate = jt_row(&p->gate, t);
    for (size_t at = 0; at < p->width; at += m->dim)
        p->kernels->rms_norm(y + at, y + at, m->norm.data, m->dim, m->norm_eps);
    for (size_t i = 0; i < p->width; i++)
        y[i] /= 1 + expf(-gate[i]);
}

jt_tensor jt_kimi_delta_forward(jt_context *ctx, const jt_kimi_delta *layer,
                                jt_input *h, float *state, const jt_places *places)
{
    kimi_pass p = {.kernels = ctx->kernels,
                   .layer = layer,
                   .s = state + conv_states(layer),
                   .tokens = jt_rows(&h->x),
                   .width = layer->heads * layer->dim};
    if (places->start == 0)
        jt_zero(ctx, state, jt_kimi_delta_state(layer));
    project(ctx, &p, h);
    convolve(ctx, &p, places, state);
    p.y = jt_new(ctx, p.tokens, p.width);
    if (jt_failed(ctx))
        return p.y;
    jt_for_rows(ctx, p.tokens, 8 * p.tokens * p.width, prepare_token, &p);
    jt_for_rows(ctx, layer->heads, p.tokens * scan_state(layer), scan_head, &p);
    jt_for_rows(ctx, p.tokens, 4 * p.tokens * p.width, gate_token, &p);
    jt_input y = jt_input_of(p.y);
    return jt_linear(ctx, &y, &layer->out, NULL);
}
