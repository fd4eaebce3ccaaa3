#include "moe/router.h"

#include <math.h>
#include <string.h>

#include "moe/score.h"
#include "moe/select.h"

static const jt_scorer *const scorers[] = {&jt_score_linear, &jt_score_cosine};
static const jt_selector *const selectors[] = {
    &jt_select_topk, &jt_select_top_p, &jt_select_grouped, &jt_select_group_limited,
    &jt_select_expert_choice};

enum {
    SCORERS = sizeof scorers / sizeof *scorers,
    SELECTORS = sizeof selectors / sizeof *selectors
};

const jt_scorer *jt_scorer_find(const char *name)
{
    for (size_t i = 0; i < SCORERS; i++) {
        if (strcmp(scorers[i]->name, name) == 0)
            return scorers[i];
    }
    return NULL;
}

const jt_selector *jt_selector_find(const char *name)
{
    for (size_t i = 0; i < SELECTORS; i++) {
        if (strcmp(selectors[i]->name, name) == 0)
            return selectors[i];
    }
    return NULL;
}

const char *jt_scorer_name(size_t i)
{
    return i < SCORERS ? scorers[i]->name : NULL;
}

const char *jt_selector_name(size_t i)
{
    return i < SELECTORS ? selectors[i]->name : NULL;
}

/* What training adds. */
static jt_status check_training(const jt_router *r, jt_err *err)
{
    if (!(r->jitter >= 0.0f && r->jitter < 1.0f))
        return jt_fail(err, JT_E_ARG, "router jitter is %g, expected 0 to below 1",
                       (double)r->jitter);
    if (!(r->noise >= 0.0f) || !isfinite(r->noise))
        return jt_fail(err, JT_E_ARG, "router noise is %g, expected 0 or more",
                       (double)r->noise);
    if (!(r->capacity >= 0.0f) || !isfinite(r->capacity))
        return jt_fail(err, JT_E_ARG, "router capacity is %g, expected 0 or more",
                       (double)r->capacity);
    return JT_OK;
}

jt_status jt_router_check(const jt_router *r, jt_err *err)
{
    if (!r->scorer || !r->selector)
        return jt_fail(err, JT_E_ARG, "a router needs a scorer and a selector");
    if (r->n_experts < 1 || r->n_null < 0)
        return jt_fail(err, JT_E_ARG, "a router for %d experts and %d null experts",
                       r->n_experts, r->n_null);
    if (r->k < 1 || r->k > jt_router_rows(r))
        return jt_fail(err, JT_E_ARG, "a token cannot use %d of %d experts", r->k,
                       jt_router_rows(r));
    if (!isfinite(r->scale))
        return jt_fail(err, JT_E_ARG, "the router's scale is not a finite number");
    JT_TRY(check_training(r, err));
    if (r->scorer->check)
        JT_TRY(r->scorer->check(r, err));
    return r->selector->check ? r->selector->check(r, err) : JT_OK;
}
