/* How fast a session will be: its processor and its disk measured, its cache played
 * back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "junto/simulate.h"
#include "model/apart.h"
#include "run/session.h"

/* Tokens of each measurement; most of those that fill the cache; bytes that the disk
 * reads between tokens that need none: neither shall fall into one bad moment. */
enum { TOKENS = 12, MOST_WARM = 64, DISK_BYTES = 128 << 20 };
static const double warm_seconds = 3.0;

static jt_status decode(jt_session *s, int from, int tokens, jt_err *err)
{
    for (int i = from; i < from + tokens; i++) {
        unsigned vocab = (unsigned)s->model->params.n_vocab;
        int32_t token = (int32_t)(((unsigned)i * 7919u + 17u) % vocab);
        JT_TRY(jt_session_eval(s, &token, 1, NULL, err));
    }
    return JT_OK;
}

static jt_store_stats stats_of(const jt_session *s)
{
    jt_store_stats stats = {0};
    jt_session_store_stats(s, &stats);
    return stats;
}

/* The share of what the cache lacked that guesses had read when its turn came: by the
 * model's own routers. */
static jt_status measure_foresight(double *share, jt_session *s, jt_err *err)
{
    JT_TRY(decode(s, 0, TOKENS, err));
    jt_store_stats stats = stats_of(s);
    double lacked = (double)(stats.misses + stats.ahead_used), late = 0.0;
    for (int i = 1; i <= JT_LACKING_MOST; i++)
        late += i * (double)stats.lacking[i];
    *share = lacked > late ? 1.0 - late / lacked : 0.0;
    return JT_OK;
}

/* Other experts at each token: tokens of no meaning may use the same ones again and
 * again, which the processor then has at hand. Of these those that the cache has, when
 * nothing is to be read. */
typedef struct scattered {
    const jt_session *session;
    bool cached;
    unsigned turn; /* other ones at the same positions */
} scattered;

static void scatter(void *self, const jt_route_site *site, float *logits, int n_tokens,
                    int n_experts)
{
    const scattered *a = self;
    int own = a->session->model->layers[site->layer].mixture.experts.n_experts;
    for (int t = 0; t < n_tokens; t++) {
        for (int e = 0; e < n_experts; e++) {
            uint64_t key =
                (uint64_t)site->layer << 48 ^
                ((uint64_t)(uint32_t)site->positions[t] + ((uint64_t)a->turn << 20))
                    << 16 ^
                (uint64_t)e;
            uint64_t h = jt_hash(JT_HASH_START, &key, sizeof key);
            bool here =
                a->cached && e < own &&
                jt_session_residency(a->session, site->layer, e) == JT_RESIDENCY_HERE;
            logits[t * n_experts + e] = (float)(h >> 40) * 0x1p-24f + (float)here;
        }
    }
}

/* Seconds of the processor for each of some tokens; those of the store without its
 * waiting. What counts is the median, as others may use the processor for a moment. */
typedef struct timing {
    double experts[TOKENS], rest[TOKENS], store[TOKENS];
    int count;
} timing;

static void add_times(const jt_session *s, double sign, double *experts, double *rest,
                      double *store)
{
    const double *times = s->ctx->times;
    *experts += sign * times[JT_STAGE_APPLY];
    *store += sign * (times[JT_STAGE_DISPATCH] - stats_of(s).stall_seconds);
    for (int i = 0; i < JT_STAGE_COUNT; i++) {
        if (i != JT_STAGE_APPLY && i != JT_STAGE_DISPATCH)
            *rest += sign * times[i];
    }
}

static jt_status time_tokens(timing *t, jt_session *s, int from, int tokens,
                             jt_err *err)
{
    for (int i = from; i < from + tokens; i++) {
        double experts = 0.0, rest = 0.0, store = 0.0;
        add_times(s, -1.0, &experts, &rest, &store);
        JT_TRY(decode(s, i, 1, err));
        add_times(s, 1.0, &experts, &rest, &store);
        t->experts[t->count] = experts;
        t->rest[t->count] = rest;
        t->store[t->count++] = store;
    }
    return JT_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int count)
{
    qsort(x, (size_t)count, sizeof *x, ascending);
    return count ? 0.5 * (x[count / 2] + x[(count - 1) / 2]) : 0.0;
}

/* The processor while the disk is at work for a share `busy` of the time, which costs
 * it bandwidth of the memory; what it takes to ask for an expert; and bytes that were
 * read per second, which is less than the disk can. */
