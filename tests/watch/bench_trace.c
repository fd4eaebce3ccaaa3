/* What a trace costs: bytes and microseconds per token, on made-up routes of 48 layers
 * with 8 of 128 experts. Usage: bench_trace FILE. */
#include <stdio.h>

#include "base/clock.h"
#include "routes.h"

enum { LAYERS = 48, EXPERTS = 128, K = 8, TOKENS = 2048 };

static struct {
    int32_t expert[LAYERS][TOKENS][K];
    float weight[LAYERS][TOKENS][K], scores[LAYERS][TOKENS][EXPERTS];
} routes;

static void make(float memory, float spread)
{
    static float logits[EXPERTS];
    jt_rng rng = {.seed = 1};
    for (int l = 0; l < LAYERS; l++) {
        for (int e = 0; e < EXPERTS; e++)
            logits[e] = spread * jt_rng_normal(&rng);
        for (int t = 0; t < TOKENS; t++) {
            drift(&rng, logits, routes.scores[l][t], EXPERTS, memory, spread);
            take_largest(routes.scores[l][t], EXPERTS, routes.expert[l][t],
                         routes.weight[l][t], K);
        }
    }
}

/* Weights without any pattern: the worst that compression can meet. */
static void make_uniform(void)
{
    jt_rng rng = {.seed = 2};
    make(0.0f, 0.0f);
    for (int l = 0; l < LAYERS; l++) {
        for (int t = 0; t < TOKENS; t++) {
            for (int j = 0; j < K; j++) {
                routes.expert[l][t][j] = (int32_t)jt_rng_below(&rng, EXPERTS);
                routes.weight[l][t][j] = jt_rng_float(&rng);
            }
        }
    }
}

static int measure(const char *what, const char *path, unsigned more)
{
    jt_err err = {0};
    jt_trace_writer *w;
    jt_trace_head head = even_head(LAYERS, EXPERTS, K, 256);
    head.columns |= more;
    if (jt_trace_writer_new_head(&w, path, &head, NULL, &err) != JT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    jt_watcher watcher = jt_trace_watcher(w);
    double start = jt_seconds();
    for (int32_t t = 0; t < TOKENS; t++) { /* as decoding does: one by one */
        for (int l = 0; l < LAYERS; l++) {
            int32_t id = t * 7919 % 50000;
            jt_route_site site = {.layer = l, .token_ids = &id, .positions = &t};
            jt_route route = {.n_tokens = 1,
                              .n_experts = EXPERTS,
                              .k = K,
                              .expert = routes.expert[l][t],
                              .weight = routes.weight[l][t],
                              .n_rows = EXPERTS,
                              .scores = routes.scores[l][t]};
            watcher.on_route(watcher.self, &site, &route);
        }
    }
    jt_status status = jt_trace_finish(w, &err);
    double seconds = jt_seconds() - start;
    jt_trace *trace;
    jt_trace_info info;
    if (status != JT_OK || jt_trace_open(&trace, path, &err) != JT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    jt_trace_describe(trace, &info);
    printf("%-22s %7.1f us, %7.1f bytes per token:", what, seconds / TOKENS * 1e6,
           (double)info.bytes / TOKENS);
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (info.columns >> c & 1)
            printf("  %s %.1f", jt_trace_column_name(c),
                   (double)info.column_bytes[c] / TOKENS);
    }
    printf("\n");
    jt_trace_close(trace);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    make(0.9f, 1.5f);
    int bad = measure("local", argv[1], 0);
    bad |= measure("local, with scores", argv[1], 1u << JT_TRACE_SCORE);
    make(0.0f, 1.5f);
    bad |= measure("independent", argv[1], 0);
    make_uniform();
    bad |= measure("uniform", argv[1], 0);
    return bad;
}
