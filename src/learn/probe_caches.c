/* Probes of caches and of workers that share experts: what was routed, played back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "learn/probe_impl.h"
#include "learn/routes.h"
#include "store/hybrid.h"
#include "store/mapped.h"
#include "store/playback.h"
#include "store/ring.h"

/* ---- caches:SHARE ---- */

/* The experts of a layer that tokens order[from .. to) use, ascending, numbered over
 * all layers, and the mean of their scores. Both have room for those of a layer. */
static int experts_of(const jt_routes *r, const uint32_t *order, size_t from, size_t to,
                      int layer, int32_t *experts, float *scores)
{
    int count = 0;
    memset(scores, 0, (size_t)r->n_experts * sizeof *scores);
    for (int e = 0; e < r->n_experts; e++) {
        bool used = false;
        for (size_t t = from; t < to; t++) {
            const int32_t *row = jt_routes_row(r, order[t], layer);
            for (int j = 0; j < r->k; j++)
                used = used || row[j] == e;
            scores[e] += jt_routes_scores(r, order[t], layer)[e] / (float)(to - from);
        }
        if (used)
            experts[count++] = layer * r->n_experts + e;
    }
    return count;
}

typedef struct room {
    int32_t *experts, *future;
    float *scores;
    uint32_t *order;
    size_t n_future;
} room;

static void free_room(room *m)
{
    free(m->experts);
    free(m->future);
    free(m->scores);
    free(m->order);
}

/* Tokens as they came, and the list of all that will be used. */
static jt_status make_room(room *m, const jt_routes *r, jt_err *err)
{
    size_t uses = r->n_tokens * (size_t)r->n_layers * (size_t)r->k;
    m->experts = jt_alloc((size_t)r->n_experts, sizeof *m->experts);
    m->scores = jt_alloc((size_t)r->n_experts, sizeof *m->scores);
    m->order = jt_alloc(r->n_tokens, sizeof *m->order);
    m->future = jt_alloc(uses, sizeof *m->future);
    if (!m->experts || !m->scores || !m->order || !m->future) {
        free_room(m);
        return jt_fail_memory(err, "probing a model");
    }
    for (size_t t = 0; t < r->n_tokens; t++)
        m->order[t] = (uint32_t)t;
    return JT_OK;
}

static void deal_anew(room *m, size_t n)
{
    jt_rng rng = {.seed = 1};
    for (size_t i = n; i > 1; i--) {
        size_t other = jt_rng_below(&rng, (uint32_t)i);
        uint32_t kept = m->order[i - 1];
        m->order[i - 1] = m->order[other];
        m->order[other] = kept;
    }
}

static void foresee(room *m, const jt_routes *r)
{
    m->n_future = 0;
    for (size_t t = 0; t < r->n_tokens; t++)
        for (int l = 0; l < r->n_layers; l++) {
            int n = experts_of(r, m->order, t, t + 1, l, m->experts, m->scores);
            memcpy(m->future + m->n_future, m->experts, (size_t)n * sizeof *m->experts);
            m->n_future += (size_t)n;
        }
}

/* The share of the uses that a cache of `slots` experts serves, token by token. */
static jt_status hits_of(const jt_routes *r, room *m, const char *policy, int slots,
                         double *out, jt_err *err)
{
    jt_playback p;
    jt_foreknowledge known = {.next = m->future, .n_next = m->n_future};
    JT_TRY(jt_playback_start(&p, jt_cache_policy_find(policy), &r->map, slots, &known,
                             err));
    for (size_t t = 0; t < r->n_tokens; t++)
        for (int l = 0; l < r->n_layers; l++) {
            int n = experts_of(r, m->order, t, t + 1, l, m->experts, m->scores);
            jt_playback_pass(&p, l, m->experts, n, m->scores);
        }
    *out = 1.0 - (double)p.misses / (double)p.uses;
    jt_playback_stop(&p);
    return JT_OK;
}

static jt_status try_policies(const jt_probe_call *call, const jt_routes *r, room *m,
                              const char *more)
{
    static const char *const policies[] = {"lru",   "lfu",     "lfru",
                                           "score", "learned", "belady"};
    int slots = (int)lround(call->value * r->n_layers * r->n_experts);
    foresee(m, r);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        double hits;
        JT_TRY(hits_of(r, m, policies[i], slots, &hits, call->err));
        JT_TRY(jt_metrics_set(call->metrics, call->err, hits, "%s%s@caches=%s",
                              policies[i], more, call->text));
    }
    return JT_OK;
}

