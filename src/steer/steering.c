#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/session.h"
#include "steer/policy.h"

static const jt_policy_kind *const kinds[] = {
    &jt_policy_mask,  &jt_policy_keep,       &jt_policy_bias,  &jt_policy_temperature,
    &jt_policy_topk,  &jt_policy_min_weight, &jt_policy_top_p, &jt_policy_ser,
    &jt_policy_ranks, &jt_policy_modes,      &jt_policy_scmoe, &jt_policy_rewire,
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- the kinds ---- */

/* What kinds that act layer by layer have beside their own keys. */
typedef struct where {
    jt_ids layers;
} where;

static const jt_key where_keys[] = {
    {"layers", JT_KEY_IDS, "IDS", "", 0, 65535, offsetof(where, layers),
     "layers in which it acts, counted from 0; all of them if it is not given"},
    {0}};

bool jt_policy_describe(size_t policy, jt_policy_info *info)
{
    if (policy >= KINDS)
        return false;
    const jt_policy_kind *kind = kinds[policy];
    *info = (jt_policy_info){kind->name, kind->summary, kind->source, 0};
    jt_policy_key key;
    while (jt_policy_describe_key(policy, info->n_keys, &key))
        info->n_keys++;
    return true;
}

bool jt_policy_describe_key(size_t policy, size_t key, jt_policy_key *out)
{
    if (policy >= KINDS)
        return false;
    const jt_key *at = kinds[policy]->keys;
    while (at->name && key > 0)
        at++, key--;
    if (!at->name && kinds[policy]->by_layer && key == 0)
        at = where_keys;
    if (!at->name)
        return false;
    *out = (jt_policy_key){at->name, at->value, at->initial, at->help};
    return true;
}

/* "mask, keep, bias" */
static void list_names(char *text, size_t room)
{
    size_t at = 0;
    for (size_t i = 0; i < KINDS; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%s", i ? ", " : "",
                               kinds[i]->name);
}

static const jt_policy_kind *find(const char *name, size_t len)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strlen(kinds[i]->name) == len && memcmp(kinds[i]->name, name, len) == 0)
            return kinds[i];
    }
    return NULL;
}

/* ---- a policy of a list ---- */

typedef struct part {
    const jt_policy_kind *kind;
    void *self;  /* [kind->size] settings */
    where where; /* as it was asked for */
    bool *layer; /* [n_layers] */
} part;

struct jt_steering {
    const jt_model *model;
    part part[JT_MAX_HOOKS]; /* hooks point here */
    int n_parts;
    bool attached;
};

static void close_part(part *p)
{
    if (p->self && p->kind->close)
        p->kind->close(p->self);
    if (p->self)
        jt_keys_free(p->kind->keys, p->self);
    jt_keys_free(where_keys, &p->where);
    free(p->self);
    free(p->layer);
    *p = (part){0};
}

static jt_status choose_layers(part *p, const jt_model *model, jt_err *err)
{
    int n = model->params.n_layers;
    for (int i = 0; i < n; i++)
        p->layer[i] = model->layers[i].is_mixture && !p->where.layers.count;
    for (size_t i = 0; i < p->where.layers.count; i++) {
        int layer = p->where.layers.list[i];
        if (layer >= n)
            return jt_fail(err, JT_E_ARG, "there is no layer %d: the model has 0 to %d",
                           layer, n - 1);
        if (!model->layers[layer].is_mixture)
            return jt_fail(err, JT_E_ARG, "layer %d has no experts", layer);
        p->layer[layer] = true;
    }
    return JT_OK;
}

static jt_status open_part(part *p, const jt_model *model, const char *text,
                           jt_err *err)
{
    const jt_policy_kind *kind = p->kind;
    p->self = jt_calloc(1, kind->size);
    p->layer = jt_calloc((size_t)model->params.n_layers, sizeof *p->layer);
    if (!p->self || !p->layer)
        return jt_fail_memory(err, "reading a policy");
    JT_TRY(jt_keys_read(text, kind->keys, p->self, kind->by_layer ? where_keys : NULL,
                        &p->where, err));
    JT_TRY(choose_layers(p, model, err));
    jt_scope scope = {model, p->layer};
    return kind->open ? kind->open(p->self, &scope, err) : JT_OK;
}

/* ---- hooks, in the layers of a policy ---- */

static int on_k(void *self, const jt_route_site *site, int k)
{
    const part *p = self;
    return p->layer[site->layer] ? p->kind->hooks.on_k(p->self, site, k) : k;
}

static void on_logits(void *self, const jt_route_site *site, float *logits,
                      int n_tokens, int n_experts)
{
    const part *p = self;
    if (p->layer[site->layer])
        p->kind->hooks.on_logits(p->self, site, logits, n_tokens, n_experts);
}

static void on_scores(void *self, const jt_route_site *site, const float *scores,
                      int n_tokens, int n_experts, float *bias)
{
    const part *p = self;
    if (p->layer[site->layer])
        p->kind->hooks.on_scores(p->self, site, scores, n_tokens, n_experts, bias);
}

