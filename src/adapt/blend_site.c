/* A blend at the products: score and select for each, dispatch by a plan, the grouped
 * products of the adapters, combine. Everything is an operation, so that with a tape
 * gradients come by themselves: of adapters, weights, gates, and inputs. */
#include <string.h>

#include "adapt/blended.h"

/* ---- deciding ---- */

/* The last rows of a route, where only the last tokens go on. */
static jt_route last_of(const jt_route *r, size_t rows)
{
    jt_route some = *r;
    size_t at = ((size_t)r->n_tokens - rows) * (size_t)r->k;
    some.n_tokens = (int)rows;
    some.expert += at;
    some.weight += at;
    some.weight_grad = r->weight_grad ? r->weight_grad + at : NULL;
    return some;
}

/* Are its factors what is read? */
static bool at_rest(const jt_context *ctx, const jt_blend_use *u)
{
    return !ctx->tape && u->by->factors;
}

/* Logits of the gates, in one list. They read the input beside the weight itself, whose
 * gradient of it may be a fresh one and comes first. */
static jt_tensor *score_all(jt_context *ctx, const jt_blend_use *uses, size_t count)
{
    size_t n = 0;
    jt_tensor *logits = jt_scratch(ctx, count, sizeof *logits);
    jt_input *x = jt_scratch(ctx, count, sizeof *x);
    jt_product *list = jt_scratch(ctx, count, sizeof *list);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        const jt_router *r = &uses[i].by->router[uses[i].bank];
        if (uses[i].decided->route)
            continue;
        logits[i] = jt_new(ctx, uses[i].p.tokens, (size_t)r->n_experts);
        x[i] = jt_input_of(uses[i].p.x->x);
        x[i].x.grad_fresh = false;
        if (jt_failed(ctx))
            break;
        list[n] = jt_product_rows(&logits[i], &r->weight, &x[i], 0, uses[i].p.tokens);
        list[n].first = uses[i].p.first;
        if (at_rest(ctx, &uses[i]))
            jt_factor_product(&uses[i].by->factors[uses[i].bank].gate, NULL, 0,
                              &list[n]);
        n++;
    }
    if (!jt_failed(ctx) && n)
        jt_products(ctx, list, n);
    return logits;
}

static jt_route select_one(jt_context *ctx, const jt_blend_use *u, jt_tensor *logits)
{
    static const jt_hooks none;
    const jt_blend *b = u->by->blend;
    const jt_router *r = &u->by->router[u->bank];
    int k = ctx->tape && b->method->learns_all ? (int)b->n : b->k;
    jt_route_site site = {.layer = (int)u->bank};
    jt_route route = jt_route_new(ctx, (int)u->p.tokens, (int)b->n, k);
    jt_tensor scores = jt_new(ctx, u->p.tokens, b->n);
    if (b->temperature != 1.0f)
        jt_scale(ctx, logits, 1.0f / b->temperature);
    jt_router_select(ctx, r, &none, &site, logits, &scores, &route);
    if (u->by->term && !jt_failed(ctx))
        u->by->term->add(u->by->term->self, ctx, &site, r, logits, &scores, &route);
    return route;
}

static void decide(jt_context *ctx, jt_blend_use *uses, size_t count)
{
    jt_tensor *logits = score_all(ctx, uses, count);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_route route;
        const jt_decided *d = uses[i].decided;
        if (d->route)
            route = last_of(&d->route[d->n_routes > 1 ? uses[i].bank : 0],
                            uses[i].p.tokens);
        else
            route = select_one(ctx, &uses[i], &logits[i]);
        if (!jt_failed(ctx))
            uses[i].plan = jt_plan_build(ctx, &route);
    }
}

/* ---- the adapters ---- */

/* Adapter `e` of some rows of a bank's parts. */
static jt_tensor up_of(const jt_blend_use *u, int e)
{
    const jt_adapter_bank *bank = &u->by->blend->bank[u->bank];
    jt_tensor b = jt_slice(&bank->b, (size_t)e);
    return jt_some_rows(&b, u->p.w.first_row, jt_rows(&u->p.w));
}

/* Rows of the plan that adapter `e` has. */
static size_t rows_of(const jt_plan *plan, size_t e, size_t *first)
{
    *first = (size_t)plan->start[e];
    return (size_t)plan->start[e + 1] - *first;
}

