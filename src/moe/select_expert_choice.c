/* Expert choice (Zhou et al. 2022, "Mixture-of-Experts with Expert Choice Routing"):
 * each expert takes its ceil(k T / E) best tokens of the call, so all are equally
 * loaded. A token that more than k experts took keeps the k that are best for it; one
 * that none took goes through the layer by its residual alone. What a token gets
 * depends on the others of the call, those behind it among them: not causal. */
#include "base/order.h"
#include "moe/select.h"

typedef struct taking_args {
    const jt_choice *choice;
    float *values;  /* [experts, tokens] */
    float *room;    /* the same */
    uint8_t *taken; /* [experts, tokens] */
    size_t places;  /* of an expert */
} taking_args;

static void expert_takes(void *arg, size_t e)
{
    const taking_args *a = arg;
    size_t tokens = (size_t)a->choice->route->n_tokens;
    float *values = a->values + e * tokens;
    for (size_t t = 0; t < tokens; t++) {
        jt_contest contest = jt_contest_of(a->choice, t);
        bool out = jt_contest_out(&contest, (int32_t)e);
        values[t] = out ? -INFINITY : jt_contest_value(&contest, (int32_t)e);
    }
    jt_keep_largest(values, tokens, a->places, a->room + e * tokens,
                    a->taken + e * tokens);
}

static void token_keeps(void *arg, size_t t)
{
    const taking_args *a = arg;
    const jt_choice *c = a->choice;
    jt_contest contest = jt_contest_of(c, t);
    int k = c->route->k;
    int32_t *chosen = c->route->expert + t * (size_t)k;
    jt_contest_clear(chosen, k);
    for (int32_t e = 0; e < c->route->n_experts; e++) {
        if (a->taken[(size_t)e * (size_t)c->route->n_tokens + t])
            jt_contest_enter(&contest, e, e + 1, chosen, k);
    }
}

static void choose_expert_choice(jt_context *ctx, const jt_choice *choice)
{
    size_t tokens = (size_t)choice->route->n_tokens, k = (size_t)choice->route->k;
    size_t experts = (size_t)choice->route->n_experts, work = experts * tokens * 8;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    taking_args args = {
        .choice = choice,
        .values = jt_scratch(ctx, experts * tokens, sizeof(float)),
        .room = jt_scratch(ctx, experts * tokens, sizeof(float)),
        .taken = jt_scratch(ctx, experts * tokens, 1),
        .places = (k * tokens + experts - 1) / experts,
    };
    if (!jt_failed(ctx)) {
        jt_for_rows(ctx, experts, work, expert_takes, &args);
        jt_for_rows(ctx, tokens, work, token_keeps, &args);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

static jt_status check_expert_choice(const jt_router *router, jt_err *err)
{
    if (router->n_null)
        return jt_fail(err, JT_E_ARG,
                       "selector 'expert_choice': null experts cannot choose");
    return JT_OK;
}

const jt_selector jt_select_expert_choice = {"expert_choice", check_expert_choice,
                                             choose_expert_choice};
