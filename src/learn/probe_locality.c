/* The probe of local routing consistency: how far neighbours share experts. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "learn/probe_impl.h"
#include "watch/locality.h"

/* What the tokens of a layer used, in order. */
typedef struct layer_uses {
    uint16_t *expert; /* [tokens, k], unused slots last */
    uint8_t *begins;  /* [tokens] */
    size_t tokens, capacity, begins_capacity;
    size_t k;
    int n_experts;
} layer_uses;

typedef struct uses {
    layer_uses *layer; /* [layers] */
    int n_layers;
    bool out_of_memory;
} uses;

static void keep_row(layer_uses *u, const int32_t *expert, int k, bool begins)
{
    uint16_t *row = u->expert + u->tokens * u->k;
    size_t used = 0;
    for (int j = 0; j < k; j++) {
        if (expert[j] >= 0)
            row[used++] = (uint16_t)expert[j];
    }
    while (used < u->k)
        row[used++] = JT_NO_EXPERT;
    u->begins[u->tokens++] = begins;
}

static void keep(void *self, const jt_route_site *site, const jt_route *route)
{
    uses *all = self;
    layer_uses *u = &all->layer[site->layer];
    size_t k = (size_t)route->k, need = u->tokens + (size_t)route->n_tokens;
    if (!jt_grow((void **)&u->expert, &u->capacity, need * k, sizeof *u->expert) ||
        !jt_grow((void **)&u->begins, &u->begins_capacity, need, 1)) {
        all->out_of_memory = true;
        return;
    }
    u->k = k;
    u->n_experts = route->n_experts;
    for (int t = 0; t < route->n_tokens; t++)
        keep_row(u, route->expert + (size_t)t * k, route->k, site->positions[t] == 0);
}

/* ---- measures of all layers together ---- */

static jt_status segment_counts(const jt_uses *u, int span, uint64_t *counts,
                                jt_err *err)
{
    jt_locality *l;
    JT_TRY(jt_locality_new(&l, u->n_experts, (int)u->k, err));
    for (size_t t = 0; t < u->n_tokens; t++) {
        size_t n;
        const uint16_t *row = jt_uses_row(u, t, &n);
        if (u->begins[t])
            jt_locality_end(l);
        jt_locality_add(l, row, n);
    }
    jt_locality_end(l);
    const uint64_t *own = jt_locality_counts(l, span);
    for (int c = 0; c <= jt_segment[span]; c++)
        counts[c] += own[c];
    jt_locality_free(l);
    return JT_OK;
}

static size_t uses_of(const jt_uses *u)
{
    size_t all = 0, n;
    for (size_t t = 0; t < u->n_tokens; t++) {
        jt_uses_row(u, t, &n);
        all += n;
    }
    return all;
}

static jt_uses view(const layer_uses *u, const uint32_t *order)
{
    return (jt_uses){.n_tokens = u->tokens,
                     .k = u->k,
                     .stride = u->k,
                     .expert = u->expert,
                     .begins = u->begins,
                     .order = order,
                     .n_experts = u->n_experts};
}

static jt_status srp(const uses *all, int span, const uint32_t *order, double *value,
                     jt_err *err)
{
    uint64_t counts[JT_SPAN_MOST + 1] = {0};
    for (int i = 0; i < all->n_layers; i++) {
        jt_uses u = view(&all->layer[i], order);
        if (u.n_tokens)
            JT_TRY(segment_counts(&u, span, counts, err));
    }
    *value = jt_srp_find(counts, span).value;
    return JT_OK;
}

