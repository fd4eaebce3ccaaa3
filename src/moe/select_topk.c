/* The k best experts of each token, all of them or as many as it takes. */
#include <string.h>

#include "moe/select.h"

void jt_contest_clear(int32_t *chosen, int k)
{
    for (int j = 0; j < k; j++)
        chosen[j] = -1;
}

void jt_contest_enter(const jt_contest *c, int32_t first, int32_t end, int32_t *chosen,
                      int k)
{
    for (int32_t row = first; row < end; row++) {
        float value = jt_contest_value(c, row);
        int place = k;
        while (place > 0 && (chosen[place - 1] < 0 ||
                             value > jt_contest_value(c, chosen[place - 1])))
            place--;
        if (place == k || jt_contest_out(c, row))
            continue;
        memmove(chosen + place + 1, chosen + place,
                (size_t)(k - 1 - place) * sizeof *chosen);
        chosen[place] = row;
    }
}

static void topk_token(void *arg, size_t t)
{
    const jt_choice *c = arg;
    jt_contest contest = jt_contest_of(c, t);
    int k = c->route->k;
    int32_t *chosen = c->route->expert + t * (size_t)k;
    jt_contest_clear(chosen, k);
    jt_contest_enter(&contest, 0, (int32_t)jt_cols(c->logits), chosen, k);
}

/* Experts in falling order until their scores (unbiased) sum to top_p. */
static void top_p_token(void *arg, size_t t)
{
    const jt_choice *c = arg;
    int k = c->route->k;
    int32_t *chosen = c->route->expert + t * (size_t)k;
    float sum = 0.0f;
    topk_token(arg, t);
    for (int j = 0; j < k && chosen[j] >= 0; j++) {
        if (sum >= c->router->top_p)
            chosen[j] = -1;
        else
            sum += jt_row(c->scores, t)[chosen[j]];
    }
}

static void choose_by_token(jt_context *ctx, const jt_choice *choice, jt_pool_fn *fn)
{
    size_t tokens = (size_t)choice->route->n_tokens;
    size_t work = tokens * jt_cols(choice->logits) * (size_t)(choice->route->k + 8);
    jt_for_rows(ctx, tokens, work, fn, (void *)(uintptr_t)choice);
}

static void choose_topk(jt_context *ctx, const jt_choice *choice)
{
    choose_by_token(ctx, choice, topk_token);
}

static void choose_top_p(jt_context *ctx, const jt_choice *choice)
{
    choose_by_token(ctx, choice, top_p_token);
}

static jt_status check_top_p(const jt_router *router, jt_err *err)
{
    if (router->top_p > 0.0f && router->top_p <= 1.0f)
        return JT_OK;
    return jt_fail(err, JT_E_ARG, "selector 'top_p': top_p is %g, expected 0 to 1",
                   (double)router->top_p);
}

const jt_selector jt_select_topk = {"topk", NULL, choose_topk};
const jt_selector jt_select_top_p = {"top_p", check_top_p, choose_top_p};
