/* Speed of training: tokens per second of whole steps (forward, loss, backward,
 * clipping, AdamW), as a share of what the machine's F32 products reach in the same
 * run.
 *
 *     train [threads=0] [rounds=5] [seconds=4]
 *
 * Three models take turns, so that a slow minute of the machine meets all of them: the
 * mini mixture (24 experts, 4 used), the same with 64 experts, and a dense model with
 * the same active parameters (an FFN as wide as 4 experts and the shared one). A step
 * sees 8 sequences of 256 tokens. Prints one JSON object a line.
 *
 * Rates are given by the clock, and by the processor time of the process: the latter
 * times the number of threads is what the clock would show on a machine that does
 * nothing else (waiting threads spin, and are counted).
 *
 * Model operations per token are 6 for each parameter of a matrix that a token meets
 * (the experts that it uses, the output, not the look-up of its embedding), and for
 * attention 12 * layers * heads * head dimension * mean number of keys, of which a
 * token at place t of its sequence has t + 1. What is computed twice counts once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "learn/checkpoint.h"
#include "tensor/loss.h"
#include "learn/peak.h"
#include "model/transformer.h"
#include "store/mapped.h"
#include "tensor/tape.h"

enum {
    LAYERS = 6,
    WIDTH = 256,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 64,
    USED = 4,
    EXPERT_WIDTH = 64,
    SHARED_WIDTH = 128,
    VOCAB = 4096,
    SEQUENCES = 8,
    LENGTH = 256,
    TOKENS = SEQUENCES * LENGTH,
    MAX_STEPS = 4096
};

typedef enum phase { FORWARD, BACKWARD, OPTIMISER, PHASES } phase;

typedef struct subject {
    const char *name;
    int experts; /* 0: dense */
    jt_model *model;
    jt_cache cache;
    jt_variables variables;
    jt_optim *optim;
    double flops; /* per token */
    double seconds[MAX_STEPS], cpu_seconds[MAX_STEPS], phases[PHASES];
    size_t steps;
} subject;

static jt_context ctx;
static jt_err err;
static jt_rng rng = {.seed = 1};

static void must(jt_status status)
{
    if (status != JT_OK) {
        fprintf(stderr, "train: %s\n", err.msg);
        exit(1);
    }
}

/* Seconds that all threads together have run. */
static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the machine ---- */

static jt_peak peak;
/* Operations per second, and per second of processor time: one try before each step. */
static double peaks[MAX_STEPS], cpu_peaks[MAX_STEPS];
static size_t n_peaks;

static void measure_peak(void)
{
    double start = jt_seconds(), cpu_start = cpu_now();
    double work = jt_peak_run(&peak, ctx.pool);
    if (n_peaks == MAX_STEPS)
        return;
    cpu_peaks[n_peaks] = work / (cpu_now() - cpu_start);
    peaks[n_peaks++] = work / (jt_seconds() - start);
}

/* ---- the models ---- */

static double flops_per_token(int experts)
{
    double attention = 2.0 * WIDTH * HEAD_DIM * (HEADS + KV_HEADS);
    double ffn = 3.0 * WIDTH * (USED * EXPERT_WIDTH + SHARED_WIDTH);
    double router = (double)experts * WIDTH;
    double keys = 12.0 * HEADS * HEAD_DIM * (LENGTH + 1) / 2.0;
    return LAYERS * (6.0 * (attention + ffn + router) + keys) + 6.0 * VOCAB * WIDTH;
}

