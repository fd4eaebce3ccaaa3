#include "moe/plan.h"

#include <string.h>

/* Zeros where gradients are wanted. */
static float *new_gradients(jt_context *ctx, size_t slots)
{
    float *grad = ctx->tape ? jt_scratch(ctx, slots, sizeof *grad) : NULL;
    if (grad)
        memset(grad, 0, slots * sizeof *grad);
    return grad;
}

jt_route jt_route_new(jt_context *ctx, int n_tokens, int n_experts, int k)
{
    size_t slots = (size_t)n_tokens * (size_t)k;
    return (jt_route){
        .n_tokens = n_tokens,
        .n_experts = n_experts,
        .k = k,
        .expert = jt_scratch(ctx, slots, sizeof(int32_t)),
        .weight = jt_scratch(ctx, slots, sizeof(float)),
        .weight_grad = new_gradients(ctx, slots),
    };
}

static jt_plan plan_new(jt_context *ctx, int n_tokens, int n_experts, int k)
{
    size_t slots = (size_t)n_tokens * (size_t)k;
    return (jt_plan){
        .n_tokens = n_tokens,
        .n_experts = n_experts,
        .k = k,
        .start = jt_scratch(ctx, (size_t)n_experts + 1, sizeof(int32_t)),
        .token = jt_scratch(ctx, slots, sizeof(int32_t)),
        .weight = jt_scratch(ctx, slots, sizeof(float)),
        .row = jt_scratch(ctx, slots, sizeof(int32_t)),
    };
}

static bool used(const jt_route *route, size_t slot)
{
    return route->expert[slot] >= 0 && route->expert[slot] < route->n_experts;
}

jt_plan jt_plan_build(jt_context *ctx, const jt_route *route)
{
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    jt_plan plan = plan_new(ctx, route->n_tokens, route->n_experts, route->k);
    int32_t *next = jt_scratch(ctx, (size_t)route->n_experts + 1, sizeof(int32_t));
    plan.weight_grad = route->weight_grad;
    if (jt_failed(ctx))
        return plan;
    memset(plan.start, 0, ((size_t)route->n_experts + 1) * sizeof(int32_t));
    for (size_t s = 0; s < slots; s++) {
        if (used(route, s))
            plan.start[route->expert[s] + 1]++;
    }
    for (int e = 0; e < route->n_experts; e++) {
        next[e] = plan.start[e];
        plan.start[e + 1] += plan.start[e];
    }
    plan.n_rows = plan.start[route->n_experts];
    for (size_t s = 0; s < slots; s++) {
        plan.row[s] = -1;
        if (!used(route, s))
            continue;
        int32_t row = next[route->expert[s]]++;
        plan.token[row] = (int32_t)(s / (size_t)route->k);
        plan.weight[row] = route->weight[s];
        plan.row[s] = row;
    }
    return plan;
}

jt_plan jt_plan_everyone(jt_context *ctx, int n_tokens)
{
    jt_plan plan = plan_new(ctx, n_tokens, 1, 1);
    plan.weight_grad = new_gradients(ctx, (size_t)n_tokens);
    if (jt_failed(ctx))
        return plan;
    plan.n_rows = n_tokens;
    plan.in_order = true;
    plan.start[0] = 0;
    plan.start[1] = n_tokens;
    for (int t = 0; t < n_tokens; t++) {
        plan.token[t] = plan.row[t] = t;
        plan.weight[t] = 1.0f;
    }
    return plan;
}

jt_plan jt_plan_of_experts(jt_context *ctx, const jt_plan *plan, const int32_t *experts,
                           int count)
{
    size_t rows = 0;
    for (int i = 0; i < count; i++)
        rows += (size_t)(plan->start[experts[i] + 1] - plan->start[experts[i]]);
    jt_plan some = {
        .n_tokens = plan->n_tokens,
        .n_experts = plan->n_experts,
        .k = plan->k,
        .n_rows = (int)rows,
        .start = jt_scratch(ctx, (size_t)plan->n_experts + 1, sizeof(int32_t)),
        .token = jt_scratch(ctx, rows, sizeof(int32_t)),
    };
    if (jt_failed(ctx))
        return some;
    int32_t row = 0;
    for (int e = 0, i = 0; e < plan->n_experts; e++) {
        some.start[e] = row;
        if (i == count || experts[i] != e)
            continue;
        int32_t first = plan->start[e], n = plan->start[e + 1] - first;
        memcpy(some.token + row, plan->token + first, (size_t)n * sizeof(int32_t));
        row += n;
        i++;
    }
    some.start[plan->n_experts] = row;
    return some;
}