typedef struct load {
    double experts, rest, busy, handling, read;
} load;

/* Until each place of the cache has been used, whose memory costs time when it is new,
 * or for long enough. */
static jt_status warm_up(jt_session *s, jt_err *err)
{
    double start = jt_seconds();
    jt_store_stats stats = stats_of(s);
    int most = s->capacity < MOST_WARM ? s->capacity : MOST_WARM;
    for (int i = 0; i < most && jt_seconds() - start < warm_seconds &&
                    stats.misses + stats.ahead < (uint64_t)stats.budget.slots;
         i++) {
        JT_TRY(decode(s, i, 1, err));
        stats = stats_of(s);
    }
    return JT_OK;
}

/* Tokens that lack much. */
static jt_status measure_loaded(load *out, jt_session *s, jt_err *err)
{
    timing t = {.count = 0};
    jt_store_stats before = stats_of(s);
    double start = jt_seconds();
    JT_TRY(time_tokens(&t, s, 0, TOKENS, err));
    jt_store_stats stats = stats_of(s);
    double seconds = jt_seconds() - start;
    double reads = (double)(stats.misses + stats.ahead - before.misses - before.ahead);
    double asking = TOKENS * median(t.store, t.count);
    *out = (load){.experts = median(t.experts, t.count),
                  .rest = median(t.rest, t.count),
                  .handling = reads > 0.0 ? fmax(0.0, asking / reads) : 0.0,
                  .read = (double)(stats.read_bytes - before.read_bytes) / seconds};
    return JT_OK;
}

/* The disk for some time, and how much longer than that speed says a single expert
 * takes. */
static jt_status measure_disk(double *speed, double *latency, const jt_session *s,
                              jt_err *err)
{
    jt_store_stats stats = stats_of(s);
    jt_store_options how = {.engine = stats.engine,
                            .io = stats.direct ? "direct" : "buffered"};
    const jt_source *source = &s->model->apart->sources[0];
    double one;
    *speed = stats.disk_speed; /* will do for a small file */
    if (source->bytes < DISK_BYTES)
        return JT_OK;
    JT_TRY(jt_measure_disk(speed, source->path, DISK_BYTES, &how, err));
    JT_TRY(jt_measure_disk(&one, source->path, stats.budget.expert, &how, err));
    *latency = (double)stats.budget.expert * (1.0 / one - 1.0 / *speed);
    return JT_OK;
}

/* Tokens that find all they need, and the disk in turns with them. */
static jt_status measure_machine(jt_costs *out, jt_session *s, jt_err *err)
{
    timing t = {.count = 0};
    double speed[TOKENS], latency[TOKENS] = {0.0};
    for (int i = 0; i < TOKENS; i++) {
        JT_TRY(time_tokens(&t, s, i, 1, err));
        JT_TRY(measure_disk(&speed[i], &latency[i], s, err));
    }
    out->experts = median(t.experts, t.count);
    out->rest = median(t.rest, t.count);
    out->disk_speed = median(speed, TOKENS);
    out->latency = fmax(0.0, median(latency, TOKENS));
    return JT_OK;
}

static jt_status measure_session(jt_costs *costs, load *loaded, double *foreseen,
                                 jt_session *s, jt_err *err)
{
    scattered routes = {.session = s};
    const jt_policy even = {.name = "even", .self = &routes, .on_logits = scatter};
    JT_TRY(measure_foresight(foreseen, s, err));
    jt_session_truncate(s, 0);
    JT_TRY(jt_session_add_policy(s, &even, err));
    jt_status status = warm_up(s, err);
    jt_session_truncate(s, 0);
    routes.turn++;
    if (status == JT_OK)
        status = measure_loaded(loaded, s, err);
    jt_session_costs(s, costs);
    jt_session_truncate(s, 0);
    routes.turn++;
    routes.cached = true;
    if (status == JT_OK)
        status = measure_machine(costs, s, err);
    costs->disk_speed = fmax(costs->disk_speed, loaded->read);
    loaded->busy = costs->disk_speed > 0.0 ? loaded->read / costs->disk_speed : 0.0;
    s->hooks.n_policies--;
    return status;
}

/* The busier the disk will be, the more the processor is like the loaded one; and the
 * slower that is, the less busy is the disk. */