static void begin(subject *s, const char *name, int experts)
{
    static const jt_optim_group group = {.pattern = "*", .weight_decay = 0.1f};
    char path[64];
    jt_blueprint blueprint;
    jt_sizes sizes = {.family = "junto",
                      .name = name,
                      .n_layers = LAYERS,
                      .d_model = WIDTH,
                      .n_heads = HEADS,
                      .n_kv_heads = KV_HEADS,
                      .head_dim = HEAD_DIM,
                      .dense_width = USED * EXPERT_WIDTH + SHARED_WIDTH,
                      .n_experts = experts,
                      .n_experts_used = USED,
                      .expert_width = EXPERT_WIDTH,
                      .shared_width = SHARED_WIDTH,
                      .n_ctx = LENGTH,
                      .n_vocab = VOCAB,
                      .rope_base = 10000.0f,
                      .norm_eps = 1e-6f,
                      .tied = true,
                      .router = {.scorer = jt_scorer_find("linear"),
                                 .selector = jt_selector_find("topk"),
                                 .scale = 1.0f}};
    *s = (subject){.name = name, .experts = experts};
    snprintf(path, sizeof path, "/tmp/junto-bench-%ld.gguf", (long)getpid());
    must(jt_blueprint_new(&blueprint, &sizes, 0.0f, &err));
    must(jt_checkpoint_create(path, &blueprint, NULL, 1, &err));
    jt_blueprint_free(&blueprint);
    must(jt_model_load(&s->model, path, &err));
    remove(path);
    must(jt_cache_init_train(&s->cache, s->model, 1, TOKENS, false, &err));
    must(jt_variables_take(&s->variables, s->model, &err));
    must(jt_optim_new(&s->optim, ctx.kernels, s->variables.list, s->variables.count,
                      &group, 1, &err));
    s->flops = flops_per_token(experts);
}

static void end(subject *s)
{
    jt_cache_free(&s->cache);
    jt_optim_free(s->optim);
    jt_model_free(s->model);
    jt_variables_free(&s->variables);
}

/* ---- a step ---- */

typedef struct batch {
    int32_t ids[TOKENS], targets[TOKENS], positions[TOKENS], first[TOKENS];
} batch;

static void draw_batch(batch *b)
{
    for (int t = 0; t < TOKENS; t++) {
        b->ids[t] = (int32_t)jt_rng_below(&rng, VOCAB);
        b->targets[t] = (int32_t)jt_rng_below(&rng, VOCAB);
        b->positions[t] = t % LENGTH;
        b->first[t] = t - t % LENGTH;
    }
}

/* Seconds since *start, which becomes now. */
static double lap(double *start)
{
    double before = *start;
    *start = jt_seconds();
    return *start - before;
}

static void step(subject *s)
{
    static const jt_hooks none;
    static batch b;
    draw_batch(&b);
    double start = jt_seconds(), begun = start, cpu_begun = cpu_now();
    jt_arena_mark mark = jt_arena_save(&ctx.scratch);
    jt_tape tape = {0};
    ctx.tape = &tape;
    jt_span span = {&s->cache, 0, TOKENS};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = TOKENS,
                      .ids = b.ids,
                      .positions = b.positions,
                      .first = b.first,
                      .all_logits = true};
    jt_tensor logits =
        jt_transformer_forward(&ctx, s->model, &chunk, &jt_store_mapped, &none);
    jt_cross_entropy(&ctx, &logits, b.targets, 1.0f, NULL);
    s->phases[FORWARD] += lap(&start);
    jt_tape_backward(&ctx);
    must(ctx.err.code);
    ctx.tape = NULL;
    jt_arena_rewind(&ctx.scratch, mark);
    s->phases[BACKWARD] += lap(&start);
    double norm = jt_optim_grad_norm(s->optim, ctx.pool, NULL);
    jt_optim_step(s->optim, ctx.pool, 1e-4f, norm > 1.0 ? (float)(1.0 / norm) : 1.0f);
    jt_variables_zero_grad(&s->variables, ctx.pool);
    s->phases[OPTIMISER] += lap(&start);
    s->cpu_seconds[s->steps] = cpu_now() - cpu_begun;
    s->seconds[s->steps++] = start - begun;
}

static void measure(subject *s, double seconds)
{
    double until = jt_seconds() + seconds;
    while (jt_seconds() < until && s->steps < MAX_STEPS) {
        measure_peak();
        step(s);
    }
}

