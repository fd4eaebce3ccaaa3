/* Speeds of the training product on one thread, beside what the multipliers reach when
 * they wait for nothing, measured in the same run. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

static double peak(jt_cpu_level level)
{
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double start = bench_now(), work = bench_spin(level);
        double speed = work / (bench_now() - start) / 1e9;
        best = speed > best ? speed : best;
    }
    return best;
}

/* layout: NN, NT (B transposed), TN (A transposed), NN with gathered rows of A, TN with
 * gathered rows of B. */
static const char *const layouts[] = {"NN", "NT", "TN", "gather NN", "gather TN"};
#define LAYOUTS 5

static jt_gemm product(int layout, size_t m, size_t n, size_t k, const int32_t *index)
{
    jt_gemm g = {.m = m, .n = n, .k = k, .ldc = n};
    bool a_turned = layout == 2 || layout == 4, b_turned = layout == 1;
    g.a_row = a_turned ? 1 : k;
    g.a_col = a_turned ? m : 1;
    g.b_row = b_turned ? 1 : n;
    g.b_col = b_turned ? k : 1;
    g.a_index = layout == 3 ? index : NULL;
    g.b_index = layout == 4 ? index : NULL;
    return g;
}

static double speed(const jt_kernels *k, jt_gemm *g)
{
    double best = 0, operations = 2.0 * (double)(g->m * g->n * g->k);
    int repeat = (int)(2e8 / operations) + 1;
    for (int i = 0; i < 7; i++) {
        double start = bench_now();
        for (int j = 0; j < repeat; j++)
            k->gemm(g);
        double speed = repeat * operations / (bench_now() - start) / 1e9;
        best = speed > best ? speed : best;
    }
    return best;
}

void bench_gemm(void)
{
    static const size_t shapes[][3] = {
        {512, 256, 256}, {341, 64, 256},    {341, 256, 64}, {64, 256, 341},
        {256, 768, 256}, {2048, 256, 1024}, {32, 256, 256}, {1024, 1024, 1024}};
    const size_t most = 2048 * 1024;
    float *data = aligned_alloc(64, 3 * most * sizeof *data);
    float *scratch = malloc(jt_gemm_scratch());
    int32_t index[2048];
    for (int i = 0; i < 2048; i++)
        index[i] = i * 37 % 32 + i / 32 * 32;
    for (size_t i = 0; data && i < 2 * most; i++)
        data[i] = (float)(i % 7) - 3;
    for (int level = JT_CPU_AVX2; data && scratch && level < JT_CPU_COUNT; level++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)level);
        if (!k)
            continue;
        printf("%-8s fma reaches %.0f GFLOP/s; percent of it by gemm\n", k->name,
               peak((jt_cpu_level)level));
        for (size_t s = 0; s < 2 * sizeof shapes / sizeof *shapes; s++) {
            const size_t *d = shapes[s / 2];
            double top = peak((jt_cpu_level)level); /* of the moment */
            jt_precision precision = s % 2 ? JT_PRECISION_BF16 : JT_PRECISION_F32;
            printf("%-8s %s m %4zu n %4zu k %4zu", k->name, s % 2 ? "BF16" : "F32 ",
                   d[0], d[1], d[2]);
            for (int layout = 0; layout < LAYOUTS; layout++) {
                jt_gemm g = product(layout, d[0], d[1], d[2], index);
                g.a = data;
                g.b = data + most;
                g.c = data + 2 * most;
                g.scratch = scratch;
                g.precision = precision;
                printf("  %s %3.0f%%", layouts[layout], 100 * speed(k, &g) / top);
            }
            putchar('\n');
        }
    }
    free(data);
    free(scratch);
}
