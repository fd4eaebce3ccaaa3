#include "moe/mixture.h"

#include <math.h>
#include <string.h>

#include "moe/back.h"
#include "moe/weigh.h"

int jt_hooks_slots(const jt_hooks *hooks, const jt_route_site *site, int k)
{
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (p->on_k)
            k = p->on_k(p->self, site, k);
    }
    return k;
}

void jt_hooks_logits(const jt_hooks *hooks, const jt_route_site *site,
                     const jt_tensor *logits)
{
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (p->on_logits)
            p->on_logits(p->self, site, logits->data, (int)jt_rows(logits),
                         (int)jt_cols(logits));
    }
}

/* Stages 1 and 2, with the policies between and after them. */
static jt_route route_tokens(jt_context *ctx, const jt_mixture *m,
                             const jt_hooks *hooks, const jt_route_site *site,
                             jt_input *x)
{
    const jt_router *r = &m->router;
    int tokens = (int)jt_rows(&x->x);
    jt_tensor logits = {0};
    jt_router_score(ctx, r, site, x, &logits);
    jt_lap(ctx, JT_STAGE_SCORE);
    jt_route route =
        jt_route_new(ctx, tokens, r->n_experts, jt_hooks_slots(hooks, site, r->k));
    jt_tensor scores = jt_new(ctx, (size_t)tokens, (size_t)jt_router_rows(r));
    if (jt_failed(ctx))
        return route;
    jt_hooks_logits(hooks, site, &logits);
    jt_router_select(ctx, r, hooks, site, &logits, &scores, &route);
    if (jt_failed(ctx))
        return route;
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (p->on_route)
            p->on_route(p->self, site, &route);
    }
    for (int i = 0; i < hooks->n_terms; i++) {
        const jt_route_term *term = &hooks->term[i];
        term->add(term->self, ctx, site, r, &logits, &scores, &route);
    }
    for (int i = 0; i < hooks->n_watchers && !site->replay; i++) {
        const jt_watcher *w = &hooks->watcher[i];
        if (w->on_route)
            w->on_route(w->self, site, &route);
    }
    jt_lap(ctx, JT_STAGE_SELECT);
    return route;
}

/* What the routers of the parts of a pass gave all rows, one after the other. */
static const float *join_scores(jt_context *ctx, const jt_route *parts, size_t n,
                                size_t tokens)
{
    size_t rows = (size_t)parts[0].n_rows;
    float *all = jt_scratch(ctx, tokens * rows, sizeof *all), *to = all;
    for (size_t i = 0; i < n && all; i++) {
        size_t values = (size_t)parts[i].n_tokens * rows;
        memcpy(to, parts[i].scores, values * sizeof *to);
        to += values;
    }
    return all;
}

/* The routes of the parts of a pass, one after the other, as one. */
static jt_route join_routes(jt_context *ctx, const jt_route *parts, size_t n)
{
    int tokens = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        tokens += parts[i].n_tokens;
        k = parts[i].k > k ? parts[i].k : k;
    }
    jt_route all = jt_route_new(ctx, tokens, parts[0].n_experts, k);
    all.n_rows = parts[0].n_rows;
    all.scores = join_scores(ctx, parts, n, (size_t)tokens);
    size_t to = 0;
    for (size_t i = 0; i < n && !jt_failed(ctx); i++) {
        const jt_route *from = &parts[i];
        size_t own = (size_t)from->k, slots = (size_t)from->n_tokens * own;
        for (size_t at = 0; at < slots; at += own, to += (size_t)k) {
            for (size_t j = 0; j < (size_t)k; j++) {
                all.expert[to + j] = j < own ? from->expert[at + j] : -1;
                all.weight[to + j] = j < own ? from->weight[at + j] : 0.0f;
            }
        }
    }
    return all;
}

/* Each part of the rows by its own policies. */
static jt_route route_parts(jt_context *ctx, const jt_mixture *m, const jt_hooks *hooks,
                            const jt_route_site *site, jt_input *x)
{
    jt_route *routes = jt_scratch(ctx, hooks->n_parts, sizeof *routes);
    size_t first = 0;
    for (size_t i = 0; i < hooks->n_parts && !jt_failed(ctx); i++) {
        const jt_hooks_part *part = &hooks->part[i];
        jt_route_site own = *site;
        own.token_ids += first;
        own.positions += first;
        own.first = first;
        jt_input rows = jt_input_of(jt_some_rows(&x->x, first, part->tokens));
        ctx->change.first += first;
        routes[i] = route_tokens(ctx, m, part->hooks, &own, &rows);
        ctx->change.first -= first;
        first += part->tokens;
    }
    return jt_failed(ctx) ? (jt_route){0} : join_routes(ctx, routes, hooks->n_parts);
}

typedef struct combine_args {
    const jt_kernels *kernels;
    const jt_plan *plan;
    const jt_tensor *rows;
    jt_tensor *y;
} combine_args;

/* Experts are added in the order of the slots, so the sum does not depend on which
 * other tokens were in the batch. */
