/* Probes of where tokens go. */
#include <math.h>
#include <stdlib.h>

#include "learn/probe_impl.h"

jt_status jt_probe_watch(const jt_probe_call *call, jt_watcher watcher)
{
    jt_hooks hooks = {.n_watchers = 1};
    hooks.watcher[0] = watcher;
    jt_evaluation e;
    jt_evaluation_options how = {.hooks = &hooks};
    JT_TRY(jt_trainer_evaluate(call->trainer, &how, &e, call->err));
    jt_evaluation_free(&e);
    return JT_OK;
}

/* ---- groups ---- */

typedef struct groups {
    int n;
    double *picks;             /* [n] */
    double spread, peak, seen; /* sums over batches and layers, and their number */
} groups;

static void look_at_groups(void *self, const jt_route_site *site, const jt_route *route)
{
    groups *g = self;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    int size = route->n_experts / g->n;
    double most = 0.0, least = INFINITY, all = 0.0;
    (void)site;
    for (int i = 0; i < g->n; i++)
        g->picks[i] = 0.0;
    for (size_t s = 0; s < slots; s++) {
        if (route->expert[s] >= 0)
            g->picks[route->expert[s] / size]++;
    }
    for (int i = 0; i < g->n; i++) {
        most = fmax(most, g->picks[i]);
        least = fmin(least, g->picks[i]);
        all += g->picks[i];
    }
    g->spread += (most - least) / route->n_tokens;
    g->peak += all > 0.0 ? most * g->n / all : 1.0;
    g->seen++;
}

jt_status jt_probe_groups(const jt_probe_call *call)
{
    int n = (int)call->value, experts = call->trainer->model->params.router.n_experts;
    if (n < 1 || experts % n != 0)
        return jt_fail(call->err, JT_E_ARG, "%d experts in %d groups", experts, n);
    groups g = {.n = n, .picks = jt_alloc((size_t)n, sizeof(double))};
    if (!g.picks)
        return jt_fail_memory(call->err, "probing a model");
    jt_status status = jt_probe_watch(
        call, (jt_watcher){.name = "groups", .self = &g, .on_route = look_at_groups});
    free(g.picks);
    JT_TRY(status);
    JT_TRY(jt_metrics_set(call->metrics, call->err, g.spread / g.seen,
                          "spread@groups=%s", call->text));
    return jt_metrics_set(call->metrics, call->err, g.peak / g.seen, "peak@groups=%s",
                          call->text);
}

/* ---- experts per token ---- */

typedef struct numbers {
    double sum, squares, tokens;
} numbers;

static void look_at_tokens(void *self, const jt_route_site *site, const jt_route *route)
{
    numbers *n = self;
    (void)site;
    for (int t = 0; t < route->n_tokens; t++) {
        double used = 0.0;
        for (int j = 0; j < route->k; j++)
            used += route->expert[t * route->k + j] >= 0;
        n->sum += used;
        n->squares += used * used;
        n->tokens++;
    }
}

jt_status jt_probe_experts_per_token(const jt_probe_call *call)
{
    numbers n = {0};
    JT_TRY(jt_probe_watch(
        call, (jt_watcher){.name = "numbers", .self = &n, .on_route = look_at_tokens}));
    double mean = n.sum / n.tokens;
    double variance = fmax(0.0, n.squares / n.tokens - mean * mean);
    return jt_metrics_set(call->metrics, call->err, sqrt(variance), "experts_sd");
}
