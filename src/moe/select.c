#include "moe/select.h"

#include <string.h>

#include "moe/back.h"
#include "moe/gate.h"
#include "moe/mixture.h"

typedef struct select_args {
    const jt_kernels *kernels;
    const jt_router *router;
    const jt_tensor *logits;
    jt_tensor *scores;
    jt_route *route;
} select_args;

static void gate_token(void *arg, size_t t)
{
    const select_args *a = arg;
    jt_gate(a->kernels, a->router->gating, jt_row(a->scores, t), jt_row(a->logits, t),
            jt_cols(a->logits));
}

/* Weights of the chosen experts. */
static void weigh_token(void *arg, size_t t)
{
    const select_args *a = arg;
    const jt_router *r = a->router;
    int k = a->route->k;
    const int32_t *chosen = a->route->expert + t * (size_t)k;
    const float *own = r->expert_scale.data;
    float *weight = a->route->weight + t * (size_t)k, sum = r->sum_eps;
    jt_gate_chosen(a->kernels, r, jt_row(a->logits, t), jt_row(a->scores, t),
                   jt_cols(a->logits), chosen, k, weight);
    for (int j = 0; j < k; j++)
        sum += weight[j];
    float factor = r->scale;
    if (r->renormalise && sum > 0.0f)
        factor /= sum;
    for (int j = 0; j < k; j++) {
        float scale = own && chosen[j] >= 0 ? own[chosen[j]] : 1.0f;
        weight[j] = chosen[j] >= 0 ? weight[j] * factor * scale : 0.0f;
    }
}

/* The selection bias as policies leave it for this call; NULL for none. */
static const float *bias_for(jt_context *ctx, const jt_router *router,
                             const jt_hooks *hooks, const jt_route_site *site,
                             const jt_tensor *scores)
{
    float *bias = NULL;
    size_t n = jt_cols(scores);
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (!p->on_scores)
            continue;
        if (!bias) {
            bias = jt_scratch(ctx, n, sizeof *bias);
            if (!bias)
                return NULL;
            memset(bias, 0, n * sizeof *bias);
            if (jt_has(&router->selection_bias))
                memcpy(bias, router->selection_bias.data, n * sizeof *bias);
        }
        p->on_scores(p->self, site, scores->data, (int)jt_rows(scores), (int)n, bias);
    }
    return bias ? bias : router->selection_bias.data;
}

/* Note what was picked; picks of null experts leave their slots unused. */
static void settle(jt_context *ctx, jt_route *route, const jt_tensor *scores)
{
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    int32_t *picked = jt_scratch(ctx, slots, sizeof *picked);
    if (!picked)
        return;
    memcpy(picked, route->expert, slots * sizeof *picked);
    for (size_t s = 0; s < slots; s++) {
        if (picked[s] >= route->n_experts)
            route->expert[s] = -1;
    }
    route->picked = picked;
    route->n_rows = (int)jt_cols(scores);
    route->scores = scores->data;
}

void jt_router_select(jt_context *ctx, const jt_router *router, const jt_hooks *hooks,
                      const jt_route_site *site, const jt_tensor *logits,
                      jt_tensor *scores, jt_route *route)
{
    if (jt_failed(ctx))
        return;
    select_args args = {ctx->kernels, router, logits, scores, route};
    size_t tokens = (size_t)route->n_tokens;
    jt_for_rows(ctx, tokens, tokens * jt_cols(logits) * 8, gate_token, &args);
    jt_choice choice = {.router = router,
                        .logits = logits,
                        .scores = scores,
                        .values = router->gate_after ? logits : scores,
                        .bias = bias_for(ctx, router, hooks, site, scores),
                        .route = route};
    if (jt_failed(ctx))
        return;
    router->selector->choose(ctx, &choice);
    settle(ctx, route, scores);
    if (site->draw && router->capacity > 0.0f && !jt_failed(ctx))
        jt_capacity_drop(ctx, router, scores, route);
    if (jt_failed(ctx))
        return;
    jt_for_rows(ctx, tokens, tokens * (size_t)route->k * 8, weigh_token, &args);
    jt_select_record(ctx, router, logits, scores, route);
}
