/* A model larger than its budget: tokens per second over what the disk allows for the
 * bytes that the cache misses, with routes that are even or have a memory of the tokens
 * before. One JSON object on stdout.
 *
 *   store MODEL ram=BYTES tokens=24 warm=24 prompt=0 routes=even|local|text|own
 * policy=.. prefetch=.. blur=.. io=.. engine=.. checks=off threads=N trace=FILE
 *
 * ram=0 maps the model: the sum of its logits is that of every other run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "junto/junto.h"

enum { DISK_BYTES = 96 << 20, ROUNDS = 4, MEMORY_TOKENS = 40, MOST_EXPERTS = 1024 };

/* ---- made-up routes ---- */

/* The logits of an expert: what it has at all times, and an autoregressive process. */
typedef struct routes {
    const char *name;
    double liking;  /* share of what does not change */
    double memory;  /* correlation of the rest from token to token */
    double blur;    /* a look ahead sees the logits with so much noise */
    int layers, at; /* of the model, and the one that was asked last in its turn */
} routes;

/* `text` is as the default model routes texts of one kind: hits of lru at 25, 50, 75%
 * are 38, 72, 91, of lfu 52, 79, 94, of belady 69, 89, 97, and two of three guesses of
 * what the next layer has to read come true. A layer further ahead noise of its own
 * comes to the guesses, as much as makes them as much worse as that model's are: 74 and
 * 69% of the experts that are guessed to be used are. */
static const routes all_routes[] = {{"even", 0.0, 0.0, 0.4, 0, 0},
                                    {"local", 0.0, 0.9, 0.2, 0, 0},
                                    {"text", 0.5, 0.1, 0.4, 0, 0}};
static const double more_blur = 0.75; /* per layer, in parts of the first */
enum { ROUTES = sizeof all_routes / sizeof *all_routes };

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

static double logit(const routes *r, const jt_route_site *site, int position,
                    int expert)
{
    enum { FARTHER = 1 << 13, ELSEWHERE = 1 << 14, EVER = 1 << 15 };
    double x = sqrt(1.0 - r->liking * r->liking) *
               drift(site->layer, position, expert, r->memory);
    x += r->liking * noise(site->layer + EVER, 0, expert);
    if (!site->guess || r->blur <= 0.0)
        return x;
    x += r->blur * noise(site->layer + ELSEWHERE, position, expert);
    /* Whoever looks is one layer behind the one that was asked last. */
    if ((site->layer - r->at + r->layers) % r->layers > 2)
        x += more_blur * r->blur * noise(site->layer + FARTHER, position, expert);
    return x;
}

static void replace_logits(void *self, const jt_route_site *site, float *logits,
                           int n_tokens, int n_experts)
{
    routes *r = self;
    r->at = site->guess ? r->at : site->layer;
    for (int t = 0; t < n_tokens; t++) {
        for (int e = 0; e < n_experts; e++)
            logits[t * n_experts + e] = (float)logit(r, site, site->positions[t], e);
    }
}

/* ---- a run ---- */

typedef struct args {
    const char *model, *routes, *trace;
    double blur;
    unsigned long long ram;
    int tokens, warm, prompt, threads;
    bool rows;
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
    double seconds, stall, compute, predicted;
    uint64_t read, needed, asked, missed, ahead, ahead_used, guesses, right;
} phase;

static jt_store_stats stats_of(const jt_session *s)
{
    jt_store_stats stats = {0};
    jt_session_store_stats(s, &stats);
    return stats;
}

/* What a session has cost so far, in all. */
static jt_costs costs_of(const jt_session *s)
{
    jt_costs c;
    jt_session_costs(s, &c);
    double tokens = (double)stats_of(s).tokens;
    c.experts *= tokens;
    c.rest *= tokens;
    c.handling *= tokens;
    for (int i = 0; i <= JT_LACKING_MOST; i++)
        c.lacking[i] *= tokens;
    return c;
}

