/* Policies on logits: which experts can be chosen at all, and how willingly. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "steer/mask.h"
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

void jt_mask_logits(const bool *is_out, int n_experts, float *logits, int n_tokens,
                    int n_rows)
{
    for (int t = 0; t < n_tokens; t++) {
        for (int e = 0; e < n_experts; e++) {
            if (is_out[e])
                logits[(size_t)t * (size_t)n_rows + (size_t)e] = -INFINITY;
        }
    }
}

void jt_mask_route(const bool *is_out, int n_experts, jt_route *route)
{
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    for (size_t s = 0; s < slots; s++) {
        int32_t e = route->expert[s];
        if (e >= 0 && e < n_experts && is_out[e]) {
            route->expert[s] = -1;
            route->weight[s] = 0.0f;
        }
    }
}

typedef struct out {
    jt_ids experts;
    int zero; /* 0: the next ones do the work, 1: nobody does */
    const jt_model *model;
    bool *is_out; /* [most experts of a layer] */
} out;

static void mask_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_rows)
{
    const out *o = self;
    int n_experts = jt_scope_router(o->model, site->layer)->n_experts;
    if (!o->zero)
        jt_mask_logits(o->is_out, n_experts, logits, n_tokens, n_rows);
}

static void mask_route(void *self, const jt_route_site *site, jt_route *route)
{
    const out *o = self;
    if (o->zero)
        jt_mask_route(o->is_out, jt_scope_router(o->model, site->layer)->n_experts,
                      route);
}

static jt_status open_out(out *o, const jt_scope *scope, bool keep, jt_err *err)
{
    int most = 0;
    JT_TRY(check_experts(&o->experts, scope, err));
    for (int layer = 0; layer < scope->model->params.n_layers; layer++) {
        int n =
            scope->layer[layer] ? jt_scope_router(scope->model, layer)->n_experts : 0;
        most = n > most ? n : most;
    }
    o->model = scope->model;
    o->is_out = jt_calloc((size_t)most, sizeof *o->is_out);
    if (!o->is_out)
        return jt_fail_memory(err, "reading a policy");
    for (int32_t e = 0; e < most; e++)
        o->is_out[e] = jt_ids_hold(&o->experts, e) != keep;
    return JT_OK;
}

static jt_status open_mask(void *self, const jt_scope *scope, jt_err *err)
{
    return open_out(self, scope, false, err);
}

static jt_status open_keep(void *self, const jt_scope *scope, jt_err *err)
{
    return open_out(self, scope, true, err);
}

static void close_out(void *self)
{
    free(((out *)self)->is_out);
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
    .close = close_out,
};

const jt_policy_kind jt_policy_keep = {
    .name = "keep",
    .summary = "take all other experts out",
    .keys = keep_keys,
    .size = sizeof(out),
    .by_layer = true,
    .hooks = {.on_logits = mask_logits, .on_route = mask_route},
    .open = open_keep,
    .close = close_out,
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
