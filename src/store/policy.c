#include "store/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/policy_impl.h"

/* ---- least recently used ---- */

static void lru_use(jt_ranking *r, int expert)
{
    r->value[expert] = (double)r->uses;
}

/* ---- least frequently used; among equals the one that was used last stays ---- */

static void lfu_use(jt_ranking *r, int expert)
{
    static const double younger = 0x1p-40;
    r->value[expert] = floor(r->value[expert]) + 1.0 + (double)r->uses * younger;
}

/* ---- least frequently recently used ----
 *
 * A use counts half as much after every so many uses of all experts, as SE-MoE lets the
 * counts of its cache age. Values are base-2 logarithms of the counts as seen from the
 * start, so that ageing touches nobody but the expert that is used. */

/* The half-life in tokens: long enough to learn what a text is about, short enough to
 * follow it. Measured with `junto simulate` (docs/store.md). */
enum { HALF_LIFE_TOKENS = 8 };

static double uses_per_token(const jt_experts_map *map)
{
    double k = 0.0;
    for (int l = 0; l < map->n_layers; l++)
        k += map->k[l];
    return k > 0.0 ? k : 1.0;
}

static jt_status lfru_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    (void)known;
    double *half_life = jt_alloc(1, sizeof *half_life);
    r->more = half_life;
    if (!half_life)
        return jt_fail_memory(err, "starting a cache");
    *half_life = HALF_LIFE_TOKENS * uses_per_token(&r->map);
    for (int e = 0; e < r->n_experts; e++)
        r->value[e] = -INFINITY;
    return JT_OK;
}

static void lfru_use(jt_ranking *r, int expert)
{
    const double *half_life = r->more;
    double now = (double)r->uses / *half_life, old = r->value[expert];
    r->value[expert] = now + log2(1.0 + exp2(old - now));
}

/* ---- by the router's scores: MRS, minus recent score (HybriMoE, section 4.3) ----
 *
 * S <- a TopP(s) + (1 - a) S for all experts of a layer whenever it routes, where TopP
 * keeps the 2k largest scores and a = 0.5. */

static const double score_rate = 0.5;

static jt_status score_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    (void)known;
    int most = 0;
    for (int l = 0; l < r->map.n_layers; l++) {
        int n = r->map.first[l + 1] - r->map.first[l];
        most = n > most ? n : most;
    }
    r->more = jt_alloc((size_t)most, sizeof(float));
    return r->more ? JT_OK : jt_fail_memory(err, "starting a cache");
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void score_score(jt_ranking *r, int layer, const float *scores)
{
    float *sorted = r->more;
    int first = r->map.first[layer], n = r->map.first[layer + 1] - first;
    int kept = 2 * r->map.k[layer];
    float least = 0.0f;
    if (kept < n) {
        memcpy(sorted, scores, (size_t)n * sizeof *sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, descending);
        least = sorted[kept - 1];
    }
    for (int e = 0; e < n; e++) {
        double s = scores[e] >= least ? (double)scores[e] : 0.0;
        double *value = &r->value[first + e];
        *value = score_rate * s + (1.0 - score_rate) * *value;
    }
}

static void no_use(jt_ranking *r, int expert)
{
    (void)r;
    (void)expert;
}

/* ---- pinned: the most used ones of a trace stay, the rest of the slots is LRU ---- */

typedef struct counted {
    int expert;
    double uses;
} counted;

static int by_uses(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    if (x->uses != y->uses)
        return x->uses < y->uses ? 1 : -1;
    return x->expert - y->expert;
}

/* Of ten slots nine are pinned: those that change must hold what a layer uses. */
static int pins_of(const jt_ranking *r)
{
    int k = 1;
    for (int l = 0; l < r->map.n_layers; l++)
        k = r->map.k[l] > k ? r->map.k[l] : k;
    int free_slots = r->n_slots / 10 > k ? r->n_slots / 10 : k;
    int pins = r->n_slots > free_slots ? r->n_slots - free_slots : 0;
    return pins < r->n_experts ? pins : r->n_experts;
}

static jt_status pin_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    counted *order = jt_alloc((size_t)r->n_experts, sizeof *order);
    if (!order)
        return jt_fail_memory(err, "starting a cache");
    for (int e = 0; e < r->n_experts; e++)
        order[e] = (counted){e, known->uses[e]};
    qsort(order, (size_t)r->n_experts, sizeof *order, by_uses);
    for (int i = 0; i < pins_of(r); i++)
        r->value[order[i].expert] = INFINITY;
    free(order);
    return JT_OK;
}

static void pin_use(jt_ranking *r, int expert)
{
    if (isfinite(r->value[expert]))
        r->value[expert] = (double)r->uses;
}

/* ---- the one whose next use is farthest (Belady 1966) ---- */

/* Of each use in the future the next one of the same expert. */
typedef struct future {
    uint32_t *next;  /* [n]; NEVER: none */
    uint32_t *first; /* [n_experts] the next use from now on */
    size_t n;
} future;

#define NEVER UINT32_MAX