static void on_route(void *self, const jt_route_site *site, jt_route *route)
{
    const part *p = self;
    if (p->layer[site->layer])
        p->kind->hooks.on_route(p->self, site, route);
}

static jt_policy policy_of(part *p)
{
    const jt_policy *of = &p->kind->hooks;
    return (jt_policy){.name = p->kind->name,
                       .self = p,
                       .on_k = of->on_k ? on_k : NULL,
                       .on_logits = of->on_logits ? on_logits : NULL,
                       .on_scores = of->on_scores ? on_scores : NULL,
                       .on_route = of->on_route ? on_route : NULL};
}

/* ---- what they do together ---- */

/* Experts per token after all policies. */
static int slots_of(jt_steering *s, int layer)
{
    jt_route_site site = {.layer = layer};
    int k = jt_scope_router(s->model, layer)->k;
    for (int i = 0; i < s->n_parts; i++) {
        if (s->part[i].kind->hooks.on_k)
            k = on_k(&s->part[i], &site, k);
    }
    return k;
}

/* Is there an expert that a token could have? Logits of zeros tell. */
static jt_status check_left(jt_steering *s, int layer, jt_err *err)
{
    jt_route_site site = {.layer = layer};
    int rows = jt_router_rows(jt_scope_router(s->model, layer)), left = 0;
    float *logits = jt_calloc((size_t)rows, sizeof *logits);
    if (!logits)
        return jt_fail_memory(err, "reading a policy");
    for (int i = 0; i < s->n_parts; i++) {
        if (s->part[i].kind->hooks.on_logits)
            on_logits(&s->part[i], &site, logits, 1, rows);
    }
    for (int e = 0; e < rows; e++)
        left += logits[e] != -INFINITY;
    free(logits);
    return left ? JT_OK
                : jt_fail(err, JT_E_ARG, "no expert of layer %d would be left", layer);
}

static jt_status check_together(jt_steering *s, jt_err *err)
{
    for (int i = 0; i < s->model->params.n_layers; i++) {
        if (!s->model->layers[i].is_mixture)
            continue;
        jt_router router = *jt_scope_router(s->model, i);
        router.k = slots_of(s, i);
        jt_status status = jt_router_check(&router, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "layer %d", i);
        JT_TRY(check_left(s, i, err));
    }
    return JT_OK;
}

/* ---- from outside ---- */

jt_status jt_steering_new(jt_steering **out, const jt_model *model, jt_err *err)
{
    bool any = false;
    for (int i = 0; i < model->params.n_layers; i++)
        any = any || model->layers[i].is_mixture;
    if (!any)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "the model has no experts: there is nothing to steer");
    *out = jt_calloc(1, sizeof **out);
    if (!*out)
        return jt_fail_memory(err, "reading policies");
    (*out)->model = model;
    return JT_OK;
}

static jt_status add(jt_steering *s, const char *text, size_t len, jt_err *err)
{
    char names[256];
    part *p = &s->part[s->n_parts];
    list_names(names, sizeof names);
    p->kind = find(text, len);
    if (!p->kind)
        return jt_fail(err, JT_E_ARG, "there is no such policy; there are %s", names);
    if (s->attached)
        return jt_fail(err, JT_E_ARG, "a session has begun to use this list");
    if (s->n_parts + 1 == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_ARG, "more than %d policies", JT_MAX_HOOKS - 1);
    JT_TRY(open_part(p, s->model, text, err));
    s->n_parts++;
    jt_status status = check_together(s, err);
    s->n_parts -= status != JT_OK;
    return status;
}

jt_status jt_steering_add(jt_steering *s, const char *text, jt_err *err)
{
    size_t len;
    JT_TRY(jt_policy_name(text, &len, err));
    int before = s->n_parts;
    jt_status status = add(s, text, len, err);
    if (status == JT_OK)
        return JT_OK;
    close_part(&s->part[before]);
    return jt_fail_within(err, status, "policy '%.*s'", (int)(len < 40 ? len : 40),
                          text);
}

jt_status jt_steering_hooks(jt_steering *s, jt_hooks *hooks, jt_err *err)
{
    for (int i = 0; i < s->n_parts; i++) {
        if (hooks->n_policies == JT_MAX_HOOKS)
            return jt_fail(err, JT_E_LIMIT, "more than %d policies", JT_MAX_HOOKS);
        hooks->policy[hooks->n_policies++] = policy_of(&s->part[i]);
    }
    return JT_OK;
}

jt_status jt_steering_attach(jt_steering *s, jt_session *session, jt_err *err)
{
    if (s->attached || session->model != s->model)
        return jt_fail(err, JT_E_ARG, "policies are for one session, on their model");
    jt_hooks hooks = session->hooks;
    JT_TRY(jt_steering_hooks(s, &hooks, err));
    for (int i = 0; i < s->n_parts; i++) {
        const part *p = &s->part[i];
        if (p->kind->attach)
            JT_TRY(p->kind->attach(p->self, session, &hooks, err));
    }
    session->hooks = hooks;
    s->attached = true;
    return JT_OK;
}

void jt_steering_free(jt_steering *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_parts; i++)
        close_part(&s->part[i]);
    free(s);
}