jt_status jt_probe_caches(const jt_probe_call *call)
{
    jt_routes r;
    room m = {0};
    if (call->value >= 1.0)
        return jt_fail(call->err, JT_E_ARG, "a cache of %s of the experts", call->text);
    JT_TRY(jt_routes_take(&r, call->trainer, JT_ROUTES_HELD_OUT, 0, call->err));
    jt_status status = make_room(&m, &r, call->err);
    if (status == JT_OK) {
        status = try_policies(call, &r, &m, "");
        deal_anew(&m, r.n_tokens);
        if (status == JT_OK)
            status = try_policies(call, &r, &m, "_shuffled");
        free_room(&m);
    }
    jt_routes_free(&r);
    return status;
}

/* ---- hybrid:SHARE ---- */

/* An expert of 1024 x 512 values: larger than what a processor keeps near. */
enum { WIDE = 1024, NARROW = 512 };

static void make_bank(jt_context *ctx, jt_bank *bank)
{
    for (int p = 0; p < JT_PARTS; p++) {
        size_t rows = p == JT_PART_DOWN ? WIDE : NARROW;
        jt_tensor t = jt_new(ctx, rows, WIDE + NARROW - rows);
        jt_zero(ctx, t.data, WIDE * NARROW);
        t.n_dims = 3;
        t.shape[2] = t.shape[1];
        t.shape[1] = rows;
        t.shape[0] = 1;
        bank->part[p] = t;
    }
}

/* Seconds of it for so many tokens: the best of a few turns. */
static double time_expert(jt_context *ctx, const jt_bank *bank, size_t tokens)
{
    enum { TURNS = 20 };
    double best = INFINITY;
    jt_tensor x = jt_new(ctx, tokens, WIDE);
    if (jt_failed(ctx))
        return best;
    jt_zero(ctx, x.data, tokens * WIDE);
    for (int i = 0; i < TURNS; i++) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        jt_input in = jt_input_of(x);
        double start = jt_seconds();
        jt_dense_forward(ctx, bank, &jt_store_mapped, &in);
        double seconds = jt_seconds() - start;
        best = seconds < best ? seconds : best;
        jt_arena_rewind(&ctx->scratch, mark);
    }
    return best;
}

jt_status jt_probe_expert_cost(const jt_probe_call *call, jt_expert_cost *out)
{
    enum { FEW = 1, MANY = 33 };
    jt_context *ctx = &call->trainer->ctx;
    jt_bank bank = {.kind = jt_expert_kind_find("ffn"),
                    .layer = -1,
                    .n_experts = 1,
                    .d = WIDE,
                    .width = NARROW,
                    .activation = JT_SILU};
    ctx->err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    make_bank(ctx, &bank);
    double few = time_expert(ctx, &bank, FEW), many = time_expert(ctx, &bank, MANY);
    jt_arena_rewind(&ctx->scratch, mark);
    if (jt_failed(ctx)) {
        if (call->err)
            *call->err = ctx->err;
        return ctx->err.code;
    }
    double slow = (many - few) / (MANY - FEW), each = fmax(0.0, few - slow);
    *out = (jt_expert_cost){.each = each, .token = slow};
    return JT_OK;
}

/* The slow worker is this processor, as measured; the fast one takes half as long, and
 * a move 0.42 of what the slow one takes for a token, as the code of the paper has
 * them. */
static jt_status measure_costs(const jt_probe_call *call, jt_hybrid_costs *out)
{
    jt_expert_cost cost;
    JT_TRY(jt_probe_expert_cost(call, &cost));
    *out = (jt_hybrid_costs){.slow_each = cost.each,
                             .slow = cost.token,
                             .fast_each = 0.5 * cost.each,
                             .fast = 0.5 * cost.token,
                             .move = 0.42 * (cost.each + cost.token)};
    return JT_OK;
}

/* Sums over the passes of layers, and how many were short enough for all divisions. */
typedef struct shared {
    double hss, apart, moved, ratio;
    int judged, passes;
} shared;

static void share_pass(shared *s, jt_hybrid_expert *e, int n,
                       const jt_hybrid_costs *costs)
{
    double hss = jt_hybrid_schedule(e, n, costs);
    s->hss += hss;
    s->passes++;
    if (n <= 10) {
        s->ratio += hss / jt_hybrid_optimum(e, n, costs);
        s->judged++;
    }
    for (int i = 0; i < n; i++)
        e[i].fast = e[i].here;
    s->apart += jt_hybrid_makespan(e, n, costs);
    for (int i = 0; i < n; i++)
        e[i].fast = true;
    s->moved += jt_hybrid_makespan(e, n, costs);
}

static int tokens_of(const jt_routes *r, size_t from, size_t to, int layer, int expert)
{
    int n = 0;
    for (size_t t = from; t < to; t++)
        for (int j = 0; j < r->k; j++)
            n += jt_routes_row(r, t, layer)[j] == expert;
    return n;
}