/* Seconds that the tokens of a phase should have taken, with its own disk's speed. */
static double predict(const jt_costs *before, const jt_session *s, uint64_t read,
                      int tokens, double disk)
{
    jt_costs c = costs_of(s);
    c.experts = (c.experts - before->experts) / tokens;
    c.rest = (c.rest - before->rest) / tokens;
    c.handling = (c.handling - before->handling) / tokens;
    for (int i = 0; i <= JT_LACKING_MOST; i++)
        c.lacking[i] = (c.lacking[i] - before->lacking[i]) / tokens;
    c.read_bytes = (double)read / tokens;
    c.disk_speed = disk;
    return jt_costs_seconds(&c) * tokens;
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
    jt_costs cost = costs_of(s);
    double start = jt_seconds();
    for (int i = 0; tokens && i < count; i += chunk) {
        int n = count - i < chunk ? count - i : chunk;
        must(jt_session_eval(s, tokens + i, (size_t)n, NULL, &err), &err);
        *sum = add_logits(*sum, s, vocab);
    }
    jt_store_stats now = stats_of(s);
    phase p = {.seconds = jt_seconds() - start,
               .compute =
                   costs_of(s).experts + costs_of(s).rest - cost.experts - cost.rest,
               .stall = now.stall_seconds - before.stall_seconds,
               .read = now.read_bytes - before.read_bytes,
               .missed = now.misses - before.misses,
               .ahead = now.ahead - before.ahead,
               .ahead_used = now.ahead_used - before.ahead_used,
               .guesses = now.guesses - before.guesses,
               .right = now.right_guesses - before.right_guesses};
    p.needed = (p.missed + p.ahead_used) * now.budget.expert;
    p.asked = p.missed + now.hits - before.hits + now.hits_ahead - before.hits_ahead;
    free(tokens);
    return p;
}

static void add_phase(phase *sum, const phase *p)
{
    sum->seconds += p->seconds;
    sum->stall += p->stall;
    sum->compute += p->compute;
    sum->read += p->read;
    sum->needed += p->needed;
    sum->asked += p->asked;
    sum->missed += p->missed;
    sum->ahead += p->ahead;
    sum->ahead_used += p->ahead_used;
    sum->guesses += p->guesses;
    sum->right += p->right;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0.0;
}

