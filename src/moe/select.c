#include <math.h>
#include <string.h>

#include "moe/back.h"
#include "moe/router.h"

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* Gate `n` logits. An expert at -infinity (taken out by a policy) scores 0. */
static void gate(const jt_kernels *kernels, jt_gating gating, float *scores,
                 const float *logits, size_t n)
{
    if (gating == JT_GATE_SOFTMAX) {
        kernels->softmax(scores, logits, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        scores[i] = sigmoid(logits[i]);
}

typedef struct topk_args {
    const jt_kernels *kernels;
    const jt_router *router;
    const jt_tensor *logits;
    jt_tensor *scores;
    jt_route *route;
} topk_args;

/* What selection compares: the scores, and a bias that only selection sees. */
static float preference(const topk_args *a, const float *values, size_t expert)
{
    const float *bias = a->router->selection_bias.data;
    return values[expert] + (bias ? bias[expert] : 0.0f);
}

static bool taken(const int32_t *chosen, int count, int32_t expert)
{
    for (int i = 0; i < count; i++) {
        if (chosen[i] == expert)
            return true;
    }
    return false;
}

/* The k best experts in falling order, the lower id first on a tie. Experts whose logit
 * is -infinity are out; slots that stay empty hold -1. */
static void choose(const topk_args *a, const float *logits, const float *values,
                   int32_t *chosen)
{
    int k = a->route->k;
    for (int j = 0; j < k; j++) {
        chosen[j] = -1;
        float best = 0.0f;
        for (int32_t e = 0; e < a->route->n_experts; e++) {
            if (logits[e] == -INFINITY || taken(chosen, j, e))
                continue;
            float value = preference(a, values, (size_t)e);
            if (chosen[j] < 0 || value > best) {
                chosen[j] = e;
                best = value;
            }
        }
    }
}

/* Weights of the chosen experts from their scores, or from their logits alone when the
 * gate comes after the choice. */
static void weigh(const topk_args *a, const float *logits, const float *scores,
                  const int32_t *chosen, float *weight)
{
    const jt_router *r = a->router;
    const float *from = r->gate_after ? logits : scores;
    float nothing = r->gate_after ? -INFINITY : 0.0f, sum = 0.0f;
    int k = a->route->k;
    for (int j = 0; j < k; j++)
        weight[j] = chosen[j] >= 0 ? from[chosen[j]] : nothing;
    if (r->gate_after)
        gate(a->kernels, r->gating, weight, weight, (size_t)k);
    for (int j = 0; j < k; j++)
        sum += weight[j];
    float factor = r->scale;
    if (r->renormalise && sum > 0.0f)
        factor /= sum;
    for (int j = 0; j < k; j++)
        weight[j] = chosen[j] >= 0 ? weight[j] * factor : 0.0f;
}

static void select_token(void *arg, size_t t)
{
    const topk_args *a = arg;
    const float *logits = jt_row(a->logits, t);
    float *scores = jt_row(a->scores, t);
    int32_t *chosen = a->route->expert + t * (size_t)a->route->k;
    gate(a->kernels, a->router->gating, scores, logits, (size_t)a->route->n_experts);
    choose(a, logits, a->router->gate_after ? logits : scores, chosen);
    weigh(a, logits, scores, chosen, a->route->weight + t * (size_t)a->route->k);
}

static void select_topk(jt_context *ctx, const jt_router *router,
                        const jt_tensor *logits, jt_tensor *scores, jt_route *route)
{
    if (jt_failed(ctx))
        return;
    topk_args args = {ctx->kernels, router, logits, scores, route};
    size_t tokens = (size_t)route->n_tokens;
    size_t work = tokens * (size_t)route->n_experts * (size_t)(route->k + 8);
    jt_for_rows(ctx, tokens, work, select_token, &args);
    route->scores = scores->data;
    jt_select_record(ctx, router, logits, scores, route);
}

static const jt_selector selectors[] = {
    {"topk", select_topk},
};

const jt_selector *jt_selector_find(const char *name)
{
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        if (strcmp(selectors[i].name, name) == 0)
            return &selectors[i];
    }
    return NULL;
}
