/* A model larger than its budget: tokens per second over what the disk allows for the
 * bytes that the cache misses, with routes that are even or have a memory of the tokens
 * before. One JSON object on stdout.
 *
 *   store MODEL ram=BYTES tokens=24 warm=24 prompt=0 routes=even|local|own policy=..
 *         prefetch=.. io=.. engine=.. threads=N trace=FILE
 *
 * ram=0 maps the model: the sum of its logits is that of every other run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "junto/junto.h"

enum { DISK_BYTES = 192 << 20, MEMORY_TOKENS = 40, MOST_EXPERTS = 1024 };

/* ---- made-up routes ---- */

typedef struct routes {
    double memory; /* correlation of an expert's logits from token to token */
} routes;

/* A standard normal number of (layer, position, expert): a sum of uniform ones. */
static double noise(int layer, int position, int expert)
{
    uint64_t x = ((uint64_t)layer << 48) ^ ((uint64_t)(uint32_t)position << 16) ^
                 (uint64_t)expert;
    double sum = 0.0;
    for (int i = 0; i < 3; i++) { /* splitmix64 (Steele et al. 2014) */
        x += 0x9e3779b97f4a7c15u;
        uint64_t z = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        sum += (double)((z ^ (z >> 31)) >> 11) * 0x1p-53 - 0.5;
    }
    return 2.0 * sum;
}

/* An autoregressive process of order 1, cut after so many tokens. */
static double drift(int layer, int position, int expert, double memory)
{
    double sum = 0.0, weight = sqrt(1.0 - memory * memory);
    for (int j = 0; j < MEMORY_TOKENS && weight > 1e-3; j++, weight *= memory)
        sum += weight * noise(layer, position - j, expert);
    return sum;
}

static void replace_logits(void *self, const jt_route_site *site, float *logits,
                           int n_tokens, int n_experts)
{
    const routes *r = self;
    for (int t = 0; t < n_tokens; t++) {
        for (int e = 0; e < n_experts; e++)
            logits[t * n_experts + e] =
                (float)drift(site->layer, site->positions[t], e, r->memory);
    }
}

/* ---- a run ---- */

typedef struct args {
    const char *model, *routes, *trace;
    unsigned long long ram;
    int tokens, warm, prompt, threads;
    jt_store_options store;
} args;

static const char *value(int argc, char **argv, const char *name, const char *usual)
{
    size_t len = strlen(name);
    for (int i = 2; i < argc; i++) {
        if (!strncmp(argv[i], name, len) && argv[i][len] == '=')
            return argv[i] + len + 1;
    }
    return usual;
}

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK) {
        fprintf(stderr, "store: %s\n", err->msg);
        exit(1);
    }
}

/* What a phase took and read. */
typedef struct phase {
    double seconds, stall;
    uint64_t read, asked, missed, ahead, ahead_used, guesses, right;
} phase;

static jt_store_stats stats_of(const jt_session *s)
{
    jt_store_stats stats = {0};
    jt_session_store_stats(s, &stats);
    return stats;
}

static uint64_t add_logits(uint64_t sum, const jt_session *s, size_t vocab)
{
    return jt_hash(sum, (const unsigned char *)jt_session_logits(s),
                   vocab * sizeof(float));
}

/* Evaluate `count` tokens, `chunk` in a call. */
static phase play(jt_session *s, int count, int chunk, size_t vocab, uint64_t *sum)
{
    jt_err err = {0};
    jt_store_stats before = stats_of(s);
    int32_t *tokens = malloc(((size_t)count + 1) * sizeof *tokens);
    for (int i = 0; tokens && i < count; i++)
        tokens[i] =
            (int32_t)(((unsigned)(jt_session_length(s) + i) * 7919u + 5u) % vocab);
    double start = jt_seconds();
    for (int i = 0; tokens && i < count; i += chunk) {
        int n = count - i < chunk ? count - i : chunk;
        must(jt_session_eval(s, tokens + i, (size_t)n, NULL, &err), &err);
        *sum = add_logits(*sum, s, vocab);
    }
    jt_store_stats now = stats_of(s);
    phase p = {.seconds = jt_seconds() - start,
               .stall = now.stall_seconds - before.stall_seconds,
               .read = now.read_bytes - before.read_bytes,
               .missed = now.misses - before.misses,
               .ahead = now.ahead - before.ahead,
               .ahead_used = now.ahead_used - before.ahead_used,
               .guesses = now.guesses - before.guesses,
               .right = now.right_guesses - before.right_guesses};
    p.asked = p.missed + now.hits - before.hits + now.hits_ahead - before.hits_ahead;
    free(tokens);
    return p;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0.0;
}