/* Passes of 8 tokens, with what a cache by scores holds when they begin. */
static jt_status share_all(const jt_probe_call *call, const jt_routes *r, room *m,
                           const jt_hybrid_costs *costs, shared *s)
{
    enum { PASS = 8 };
    jt_playback p;
    jt_hybrid_expert *e = jt_alloc((size_t)r->n_experts, sizeof *e);
    int slots = (int)lround(call->value * r->n_layers * r->n_experts);
    if (!e)
        return jt_fail_memory(call->err, "probing a model");
    jt_status status = jt_playback_start(&p, jt_cache_policy_find("score"), &r->map,
                                         slots, NULL, call->err);
    for (size_t t = 0; status == JT_OK && t + PASS <= r->n_tokens; t += PASS)
        for (int l = 0; l < r->n_layers; l++) {
            int n = experts_of(r, m->order, t, t + PASS, l, m->experts, m->scores);
            for (int i = 0; i < n; i++)
                e[i] = (jt_hybrid_expert){
                    .tokens = tokens_of(r, t, t + PASS, l, m->experts[i] - r->first[l]),
                    .here = p.slots.where[m->experts[i]] >= 0};
            share_pass(s, e, n, costs);
            jt_playback_pass(&p, l, m->experts, n, m->scores);
        }
    if (status == JT_OK)
        jt_playback_stop(&p);
    free(e);
    return status;
}

static jt_status report_shared(const jt_probe_call *call, const shared *s,
                               const jt_hybrid_costs *costs)
{
    double one = costs->slow_each + costs->slow;
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"hss", s->hss / s->passes / one},
        {"apart", s->apart / s->passes / one},
        {"moved", s->moved / s->passes / one},
        {"over_best", s->judged ? s->ratio / s->judged : (double)NAN},
        {"fixed", costs->slow_each / one},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        JT_TRY(jt_metrics_set(call->metrics, call->err, metrics[i].value,
                              "%s@hybrid=%s", metrics[i].name, call->text));
    return JT_OK;
}

jt_status jt_probe_hybrid(const jt_probe_call *call)
{
    jt_routes r;
    room m = {0};
    jt_hybrid_costs costs;
    shared s = {0};
    JT_TRY(measure_costs(call, &costs));
    JT_TRY(jt_routes_take(&r, call->trainer, JT_ROUTES_HELD_OUT, 0, call->err));
    jt_status status = make_room(&m, &r, call->err);
    if (status == JT_OK) {
        status = share_all(call, &r, &m, &costs, &s);
        free_room(&m);
    }
    if (status == JT_OK)
        status = report_shared(call, &s, &costs);
    jt_routes_free(&r);
    return status;
}

/* ---- ring:SECTIONS ---- */

/* The passes with so many sections, over those of a model that is all there. */
static jt_status slow_down(const jt_probe_call *call, jt_ring *ring, const char *name)
{
    size_t sections = ring->sections;
    double resident, seconds;
    JT_TRY(jt_ring_seconds(&seconds, ring, call->err));
    ring->sections = ring->n_layers;
    JT_TRY(jt_ring_seconds(&resident, ring, call->err));
    ring->sections = sections;
    return jt_metrics_set(call->metrics, call->err, seconds / resident, "%s@ring=%s",
                          name, call->text);
}

/* Put the shortest time of each layer in the place of all: what else the machine did
 * meanwhile is no matter of the model. Gives their mean. */
static double take_shortest(jt_routes *r)
{
    size_t layers = (size_t)r->n_layers;
    double sum = 0.0;
    for (size_t l = 0; l < layers; l++) {
        double best = INFINITY;
        for (size_t p = 0; p < r->n_passes; p++)
            best = fmin(best, r->seconds[p * layers + l]);
        for (size_t p = 0; p < r->n_passes; p++)
            r->seconds[p * layers + l] = best;
        sum += best;
    }
    return sum / (double)layers;
}

/* Layers take what they were measured to take; a copy three times their mean, either
 * beside other copies or after them. */
jt_status jt_probe_ring(const jt_probe_call *call)
{
    enum { PASSES = 16 };
    jt_routes r;
    JT_TRY(jt_routes_take(&r, call->trainer, JT_ROUTES_TRAINING, PASSES, call->err));
    double mean = take_shortest(&r);
    jt_ring ring = {.compute = r.seconds,
                    .n_layers = (size_t)r.n_layers,
                    .n_steps = r.n_passes * (size_t)r.n_layers,
                    .sections = (size_t)call->value,
                    .latency = 3.0 * mean};
    jt_status status = slow_down(call, &ring, "beside");
    ring.latency = 0.0;
    ring.transfer = 3.0 * mean;
    if (status == JT_OK)
        status = slow_down(call, &ring, "after");
    if (status == JT_OK)
        status =
            jt_metrics_set(call->metrics, call->err, call->value / (double)r.n_layers,
                           "memory@ring=%s", call->text);
    jt_routes_free(&r);
    return status;
}
