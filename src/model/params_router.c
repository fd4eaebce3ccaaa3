#include "model/params.h"

/* Numbers of gates in files; 0: the file leaves it to the architecture. */
static jt_status read_gating(jt_key_reader *r, jt_router *router)
{
    enum { SAID_NOTHING, SOFTMAX, SIGMOID, SOFTMAX_AFTER, SQRT_SOFTPLUS };
    static const jt_gating gates[] = {[SOFTMAX] = JT_GATE_SOFTMAX,
                                      [SIGMOID] = JT_GATE_SIGMOID,
                                      [SOFTMAX_AFTER] = JT_GATE_SOFTMAX,
                                      [SQRT_SOFTPLUS] = JT_GATE_SQRT_SOFTPLUS};
    int said;
    JT_TRY(jt_key_int(r, "expert_gating_func", SAID_NOTHING, SQRT_SOFTPLUS,
                      SAID_NOTHING, &said));
    router->gating = said ? gates[said] : r->family->gating;
    router->gate_after = said == SOFTMAX_AFTER || r->family->gate_after;
    return JT_OK;
}

/* What other programs know of a router, too. */
static jt_status read_common_router(jt_key_reader *r, jt_router *router)
{
    JT_TRY(
        jt_key_int(r, "expert_used_count", 1, jt_router_rows(router), 0, &router->k));
    JT_TRY(read_gating(r, router));
    router->renormalise = r->family->renormalise;
    router->sum_eps = r->family->sum_eps;
    router->weigh_input = r->family->weigh_input;
    JT_TRY(jt_key_bool(r, "expert_weights_norm", &router->renormalise));
    JT_TRY(jt_key_float(r, "expert_weights_scale", -1.0f, 1.0f, &router->scale));
    if (router->scale == 0.0f) /* converters write 0 for "none" */
        router->scale = 1.0f;
    JT_TRY(jt_key_float(r, "router_logit_softcapping", -1.0f, 0.0f, &router->softcap));
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
    const char *usual = r->family->select      ? r->family->select
                        : router->n_groups > 1 ? "group_limited"
                                               : "topk";
    JT_TRY(jt_key_text(r, "select", usual, name, sizeof name));
    router->selector = jt_selector_find(name);
    if (!router->selector)
        return jt_key_unknown(r, name, jt_selector_name);
    JT_TRY(jt_key_bool(r, "gate_after", &router->gate_after));
    JT_TRY(jt_key_bool(r, "ahead", &router->ahead));
    const jt_family *f = r->family;
    if (router->ahead &&
        (f->parallel || f->carries_normed || f->beside == JT_BESIDE_NORMED ||
         f->beside == JT_BESIDE_EXPERTS))
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "routers of this family cannot decide a layer early");
    JT_TRY(jt_key_float(r, "temperature", 0.0f, 1.0f, &router->temperature));
    JT_TRY(jt_key_float(r, "top_p", 0.0f, 1.0f, &router->top_p));
    int best = r->family->group_max && router->gating == JT_GATE_SOFTMAX ? 1 : 0;
    return jt_key_int(r, "group_best", 0, router->n_experts, best, &router->group_best);
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
