/* Speeds of the products of a training step (width 256, micro-batches of 2048 tokens,
 * 24 experts of width 64 with 4 used), forward and for both gradients, as a part of
 * what fma alone reaches on as many threads in the same round: median, lowest and
 * highest of the rounds. The time is that of the processors: waiting counts, what other
 * programs steal does not.
 *
 *     bench_products [level [threads [part of a name]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

enum { TOKENS = 2048, ROUNDS = 9, SAMPLES = 3 };

/* `count` weights [rows, n] of which each multiplies `tokens` rows: the same of x when
 * `shared`, else its own. */
typedef struct shape {
    const char *name;
    size_t count, rows, n, tokens;
    bool shared;
} shape;

static const shape shapes[] = {
    {"q", 1, 256, 256, TOKENS, true},
    {"k, v", 2, 128, 256, TOKENS, true},
    {"24 experts, gate or up", 24, 64, 256, TOKENS * 4 / 24, false},
    {"24 experts, down", 24, 256, 64, TOKENS * 4 / 24, false},
    {"64 experts, gate or up", 64, 64, 256, TOKENS * 4 / 64, false},
    {"64 experts, down", 64, 256, 64, TOKENS * 4 / 64, false},
    {"shared expert, gate, up", 2, 128, 256, TOKENS, true},
    {"shared expert, down", 1, 256, 128, TOKENS, true},
    {"router", 1, 24, 256, TOKENS, true},
    {"output", 1, 4096, 256, TOKENS, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

enum { FORWARD, INPUT, WEIGHT, WAYS };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double operations(const shape *s)
{
    return 2.0 * (double)(s->count * s->rows * s->n * s->tokens);
}

static jt_tensor matrix(size_t rows, size_t cols)
{
    jt_rng rng = {.seed = 3};
    jt_tensor t = {.dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
    t.data = jt_alloc(rows * cols, sizeof(float));
    t.grad = jt_alloc(rows * cols, sizeof(float));
    if (!t.data || !t.grad)
        exit(1);
    jt_rng_normals(&rng, t.data, rows * cols);
    memset(t.grad, 0, rows * cols * sizeof(float));
    return t;
}

static void matrix_free(jt_tensor *t)
{
    free(t->data);
    free(t->grad);
}

/* Forward and one gradient: GFLOP/s of each. */
static void run_once(jt_context *ctx, const shape *s, jt_tensor x, jt_tensor w,
                     bool input, double speed[WAYS])
{
    jt_tape tape = {0};
    ctx->tape = &tape;
    (input ? &w : &x)->grad = NULL;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    size_t apart = s->shared ? 0 : s->tokens;
    jt_tensor y = jt_new(ctx, s->count * s->tokens, s->rows);
    jt_product *list = jt_scratch(ctx, s->count, sizeof *list);
    jt_input in = jt_input_of(x);
    for (size_t i = 0; list && i < s->count; i++) {
        jt_tensor one = jt_slice(&w, i);
        list[i] = jt_product_rows(&y, &one, &in, i * s->tokens, s->tokens);
        list[i].first = i * apart;
    }
    double start = now();
    jt_products(ctx, list, s->count);
    double middle = now();
    jt_tape_backward(ctx);
    double end = now();
    if (jt_failed(ctx)) {
        fprintf(stderr, "%s\n", ctx->err.msg);
        exit(1);
    }
    speed[FORWARD] = operations(s) / (middle - start);
    speed[input ? INPUT : WEIGHT] = operations(s) / (end - middle);
    jt_arena_rewind(&ctx->scratch, mark);
    ctx->tape = NULL;
}

typedef struct peak_job {
    jt_cpu_level level;
    double *work; /* [threads] */
} peak_job;

static void peak_item(void *arg, size_t i)
{
    const peak_job *job = arg;
    job->work[i] = jt_kernels_level(job->level)->spin[JT_SPIN_F32](2000000);
}

static double peak(jt_context *ctx, jt_cpu_level level, int threads)
{
    double work[64] = {0}, best = 0.0;
    for (int i = 0; i < SAMPLES; i++) {
        double start = now(), sum = 0.0;
        jt_pool_run(ctx->pool, peak_item, &(peak_job){level, work}, (size_t)threads);
        double seconds = now() - start;
        for (int t = 0; t < threads; t++)
            sum += work[t];
        best = sum / seconds > best ? sum / seconds : best;
    }
    return best;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_shape(jt_context *ctx, jt_cpu_level level, int threads,
                        const shape *s)
{
    double share[WAYS][ROUNDS];
    jt_tensor x = matrix(s->shared ? s->tokens : s->count * s->tokens, s->n);
    jt_tensor w = matrix(s->count * s->rows, s->n);
    w.n_dims = 3;
    w.shape[0] = s->count;
    w.shape[1] = s->rows;
    w.shape[2] = s->n;
    for (int round = 0; round < ROUNDS; round++) {
        double top = peak(ctx, level, threads), best[WAYS] = {0};
        for (int sample = 0; sample < 2 * SAMPLES; sample++) {
            double speed[WAYS] = {0};
            run_once(ctx, s, x, w, sample % 2, speed);
            for (int way = 0; way < WAYS; way++)
                best[way] = speed[way] > best[way] ? speed[way] : best[way];
        }
        for (int way = 0; way < WAYS; way++)
            share[way][round] = 100.0 * best[way] / top;
    }
    printf("%-7s %d %s %-24s", ctx->kernels->name, threads,
           ctx->precision == JT_PRECISION_BF16 ? "BF16" : "F32 ", s->name);
    for (int way = 0; way < WAYS; way++) {
        qsort(share[way], ROUNDS, sizeof(double), by_value);
        printf("  %4.0f (%3.0f-%3.0f)", share[way][ROUNDS / 2], share[way][0],
               share[way][ROUNDS - 1]);
    }
    putchar('\n');
    fflush(stdout);
    matrix_free(&x);
    matrix_free(&w);
}

int main(int argc, char **argv)
{
    printf("percent of fma alone: median (lowest-highest)\n"
           "%-7s %s      %-24s  %14s  %14s  %14s\n",
           "level", "n", "product", "forward", "input", "weight");
    for (int level = JT_CPU_AVX2; level < JT_CPU_COUNT; level++) {
        const jt_kernels *kernels = jt_kernels_level((jt_cpu_level)level);
        if (!kernels || (argc > 1 && strcmp(argv[1], kernels->name) != 0))
            continue;
        for (int threads = 1; threads <= jt_processors() && threads <= 64; threads++) {
            jt_context ctx;
            if (argc > 2 && atoi(argv[2]) != threads)
                continue;
            if (jt_context_init(&ctx, threads, kernels->name, NULL) != JT_OK)
                return 1;
            for (int i = 0; i < 2 * SHAPES; i++) {
                if (argc > 3 && !strstr(shapes[i / 2].name, argv[3]))
                    continue;
                ctx.precision = i % 2 ? JT_PRECISION_BF16 : JT_PRECISION_F32;
                bench_shape(&ctx, (jt_cpu_level)level, threads, &shapes[i / 2]);
            }
            jt_context_free(&ctx);
        }
    }
    return 0;
}
