/* What steering costs, and what skipped experts save: decoding under policies against
 * decoding without, in the same run.
 *
 *     build/bench/steer MODEL [tokens=N] [rounds=N] [prompt=N] [threads=N] POLICY...
 *
 * Sessions take turns, so that other work of the machine meets them alike. A line for
 * each policy: time per token over that of plain decoding (median, least and most of
 * the rounds), of the processors and by the clock (which is right where nothing else
 * runs), and the bytes of weights that a token reads over those without the policy:
 * what the time of decoding should follow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "junto/junto.h"

enum { MAX_POLICIES = 32, MAX_ROUNDS = 1000 };
enum { PROCESSORS, WALL, CLOCKS };

typedef struct run {
    const char *policy; /* "": none */
    jt_session *session;
    jt_steering *steering;
    jt_usage *usage;
    double seconds[CLOCKS][MAX_ROUNDS];
    double ratio[CLOCKS][MAX_ROUNDS];
} run;

static struct {
    const char *model;
    int tokens, rounds, prompt, threads;
} args = {.tokens = 16, .rounds = 7, .prompt = 32, .threads = 1};
static run runs[MAX_POLICIES];
static size_t n_runs = 1;
static jt_model *model;
static jt_model_info info;

static void check(jt_status status, const jt_err *err)
{
    if (status == JT_OK)
        return;
    fprintf(stderr, "steer: %s\n", err->msg);
    exit(1);
}

static double now(int clock)
{
    struct timespec t;
    clock_gettime(clock == WALL ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int32_t token_at(int i)
{
    return (int32_t)((uint32_t)(i + 1) * 2654435761u % (uint32_t)info.n_vocab);
}

static void open_run(run *r)
{
    jt_err err;
    jt_session_options options = {.n_ctx = args.prompt + args.tokens,
                                  .threads = args.threads};
    check(jt_session_new(&r->session, model, &options, &err), &err);
    if (*r->policy) {
        check(jt_steering_new(&r->steering, model, &err), &err);
        check(jt_steering_add(r->steering, r->policy, &err), &err);
        check(jt_steering_attach(r->steering, r->session, &err), &err);
    }
    check(jt_usage_new(&r->usage, model, &err), &err);
    jt_watcher watcher = jt_usage_watcher(r->usage);
    check(jt_session_add_watcher(r->session, &watcher, &err), &err);
}

/* Seconds per token, by both clocks. */
static void decode(run *r, double seconds[CLOCKS])
{
    jt_err err;
    int32_t prompt[4096];
    jt_session_truncate(r->session, 0);
    for (int i = 0; i < args.prompt; i++)
        prompt[i] = token_at(i);
    check(jt_session_eval(r->session, prompt, (size_t)args.prompt, NULL, &err), &err);
    jt_usage_reset(r->usage);
    double start[CLOCKS] = {now(PROCESSORS), now(WALL)};
    for (int i = 0; i < args.tokens; i++) {
        int32_t token = token_at(args.prompt + i);
        check(jt_session_eval(r->session, &token, 1, NULL, &err), &err);
    }
    for (int c = 0; c < CLOCKS; c++)
        seconds[c] = (now(c) - start[c]) / args.tokens;
}

/* Experts that worked, over those of the model, in the tokens that were decoded. */
static double share_used(const run *r)
{
    double used = 0.0, tokens = 0.0;
    for (size_t i = 0; i < jt_usage_layers(r->usage); i++) {
        jt_layer_usage layer;
        jt_usage_layer(r->usage, i, &layer);
        for (int e = 0; e < layer.n_experts; e++)
            used += (double)layer.counts[e];
        tokens += (double)layer.tokens;
    }
    return used / (tokens * info.n_experts_used);
}

/* Bytes of the routed experts that a token reads, of all active ones. */
static double expert_bytes(void)
{
    const jt_gguf *file = jt_model_file(model);
    double bytes = 0.0;
    for (uint64_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        if (memmem(t->name.data, t->name.len, "_exps.weight", 12))
            bytes += (double)t->bytes;
    }
    return bytes * info.n_experts_used / info.n_experts;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(run *r, double experts)
{
    double all = (double)info.active_bytes, share = share_used(r);
    double bytes = (all - experts * (1.0 - share)) / all;
    double median[CLOCKS];
    for (int c = 0; c < CLOCKS; c++) {
        qsort(r->ratio[c], (size_t)args.rounds, sizeof *r->ratio[c], compare);
        median[c] = r->ratio[c][args.rounds / 2];
    }
    const double *by = r->ratio[PROCESSORS], *wall = r->ratio[WALL];
    printf(
        "{\"bench\": \"steer\", \"policy\": \"%s\", \"threads\": %d, \"rounds\": %d, "
        "\"experts_used\": %.4f, \"bytes\": %.4f, \"time\": %.4f, \"least\": %.4f, "
        "\"most\": %.4f, \"off\": %.4f, \"wall\": %.4f, \"wall_least\": %.4f, "
        "\"wall_most\": %.4f, \"wall_off\": %.4f}\n",
        r->policy, args.threads, args.rounds, share, bytes, median[PROCESSORS], by[0],
        by[args.rounds - 1], median[PROCESSORS] / bytes - 1.0, median[WALL], wall[0],
        wall[args.rounds - 1], median[WALL] / bytes - 1.0);
}

static void read_args(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int value;
        if (sscanf(argv[i], "tokens=%d", &value) == 1)
            args.tokens = value;
        else if (sscanf(argv[i], "rounds=%d", &value) == 1)
            args.rounds = value < MAX_ROUNDS ? value : MAX_ROUNDS;
        else if (sscanf(argv[i], "prompt=%d", &value) == 1)
            args.prompt = value < 4096 ? value : 4096;
        else if (sscanf(argv[i], "threads=%d", &value) == 1)
            args.threads = value;
        else if (!args.model)
            args.model = argv[i];
        else if (n_runs < MAX_POLICIES)
            runs[n_runs++].policy = argv[i];
    }
    if (!args.model || args.tokens < 1 || args.rounds < 1 || args.prompt < 1) {
        fprintf(stderr, "usage: steer MODEL [tokens=N] [rounds=N] [prompt=N] "
                        "[threads=N] POLICY...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    jt_err err;
    runs[0].policy = "";
    read_args(argc, argv);
    check(jt_model_load(&model, args.model, &err), &err);
    jt_model_describe(model, &info);
    for (size_t i = 0; i < n_runs; i++)
        open_run(&runs[i]);
    for (int round = -1; round < args.rounds; round++) { /* the first warms up */
        for (size_t i = 0; i < n_runs; i++) {
            double seconds[CLOCKS];
            decode(&runs[i], seconds);
            for (int c = 0; c < CLOCKS && round >= 0; c++) {
                runs[i].seconds[c][round] = seconds[c];
                runs[i].ratio[c][round] = seconds[c] / runs[0].seconds[c][round];
            }
        }
    }
    double experts = expert_bytes();
    for (size_t i = 0; i < n_runs; i++) {
        report(&runs[i], experts);
        jt_session_free(runs[i].session);
        jt_steering_free(runs[i].steering);
        jt_usage_free(runs[i].usage);
    }
    jt_model_free(model);
    return 0;
}
