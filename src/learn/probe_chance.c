/* Probes of parts by chance, without a trained model: what selectors do with random
 * logits, and whether the congestion coefficient is found again. */
#include <math.h>

#include "base/random.h"
#include "learn/probe_impl.h"
#include "watch/congestion.h"

/* ---- selectors ---- */

enum { EXPERTS = 64, TOKENS = 256, BATCHES = 200 };

/* Load of the busiest group over the mean; picks of group i are those of EXPERTS / n
 * neighbours. */
static double peak_of(const jt_route *route, int n)
{
    double picks[EXPERTS] = {0}, most = 0.0, all = 0.0;
    for (int s = 0; s < route->n_tokens * route->k; s++)
        picks[route->expert[s] / (EXPERTS / n)]++;
    for (int i = 0; i < n; i++) {
        most = fmax(most, picks[i]);
        all += picks[i];
    }
    return most * n / all;
}

/* Mean peak over batches of random logits, and the share of batches without one. */
static jt_status load_of(jt_context *ctx, const char *selector, int n, double *peak,
                         double *even)
{
    static const jt_hooks none;
    jt_route_site site = {0};
    jt_router r = {.scorer = jt_scorer_find("linear"),
                   .selector = jt_selector_find(selector),
                   .n_experts = EXPERTS,
                   .k = n,
                   .n_groups = n,
                   .scale = 1.0f};
    jt_rng rng = {.seed = 1};
    *peak = *even = 0.0;
    for (int i = 0; i < BATCHES; i++) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        jt_tensor logits = jt_new(ctx, TOKENS, EXPERTS);
        jt_tensor scores = jt_new(ctx, TOKENS, EXPERTS);
        jt_route route = jt_route_new(ctx, TOKENS, EXPERTS, n);
        if (!jt_failed(ctx)) {
            jt_rng_normals(&rng, jt_row(&logits, 0), (size_t)TOKENS * EXPERTS);
            jt_router_select(ctx, &r, &none, &site, &logits, &scores, &route);
        }
        if (!jt_failed(ctx)) {
            double most = peak_of(&route, n);
            *peak += most / BATCHES;
            *even += (most == 1.0) / (double)BATCHES;
        }
        jt_arena_rewind(&ctx->scratch, mark);
    }
    return ctx->err.code;
}

jt_status jt_probe_random_load(const jt_probe_call *call)
{
    static const char *const selectors[] = {"topk", "grouped"};
    jt_context *ctx = &call->trainer->ctx;
    int n = (int)call->value;
    if (n < 1 || EXPERTS % n != 0)
        return jt_fail(call->err, JT_E_ARG, "%d experts in %d groups", EXPERTS, n);
    ctx->err = (jt_err){0};
    for (size_t i = 0; i < 2; i++) {
        double peak, even;
        if (load_of(ctx, selectors[i], n, &peak, &even) != JT_OK)
            return jt_fail(call->err, ctx->err.code, "%s", ctx->err.msg);
        JT_TRY(jt_metrics_set(call->metrics, call->err, peak, "%s_peak@groups=%d",
                              selectors[i], n));
        JT_TRY(jt_metrics_set(call->metrics, call->err, even, "%s_even@groups=%d",
                              selectors[i], n));
    }
    return JT_OK;
}

/* ---- the congestion game ---- */

/* Fit the picks of one game with qualities by chance. */
static double recover(double gamma, jt_rng *rng)
{
    enum { PICKS = 1000000 };
    double q[EXPERTS], rest[EXPERTS], room[EXPERTS], seen[EXPERTS] = {0};
    for (int i = 0; i < EXPERTS; i++)
        q[i] = 0.5 * (double)jt_rng_normal(rng);
    jt_congestion_rest(rest, q, EXPERTS, gamma);
    for (int n = 0; n < PICKS; n++) {
        double at = jt_rng_double(rng);
        int i = 0;
        while (i + 1 < EXPERTS && at >= rest[i])
            at -= rest[i++];
        seen[i] += 1.0 / PICKS;
    }
    return jt_congestion_fit_gamma(q, seen, EXPERTS, room);
}

jt_status jt_probe_recover_gamma(const jt_probe_call *call)
{
    enum { GAMES = 10 };
    jt_rng rng = {.seed = (uint64_t)call->trainer->config->train.seed};
    double sum = 0.0;
    for (int i = 0; i < GAMES; i++)
        sum += recover(call->value, &rng);
    return jt_metrics_set(call->metrics, call->err, sum / GAMES, "recovered@gamma=%s",
                          call->text);
}
