#include "moe/back.h"

#include <math.h>
#include <string.h>

#include "tensor/tape.h"

/* ---- selection ---- */

typedef struct saved_select {
    const jt_kernels *kernels;
    const jt_router *router;
    jt_tensor logits, scores;
    jt_route route; /* as selected: policies may change the one in use */
} saved_select;

/* Through the scaling and the renormalising, w = scale * v / sum(v): gradients of the
 * gated values v of the chosen experts. */
static void back_scale(const saved_select *s, const float *weight, const float *dw,
                       const int32_t *chosen, const float *gated, float *dv)
{
    const jt_router *r = s->router;
    float sum = 0.0f, along = 0.0f, factor = r->scale;
    int k = s->route.k;
    for (int j = 0; j < k; j++) {
        sum += chosen[j] >= 0 ? gated[j] : 0.0f;
        along += weight[j] * dw[j]; /* scale * sum(v dw) / sum(v) */
    }
    bool normed = r->renormalise && sum > 0.0f;
    if (normed)
        factor /= sum;
    for (int j = 0; j < k; j++)
        dv[j] = chosen[j] < 0 ? 0.0f : factor * dw[j] - (normed ? along / sum : 0.0f);
}

/* Gate over the chosen logits alone: the gated values are found again from them. */
static void back_gate_after(const saved_select *s, size_t t, const float *dv,
                            const float *gated)
{
    int k = s->route.k;
    const int32_t *chosen = s->route.expert + t * (size_t)k;
    float *dlogits = jt_grad_row(&s->logits, t), along = 0.0f;
    for (int j = 0; j < k; j++)
        along += gated[j] * dv[j];
    for (int j = 0; j < k; j++) {
        if (chosen[j] < 0)
            continue;
        float slope = s->router->gating == JT_GATE_SOFTMAX
                          ? gated[j] * (dv[j] - along)
                          : gated[j] * (1.0f - gated[j]) * dv[j];
        dlogits[chosen[j]] += slope;
    }
}

/* Gate over all logits, its gradients in the scores. */
static void back_gate(const saved_select *s, size_t t)
{
    size_t n = jt_cols(&s->scores);
    const float *p = jt_row(&s->scores, t), *dp = jt_grad_row(&s->scores, t);
    float *dlogits = jt_grad_row(&s->logits, t);
    if (s->router->gating == JT_GATE_SOFTMAX) {
        s->kernels->softmax_back(dlogits, dp, p, n);
        return;
    }
    for (size_t e = 0; e < n; e++)
        dlogits[e] += dp[e] * p[e] * (1.0f - p[e]);
}

/* The gated values of the chosen experts, as selection had them. */
static void gated_values(const saved_select *s, size_t t, float *gated)
{
    int k = s->route.k;
    const int32_t *chosen = s->route.expert + t * (size_t)k;
    const float *logits = jt_row(&s->logits, t), *scores = jt_row(&s->scores, t);
    bool after = s->router->gate_after;
    for (int j = 0; j < k; j++) {
        float none = after ? -INFINITY : 0.0f;
        gated[j] = chosen[j] >= 0 ? (after ? logits : scores)[chosen[j]] : none;
    }
    if (!after)
        return;
    if (s->router->gating == JT_GATE_SOFTMAX)
        s->kernels->softmax(gated, gated, (size_t)k);
    for (int j = 0; j < k && s->router->gating == JT_GATE_SIGMOID; j++)
        gated[j] = 1.0f / (1.0f + expf(-gated[j]));
}

typedef struct select_work {
    const saved_select *s;
    float *room; /* [tokens, 2 k] */
} select_work;

