/* What one token costs in the recurrences of real layers, beside the least that its
 * projections cost: their weights, at 4.5 bits, read at the speed given. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

typedef struct layer {
    const char *name;
    size_t heads, rows, n;
    bool rated, delta, fades;
    double weights; /* of the projections, in millions */
} layer;

static const layer layers[] = {
    {"Mamba-1, Jamba 1.5 mini (d 4096, 16 states)", 1, 8192, 16, true, false, false,
     106},
    {"Mamba-2, Granite 4 tiny (48 heads of 64, 128 states)", 48, 64, 128, false, false,
     false, 15},
    {"gated delta net, Qwen3-Next (32 heads of 128)", 32, 128, 128, false, true, false,
     33.7},
    {"Kimi delta attention, Kimi-Linear (32 heads of 128)", 32, 128, 128, false, true,
     true, 39.4},
};

static double token_seconds(const jt_kernels *k, const layer *l, size_t tokens)
{
    enum { ROUNDS = 5 };
    size_t values = l->heads * l->rows * l->n, wide = l->rows + 2 * l->n;
    float *h = calloc(values, sizeof *h), *rate = calloc(values, sizeof *rate);
    float *x = calloc(tokens * wide, sizeof *x), *y = calloc(tokens * wide, sizeof *y);
    double best = 1e9;
    for (size_t i = 0; i < values; i++)
        rate[i] = -0.5f - (float)(i % l->n);
    for (size_t i = 0; i < tokens * wide; i++)
        x[i] = 0.01f * (float)(i % 7);
    for (int round = 0; round < ROUNDS; round++) {
        double start = bench_now();
        for (size_t head = 0; head < l->heads; head++)
            k->recur(&(jt_recur){
                .h = h + head * l->rows * l->n,
                .y = y,
                .k = x + l->rows,
                .q = x + l->rows + l->n,
                .v = x,
                .decay = l->rated || l->fades ? NULL : x + 1,
                .beta = l->delta ? x + 2 : NULL,
                .fade = l->fades ? x : NULL,
                .rate = l->rated ? rate : NULL,
                .step = l->rated ? x : NULL,
                .y_stride = wide,
                .k_stride = wide,
                .q_stride = wide,
                .v_stride = wide,
                .gate_stride = wide,
                .step_stride = wide,
                .fade_stride = wide,
                .rows = l->rows,
                .n = l->n,
                .tokens = tokens,
            });
        double seconds = (bench_now() - start) / (double)tokens;
        best = seconds < best ? seconds : best;
    }
    free(h);
    free(rate);
    free(x);
    free(y);
    return best;
}

void bench_recur(void)
{
    enum { PROMPT = 64 };
    const double speed = 10e9; /* bytes of weights read in a second */
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)level);
        for (size_t i = 0; k && i < sizeof layers / sizeof *layers; i++) {
            const layer *l = &layers[i];
            double read = l->weights * 1e6 * 4.5 / 8 / speed;
            printf("%-7s %-53s %6.0f us decoding, %6.0f us in a prompt; "
                   "its weights at 10 GB/s %6.0f us\n",
                   k->name, l->name, 1e6 * token_seconds(k, l, 1),
                   1e6 * token_seconds(k, l, PROMPT), 1e6 * read);
        }
    }
}
