/* Traces played back through caches. */
#include "junto/simulate.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/playback.h"
#include "watch/trace.h"

/* ---- passes of a trace ---- */

/* What is done with each layer of each pass; `scores` as in jt_playback_pass. */
typedef jt_status pass_fn(void *user, int layer, const int32_t *experts, int count,
                          const float *scores, jt_err *err);

typedef struct walk {
    jt_trace *trace;
    jt_trace_info info;
    int *first, *k; /* of the map */
    jt_experts_map map;
    bool wants_scores;
    float *scores;    /* [experts of a layer] */
    int32_t *experts; /* [experts of a layer] */
    bool *used;       /* the same */
} walk;

static void walk_free(walk *w)
{
    free(w->first);
    free(w->k);
    free(w->scores);
    free(w->experts);
    free(w->used);
}

static jt_status walk_init(walk *w, jt_trace *trace, jt_err *err)
{
    *w = (walk){.trace = trace};
    jt_trace_describe(trace, &w->info);
    size_t n = (size_t)w->info.n_layers, most = 1;
    w->first = jt_calloc(n + 1, sizeof *w->first);
    w->k = jt_calloc(n, sizeof *w->k);
    for (size_t l = 0; w->first && w->k && l < n; l++) {
        const jt_trace_layer *layer = &w->info.layers[l];
        size_t experts = (size_t)layer->n_experts;
        w->first[l + 1] = w->first[l] + layer->n_experts;
        w->k[l] = layer->k;
        most = experts > most ? experts : most;
    }
    w->map = (jt_experts_map){(int)n, w->first, w->k};
    w->scores = jt_alloc(most, sizeof *w->scores);
    w->experts = jt_alloc(most, sizeof *w->experts);
    w->used = jt_alloc(most, sizeof *w->used);
    if (w->first && w->k && w->scores && w->experts && w->used)
        return JT_OK;
    walk_free(w);
    return jt_fail_memory(err, "playing a trace back");
}

/* What the router of a layer thought, averaged over tokens: its scores where the trace
 * has them, otherwise the weights of those it chose. */
static void mean_scores(walk *w, int l, const jt_trace_block *b, int from, int to)
{
    const jt_trace_layer *layer = &w->info.layers[l];
    memset(w->scores, 0, (size_t)layer->n_experts * sizeof *w->scores);
    for (int t = from; t < to; t++) {
        const float *row =
            b->score ? b->score + (size_t)t * (size_t)w->info.n_rows + layer->row
                     : b->weight + (size_t)t * (size_t)w->info.n_slots + layer->slot;
        const int32_t *chosen =
            b->expert + (size_t)t * (size_t)w->info.n_slots + layer->slot;
        int n = b->score ? layer->n_rows : layer->k;
        float sum = 0.0f;
        for (int i = 0; i < n; i++)
            sum += row[i];
        for (int i = 0; i < n && sum > 0.0f; i++) {
            int e = b->score ? i : chosen[i];
            if (e >= 0 && e < layer->n_experts)
                w->scores[e] += row[i] / (sum * (float)(to - from));
        }
    }
}

static jt_status walk_layer(walk *w, int l, const jt_trace_block *b, int from, int to,
                            pass_fn *fn, void *user, jt_err *err)
{
    const jt_trace_layer *layer = &w->info.layers[l];
    int count = 0;
    memset(w->used, 0, (size_t)layer->n_experts * sizeof *w->used);
    for (int t = from; t < to; t++) {
        const int32_t *chosen =
            b->expert + (size_t)t * (size_t)w->info.n_slots + layer->slot;
        for (int j = 0; j < layer->k; j++) {
            if (chosen[j] >= 0 && chosen[j] < layer->n_experts)
                w->used[chosen[j]] = true;
        }
    }
    for (int e = 0; e < layer->n_experts; e++) {
        if (w->used[e])
            w->experts[count++] = w->first[l] + e;
    }
    if (w->wants_scores)
        mean_scores(w, l, b, from, to);
    return fn(user, l, w->experts, count, w->wants_scores ? w->scores : NULL, err);
}

/* All passes of up to `chunk` tokens whose positions go on. */
static jt_status walk_trace(walk *w, int chunk, pass_fn *fn, void *user, jt_err *err)
{
    unsigned columns = 1u << JT_TRACE_EXPERT | 1u << JT_TRACE_POSITION;
    if (w->wants_scores)
        columns |= 1u << JT_TRACE_WEIGHT | 1u << JT_TRACE_SCORE;
    for (size_t i = 0; i < jt_trace_blocks(w->trace); i++) {
        jt_trace_block b;
        JT_TRY(jt_trace_read(w->trace, i, columns, &b, err));
        for (int from = 0, to; from < b.n_tokens; from = to) {
            to = from + 1;
            while (to < b.n_tokens && to - from < chunk &&
                   b.position[to] == b.position[to - 1] + 1)
                to++;
            for (int l = 0; l < w->info.n_layers; l++)
                JT_TRY(walk_layer(w, l, &b, from, to, fn, user, err));
        }
    }
    return JT_OK;
}