static void print_phase(const char *name, const phase *p, int tokens, double disk)
{
    double needs = disk > 0.0 ? (double)p->needed / disk : 0.0;
    double least = needs > p->compute ? needs : p->compute;
    printf("\"%s\": {\"tokens_per_second\": %.2f, \"disk_allows\": %.2f, "
           "\"share\": %.3f, \"share_of_both\": %.3f, \"compute_ms\": %.1f, "
           "\"hits\": %.4f, \"needed_mb_per_token\": %.1f, "
           "\"read_mb_per_token\": %.1f, "
           "\"stall_share\": %.3f, \"ahead\": %llu, \"ahead_used\": %llu, "
           "\"right_guesses\": %.3f}, ",
           name, tokens / p->seconds, needs > 0 ? tokens / needs : 0.0,
           needs / p->seconds, least / p->seconds, 1e3 * p->compute / tokens,
           1.0 - share(p->missed, p->asked), (double)p->needed / 1e6 / tokens,
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
                      const phase *decode, double disk, uint64_t sum)
{
    jt_store_stats stats = stats_of(s);
    printf("{\"bench\": \"store\", \"ram\": %llu, \"slots\": %d, \"experts\": %d, "
           "\"routes\": \"%s\", ",
           a->ram, stats.budget.slots, stats.budget.experts, a->routes);
    if (a->ram)
        printf("\"policy\": \"%s\", \"prefetch\": \"%s\", \"engine\": \"%s\", \"io\": "
               "\"%s\", \"disk_mb\": %.0f, ",
               stats.policy, stats.prefetch, stats.engine,
               stats.direct ? "direct" : "buffered", disk / 1e6);
    if (a->prompt)
        print_phase("prompt", prompt, a->prompt, disk);
    print_phase("decode", decode, a->tokens, disk);
    printf("\"predicted\": %.2f, ", a->ram ? a->tokens / decode->predicted : 0.0);
    printf("\"logits\": \"%016llx\"}\n", (unsigned long long)sum);
}

/* Tokens one by one in some rounds, with the disk measured before each and after the
 * last: its mean speed. */
static phase decode(const args *a, jt_session *s, size_t vocab, double *disk,
                    uint64_t *sum)
{
    phase all = {0};
    jt_costs before = costs_of(s);
    *disk = 0.0;
    for (int i = 0; i < ROUNDS; i++) {
        *disk += a->ram ? disk_speed(a, s) / (ROUNDS + 1) : 0.0;
        int from = a->tokens * i / ROUNDS, to = a->tokens * (i + 1) / ROUNDS;
        phase p = play(s, to - from, 1, vocab, sum);
        add_phase(&all, &p);
    }
    *disk += a->ram ? disk_speed(a, s) / (ROUNDS + 1) : 0.0;
    all.predicted = predict(&before, s, all.read, a->tokens, *disk);
    return all;
}

static routes routes_of(const args *a)
{
    routes made = {.name = "own"};
    for (int i = 0; i < ROUTES; i++) {
        if (!strcmp(all_routes[i].name, a->routes))
            made = all_routes[i];
    }
    if (a->blur >= 0.0)
        made.blur = a->blur;
    return made;
}

static void run(const args *a, const jt_model *model)
{
    jt_err err = {0};
    jt_session *s;
    jt_model_info info;
    jt_model_describe(model, &info);
    jt_session_options options = {.n_ctx = a->prompt + a->warm + a->tokens,
                                  .threads = a->threads,
                                  .no_repack = a->rows,
                                  .store = a->store};
    must(jt_session_new(&s, model, &options, &err), &err);
    routes made = routes_of(a);
    made.layers = info.n_layers;
    made.at = info.n_layers - 1;
    jt_policy policy = {.name = "routes", .self = &made, .on_logits = replace_logits};
    if (strcmp(made.name, "own") != 0)
        must(jt_session_add_policy(s, &policy, &err), &err);
    jt_trace_writer *writer = NULL;
    if (a->trace) {
        must(jt_trace_writer_new(&writer, a->trace, model, NULL, &err), &err);
        jt_watcher watcher = jt_trace_watcher(writer);
        must(jt_session_add_watcher(s, &watcher, &err), &err);
    }
    size_t vocab = (size_t)info.n_vocab;
    uint64_t sum = JT_HASH_START;
    double disk;
    phase prompt = {0};
    if (a->prompt)
        prompt = play(s, a->prompt, a->prompt, vocab, &sum);
    play(s, a->warm, 1, vocab, &sum);
    phase decoded = decode(a, s, vocab, &disk, &sum);
    print_run(a, s, &prompt, &decoded, disk, sum);
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
              .blur = atof(value(argc, argv, "blur", "-1")),
              .ram = strtoull(value(argc, argv, "ram", "0"), NULL, 10),
              .tokens = atoi(value(argc, argv, "tokens", "24")),
              .warm = atoi(value(argc, argv, "warm", "24")),
              .prompt = atoi(value(argc, argv, "prompt", "0")),
              .threads = atoi(value(argc, argv, "threads", "0")),
              .rows = atoi(value(argc, argv, "rows", "0")),
              .store = {.policy = value(argc, argv, "policy", NULL),
                        .prefetch = value(argc, argv, "prefetch", NULL),
                        .io = value(argc, argv, "io", NULL),
                        .engine = value(argc, argv, "engine", NULL),
                        .no_checks = !strcmp(value(argc, argv, "checks", ""), "off")}};
    a.store.ram = a.ram;
    must(a.ram ? jt_model_load_apart(&model, a.model, &err)
               : jt_model_load(&model, a.model, &err),
         &err);
    run(&a, model);
    jt_model_free(model);
    return 0;
}
