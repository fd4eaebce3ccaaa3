/* SCMoE, self-contrast (Shi et al. 2024, "Unchosen Experts Can Contribute Too:
 * Unleashing MoE Models' Power by Self-Contrast"): the model with its usual routing is
 * contrasted with itself when each token gets experts of other ranks.
 *
 *   score = (1 + beta) z_strong - beta z_weak  where z_strong >= max z_strong + log
 * alpha -infinity                          elsewhere
 *
 * Both are sequences of their own with their own keys and values, as in the paper. They
 * go through the layers side by side, so that attention, shared experts, the head, and
 * experts that both want are read once. */
#include <math.h>

#include "moe/mixture.h"
#include "run/session.h"
#include "steer/trim.h"

typedef struct contrast {
    float alpha, beta;
    jt_ids weak;
    const jt_model *model;
} contrast;

/* ---- the weak routing ---- */

static int weak_slots(void *self, const jt_route_site *site, int k)
{
    (void)site, (void)k;
    return jt_ranks_slots(&((const contrast *)self)->weak);
}

/* Weights sum to 1 where the router makes them, and are its probabilities elsewhere, as
 * in the released code for Mixtral and for DeepSeekMoE. */
static void weak_route(void *self, const jt_route_site *site, jt_route *route)
{
    const contrast *c = self;
    jt_ranks_trim(&c->weak, route,
                  jt_trim_rescales(JT_RESCALE_AS_ROUTER, c->model, site->layer));
}

static jt_status open_scmoe(void *self, const jt_scope *scope, jt_err *err)
{
    contrast *c = self;
    c->model = scope->model;
    for (int i = 0; i < scope->model->params.n_layers; i++) {
        if (!scope->layer[i])
            continue;
        jt_router router = *jt_scope_router(scope->model, i);
        router.k = jt_ranks_slots(&c->weak);
        jt_status status = jt_router_check(&router, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "weak, layer %d", i);
    }
    return JT_OK;
}

/* ---- the scores ---- */

static void join(void *self, float *logits, const float *weak, size_t n)
{
    const contrast *c = self;
    float best = logits[0];
    for (size_t i = 1; i < n; i++)
        best = logits[i] > best ? logits[i] : best;
    float least = best + logf(c->alpha); /* alpha 0: all */
    for (size_t i = 0; i < n; i++)
        logits[i] = logits[i] >= least
                        ? (1.0f + c->beta) * logits[i] - c->beta * weak[i]
                        : -INFINITY;
}

/* The weak sequence has all policies of the strong one, and then its ranks. */
static jt_status attach(void *self, jt_session *session, const jt_hooks *all,
                        jt_err *err)
{
    jt_session_twin twin = {.hooks = *all, .self = self, .join = join};
    if (twin.hooks.n_policies == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_LIMIT, "more than %d policies", JT_MAX_HOOKS - 1);
    twin.hooks.n_watchers = 0;
    twin.hooks.policy[twin.hooks.n_policies++] = (jt_policy){
        .name = "weak", .self = self, .on_k = weak_slots, .on_route = weak_route};
    return jt_session_add_twin(session, &twin, err);
}

static const jt_key keys[] = {
    {"beta", JT_KEY_NUMBER, "X", "0.5", 0, 100, offsetof(contrast, beta),
     "how much of the difference is added"},
    {"alpha", JT_KEY_NUMBER, "P", "0.1", 0, 1, offsetof(contrast, alpha),
     "tokens less likely than this share of the likeliest are out; 0: none is"},
    {"weak", JT_KEY_IDS, "IDS", "2", 0, 65535, offsetof(contrast, weak),
     "the ranks of the experts of the weak routing, the best expert's is 0"},
    {0}};

const jt_policy_kind jt_policy_scmoe = {
    .name = "scmoe",
    .summary = "contrast the model with itself under a weaker routing",
    .source = "Shi et al. 2024, Unchosen Experts Can Contribute Too",
    .keys = keys,
    .size = sizeof(contrast),
    .open = open_scmoe,
    .attach = attach,
};
