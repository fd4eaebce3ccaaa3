/* Policies on logits: which experts can be chosen at all, and how willingly. */
#include <math.h>

#include "steer/policy.h"

/* Every layer in scope has these experts. */
static jt_status check_experts(const jt_ids *ids, const jt_scope *scope, jt_err *err)
{
    for (int layer = 0; layer < scope->model->params.n_layers; layer++) {
        if (!scope->layer[layer])
            continue;
        int n = jt_scope_router(scope->model, layer)->n_experts;
        for (size_t i = 0; i < ids->count; i++) {
            if (ids->list[i] >= n)
                return jt_fail(err, JT_E_ARG,
                               "there is no expert %d: layer %d has experts 0 to %d",
                               (int)ids->list[i], layer, n - 1);
        }
    }
    return JT_OK;
}

/* ---- mask and keep ---- */

typedef struct out {
    jt_ids experts;
    int zero; /* 0: the next ones do the work, 1: nobody does */
    bool keep;
    const jt_model *model;
} out;

/* Null experts are no experts: they can always be had. */
static bool is_out(const out *o, const jt_route_site *site, int32_t expert)
{
    return expert < jt_scope_router(o->model, site->layer)->n_experts &&
           jt_ids_hold(&o->experts, expert) != o->keep;
}

static void mask_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_experts)
{
    const out *o = self;
    for (int32_t e = 0; !o->zero && e < n_experts; e++) {
        if (!is_out(o, site, e))
            continue;
        for (int t = 0; t < n_tokens; t++)
            logits[(size_t)t * (size_t)n_experts + (size_t)e] = -INFINITY;
    }
}

static void mask_route(void *self, const jt_route_site *site, jt_route *route)
{
    const out *o = self;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    for (size_t s = 0; o->zero && s < slots; s++) {
        if (route->expert[s] >= 0 && is_out(o, site, route->expert[s])) {
            route->expert[s] = -1;
            route->weight[s] = 0.0f;
        }
    }
}

static jt_status open_mask(void *self, const jt_scope *scope, jt_err *err)
{
    ((out *)self)->model = scope->model;
    return check_experts(&((out *)self)->experts, scope, err);
}

static jt_status open_keep(void *self, const jt_scope *scope, jt_err *err)
{
    ((out *)self)->keep = true;
    return open_mask(self, scope, err);
}

#define MASK_KEYS(text)                                                               \
    {                                                                                 \
        {"experts", JT_KEY_IDS, "IDS", NULL, 0, 65535, offsetof(out, experts), text}, \
            {"mode",                                                                  \
             JT_KEY_WORD,                                                             \
             "reroute|zero",                                                          \
             "reroute",                                                               \
             0,                                                                       \
             0,                                                                       \
             offsetof(out, zero),                                                     \
             "reroute: the next best experts do the work; zero: the router chooses "  \
             "as "                                                                    \
             "always and what these experts give is left out"},                       \
        {                                                                             \
            0                                                                         \
        }                                                                             \
    }

static const jt_key mask_keys[] = MASK_KEYS("experts that are out");
static const jt_key keep_keys[] = MASK_KEYS("experts that stay; all others are out");

const jt_policy_kind jt_policy_mask = {
    .name = "mask",
    .summary = "take experts out",
    .keys = mask_keys,
    .size = sizeof(out),
    .by_layer = true,
    .hooks = {.on_logits = mask_logits, .on_route = mask_route},
    .open = open_mask,
};

const jt_policy_kind jt_policy_keep = {
    .name = "keep",
    .summary = "take all other experts out",
    .keys = keep_keys,
    .size = sizeof(out),
    .by_layer = true,
    .hooks = {.on_logits = mask_logits, .on_route = mask_route},
    .open = open_keep,
};

/* ---- bias ---- */

typedef struct bias {
    jt_ids experts;
    float value;
    int selection; /* 0: on the logits, 1: on the scores that selection compares */
} bias;

static void bias_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_experts)
{
    const bias *b = self;
    (void)site;
    for (int t = 0; !b->selection && t < n_tokens; t++) {
        float *row = logits + (size_t)t * (size_t)n_experts;
        for (size_t i = 0; i < b->experts.count; i++)
            row[b->experts.list[i]] += b->value;
    }
}

static void bias_selection(void *self, const jt_route_site *site, const float *scores,
                           int n_tokens, int n_experts, float *values)
{
    const bias *b = self;
    (void)site, (void)scores, (void)n_tokens, (void)n_experts;
    for (size_t i = 0; b->selection && i < b->experts.count; i++)
        values[b->experts.list[i]] += b->value;
}

static jt_status open_bias(void *self, const jt_scope *scope, jt_err *err)
{
    return check_experts(&((bias *)self)->experts, scope, err);
}

static const jt_key bias_keys[] = {
    {"experts", JT_KEY_IDS, "IDS", NULL, 0, 65535, offsetof(bias, experts),
     "experts that are favoured, or not"},
    {"value", JT_KEY_NUMBER, "X", NULL, -1e6, 1e6, offsetof(bias, value),
     "what is added for them"},
    {"at", JT_KEY_WORD, "logits|selection", "logits", 0, 0, offsetof(bias, selection),
     "logits: to the router's logits, so that weights change, too; selection: to the "
     "scores that are compared, and to nothing else"},
    {0}};

const jt_policy_kind jt_policy_bias = {
    .name = "bias",
    .summary = "make experts more or less likely",
    .keys = bias_keys,
    .size = sizeof(bias),
    .by_layer = true,
    .hooks = {.on_logits = bias_logits, .on_scores = bias_selection},
    .open = open_bias,
};

/* ---- temperature ---- */

static void heat_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_experts)
{
    float factor = 1.0f / *(const float *)self;
    size_t n = (size_t)n_tokens * (size_t)n_experts;
    (void)site;
    for (size_t i = 0; i < n; i++)
        logits[i] *= factor;
}

static const jt_key temperature_keys[] = {
    {"t", JT_KEY_NUMBER, "T", NULL, 1e-3, 1e3, 0,
     "what logits are divided by: below 1 sharper weights, above 1 more even ones"},
    {0}};

const jt_policy_kind jt_policy_temperature = {
    .name = "temperature",
    .summary = "make the weights of a token's experts sharper or more even",
    .keys = temperature_keys,
    .size = sizeof(float),
    .by_layer = true,
    .hooks = {.on_logits = heat_logits},
};