static void future_free(void *more)
{
    future *f = more;
    if (!f)
        return;
    free(f->next);
    free(f->first);
    free(f);
}

static void belady_stop(jt_ranking *r)
{
    future_free(r->more);
}

static void rank_by_future(jt_ranking *r, int expert)
{
    const future *f = r->more;
    r->value[expert] =
        f->first[expert] == NEVER ? -INFINITY : -(double)f->first[expert];
}

static jt_status belady_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    future *f = r->more = jt_calloc(1, sizeof *f);
    if (!f)
        return jt_fail_memory(err, "starting a cache");
    f->n = known->n_next;
    f->next = jt_alloc(f->n, sizeof *f->next);
    f->first = jt_alloc((size_t)r->n_experts, sizeof *f->first);
    if (!f->next || !f->first)
        return jt_fail_memory(err, "starting a cache");
    memset(f->first, 0xff, (size_t)r->n_experts * sizeof *f->first);
    for (size_t i = f->n; i-- > 0;) {
        f->next[i] = f->first[known->next[i]];
        f->first[known->next[i]] = (uint32_t)i;
    }
    for (int e = 0; e < r->n_experts; e++)
        rank_by_future(r, e);
    return JT_OK;
}

static void belady_use(jt_ranking *r, int expert)
{
    future *f = r->more;
    uint32_t now = f->first[expert];
    if (now == NEVER)
        return;
    f->first[expert] = f->next[now];
    rank_by_future(r, expert);
}

/* ---- all ---- */

static jt_status plain_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    (void)r;
    (void)known;
    (void)err;
    return JT_OK;
}

static void plain_stop(jt_ranking *r)
{
    free(r->more);
}

static const jt_cache_policy policies[] = {
    {.name = "lru",
     .help = "the least recently used expert leaves",
     .start = plain_start,
     .use = lru_use,
     .stop = plain_stop},
    {.name = "lfu",
     .help = "the least frequently used one",
     .start = plain_start,
     .use = lfu_use,
     .stop = plain_stop},
    {.name = "lfru",
     .help = "the least frequently used one, where old uses count less and less",
     .start = lfru_start,
     .use = lfru_use,
     .stop = plain_stop},
    {.name = "score",
     .help = "the one that the router thinks least of (HybriMoE's MRS)",
     .start = score_start,
     .use = no_use,
     .score = score_score,
     .stop = plain_stop},
    {.name = "learned",
     .help = "the one with the fewest uses to come, as learnt from scores and uses",
     .start = jt_learned_start,
     .use = jt_learned_use,
     .score = jt_learned_score,
     .bytes = jt_learned_bytes,
     .stop = jt_learned_stop},
    {.name = "pin",
     .help = "the most used ones of a trace stay, the others are lru",
     .traced = true,
     .start = pin_start,
     .use = pin_use,
     .stop = plain_stop},
    {.name = "belady",
     .help = "the one whose next use is farthest: what no policy can beat",
     .simulated = true,
     .start = belady_start,
     .use = belady_use,
     .stop = belady_stop},
};
enum { POLICIES = sizeof policies / sizeof *policies };

const jt_cache_policy *jt_cache_policy_at(size_t i)
{
    return i < POLICIES ? &policies[i] : NULL;
}

const jt_cache_policy *jt_cache_policy_find(const char *name)
{
    for (size_t i = 0; i < POLICIES; i++) {
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    }
    return NULL;
}

jt_status jt_ranking_start(jt_ranking *out, const jt_cache_policy *policy,
                           const jt_experts_map *map, int n_slots,
                           const jt_foreknowledge *known, jt_err *err)
{
    jt_foreknowledge none = {0};
    known = known ? known : &none;
    if (policy->simulated && !known->next)
        return jt_fail(err, JT_E_ARG, "cache policy '%s' is for simulation only",
                       policy->name);
    if (policy->traced && !known->uses)
        return jt_fail(err, JT_E_ARG, "cache policy '%s' needs a trace", policy->name);
    if (known->n_next >= NEVER)
        return jt_fail(err, JT_E_LIMIT, "a trace of %zu uses is too long",
                       known->n_next);
    jt_ranking r = {.policy = policy,
                    .map = *map,
                    .n_experts = map->first[map->n_layers],
                    .n_slots = n_slots};
    r.value = jt_calloc((size_t)r.n_experts, sizeof *r.value);
    jt_status status = r.value ? policy->start(&r, known, err)
                               : jt_fail_memory(err, "starting a cache");
    if (status != JT_OK)
        jt_ranking_stop(&r);
    else
        *out = r;
    return status;
}

void jt_ranking_stop(jt_ranking *r)
{
    if (r->policy)
        r->policy->stop(r);
    free(r->value);
    *r = (jt_ranking){0};
}

void jt_ranking_use(jt_ranking *r, int expert)
{
    r->uses++;
    r->policy->use(r, expert);
}

void jt_ranking_score(jt_ranking *r, int layer, const float *scores)
{
    if (r->policy->score)
        r->policy->score(r, layer, scores);
}