/* The hit rate of a cache of `times` k experts in each layer. */
static jt_status hits(const uses *all, jt_caching cache, size_t times, double *value,
                      jt_err *err)
{
    double hit = 0, sum = 0;
    for (int i = 0; i < all->n_layers; i++) {
        jt_uses u = view(&all->layer[i], NULL);
        if (!u.n_tokens)
            continue;
        uint64_t *of_size = jt_alloc((size_t)u.n_experts, sizeof *of_size);
        jt_status status = of_size ? jt_cache_hits(of_size, &u, cache, err)
                                   : jt_fail_memory(err, "probing a model");
        size_t size =
            times * u.k < (size_t)u.n_experts ? times * u.k : (size_t)u.n_experts;
        if (status == JT_OK)
            hit += (double)of_size[size - 1];
        free(of_size);
        JT_TRY(status);
        sum += (double)uses_of(&u);
    }
    *value = hit / sum;
    return JT_OK;
}

/* ---- the probe ---- */

/* The tokens of all texts dealt anew: what the loads alone give. NULL without memory.
 */
static uint32_t *shuffle(size_t n)
{
    jt_rng rng = {.seed = 1};
    uint32_t *order = jt_alloc(n, sizeof *order);
    for (size_t i = 0; order && i < n; i++) {
        size_t other = jt_rng_below(&rng, (uint32_t)i + 1);
        order[i] = order[other];
        order[other] = (uint32_t)i;
    }
    return order;
}

static jt_status measure_segments(const jt_probe_call *call, const uses *all, int span)
{
    double value = 0, shuffled = 0;
    size_t tokens = 0;
    for (int i = 0; i < all->n_layers; i++)
        tokens = all->layer[i].tokens > tokens ? all->layer[i].tokens : tokens;
    uint32_t *order = shuffle(tokens);
    if (!order)
        return jt_fail_memory(call->err, "probing a model");
    jt_status status = srp(all, span, NULL, &value, call->err);
    if (status == JT_OK)
        status = srp(all, span, order, &shuffled, call->err);
    free(order);
    JT_TRY(status);
    JT_TRY(
        jt_metrics_set(call->metrics, call->err, value, "srp@locality=%s", call->text));
    return jt_metrics_set(call->metrics, call->err, shuffled, "shuffled@locality=%s",
                          call->text);
}

static jt_status measure_caches(const jt_probe_call *call, const uses *all, int span)
{
    const struct {
        const char *name;
        jt_caching cache;
        size_t times;
    } caches[] = {
        {"sch", JT_CACHE_SCH + (jt_caching)span, 2},
        {"sch_k", JT_CACHE_SCH + (jt_caching)span, 1},
        {"lru", JT_CACHE_LRU, 2},
        {"lfu", JT_CACHE_LFU, 2},
        {"belady", JT_CACHE_BELADY, 2},
    };
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        double value;
        JT_TRY(hits(all, caches[i].cache, caches[i].times, &value, call->err));
        JT_TRY(jt_metrics_set(call->metrics, call->err, value, "%s@locality=%s",
                              caches[i].name, call->text));
    }
    return JT_OK;
}

jt_status jt_probe_locality(const jt_probe_call *call)
{
    int span = 0;
    while (span < JT_SPANS && jt_segment[span] != (int)call->value)
        span++;
    if (span == JT_SPANS)
        return jt_fail(call->err, JT_E_ARG, "segments are of 4, 16, 64 or 256 tokens");
    uses all = {.n_layers = call->trainer->model->params.n_layers};
    all.layer = jt_calloc((size_t)all.n_layers, sizeof *all.layer);
    if (!all.layer)
        return jt_fail_memory(call->err, "probing a model");
    jt_status status = jt_probe_watch(
        call, (jt_watcher){.name = "locality", .self = &all, .on_route = keep});
    if (status == JT_OK && all.out_of_memory)
        status = jt_fail_memory(call->err, "probing a model");
    if (status == JT_OK)
        status = measure_segments(call, &all, span);
    if (status == JT_OK)
        status = measure_caches(call, &all, span);
    for (int i = 0; i < all.n_layers; i++) {
        free(all.layer[i].expert);
        free(all.layer[i].begins);
    }
    free(all.layer);
    return status;
}
