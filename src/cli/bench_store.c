/* What a store did in the rounds of a bench. */
#include "bench.h"

enum { DISK_BYTES = 48 << 20 };

jt_status bench_store_disk(double *speed, const char *path, const jt_session *session,
                           jt_err *err)
{
    jt_store_stats s;
    if (!jt_session_store_stats(session, &s))
        return JT_OK;
    jt_store_options how = {.io = s.direct ? "direct" : "buffered", .engine = s.engine};
    jt_status status = jt_measure_disk(speed, path, DISK_BYTES, &how, err);
    if (status != JT_E_ARG)
        return status;
    *speed = s.disk_speed; /* of a file that is too small, what the start has seen */
    return JT_OK;
}

/* Add what came since `before` to what came earlier. */
static void add(jt_store_stats *sum, const jt_store_stats *now,
                const jt_store_stats *before)
{
    sum->tokens += now->tokens - before->tokens;
    sum->hits += now->hits - before->hits;
    sum->hits_ahead += now->hits_ahead - before->hits_ahead;
    sum->misses += now->misses - before->misses;
    sum->read_bytes += now->read_bytes - before->read_bytes;
    sum->stall_seconds += now->stall_seconds - before->stall_seconds;
    sum->guesses += now->guesses - before->guesses;
    sum->right_guesses += now->right_guesses - before->right_guesses;
    sum->ahead += now->ahead - before->ahead;
    sum->ahead_used += now->ahead_used - before->ahead_used;
}

double bench_store_bound(struct bench_phase *phase, const jt_session *session,
                         const jt_store_stats *before, double disk)
{
    jt_store_stats now, round = {0};
    if (!jt_session_store_stats(session, &now))
        return 0.0;
    add(&round, &now, before);
    add(&phase->store, &now, before);
    const double *stage = jt_session_times(session);
    double computing = 0.0;
    for (int s = 0; s < JT_STAGE_COUNT; s++)
        computing += s == JT_STAGE_DISPATCH ? 0.0 : stage[s];
    phase->computing += computing;
    double reading =
        (double)((round.misses + round.ahead_used) * now.budget.expert) / disk;
    return reading > computing ? reading : computing;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0.0;
}

void bench_store_print(const struct bench_phase *phase, int tokens, int repeat)
{
    const jt_store_stats *s = &phase->store;
    double all = (double)repeat * tokens;
    uint64_t asked = s->hits + s->hits_ahead + s->misses;
    if (!tokens)
        return;
    printf("           hits %.1f%% and %.1f%% ahead of need, %s read and %.2f ms "
           "stalled per token, %.0f%% of %llu guesses right\n",
           100 * share(s->hits, asked), 100 * share(s->hits_ahead, asked),
           cli_show_bytes((double)s->read_bytes / all).text,
           1e3 * s->stall_seconds / all, 100 * share(s->right_guesses, s->guesses),
           (unsigned long long)s->guesses);
    printf("           %.0f%% of what disk (%s/s) and processor allow\n",
           100 * bench_median(phase->shares, repeat),
           cli_show_bytes(bench_median(phase->limits, repeat)).text);
}

json_t *bench_store_json(const struct bench_phase *phase, int tokens, int repeat)
{
    const jt_store_stats *s = &phase->store;
    double all = (double)repeat * tokens;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:o, s:o}", "hits",
        (json_int_t)s->hits, "hits_ahead", (json_int_t)s->hits_ahead, "misses",
        (json_int_t)s->misses, "read_bytes", (json_int_t)s->read_bytes,
        "stall_seconds_per_token", s->stall_seconds / all, "compute_seconds_per_token",
        phase->computing / all, "guesses", (json_int_t)s->guesses, "right_guesses",
        (json_int_t)s->right_guesses, "ahead", (json_int_t)s->ahead, "ahead_used",
        (json_int_t)s->ahead_used, "disk_bytes_per_second",
        cli_json_number(bench_median(phase->limits, repeat)), "bound_share",
        cli_json_number(bench_median(phase->shares, repeat)));
}