/* Which row of the input each row of the plan reads. */
static const int32_t *input_rows(jt_context *ctx, const jt_blend_use *u)
{
    size_t n = (size_t)u->plan.n_rows;
    int32_t *row = u->p.first ? jt_scratch(ctx, n, sizeof *row) : NULL;
    for (size_t i = 0; row && i < n; i++)
        row[i] = u->plan.token[i] + (int32_t)u->p.first;
    return row ? row : u->plan.token;
}

static void add_low(jt_context *ctx, jt_blend_use *u, jt_gathering *via,
                    jt_product *list, size_t *all)
{
    const jt_blend *b = u->by->blend;
    const jt_plan *plan = &u->plan;
    const jt_bank_factors *factors = at_rest(ctx, u) ? &u->by->factors[u->bank] : NULL;
    u->low = jt_input_of(jt_new(ctx, (size_t)plan->n_rows, b->bank[u->bank].rank));
    if (jt_failed(ctx))
        return;
    *via = (jt_gathering){input_rows(ctx, u), plan->row, (size_t)plan->n_rows,
                          (size_t)plan->k};
    for (size_t e = 0, first; e < b->n; e++) {
        size_t rows = rows_of(plan, e, &first);
        if (!rows)
            continue;
        jt_tensor a = jt_slice(&b->bank[u->bank].a, e);
        jt_product p = jt_product_rows(&u->low.x, &a, u->p.x, first, rows);
        p.via = via;
        if (factors)
            jt_factor_product(&factors->a, &factors->b, e, &p);
        list[(*all)++] = p;
    }
}

/* All tokens of a sequence in their order, or the last one of them; any tokens where
 * each decides for itself. */
static bool check(jt_context *ctx, const jt_blend_use *u)
{
    const jt_product *p = &u->p;
    bool in_order = !p->via && p->ldy == jt_rows(&p->w) &&
                    p->first + p->tokens <= jt_rows(&p->x->x);
    bool all = p->tokens == u->decided->n_tokens || p->tokens == 1 ||
               u->by->blend->method->producer == JT_BY_GATE;
    if (!in_order || !all)
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "a mixture of adapters at '%s' in this family",
                u->by->blend->bank[u->bank].target);
    return !jt_failed(ctx);
}

void jt_blended_before(jt_context *ctx, jt_blend_use *uses, size_t count,
                       jt_product *list, size_t *all)
{
    for (size_t i = 0; i < count; i++) {
        if (!check(ctx, &uses[i]))
            return;
    }
    decide(ctx, uses, count);
    /* side by side: gradients of an input are summed in the order of addresses */
    jt_gathering *via = jt_scratch(ctx, count, sizeof *via);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++)
        add_low(ctx, &uses[i], &via[i], list, all);
}

/* As operations, for gradients. */
static void add_high(jt_context *ctx, jt_blend_use *uses, size_t count)
{
    size_t most = 0, n = 0;
    for (size_t i = 0; i < count; i++)
        most += uses[i].by->blend->n;
    jt_tensor *high = jt_scratch(ctx, count, sizeof *high);
    jt_product *list = jt_scratch(ctx, most, sizeof *list);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_blend_use *u = &uses[i];
        jt_scale(ctx, &u->low.x, u->by->scale * u->by->blend->scale);
        high[i] = jt_new(ctx, (size_t)u->plan.n_rows, jt_rows(&u->p.w));
        for (size_t e = 0, first; e < u->by->blend->n && !jt_failed(ctx); e++) {
            size_t rows = rows_of(&u->plan, e, &first);
            jt_tensor b = up_of(u, (int)e);
            if (rows)
                list[n++] = jt_product_rows(&high[i], &b, &u->low, first, rows);
        }
    }
    if (!jt_failed(ctx))
        jt_products(ctx, list, n);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        const jt_product *p = &uses[i].p;
        jt_tensor y = {.data = p->y,
                       .grad = p->y_grad,
                       .dtype = JT_F32,
                       .n_dims = 2,
                       .shape = {p->tokens, p->ldy}};
        jt_combine(ctx, &uses[i].plan, &high[i], &y);
    }
}

void jt_blended_after(jt_context *ctx, jt_blend_use *uses, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all &= at_rest(ctx, &uses[i]);
    if (all)
        jt_blended_add_up(ctx, uses, count);
    else
        add_high(ctx, uses, count);
}