/* ---- the report ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
}

static void report(subject *s, const subject *dense)
{
    size_t n = s->steps, slow = n - 1 - n / 20, fast = n / 20;
    double middle = s->seconds[n / 2], cpu = s->cpu_seconds[n / 2], all = 0.0;
    double work = s->flops * TOKENS;
    for (int i = 0; i < PHASES; i++)
        all += s->phases[i];
    printf("{\"bench\": \"train\", \"model\": \"%s\", \"cpu\": \"%s\", "
           "\"threads\": %d, \"parameters\": %zu, \"flops_per_token\": %.4g, "
           "\"steps\": %zu, ",
           s->name, ctx.kernels->name, jt_pool_threads(ctx.pool), s->variables.values,
           s->flops, n);
    printf(
        "\"tokens_per_second\": {\"p5\": %.0f, \"median\": %.0f, \"p95\": %.0f}, "
        "\"tokens_per_cpu_second\": {\"p5\": %.0f, \"median\": %.0f, \"p95\": %.0f}, ",
        TOKENS / s->seconds[slow], TOKENS / middle, TOKENS / s->seconds[fast],
        TOKENS / s->cpu_seconds[slow], TOKENS / cpu, TOKENS / s->cpu_seconds[fast]);
    printf("\"peak_gflops\": {\"median\": %.1f, \"best\": %.1f, \"by_cpu\": %.1f}, "
           "\"utilisation\": {\"of_median\": %.3f, \"of_best\": %.3f, "
           "\"by_cpu\": %.3f}, ",
           peaks[n_peaks / 2] / 1e9, peaks[n_peaks - 1] / 1e9,
           cpu_peaks[n_peaks / 2] / 1e9, work / middle / peaks[n_peaks / 2],
           work / middle / peaks[n_peaks - 1], work / cpu / cpu_peaks[n_peaks / 2]);
    printf("\"time_over_dense\": {\"median\": %.3f, \"by_cpu\": %.3f}, "
           "\"forward\": %.3f, \"backward\": %.3f, \"optimiser\": %.3f}\n",
           middle / dense->seconds[dense->steps / 2],
           cpu / dense->cpu_seconds[dense->steps / 2], s->phases[FORWARD] / all,
           s->phases[BACKWARD] / all, s->phases[OPTIMISER] / all);
}

static double setting(int argc, char **argv, const char *key, double otherwise)
{
    size_t n = strlen(key);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=')
            return atof(argv[i] + n + 1);
    }
    return otherwise;
}

int main(int argc, char **argv)
{
    enum { MINI, MANY, DENSE, SUBJECTS };
    static subject s[SUBJECTS];
    int rounds = (int)setting(argc, argv, "rounds", 5);
    double seconds = setting(argc, argv, "seconds", 4);
    must(jt_context_init(&ctx, (int)setting(argc, argv, "threads", 0), NULL, &err));
    must(jt_peak_init(&peak, ctx.kernels, &err));
    begin(&s[MINI], "mini: 24 experts, 4 used", 24);
    begin(&s[MANY], "64 experts, 4 used", 64);
    begin(&s[DENSE], "dense, as many active", 0);
    for (int i = 0; i < 2 * SUBJECTS; i++) /* warm up: memory finds its size */
        step(&s[i % SUBJECTS]);
    for (int i = 0; i < SUBJECTS; i++) {
        memset(s[i].phases, 0, sizeof s[i].phases);
        s[i].steps = 0;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < SUBJECTS; i++)
            measure(&s[i], seconds);
    }
    sort(peaks, n_peaks);
    sort(cpu_peaks, n_peaks);
    for (int i = 0; i < SUBJECTS; i++) {
        sort(s[i].seconds, s[i].steps);
        sort(s[i].cpu_seconds, s[i].steps);
    }
    for (int i = 0; i < SUBJECTS; i++)
        report(&s[i], &s[DENSE]);
    for (int i = 0; i < SUBJECTS; i++)
        end(&s[i]);
    jt_context_free(&ctx);
    return 0;
}