/* ---- what is known beforehand ---- */

typedef struct list {
    int32_t *items;
    size_t count, room;
} list;

static jt_status add_uses(void *user, int layer, const int32_t *experts, int count,
                          const float *scores, jt_err *err)
{
    list *l = user;
    (void)layer;
    (void)scores;
    if (!jt_grow((void **)&l->items, &l->room, l->count + (size_t)count,
                 sizeof *l->items))
        return jt_fail_memory(err, "playing a trace back");
    memcpy(l->items + l->count, experts, (size_t)count * sizeof *experts);
    l->count += (size_t)count;
    return JT_OK;
}

static jt_status count_uses(void *user, int layer, const int32_t *experts, int count,
                            const float *scores, jt_err *err)
{
    double *uses = user;
    (void)layer;
    (void)scores;
    (void)err;
    for (int i = 0; i < count; i++)
        uses[experts[i]]++;
    return JT_OK;
}

static jt_status uses_of(walk *w, int chunk, double **uses, jt_err *err)
{
    *uses = jt_calloc((size_t)w->first[w->map.n_layers], sizeof **uses);
    if (!*uses)
        return jt_fail_memory(err, "playing a trace back");
    jt_status status = walk_trace(w, chunk, count_uses, *uses, err);
    if (status != JT_OK) {
        free(*uses);
        *uses = NULL;
    }
    return status;
}

jt_status jt_trace_uses(jt_trace *trace, double **uses, size_t *n_uses, jt_err *err)
{
    walk w;
    JT_TRY(walk_init(&w, trace, err));
    jt_status status = uses_of(&w, 1, uses, err);
    *n_uses = (size_t)w.first[w.map.n_layers];
    walk_free(&w);
    return status;
}

/* ---- playing back ---- */

typedef struct player {
    jt_playback cache;
    bool filling; /* what comes until the cache is full is not to be counted */
    uint64_t passes;
} player;

static void count_anew(player *p)
{
    p->filling = false;
    p->passes = p->cache.uses = p->cache.misses = 0;
    memset(p->cache.lacking, 0, sizeof p->cache.lacking);
}

static jt_status play_pass(void *user, int layer, const int32_t *experts, int count,
                           const float *scores, jt_err *err)
{
    player *p = user;
    (void)err;
    if (p->filling && layer == 0 && p->cache.slots.n_empty == 0)
        count_anew(p);
    p->passes += layer == 0;
    jt_playback_pass(&p->cache, layer, experts, count, scores);
    return JT_OK;
}

static jt_status play(walk *w, const jt_cache_policy *policy,
                      const jt_simulate_options *o, int chunk, const double *uses,
                      jt_simulated *out, jt_err *err)
{
    list future = {0};
    player with = {.filling = o->filled};
    jt_status status = JT_OK;
    if (policy->simulated)
        status = walk_trace(w, chunk, add_uses, &future, err);
    jt_foreknowledge known = {uses, future.items, future.count};
    if (status == JT_OK && policy->simulated && !future.items)
        known.next = w->experts; /* an empty trace */
    if (status == JT_OK)
        status = jt_playback_start(&with.cache, policy, &w->map, o->slots, &known, err);
    w->wants_scores = policy->score != NULL;
    if (status == JT_OK)
        status = walk_trace(w, chunk, play_pass, &with, err);
    out->tokens = o->filled ? with.passes : w->info.tokens;
    out->uses = with.cache.uses;
    out->misses = with.cache.misses;
    memcpy(out->lacking, with.cache.lacking, sizeof out->lacking);
    jt_playback_stop(&with.cache);
    free(future.items);
    return status;
}

jt_status jt_simulate(jt_trace *trace, const jt_simulate_options *o, jt_simulated *out,
                      jt_err *err)
{
    const char *name = o->policy ? o->policy : JT_CACHE_POLICY_USUAL;
    const jt_cache_policy *policy = jt_cache_policy_find(name);
    int chunk = o->chunk ? o->chunk : 1;
    if (!policy)
        return jt_fail(err, JT_E_ARG, "no cache policy '%s'", name);
    if (o->slots < 1 || chunk < 1 || (o->filled && chunk > 1))
        return jt_fail(err, JT_E_ARG, "%d slots and passes of %d tokens", o->slots,
                       chunk);
    walk w;
    double *uses;
    JT_TRY(walk_init(&w, trace, err));
    *out = (jt_simulated){0};
    jt_status status = uses_of(&w, chunk, &uses, err);
    if (status == JT_OK) {
        for (int e = 0; e < w.first[w.map.n_layers]; e++)
            out->first += uses[e] > 0.0;
        status = play(&w, policy, o, chunk, uses, out, err);
        free(uses);
    }
    walk_free(&w);
    return status;
}
