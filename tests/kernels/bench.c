/* Speeds of matrix products with one thread: bytes of weights per second for one token,
 * from memory and from the cache, and operations per second for 64 tokens. Times are
 * those of the processor for this thread: what else runs here steals no seconds, only
 * bandwidth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

#define N          2048
#define COLD_BYTES ((size_t)128 << 20)
#define WARM_BYTES ((size_t)256 << 10)
#define TOKENS     64
#define ROWS       512

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_spin(jt_cpu_level level)
{
    return jt_kernels_level(level)->spin[JT_SPIN_F32](2000000);
}

/* What plain reading reaches here, in GB/s: the roof for one token. */
static double read_speed(const char *data)
{
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double start = bench_now();
        uint64_t sum = 0, word;
        for (size_t at = 0; at < COLD_BYTES; at += sizeof word) {
            memcpy(&word, data + at, sizeof word);
            sum += word;
        }
        double speed = (double)COLD_BYTES / (bench_now() - start) / 1e9;
        best = sum != 1 && speed > best ? speed : best;
    }
    return best;
}

/* One token with `bytes` of weights, again and again; the best of `times`. */
static double decode_speed(const jt_kernels *k, jt_dtype dtype, const char *weights,
                           size_t bytes, int times)
{
    size_t row_bytes = jt_dtype_row_bytes(dtype, N), rows = bytes / row_bytes;
    char *x = aligned_alloc(64, jt_act_bytes(k->matmul[dtype].act, N));
    float *y = malloc(rows * sizeof *y), values[N];
    for (int i = 0; i < N; i++)
        values[i] = (float)(i % 7 - 3);
    k->pack[k->matmul[dtype].act](x, values, N);
    double best = 0;
    for (int i = 0; i < times; i++) {
        double start = bench_now();
        k->matmul[dtype].fn(&(jt_matmul_args){.y = y,
                                              .ldy = rows,
                                              .w = weights,
                                              .row_bytes = row_bytes,
                                              .rows = rows,
                                              .x = x,
                                              .tokens = 1,
                                              .n = N});
        double speed = (double)(rows * row_bytes) / (bench_now() - start) / 1e9;
        best = speed > best ? speed : best;
    }
    free(x);
    free(y);
    return best;
}

static double prefill_speed(const jt_kernels *k, jt_dtype dtype, const char *weights)
{
    size_t row_bytes = jt_dtype_row_bytes(dtype, N);
    size_t x_bytes = jt_act_bytes(k->matmul[dtype].act, N);
    char *x = aligned_alloc(64, TOKENS * x_bytes);
    float *y = malloc(ROWS * TOKENS * sizeof *y), values[N];
    for (int i = 0; i < N; i++)
        values[i] = (float)(i % 7 - 3);
    for (size_t t = 0; t < TOKENS; t++)
        k->pack[k->matmul[dtype].act](x + t * x_bytes, values, N);
    double best = 0;
    for (int i = 0; i < 10; i++) {
        double start = bench_now();
        k->matmul[dtype].fn(&(jt_matmul_args){.y = y,
                                              .ldy = ROWS,
                                              .w = weights,
                                              .row_bytes = row_bytes,
                                              .rows = ROWS,
                                              .x = x,
                                              .x_bytes = x_bytes,
                                              .tokens = TOKENS,
                                              .n = N});
        double speed = 2.0 * N * ROWS * TOKENS / (bench_now() - start) / 1e9;
        best = speed > best ? speed : best;
    }
    free(x);
    free(y);
    return best;
}

void bench(void)
{
    char *weights = malloc(COLD_BYTES);
    if (!weights)
        return;
    for (size_t i = 0; i < COLD_BYTES; i++)
        weights[i] =
            (char)(i * 37 % 59 + 48); /* neither tiny nor huge, whatever the type */
    printf("plain reading: %.1f GB/s\n", read_speed(weights));
    printf("%-8s %-6s %12s %12s %12s\n", "level", "type", "memory GB/s", "cache GB/s",
           "GFLOP/s");
    for (int i = JT_CPU_AVX2; i < JT_CPU_COUNT; i++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)i);
        for (int dtype = 0; k && dtype < JT_DTYPE_COUNT; dtype++)
            if (k->matmul[dtype].fn)
                printf("%-8s %-6s %12.1f %12.1f %12.0f\n", k->name,
                       jt_dtype_name((jt_dtype)dtype),
                       decode_speed(k, (jt_dtype)dtype, weights, COLD_BYTES, 4),
                       decode_speed(k, (jt_dtype)dtype, weights, WARM_BYTES, 200),
                       prefill_speed(k, (jt_dtype)dtype, weights));
    }
    free(weights);
}