static void load_processor(jt_costs *costs, const load *loaded)
{
    double experts = costs->experts, rest = costs->rest;
    for (int i = 0; i < 4 && loaded->busy > 0.0; i++) {
        double reading = costs->read_bytes / costs->disk_speed;
        double part = fmin(1.0, reading / jt_costs_seconds(costs) / loaded->busy);
        costs->experts = experts + part * fmax(0.0, loaded->experts - experts);
        costs->rest = rest + part * fmax(0.0, loaded->rest - rest);
    }
}

/* Layers of a token that lack i of k experts, when each is there with probability
 * `there`, independently: binomial. */
static void add_binomial(double *lacking, double layers, int k, double there)
{
    double chance = layers * pow(there, k);
    for (int i = 0; i <= k; i++) {
        lacking[i < JT_LACKING_MOST ? i : JT_LACKING_MOST] += chance;
        if (there > 0.0)
            chance *= (double)(k - i) / (i + 1) * (1.0 - there) / there;
    }
}

/* A share of what is lacking is there after all, each expert with the same chance. */
static void take_away(jt_costs *costs, double share)
{
    double left[JT_LACKING_MOST + 1] = {0.0};
    for (int i = 0; i <= JT_LACKING_MOST; i++)
        add_binomial(left, costs->lacking[i], i, share);
    memcpy(costs->lacking, left, sizeof left);
}

/* What the cache will lack: of even routing, or in the playback of a trace, from when
 * the cache is full, as a prompt will have left it. */
static jt_status foresee_misses(jt_costs *costs, double *misses, const jt_session *s,
                                const jt_store_stats *stats, jt_trace *trace,
                                jt_err *err)
{
    const jt_stored *stored = &s->model->apart->stored;
    double share = (double)stats->budget.slots / stats->budget.experts;
    if (!trace) {
        *misses = costs->uses * (1.0 - share);
        for (int l = 0; l < stored->n_layers; l++)
            add_binomial(costs->lacking, 1.0, stored->layers[l].router->k, share);
        return JT_OK;
    }
    jt_simulate_options o = {
        .policy = stats->policy, .slots = stats->budget.slots, .filled = true};
    jt_simulated played;
    JT_TRY(jt_trace_check_model(trace, s->model, err));
    JT_TRY(jt_simulate(trace, &o, &played, err));
    if (!played.tokens)
        return jt_fail(err, JT_E_ARG, "the trace is empty");
    double tokens = (double)played.tokens;
    costs->uses = (double)played.uses / tokens;
    for (int i = 0; i <= JT_LACKING_MOST; i++)
        costs->lacking[i] = (double)played.lacking[i] / tokens;
    *misses = (double)played.misses / tokens;
    return JT_OK;
}

/* What is read for each expert that the cache lacks, while it stays: nested ones earn a
 * bit with each doubling of their uses, whose number is about geometric where each is a
 * hit with the same chance. */
static double miss_bytes(const jt_session *s, const jt_store_stats *stats, double hits)
{
    double bytes = jt_cached_miss_bytes(s->cached), uses = 2.0;
    for (int bits = stats->bits_low + 1; bits <= stats->bits_high; bits++, uses *= 2.0)
        bytes += pow(hits, uses - 1.0) * (jt_cached_expert_bytes(s->cached, bits) -
                                          jt_cached_expert_bytes(s->cached, bits - 1));
    return bytes;
}

jt_status jt_forecast_decoding(jt_forecast *out, jt_session *s, jt_trace *trace,
                               jt_err *err)
{
    jt_store_stats stats;
    jt_forecast f = {0};
    load loaded = {0};
    double misses = 0.0;
    if (!jt_session_store_stats(s, &stats))
        return jt_fail(err, JT_E_ARG, "the session has no store");
    jt_status status = measure_session(&f.costs, &loaded, &f.foreseen, s, err);
    jt_session_truncate(s, 0);
    JT_TRY(status);
    memset(f.costs.lacking, 0, sizeof f.costs.lacking);
    JT_TRY(foresee_misses(&f.costs, &misses, s, &stats, trace, err));
    take_away(&f.costs, f.foreseen);
    f.hit_rate = f.costs.uses > 0.0 ? 1.0 - misses / f.costs.uses : 0.0;
    f.costs.read_bytes = misses * miss_bytes(s, &stats, f.hit_rate);
    f.costs.handling = misses * loaded.handling;
    load_processor(&f.costs, &loaded);
    f.seconds = jt_costs_seconds(&f.costs);
    *out = f;
    return JT_OK;
}
