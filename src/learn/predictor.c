#include "learn/predictor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "learn/optim.h"
#include "tensor/loss.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

enum { WIDTH = 24, HIDDEN = 64, BATCH = 256, TABLES = JT_PREDICTOR_WINDOW };
enum { TENSORS = TABLES + 2 };
static const float rate = 0.01f;

struct jt_predictor {
    jt_tensor part[TENSORS]; /* tables, W1, W2 */
    float *memory;           /* values and gradients */
    size_t params;
    int n_layers, n_experts, k, n_vocab;
};

static void shape(jt_tensor *t, size_t rows, size_t cols)
{
    *t = (jt_tensor){.dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
}

/* Row n_vocab of a table is that of no token: the document begins later. */
static jt_status make(jt_predictor *p, const jt_routes *r, int n_vocab, jt_err *err)
{
    size_t outputs = (size_t)r->n_layers * (size_t)r->n_experts;
    jt_rng rng = {.seed = 1};
    *p = (jt_predictor){.n_layers = r->n_layers,
                        .n_experts = r->n_experts,
                        .k = r->k,
                        .n_vocab = n_vocab};
    for (int i = 0; i < TABLES; i++)
        shape(&p->part[i], (size_t)n_vocab + 1, WIDTH);
    shape(&p->part[TABLES], HIDDEN, WIDTH);
    shape(&p->part[TABLES + 1], outputs, HIDDEN);
    for (int i = 0; i < TENSORS; i++)
        p->params += jt_rows(&p->part[i]) * jt_cols(&p->part[i]);
    p->memory = jt_calloc(2 * p->params, sizeof *p->memory);
    if (!p->memory)
        return jt_fail_memory(err, "training a predictor");
    float *value = p->memory, *grad = p->memory + p->params;
    jt_rng_normals(&rng, value, p->params);
    for (int i = 0; i < TENSORS; i++) {
        size_t n = jt_rows(&p->part[i]) * jt_cols(&p->part[i]);
        float size = i < TABLES ? 0.5f : 1.0f / sqrtf((float)jt_cols(&p->part[i]));
        for (size_t j = 0; j < n; j++)
            value[j] *= size;
        p->part[i].data = value;
        p->part[i].grad = grad;
        value += n;
        grad += n;
    }
    return JT_OK;
}

/* The ids `back` places before tokens pick[0 .. n). */
static void ids_before(const jt_predictor *p, const jt_routes *r, const uint32_t *pick,
                       size_t n, int back, int32_t *ids)
{
    for (size_t i = 0; i < n; i++) {
        size_t t = pick[i];
        bool there = (size_t)back <= t % r->seq_len && r->place[t] >= back;
        ids[i] = there ? r->id[t - (size_t)back] : p->n_vocab;
    }
}

/* Logits [n * layers, experts] of the tokens pick[0 .. n). */
static jt_tensor forward(jt_predictor *p, jt_context *ctx, const jt_routes *r,
                         const uint32_t *pick, size_t n)
{
    static const jt_tensor none;
    jt_tensor h = none;
    for (int j = 0; j < TABLES; j++) {
        int32_t *ids = jt_scratch(ctx, n, sizeof *ids);
        if (!ids)
            return none;
        ids_before(p, r, pick, n, j, ids);
        jt_tensor e = jt_embed(ctx, &p->part[j], ids, n);
        if (j == 0)
            h = e;
        else
            jt_add_to(ctx, &h, &e);
    }
    jt_input in = jt_input_of(h);
    jt_tensor gate = jt_linear(ctx, &in, &p->part[TABLES], &none);
    jt_input hidden = jt_input_of(jt_glu(ctx, JT_SILU, &gate, &none));
    jt_tensor logits = jt_linear(ctx, &hidden, &p->part[TABLES + 1], &none);
    logits.shape[0] = n * (size_t)p->n_layers;
    logits.shape[1] = (size_t)p->n_experts;
    return logits;
}

/* Forward and backward with the experts that the tokens chose. */
static jt_status learn(jt_predictor *p, jt_context *ctx, const jt_routes *r,
                       const uint32_t *pick, size_t n, jt_err *err)
{
    jt_tape tape = {0};
    size_t layers = (size_t)p->n_layers;
    ctx->err = (jt_err){0};
    memset(p->memory + p->params, 0, p->params * sizeof *p->memory);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = &tape;
    jt_tensor logits = forward(p, ctx, r, pick, n);
    for (int j = 0; j < p->k; j++) {
        int32_t *target = jt_scratch(ctx, n * layers, sizeof *target);
        for (size_t i = 0; target && i < n * layers; i++)
            target[i] = jt_routes_row(r, pick[i / layers], (int)(i % layers))[j];
        jt_cross_entropy(ctx, &logits, target, 1.0f / (float)p->k, NULL);
    }
    jt_tape_backward(ctx);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    if (!jt_failed(ctx))
        return JT_OK;
    if (err)
        *err = ctx->err;
    return ctx->err.code;
}

static jt_status make_optim(jt_optim **out, const jt_predictor *p, jt_context *ctx,
                            jt_err *err)
{
    static const char *const names[TENSORS] = {"e0", "e1", "e2", "e3", "w1", "w2"};
    jt_param params[TENSORS];
    jt_optim_group group = {.pattern = "*", .kind = JT_ADAMW};
    for (int i = 0; i < TENSORS; i++) {
        const jt_tensor *t = &p->part[i];
        params[i] = (jt_param){names[i], t->data, t->grad, 1, jt_rows(t), jt_cols(t)};
    }
    return jt_optim_new(out, ctx->kernels, params, TENSORS, &group, 1, err);
}

/* All tokens in random order, `epochs` times; the rate falls in a line. */
static jt_status train(jt_predictor *p, jt_context *ctx, const jt_routes *r, int epochs,
                       uint32_t *order, jt_err *err)
{
    jt_optim *optim;
    jt_rng rng = {.seed = 2};
    jt_status status = JT_OK;
    JT_TRY(make_optim(&optim, p, ctx, err));
    size_t steps = (size_t)epochs * (r->n_tokens / BATCH), step = 0;
    for (size_t i = 0; i < r->n_tokens; i++)
        order[i] = (uint32_t)i;
    while (step < steps && status == JT_OK) {
        for (size_t i = r->n_tokens; i > 1; i--) {
            size_t other = jt_rng_below(&rng, (uint32_t)i);
            uint32_t kept = order[i - 1];
            order[i - 1] = order[other];
            order[other] = kept;
        }
        for (size_t at = 0; at + BATCH <= r->n_tokens && status == JT_OK; at += BATCH) {
            status = learn(p, ctx, r, order + at, BATCH, err);
            float left = 1.0f - (float)step++ / (float)steps;
            if (status == JT_OK)
                jt_optim_step(optim, ctx->pool, rate * left, 1.0f);
        }
    }
    jt_optim_free(optim);
    return status;
}

jt_status jt_predictor_train(jt_predictor **out, jt_context *ctx, const jt_routes *r,
                             int n_vocab, int epochs, jt_err *err)
{
    if (r->n_tokens < BATCH)
        return jt_fail(err, JT_E_ARG, "a predictor learns from at least %d tokens",
                       BATCH);
    jt_predictor *p = jt_calloc(1, sizeof *p);
    uint32_t *order = jt_alloc(r->n_tokens, sizeof *order);
    jt_status status =
        p && order ? make(p, r, n_vocab, err) : jt_fail_memory(err, "a predictor");
    if (status == JT_OK)
        status = train(p, ctx, r, epochs, order, err);
    free(order);
    if (status != JT_OK)
        jt_predictor_free(p);
    else
        *out = p;
    return status;
}

jt_status jt_predictor_run(jt_predictor *p, jt_context *ctx, const jt_routes *r,
                           float *out, jt_err *err)
{
    size_t row = (size_t)p->n_layers * (size_t)p->n_experts;
    uint32_t pick[BATCH];
    ctx->err = (jt_err){0};
    for (size_t at = 0; at < r->n_tokens && !jt_failed(ctx); at += BATCH) {
        size_t n = r->n_tokens - at < BATCH ? r->n_tokens - at : BATCH;
        for (size_t i = 0; i < n; i++)
            pick[i] = (uint32_t)(at + i);
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        jt_tensor logits = forward(p, ctx, r, pick, n);
        for (size_t i = 0; !jt_failed(ctx) && i < jt_rows(&logits); i++)
            ctx->kernels->softmax(out + at * row + i * (size_t)p->n_experts,
                                  jt_row(&logits, i), (size_t)p->n_experts);
        jt_arena_rewind(&ctx->scratch, mark);
    }
    if (!jt_failed(ctx))
        return JT_OK;
    if (err)
        *err = ctx->err;
    return ctx->err.code;
}

size_t jt_predictor_params(const jt_predictor *p)
{
    return p->params;
}

void jt_predictor_free(jt_predictor *p)
{
    if (!p)
        return;
    free(p->memory);
    free(p);
}
