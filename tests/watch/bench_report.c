/* What a report costs: seconds and memory, on made-up routes of 48 layers with 8 of 128
 * experts, in texts of 512 tokens. Usage: bench_report FILE TOKENS
 * [THREADS] writes FILE when it is not there, and reports it when it is. */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "junto/report.h"
#include "routes.h"

enum { LAYERS = 48, EXPERTS = 128, K = 8, POOL = 4096, TEXT = 512 };

static struct {
    int32_t expert[LAYERS][POOL][K];
    float weight[LAYERS][POOL][K];
} routes;

/* Routes whose logits drift from token to token. */
static void make(void)
{
    static float logits[EXPERTS], scores[EXPERTS];
    jt_rng rng = {.seed = 1};
    for (int l = 0; l < LAYERS; l++) {
        for (int e = 0; e < EXPERTS; e++)
            logits[e] = 1.5f * jt_rng_normal(&rng);
        for (int t = 0; t < POOL; t++) {
            drift(&rng, logits, scores, EXPERTS, 0.9f, 1.5f);
            take_largest(scores, EXPERTS, routes.expert[l][t], routes.weight[l][t], K);
        }
    }
}

/* Texts are stretches of the pool, each from a place of its own. */
static jt_status write_trace(const char *path, long tokens, jt_err *err)
{
    static float scores[EXPERTS];
    jt_trace_writer *w;
    jt_trace_head head = even_head(LAYERS, EXPERTS, K, 256);
    JT_TRY(jt_trace_writer_new_head(&w, path, &head, NULL, err));
    jt_watcher watcher = jt_trace_watcher(w);
    jt_rng rng = {.seed = 2};
    uint32_t from = 0;
    make();
    for (int e = 0; e < EXPERTS; e++)
        scores[e] = 1.0f / EXPERTS;
    for (long t = 0; t < tokens; t++) {
        int32_t position = (int32_t)(t % TEXT), id = position * 7919 % 50000;
        if (!position)
            from = jt_rng_below(&rng, POOL - TEXT);
        for (int l = 0; l < LAYERS; l++) {
            size_t row = from + (size_t)position;
            jt_route_site site = {.layer = l, .token_ids = &id, .positions = &position};
            jt_route route = {.n_tokens = 1,
                              .n_experts = EXPERTS,
                              .k = K,
                              .expert = routes.expert[l][row],
                              .weight = routes.weight[l][row],
                              .n_rows = EXPERTS,
                              .scores = scores};
            watcher.on_route(watcher.self, &site, &route);
        }
    }
    return jt_trace_finish(w, err);
}

static jt_status measure(const char *path, int threads, jt_err *err)
{
    jt_trace *trace;
    jt_report *report;
    jt_report_options o = {.threads = threads};
    double start = jt_seconds();
    JT_TRY(jt_trace_open(&trace, path, err));
    jt_status status = jt_report_new(&report, trace, &o, err);
    if (status == JT_OK) {
        const jt_report_info *info = jt_report_about(report);
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("%llu tokens: %.1f s, %.1f s of processors; at most %ld MB, the mapped "
               "file included\n",
               (unsigned long long)info->trace.tokens, jt_seconds() - start,
               (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6,
               usage.ru_maxrss / 1024);
        printf("SRP 16: %.4f (%.4f), LRU of 16: %.4f (%.4f)\n",
               info->locality.srp[1].value, info->shuffled.srp[1].value,
               info->locality.hits[JT_CACHE_LRU][15],
               info->shuffled.hits[JT_CACHE_LRU][15]);
        jt_report_free(report);
    }
    jt_trace_close(trace);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    jt_err err = {0};
    jt_status status = JT_OK;
    if (access(argv[1], F_OK))
        status = write_trace(argv[1], strtol(argv[2], NULL, 10), &err);
    else
        status = measure(argv[1], argc > 3 ? (int)strtol(argv[3], NULL, 10) : 1, &err);
    if (status != JT_OK)
        fprintf(stderr, "%s\n", err.msg);
    return status != JT_OK;
}