static void print_phase(const char *name, const phase *p, int tokens, double disk)
{
    double needs = disk > 0.0 ? (double)p->read / disk : 0.0;
    printf("\"%s\": {\"tokens_per_second\": %.2f, \"disk_allows\": %.2f, "
           "\"share\": %.3f, \"hits\": %.4f, \"read_mb_per_token\": %.1f, "
           "\"stall_share\": %.3f, \"ahead\": %llu, \"ahead_used\": %llu, "
           "\"right_guesses\": %.3f}, ",
           name, tokens / p->seconds, needs > 0 ? tokens / needs : 0.0,
           needs / p->seconds, 1.0 - share(p->missed, p->asked),
           (double)p->read / 1e6 / tokens, p->stall / p->seconds,
           (unsigned long long)p->ahead, (unsigned long long)p->ahead_used,
           share(p->right, p->guesses));
}

static double disk_speed(const args *a, const jt_session *s)
{
    jt_store_stats stats = stats_of(s);
    jt_store_options how = {.io = stats.direct ? "direct" : "buffered",
                            .engine = stats.engine};
    double speed = 0.0;
    jt_err err = {0};
    must(jt_measure_disk(&speed, a->model, DISK_BYTES, &how, &err), &err);
    return speed;
}

static void print_run(const args *a, const jt_session *s, const phase *prompt,
                      const phase *decode, const double disk[2], uint64_t sum)
{
    jt_store_stats stats = stats_of(s);
    double best = disk[0] > disk[1] ? disk[0] : disk[1];
    double mean = 0.5 * (disk[0] + disk[1]);
    printf("{\"bench\": \"store\", \"ram\": %llu, \"slots\": %d, \"experts\": %d, "
           "\"routes\": \"%s\", ",
           a->ram, stats.budget.slots, stats.budget.experts, a->routes);
    if (a->ram)
        printf("\"policy\": \"%s\", \"prefetch\": \"%s\", \"engine\": \"%s\", \"io\": "
               "\"%s\", \"disk_mb_before\": %.0f, \"disk_mb_after\": %.0f, ",
               stats.policy, stats.prefetch, stats.engine,
               stats.direct ? "direct" : "buffered", disk[0] / 1e6, disk[1] / 1e6);
    if (a->prompt)
        print_phase("prompt", prompt, a->prompt, mean);
    print_phase("decode", decode, a->tokens, mean);
    printf("\"share_of_best\": %.3f, \"logits\": \"%016llx\"}\n",
           best > 0 ? (double)decode->read / best / decode->seconds : 0.0,
           (unsigned long long)sum);
}

static void run(const args *a, const jt_model *model)
{
    jt_err err = {0};
    jt_session *s;
    jt_model_info info;
    jt_model_describe(model, &info);
    jt_session_options options = {.n_ctx = a->prompt + a->warm + a->tokens,
                                  .threads = a->threads,
                                  .store = a->store};
    must(jt_session_new(&s, model, &options, &err), &err);
    routes made = {.memory = strcmp(a->routes, "local") ? 0.0 : 0.9};
    jt_policy policy = {.name = "routes", .self = &made, .on_logits = replace_logits};
    if (strcmp(a->routes, "own") != 0)
        must(jt_session_add_policy(s, &policy, &err), &err);
    jt_trace_writer *writer = NULL;
    if (a->trace) {
        must(jt_trace_writer_new(&writer, a->trace, model, NULL, &err), &err);
        jt_watcher watcher = jt_trace_watcher(writer);
        must(jt_session_add_watcher(s, &watcher, &err), &err);
    }
    size_t vocab = (size_t)info.n_vocab;
    uint64_t sum = JT_HASH_START;
    double disk[2] = {0.0, 0.0};
    phase prompt = {0};
    if (a->prompt)
        prompt = play(s, a->prompt, a->prompt, vocab, &sum);
    play(s, a->warm, 1, vocab, &sum);
    disk[0] = a->ram ? disk_speed(a, s) : 0.0;
    phase decode = play(s, a->tokens, 1, vocab, &sum);
    disk[1] = a->ram ? disk_speed(a, s) : 0.0;
    print_run(a, s, &prompt, &decode, disk, sum);
    jt_session_free(s);
    must(jt_trace_finish(writer, &err), &err);
}

int main(int argc, char **argv)
{
    jt_err err = {0};
    jt_model *model;
    if (argc < 2) {
        fprintf(stderr, "usage: store MODEL [ram=BYTES] [name=value ..]\n");
        return 2;
    }
    args a = {.model = argv[1],
              .routes = value(argc, argv, "routes", "even"),
              .trace = value(argc, argv, "trace", NULL),
              .ram = strtoull(value(argc, argv, "ram", "0"), NULL, 10),
              .tokens = atoi(value(argc, argv, "tokens", "24")),
              .warm = atoi(value(argc, argv, "warm", "24")),
              .prompt = atoi(value(argc, argv, "prompt", "0")),
              .threads = atoi(value(argc, argv, "threads", "0")),
              .store = {.policy = value(argc, argv, "policy", NULL),
                        .prefetch = value(argc, argv, "prefetch", NULL),
                        .io = value(argc, argv, "io", NULL),
                        .engine = value(argc, argv, "engine", NULL)}};
    a.store.ram = a.ram;
    must(a.ram ? jt_model_load_apart(&model, a.model, &err)
               : jt_model_load(&model, a.model, &err),
         &err);
    run(&a, model);
    jt_model_free(model);
    return 0;
}
