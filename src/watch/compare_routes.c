#include "watch/compare_routes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

jt_status jt_route_comparison_new(route_comparison *out, int n_layers,
                                  size_t most_tokens, jt_err *err)
{
    *out = (route_comparison){
        .routes = jt_calloc((size_t)n_layers, sizeof *out->routes),
        .n_layers = n_layers,
        .tokens = jt_calloc(most_tokens, sizeof *out->tokens),
        .most_tokens = most_tokens,
    };
    return out->routes && out->tokens ? JT_OK : jt_fail_memory(err, "comparing models");
}

void jt_route_comparison_free(route_comparison *c)
{
    for (int i = 0; c->routes && i < c->n_layers; i++) {
        free(c->routes[i].expert);
        free(c->routes[i].score);
    }
    free(c->routes);
    free(c->tokens);
}

void jt_route_comparison_step(route_comparison *c)
{
    memset(c->tokens, 0, c->most_tokens * sizeof *c->tokens);
    for (int i = 0; i < c->n_layers; i++)
        c->routes[i].n_tokens = 0;
}

/* No failure can be told from here: a layer that was not kept is not compared. */
static void keep(void *self, const jt_route_site *site, const jt_route *route)
{
    route_comparison *c = self;
    kept_route *kept = &c->routes[site->layer];
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    int rows = route->scores ? route->n_rows : 0;
    size_t scores = (size_t)route->n_tokens * (size_t)rows;
    if (!jt_grow((void **)&kept->expert, &kept->expert_room, slots,
                 sizeof *kept->expert) ||
        !jt_grow((void **)&kept->score, &kept->score_room, scores, sizeof *kept->score))
        return;
    memcpy(kept->expert, route->expert, slots * sizeof *kept->expert);
    if (scores)
        memcpy(kept->score, route->scores, scores * sizeof *kept->score);
    kept->n_tokens = route->n_tokens;
    kept->n_experts = route->n_experts;
    kept->k = route->k;
    kept->n_rows = rows;
}

/* ---- B ---- */

static bool chose(const int32_t *experts, int k, int32_t expert)
{
    for (int i = 0; i < k; i++)
        if (experts[i] == expert)
            return true;
    return false;
}

static double sum(const float *x, int n)
{
    double all = 0.0;
    for (int i = 0; i < n; i++)
        all += x[i] >= 0.0f ? (double)x[i] : NAN;
    return all;
}

/* KL(p || q) of scores over their sums. Selection may have set scores to 0: they count
 * as next to nothing. */
static double divergence(const float *p, const float *q, int n)
{
    const double least = 1e-9;
    double p_sum = sum(p, n), q_sum = sum(q, n), kl = 0.0;
    if (!(p_sum > 0.0 && q_sum > 0.0))
        return NAN;
    for (int i = 0; i < n; i++) {
        double a = p[i] / p_sum, b = q[i] / q_sum;
        kl += a > 0.0 ? a * log(a / fmax(b, least)) : 0.0;
    }
    return fmax(0.0, kl);
}

static void compare_token(const kept_route *kept, const jt_route *route, int t,
                          jt_compare_layer *sums, token_agreement *token)
{
    const int32_t *a = kept->expert + t * kept->k, *b = route->expert + t * route->k;
    int in_a = 0, in_b = 0, both = 0;
    for (int i = 0; i < kept->k; i++)
        in_a += a[i] >= 0;
    for (int i = 0; i < route->k; i++) {
        in_b += b[i] >= 0;
        both += b[i] >= 0 && chose(a, kept->k, b[i]);
    }
    int either = in_a + in_b - both;
    double shared = either ? (double)both / either : 1.0;
    sums->tokens++;
    sums->same += both == either;
    sums->top1 += a[0] == b[0];
    sums->jaccard += shared;
    sums->kl += route->scores && kept->n_rows == route->n_rows
                    ? divergence(kept->score + t * kept->n_rows,
                                 route->scores + t * route->n_rows, route->n_rows)
                    : NAN;
    token->layers++;
    token->flipped += both != either;
    token->shared += shared;
}

static void compare(void *self, const jt_route_site *site, const jt_route *route)
{
    route_comparison *c = self;
    kept_route *kept = site->layer < c->n_layers ? &c->routes[site->layer] : NULL;
    if (!kept || kept->n_tokens != route->n_tokens ||
        kept->n_experts != route->n_experts)
        return;
    for (int t = 0; t < route->n_tokens && (size_t)t < c->most_tokens; t++)
        compare_token(kept, route, t, &kept->sums, &c->tokens[t]);
}

jt_watcher jt_route_keeper(route_comparison *c)
{
    return (jt_watcher){.name = "compare", .self = c, .on_route = keep};
}

jt_watcher jt_route_comparer(route_comparison *c)
{
    return (jt_watcher){.name = "compare", .self = c, .on_route = compare};
}

jt_status jt_route_comparison_layers(const route_comparison *c,
                                     jt_compare_layer **layers, size_t *n, jt_err *err)
{
    *n = 0;
    *layers = jt_calloc((size_t)c->n_layers, sizeof **layers);
    if (!*layers)
        return jt_fail_memory(err, "comparing models");
    for (int i = 0; i < c->n_layers; i++) {
        jt_compare_layer layer = c->routes[i].sums;
        if (layer.tokens == 0)
            continue;
        layer.layer = i;
        layer.n_experts = c->routes[i].n_experts;
        layer.jaccard /= (double)layer.tokens;
        layer.kl /= (double)layer.tokens;
        (*layers)[(*n)++] = layer;
    }
    return JT_OK;
}
