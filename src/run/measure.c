#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "junto/measure.h"
#include "kernels/kernels.h"

/* Each item reads a stretch of the buffer as four streams side by side, the way that
 * keeps most reads in flight; the sum keeps the compiler from leaving them out. */
enum { STRETCH = 4 << 20, STREAMS = 4, WORDS = STRETCH / STREAMS / sizeof(uint64_t) };

typedef struct stream {
    const uint64_t *data;
    uint64_t *sums; /* [stretches] */
} stream;

static void read_stretch(void *arg, size_t i)
{
    const stream *s = arg;
    const uint64_t *p = s->data + i * STREAMS * WORDS;
    uint64_t sum[STREAMS][8] = {{0}};
    for (size_t at = 0; at < WORDS; at += 8) {
        for (int j = 0; j < STREAMS; j++) {
            for (int w = 0; w < 8; w++)
                sum[j][w] += p[(size_t)j * WORDS + at + (size_t)w];
        }
    }
    s->sums[i] = 0;
    for (int j = 0; j < STREAMS * 8; j++)
        s->sums[i] += sum[j / 8][j % 8];
}

/* The best of `rounds` passes over the buffer, in bytes per second. */
static double best_rate(jt_pool *pool, const stream *s, size_t stretches, int rounds)
{
    double best = 0.0;
    for (int round = 0; round < rounds; round++) {
        double start = jt_seconds();
        jt_pool_run(pool, read_stretch, (void *)s, stretches);
        double rate = (double)(stretches * STRETCH) / (jt_seconds() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

jt_status jt_measure_bandwidth(double *bytes_per_second, int threads, size_t bytes,
                               int rounds, jt_err *err)
{
    size_t stretches = bytes / STRETCH ? bytes / STRETCH : 1;
    void *data = jt_alloc_large(stretches * STRETCH);
    uint64_t *sums = jt_alloc(stretches, sizeof *sums);
    jt_pool *pool = NULL;
    jt_status status = JT_E_MEMORY;
    if (!data || !sums)
        jt_fail_memory(err, "measuring the bandwidth");
    else
        status = jt_pool_new(&pool, threads, err);
    if (status == JT_OK) {
        memset(data, 1, stretches * STRETCH); /* real pages, not the shared zero page */
        *bytes_per_second = best_rate(pool, &(stream){data, sums}, stretches, rounds);
    }
    jt_pool_free(pool);
    free(data);
    free(sums);
    return status;
}

typedef struct spinning {
    double (*spin)(long steps);
    double *operations; /* [threads] */
} spinning;

static void spin_one(void *arg, size_t i)
{
    enum { STEPS = 1000000 };
    const spinning *s = arg;
    s->operations[i] = s->spin(STEPS);
}

/* The best of `rounds`, in operations per second. */
static double best_spin(jt_pool *pool, const spinning *s, int rounds)
{
    size_t threads = (size_t)jt_pool_threads(pool);
    double best = 0.0;
    for (int round = 0; round < rounds; round++) {
        double start = jt_seconds(), sum = 0.0;
        jt_pool_run(pool, spin_one, (void *)s, threads);
        double seconds = jt_seconds() - start;
        for (size_t i = 0; i < threads; i++)
            sum += s->operations[i];
        best = sum / seconds > best ? sum / seconds : best;
    }
    return best;
}

jt_status jt_measure_peak(double *per_second, bool int8, int threads, const char *cpu,
                          int rounds, jt_err *err)
{
    const jt_kernels *kernels;
    jt_pool *pool;
    JT_TRY(jt_kernels_choose(&kernels, cpu, err));
    JT_TRY(jt_pool_new(&pool, threads, err));
    spinning s = {kernels->spin[int8 ? JT_SPIN_INT8 : JT_SPIN_F32],
                  jt_alloc((size_t)jt_pool_threads(pool), sizeof(double))};
    jt_status status = s.operations ? JT_OK : jt_fail_memory(err, "measuring the peak");
    if (status == JT_OK)
        *per_second = best_spin(pool, &s, rounds);
    free(s.operations);
    jt_pool_free(pool);
    return status;
}