static void back_token(void *arg, size_t t)
{
    const select_work *w = arg;
    const saved_select *s = w->s;
    size_t k = (size_t)s->route.k;
    float *gated = w->room + t * 2 * k, *dv = gated + k;
    const int32_t *chosen = s->route.expert + t * k;
    gated_values(s, t, gated);
    back_scale(s, s->route.weight + t * k, s->route.weight_grad + t * k, chosen, gated,
               dv);
    if (s->router->gate_after) {
        back_gate_after(s, t, dv, gated);
    } else {
        for (size_t j = 0; j < k; j++) {
            if (chosen[j] >= 0)
                jt_grad_row(&s->scores, t)[chosen[j]] += dv[j];
        }
    }
    back_gate(s, t);
}

static void select_backward(jt_context *ctx, void *saved)
{
    const saved_select *s = saved;
    size_t tokens = (size_t)s->route.n_tokens, k = (size_t)s->route.k;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    select_work work = {s, jt_scratch(ctx, tokens * 2 * k, sizeof(float))};
    if (!jt_failed(ctx))
        jt_for_rows(ctx, tokens, tokens * jt_cols(&s->scores) * 8, back_token, &work);
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_select_record(jt_context *ctx, const jt_router *router, const jt_tensor *logits,
                      const jt_tensor *scores, const jt_route *route)
{
    if (!ctx->tape)
        return;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    saved_select saved = {ctx->kernels, router, *logits, *scores, *route};
    saved.route.expert = jt_scratch(ctx, slots, sizeof(int32_t));
    saved.route.weight = jt_scratch(ctx, slots, sizeof(float));
    if (jt_failed(ctx))
        return;
    memcpy(saved.route.expert, route->expert, slots * sizeof(int32_t));
    memcpy(saved.route.weight, route->weight, slots * sizeof(float));
    jt_tape_push(ctx, select_backward, &saved, sizeof saved);
}

/* ---- combination ---- */

typedef struct saved_combine {
    const jt_kernels *kernels;
    jt_plan plan;
    jt_tensor rows, y;
} saved_combine;

static void combine_token(void *arg, size_t t)
{
    const saved_combine *s = arg;
    size_t k = (size_t)s->plan.k, d = jt_cols(&s->y);
    const float *dy = jt_grad_row(&s->y, t);
    for (size_t j = 0; j < k; j++) {
        int32_t row = s->plan.row[t * k + j];
        if (row < 0)
            continue;
        s->plan.weight_grad[t * k + j] +=
            s->kernels->dot(dy, jt_row(&s->rows, (size_t)row), d);
        s->kernels->scale(jt_grad_row(&s->rows, (size_t)row), s->plan.weight[row], dy,
                          d);
    }
}

static void combine_backward(jt_context *ctx, void *saved)
{
    const saved_combine *s = saved;
    size_t tokens = (size_t)s->plan.n_tokens;
    jt_for_rows(ctx, tokens, 2 * tokens * (size_t)s->plan.k * jt_cols(&s->y),
                combine_token, saved);
}

void jt_combine_record(jt_context *ctx, const jt_plan *plan, const jt_tensor *rows,
                       const jt_tensor *y)
{
    saved_combine saved = {ctx->kernels, *plan, *rows, *y};
    jt_tape_push(ctx, combine_backward, &saved, sizeof saved);
}

/* ---- the gate of a shared expert ---- */

typedef struct saved_sigmoid {
    jt_plan plan;
    jt_tensor logits;
} saved_sigmoid;

static void sigmoid_backward(jt_context *ctx, void *saved)
{
    const saved_sigmoid *s = saved;
    (void)ctx;
    for (size_t t = 0; t < (size_t)s->plan.n_tokens; t++) {
        float w = s->plan.weight[t];
        *jt_grad_row(&s->logits, t) += s->plan.weight_grad[t] * w * (1.0f - w);
    }
}

void jt_sigmoid_record(jt_context *ctx, const jt_plan *plan, const jt_tensor *logits)
{
    saved_sigmoid saved = {*plan, *logits};
    jt_tape_push(ctx, sigmoid_backward, &saved, sizeof saved);
}
