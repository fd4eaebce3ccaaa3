/* How fast a session will be: its processor and its disk measured, its cache played
 * back. */
#include <math.h>
#include <string.h>

#include "junto/simulate.h"
#include "model/apart.h"
#include "run/session.h"

/* Tokens that the processor is measured with, after some that fill the cache, and bytes
 * for the disk, a few times within about a second: its speed is not even. */
enum { WARM_TOKENS = 4, TOKENS = 12, DISK_BYTES = 256 << 20, DISK_TURNS = 8 };
static const double disk_seconds = 1.0;

static jt_status decode(jt_session *s, int tokens, jt_err *err)
{
    for (int i = 0; i < tokens; i++) {
        unsigned vocab = (unsigned)s->model->params.n_vocab;
        int32_t token = (int32_t)(((unsigned)i * 7919u + 17u) % vocab);
        JT_TRY(jt_session_eval(s, &token, 1, NULL, err));
    }
    return JT_OK;
}

/* The share of what the cache lacked that guesses had read when its turn came. */
static double share_foreseen(const jt_session *s)
{
    jt_store_stats stats = {0};
    jt_session_store_stats(s, &stats);
    double lacked = (double)(stats.misses + stats.ahead_used), late = 0.0;
    for (int i = 1; i <= JT_LACKING_MOST; i++)
        late += i * (double)stats.lacking[i];
    return lacked > late ? 1.0 - late / lacked : 0.0;
}

/* Seconds per token, of the experts and of all else; waiting for the disk is neither.
 */
static jt_status measure_processor(jt_costs *out, double *foreseen, jt_session *s,
                                   jt_err *err)
{
    jt_costs warm, both;
    JT_TRY(decode(s, WARM_TOKENS, err));
    jt_session_costs(s, &warm);
    JT_TRY(decode(s, TOKENS, err));
    jt_session_costs(s, &both);
    double all = WARM_TOKENS + TOKENS;
    *out = (jt_costs){.experts =
                          (both.experts * all - warm.experts * WARM_TOKENS) / TOKENS,
                      .rest = (both.rest * all - warm.rest * WARM_TOKENS) / TOKENS,
                      .layers = both.layers,
                      .uses = both.uses,
                      .expert_bytes = both.expert_bytes};
    *foreseen = share_foreseen(s);
    return JT_OK;
}

static jt_status measure_disk(double *speed, const jt_session *s,
                              const jt_store_stats *stats, jt_err *err)
{
    jt_store_options how = {.engine = stats->engine,
                            .io = stats->direct ? "direct" : "buffered"};
    *speed = stats->disk_speed;
    const jt_source *source = &s->model->apart->sources[0];
    if (source->bytes < DISK_BYTES)
        return JT_OK; /* what the start has seen will do */
    double taken = 0.0;
    int turns = 0;
    for (; turns < DISK_TURNS && taken < disk_seconds; turns++) {
        double found;
        JT_TRY(jt_measure_disk(&found, source->path, DISK_BYTES, &how, err));
        taken += DISK_BYTES / found;
    }
    *speed = turns * (double)DISK_BYTES / taken;
    return JT_OK;
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
    double misses = 0.0, foreseen = 0.0;
    if (!jt_session_store_stats(s, &stats))
        return jt_fail(err, JT_E_ARG, "the session has no store");
    jt_status status = measure_processor(&f.costs, &foreseen, s, err);
    jt_session_truncate(s, 0);
    JT_TRY(status);
    JT_TRY(foresee_misses(&f.costs, &misses, s, &stats, trace, err));
    take_away(&f.costs, foreseen);
    JT_TRY(measure_disk(&f.costs.disk_speed, s, &stats, err));
    f.hit_rate = f.costs.uses > 0.0 ? 1.0 - misses / f.costs.uses : 0.0;
    f.costs.read_bytes = misses * miss_bytes(s, &stats, f.hit_rate);
    f.seconds = jt_costs_seconds(&f.costs);
    *out = f;
    return JT_OK;
}