static void combine_token(void *arg, size_t t)
{
    const combine_args *a = arg;
    size_t k = (size_t)a->plan->k, d = jt_cols(a->y);
    float *y = jt_row(a->y, t);
    for (size_t j = 0; j < k; j++) {
        int32_t row = a->plan->row[t * k + j];
        if (row >= 0)
            a->kernels->axpy(y, a->plan->weight[row], jt_row(a->rows, (size_t)row), d);
    }
}

void jt_combine(jt_context *ctx, const jt_plan *plan, const jt_tensor *rows,
                jt_tensor *y)
{
    if (jt_failed(ctx))
        return;
    combine_args args = {ctx->kernels, plan, rows, y};
    size_t tokens = (size_t)plan->n_tokens;
    jt_for_rows(ctx, tokens, tokens * (size_t)plan->k * jt_cols(y), combine_token,
                &args);
    jt_combine_record(ctx, plan, rows, y);
}

/* The shared expert: all tokens, weight 1 or sigmoid(gate . x). */
static void add_shared(jt_context *ctx, const jt_mixture *m, const jt_store *store,
                       jt_input *x, jt_tensor *y)
{
    jt_plan plan = jt_plan_everyone(ctx, (int)jt_rows(&x->x));
    if (jt_has(&m->shared_gate)) {
        jt_tensor logits = jt_linear(ctx, x, &m->shared_gate, NULL);
        for (int t = 0; !jt_failed(ctx) && t < plan.n_rows; t++)
            plan.weight[t] = 1.0f / (1.0f + expf(-*jt_row(&logits, (size_t)t)));
        jt_sigmoid_record(ctx, &plan, &logits);
    }
    jt_tensor rows = jt_bank_apply(ctx, &m->shared, store, &plan, x);
    jt_lap(ctx, JT_STAGE_APPLY);
    jt_combine(ctx, &plan, &rows, y);
}

static void count_loads(jt_context *ctx, const jt_plan *plan)
{
    for (int e = 0; e < plan->n_experts; e++)
        ctx->loads += plan->start[e + 1] > plan->start[e];
}

/* Watchers see what the experts gave to the first part. */
static void show_outputs(const jt_context *ctx, const jt_hooks *hooks,
                         const jt_route_site *site, const jt_plan *plan,
                         const jt_tensor *rows)
{
    jt_plan own = *plan;
    const jt_hooks *of = hooks;
    if (hooks->n_parts) {
        of = hooks->part[0].hooks;
        own.n_tokens = (int)hooks->part[0].tokens;
    }
    for (int i = 0; i < of->n_watchers && !site->replay && !jt_failed(ctx); i++) {
        const jt_watcher *w = &of->watcher[i];
        if (w->on_outputs)
            w->on_outputs(w->self, site, &own, rows->data, jt_cols(rows));
    }
}

jt_tensor jt_mixture_forward_apart(jt_context *ctx, const jt_mixture *m,
                                   const jt_store *store, const jt_hooks *hooks,
                                   const jt_route_site *site, jt_input *router_x,
                                   jt_input *x)
{
    jt_route route = hooks->n_parts ? route_parts(ctx, m, hooks, site, router_x)
                                    : route_tokens(ctx, m, hooks, site, router_x);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    if (store->learn && !site->replay)
        store->learn(store->self, site, &route);
    jt_plan plan = jt_plan_build(ctx, &route);
    jt_tensor y = jt_new(ctx, jt_rows(&x->x), m->experts.d);
    if (jt_failed(ctx))
        return y;
    jt_zero(ctx, y.data, jt_rows(&y) * jt_cols(&y));
    count_loads(ctx, &plan);
    jt_input weighed;
    jt_input *experts_x = x;
    if (m->router.weigh_input) {
        weighed = jt_input_of(jt_weigh_rows(ctx, &plan, &x->x));
        plan = jt_plan_of_rows(ctx, &plan);
        experts_x = &weighed;
    }
    jt_tensor rows = jt_bank_apply(ctx, &m->experts, store, &plan, experts_x);
    show_outputs(ctx, hooks, site, &plan, &rows);
    jt_lap(ctx, JT_STAGE_APPLY);
    jt_combine(ctx, &plan, &rows, &y);
    if (m->shared.n_experts)
        add_shared(ctx, m, store, x, &y);
    if (m->scale > 0.0f)
        jt_scale(ctx, &y, m->scale);
    jt_lap(ctx, JT_STAGE_COMBINE);
    return y;
}

jt_tensor jt_mixture_forward(jt_context *ctx, const jt_mixture *m,
                             const jt_store *store, const jt_hooks *hooks,
                             const jt_route_site *site, jt_input *x)
{
    return jt_mixture_forward_apart(ctx, m, store, hooks, site, x, x);
}

jt_tensor jt_dense_forward(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                           jt_input *x)
{
    jt_plan plan = jt_plan_everyone(ctx, (int)jt_rows(&x->x));
    if (jt_failed(ctx))
        return (jt_tensor){0};
    jt_tensor y = jt_bank_apply(ctx, bank, store, &plan, x);
    jt_lap(ctx, JT_STAGE_DENSE);
    return y;
}
