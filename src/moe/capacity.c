/* Capacity (GShard, Switch): an expert takes so many tokens and no more. */
#include "base/order.h"
#include "moe/plan.h"
#include "moe/select.h"

typedef struct capacity_args {
    const jt_plan *plan;
    size_t places;
    bool by_position;
    float *room;   /* [rows] */
    uint8_t *keep; /* [rows] */
} capacity_args;

static void keep_of_expert(void *arg, size_t e)
{
    const capacity_args *a = arg;
    size_t first = (size_t)a->plan->start[e];
    size_t rows = (size_t)a->plan->start[e + 1] - first;
    if (!a->by_position && rows > a->places) {
        jt_keep_largest(a->plan->weight + first, rows, a->places, a->room + first,
                        a->keep + first);
        return;
    }
    for (size_t i = 0; i < rows; i++)
        a->keep[first + i] = i < a->places;
}

static size_t places_of(const jt_router *router, const jt_route *route)
{
    double tokens = route->n_tokens;
    double places =
        ceil((double)router->capacity * route->k * tokens / (double)route->n_experts);
    return (size_t)(places < tokens ? places : tokens);
}

void jt_capacity_drop(jt_context *ctx, const jt_router *router, const jt_tensor *scores,
                      jt_route *route)
{
    size_t k = (size_t)route->k, slots = (size_t)route->n_tokens * k;
    for (size_t s = 0; s < slots; s++) /* the plan will sort the scores along */
        route->weight[s] =
            route->expert[s] < 0 ? 0.0f : jt_row(scores, s / k)[route->expert[s]];
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_plan plan = jt_plan_build(ctx, route);
    capacity_args args = {
        .plan = &plan,
        .places = places_of(router, route),
        .by_position = router->drop_position,
        .room = jt_scratch(ctx, slots, sizeof(float)),
        .keep = jt_scratch(ctx, slots, 1),
    };
    if (!jt_failed(ctx)) {
        jt_for_rows(ctx, (size_t)route->n_experts, slots * 4, keep_of_expert, &args);
        for (size_t s = 0; s < slots; s++) {
            if (plan.row[s] >= 0 && !args.keep[plan.row[s]])
                route->expert[s] = -1;
        }
    }
    jt_arena_rewind(&ctx->scratch, mark);
}
