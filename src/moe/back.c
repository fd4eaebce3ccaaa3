#include "moe/back.h"

#include <math.h>
#include <string.h>

#include "moe/gate.h"
#include "tensor/tape.h"

/* ---- selection ---- */

typedef struct saved_select {
    const jt_kernels *kernels;
    const jt_router *router;
    jt_tensor logits, scores;
    jt_route route; /* as selected: policies may change the one in use */
} saved_select;

/* Through the scaling and the renormalising, w = own scale * scale * v / sum(v):
 * gradients of the gated values v of the chosen experts, and of their own scales. */
static void back_scale(const saved_select *s, const float *weight, const float *dw,
                       const int32_t *chosen, const float *gated, float *dv,
                       float *dscale)
{
    const jt_router *r = s->router;
    const float *own = r->expert_scale.data;
    float sum = r->sum_eps, along = 0.0f, factor = r->scale;
    int k = s->route.k;
    for (int j = 0; j < k; j++) {
        sum += chosen[j] >= 0 ? gated[j] : 0.0f;
        along += weight[j] * dw[j]; /* scale * sum(v dw) / sum(v) */
    }
    bool normed = r->renormalise && sum > 0.0f;
    if (normed)
        factor /= sum;
    for (int j = 0; j < k; j++) {
        float scale = own && chosen[j] >= 0 ? own[chosen[j]] : 1.0f;
        dscale[j] = factor * gated[j] * dw[j];
        dv[j] = chosen[j] < 0 ? 0.0f
                              : factor * scale * dw[j] - (normed ? along / sum : 0.0f);
    }
}

/* From the gated values to the logits of the chosen, or to the scores. */
static void back_gated(const saved_select *s, size_t t, const float *gated, float *dv)
{
    const jt_router *r = s->router;
    size_t n = jt_cols(&s->scores), k = (size_t)s->route.k;
    const int32_t *chosen = s->route.expert + t * k;
    float *dlogits = jt_grad_row(&s->logits, t), *to = jt_grad_row(&s->scores, t);
    const float *logits = jt_row(&s->logits, t);
    if (r->gating == JT_GATE_SPARSEMIXER) {
        jt_sparsemixer_back(logits, n, chosen, (int)k, dv, dlogits);
        return;
    }
    if (r->gate_after) {
        float *of_logits = dv + k, *chosen_logits = of_logits + k;
        for (size_t j = 0; j < k; j++) {
            of_logits[j] = 0.0f;
            chosen_logits[j] = chosen[j] >= 0 ? logits[chosen[j]] : -INFINITY;
        }
        jt_gate_back(s->kernels, r->gating, of_logits, dv, gated, chosen_logits, k);
        dv = of_logits;
        to = dlogits;
    }
    for (size_t j = 0; j < k; j++) {
        if (chosen[j] >= 0)
            to[chosen[j]] += dv[j];
    }
}

typedef struct select_work {
    const saved_select *s;
    float *room; /* [tokens, ROOM k] */
} select_work;

enum { ROOM = 5 };

static void back_token(void *arg, size_t t)
{
    const select_work *w = arg;
    const saved_select *s = w->s;
    size_t k = (size_t)s->route.k, n = jt_cols(&s->scores);
    float *dscale = w->room + t * ROOM * k, *gated = dscale + k, *dv = gated + k;
    const int32_t *chosen = s->route.expert + t * k;
    jt_gate_chosen(s->kernels, s->router, jt_row(&s->logits, t), jt_row(&s->scores, t),
                   n, chosen, (int)k, gated);
    back_scale(s, s->route.weight + t * k, s->route.weight_grad + t * k, chosen, gated,
               dv, dscale);
    back_gated(s, t, gated, dv);
    jt_gate_back(s->kernels, s->router->gating, jt_grad_row(&s->logits, t),
                 jt_grad_row(&s->scores, t), jt_row(&s->scores, t),
                 jt_row(&s->logits, t), n);
}

/* Tokens in order: several have the same expert. */
static void back_expert_scale(const select_work *w)
{
    const jt_route *route = &w->s->route;
    size_t k = (size_t)route->k, slots = (size_t)route->n_tokens * k;
    float *grad = w->s->router->expert_scale.grad;
    for (size_t i = 0; grad && i < slots; i++) {
        if (route->expert[i] >= 0)
            grad[route->expert[i]] += w->room[i / k * ROOM * k + i % k];
    }
}

static void select_backward(jt_context *ctx, void *saved)
{
    const saved_select *s = saved;
    size_t tokens = (size_t)s->route.n_tokens, k = (size_t)s->route.k;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    select_work work = {s, jt_scratch(ctx, tokens * ROOM * k, sizeof(float))};
    if (!jt_failed(ctx)) {
        jt_for_rows(ctx, tokens, tokens * jt_cols(&s->scores) * 8, back_token, &work);
        back_expert_scale(&work);
    }
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
