/* Selectors for experts in groups: n_groups equal ones of consecutive experts, such as
 * those on one device. */
#include "moe/select.h"

static jt_status check_groups(const jt_router *r, jt_err *err)
{
    const char *name = r->selector->name;
    if (r->n_null)
        return jt_fail(err, JT_E_ARG, "selector '%s': null experts belong to no group",
                       name);
    if (r->n_groups < 1 || r->n_experts % r->n_groups)
        return jt_fail(err, JT_E_ARG,
                       "selector '%s': %d experts do not go into %d equal groups", name,
                       r->n_experts, r->n_groups);
    return JT_OK;
}

/* ---- grouped: as many from each group (Pangu's MoGE), group after group ---- */

static jt_status check_grouped(const jt_router *r, jt_err *err)
{
    JT_TRY(check_groups(r, err));
    if (r->k % r->n_groups)
        return jt_fail(err, JT_E_ARG,
                       "selector 'grouped': %d experts of a token cannot come evenly "
                       "from %d groups",
                       r->k, r->n_groups);
    return JT_OK;
}

static void grouped_token(void *arg, size_t t)
{
    const jt_choice *c = arg;
    jt_contest contest = jt_contest_of(c, t);
    int groups = c->router->n_groups, size = c->router->n_experts / groups;
    int k = c->route->k / groups;
    int32_t *chosen = c->route->expert + t * (size_t)c->route->k;
    jt_contest_clear(chosen, c->route->k);
    for (int g = 0; g < groups; g++)
        jt_contest_enter(&contest, g * size, (g + 1) * size, chosen + g * k, k);
}

static void choose_grouped(jt_context *ctx, const jt_choice *choice)
{
    size_t tokens = (size_t)choice->route->n_tokens;
    jt_for_rows(ctx, tokens, tokens * jt_cols(choice->logits) * 8, grouped_token,
                (void *)(uintptr_t)choice);
}

/* ---- group_limited: the best groups, and the best experts inside them (DeepSeek) ----
 */

static int best_of_group(const jt_router *r)
{
    int best = r->group_best ? r->group_best : 2, size = r->n_experts / r->n_groups;
    return best < size ? best : size;
}

static jt_status check_group_limited(const jt_router *r, jt_err *err)
{
    JT_TRY(check_groups(r, err));
    if (r->groups_used < 1 || r->groups_used > r->n_groups)
        return jt_fail(err, JT_E_ARG,
                       "selector 'group_limited': %d groups used, expected 1 to %d",
                       r->groups_used, r->n_groups);
    int within = r->n_experts / r->n_groups * r->groups_used;
    if (r->k > within)
        return jt_fail(
            err, JT_E_ARG,
            "selector 'group_limited': %d experts of a token do not fit into "
            "%d groups, which have %d",
            r->k, r->groups_used, within);
    if (r->group_best < 0)
        return jt_fail(err, JT_E_ARG, "selector 'group_limited': group_best is %d",
                       r->group_best);
    return JT_OK;
}

typedef struct group_args {
    const jt_choice *choice;
    float *scores; /* [tokens, groups] */
    int32_t *kept; /* [tokens, groups used] */
    int32_t *best; /* [tokens, best_of_group] */
    int size, n_best;
} group_args;

/* The sum of the best experts of group `g`; -infinity when all are out. */
static float group_score(const jt_contest *contest, int g, int size, int32_t *best,
                         int n_best)
{
    float sum = 0.0f;
    jt_contest_clear(best, n_best);
    jt_contest_enter(contest, g * size, (g + 1) * size, best, n_best);
    for (int j = 0; j < n_best && best[j] >= 0; j++)
        sum += jt_contest_value(contest, best[j]);
    return best[0] < 0 ? -INFINITY : sum;
}

static bool among(const int32_t *list, int count, int32_t id)
{
    for (int i = 0; i < count; i++) {
        if (list[i] == id)
            return true;
    }
    return false;
}

static void group_limited_token(void *arg, size_t t)
{
    const group_args *a = arg;
    const jt_choice *c = a->choice;
    int groups = c->router->n_groups, used = c->router->groups_used, k = c->route->k;
    int32_t *chosen = c->route->expert + t * (size_t)k;
    int32_t *kept = a->kept + t * (size_t)used;
    int32_t *best = a->best + t * (size_t)a->n_best;
    float *scores = a->scores + t * (size_t)groups;
    jt_contest experts = jt_contest_of(c, t), of_groups = {scores, scores, NULL};
    for (int g = 0; g < groups; g++)
        scores[g] = group_score(&experts, g, a->size, best, a->n_best);
    jt_contest_clear(kept, used);
    jt_contest_enter(&of_groups, 0, groups, kept, used);
    jt_contest_clear(chosen, k);
    for (int g = 0; g < groups; g++) {
        if (among(kept, used, g))
            jt_contest_enter(&experts, g * a->size, (g + 1) * a->size, chosen, k);
    }
}

static void choose_group_limited(jt_context *ctx, const jt_choice *choice)
{
    const jt_router *r = choice->router;
    size_t tokens = (size_t)choice->route->n_tokens;
    int n_best = best_of_group(r);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    group_args args = {
        .choice = choice,
        .scores = jt_scratch(ctx, tokens * (size_t)r->n_groups, sizeof(float)),
        .kept = jt_scratch(ctx, tokens * (size_t)r->groups_used, sizeof(int32_t)),
        .best = jt_scratch(ctx, tokens * (size_t)n_best, sizeof(int32_t)),
        .size = r->n_experts / r->n_groups,
        .n_best = n_best,
    };
    if (!jt_failed(ctx))
        jt_for_rows(ctx, tokens, tokens * jt_cols(choice->logits) * 16,
                    group_limited_token, &args);
    jt_arena_rewind(&ctx->scratch, mark);
}

const jt_selector jt_select_grouped = {"grouped", check_grouped, choose_grouped};
const jt_selector jt_select_group_limited = {"group_limited", check_group_limited,
                                             choose_group_limited};
