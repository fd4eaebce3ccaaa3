#include "model/params.h"

/* What other programs know of a router, too. */
static jt_status read_common_router(jt_key_reader *r, jt_router *router)
{
    enum { SOFTMAX = 1, SIGMOID = 2 };
    int gating;
    JT_TRY(
        jt_key_int(r, "expert_used_count", 1, jt_router_rows(router), 0, &router->k));
    JT_TRY(jt_key_int(r, "expert_gating_func", SOFTMAX, SIGMOID,
                      r->family->gating == JT_GATE_SIGMOID ? SIGMOID : SOFTMAX,
                      &gating));
    router->gating = gating == SIGMOID ? JT_GATE_SIGMOID : JT_GATE_SOFTMAX;
    router->renormalise = r->family->renormalise;
    JT_TRY(jt_key_bool(r, "expert_weights_norm", &router->renormalise));
    JT_TRY(jt_key_float(r, "expert_weights_scale", -1.0f, 1.0f, &router->scale));
    if (router->scale == 0.0f) /* converters write 0 for "none" */
        router->scale = 1.0f;
    JT_TRY(jt_key_int(r, "expert_group_count", 0, router->n_experts, 0,
                      &router->n_groups));
    return jt_key_int(r, "expert_group_used_count", 0, router->n_groups, 0,
                      &router->groups_used);
}

/* The slots that only Junto has keys for. */
static jt_status read_own_router(jt_key_reader *r, jt_router *router)
{
    char name[40];
    JT_TRY(jt_key_text(r, "score", "linear", name, sizeof name));
    router->scorer = jt_scorer_find(name);
    if (!router->scorer)
        return jt_key_unknown(r, name, jt_scorer_name);
    const char *usual = router->n_groups > 1 ? "group_limited" : "topk";
    JT_TRY(jt_key_text(r, "select", usual, name, sizeof name));
    router->selector = jt_selector_find(name);
    if (!router->selector)
        return jt_key_unknown(r, name, jt_selector_name);
    router->gate_after = r->family->gate_after;
    JT_TRY(jt_key_bool(r, "gate_after", &router->gate_after));
    JT_TRY(jt_key_float(r, "temperature", 0.0f, 1.0f, &router->temperature));
    JT_TRY(jt_key_float(r, "top_p", 0.0f, 1.0f, &router->top_p));
    return jt_key_int(r, "group_best", 0, router->n_experts, 0, &router->group_best);
}

jt_status jt_params_router(jt_key_reader *r, jt_router *router)
{
    enum { MAX_EXPERTS = 65536 };
    jt_key_reader own = *r;
    own.prefix = "junto.router";
    JT_TRY(jt_key_int(r, "expert_count", 0, MAX_EXPERTS, 0, &router->n_experts));
    if (!router->n_experts)
        return JT_OK;
    JT_TRY(jt_key_int(&own, "null_experts", 0, MAX_EXPERTS, 0, &router->n_null));
    JT_TRY(read_common_router(r, router));
    JT_TRY(read_own_router(&own, router));
    jt_status status = jt_router_check(router, r->err);
    return status == JT_OK ? JT_OK : jt_fail_within(r->err, JT_E_FORMAT, "router keys");
}
