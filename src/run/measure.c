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

struct jt_roofline {
    jt_pool *pool;
    const jt_kernels *kernels;
    uint64_t *data;          /* [stretches, STREAMS, WORDS] */
    uint64_t *sums;          /* [stretches] */
    size_t stretches, first; /* first: of those that are read now */
    double (*spin)(long steps);
    double *operations; /* [threads] */
};

static jt_status take_memory(jt_roofline *r, size_t bytes, jt_err *err)
{
    r->stretches = bytes / STRETCH ? bytes / STRETCH : 1;
    r->data = jt_alloc_large(r->stretches * STRETCH);
    r->sums = jt_alloc(r->stretches, sizeof *r->sums);
    r->operations = jt_alloc((size_t)jt_pool_threads(r->pool), sizeof *r->operations);
    if (!r->data || !r->sums || !r->operations)
        return jt_fail_memory(err, "measuring the machine");
    memset(r->data, 1,
           r->stretches * STRETCH); /* pages of its own, not that of zeros */
    return JT_OK;
}

jt_status jt_roofline_new(jt_roofline **out, int threads, size_t bytes, const char *cpu,
                          jt_err *err)
{
    jt_roofline *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "measuring the machine");
    jt_status status = jt_kernels_choose(&r->kernels, cpu, err);
    if (status == JT_OK)
        status = jt_pool_new(&r->pool, threads, err);
    if (status == JT_OK)
        status = take_memory(r, bytes, err);
    if (status == JT_OK)
        *out = r;
    else
        jt_roofline_free(r);
    return status;
}

void jt_roofline_free(jt_roofline *r)
{
    if (!r)
        return;
    jt_pool_free(r->pool);
    free(r->data);
    free(r->sums);
    free(r->operations);
    free(r);
}

static void read_stretch(void *arg, size_t i)
{
    const jt_roofline *r = arg;
    size_t stretch = (r->first + i) % r->stretches;
    const uint64_t *p = r->data + stretch * STREAMS * WORDS;
    uint64_t sum[STREAMS][8] = {{0}};
    for (size_t at = 0; at < WORDS; at += 8) {
        for (int j = 0; j < STREAMS; j++) {
            for (int w = 0; w < 8; w++)
                sum[j][w] += p[(size_t)j * WORDS + at + (size_t)w];
        }
    }
    uint64_t all = 0;
    for (int j = 0; j < STREAMS * 8; j++)
        all += sum[j / 8][j % 8];
    r->sums[stretch] = all;
}

static void do_nothing(void *arg, size_t i)
{
    (void)arg, (void)i;
}

double jt_roofline_read(jt_roofline *r, size_t *bytes)
{
    size_t count = (*bytes + STRETCH - 1) / STRETCH;
    if (count > r->stretches)
        count = r->stretches; /* two threads never write one sum */
    jt_pool_run(r->pool, do_nothing, r, (size_t)jt_pool_threads(r->pool)); /* awake */
    double start = jt_seconds();
    jt_pool_run(r->pool, read_stretch, r, count);
    double seconds = jt_seconds() - start;
    r->first = (r->first + count) % r->stretches;
    *bytes = count * STRETCH;
    return seconds;
}

static void spin_one(void *arg, size_t i)
{
    enum { STEPS = 1000000 };
    const jt_roofline *r = arg;
    r->operations[i] = r->spin(STEPS);
}

double jt_roofline_peak(jt_roofline *r, bool int8, int rounds)
{
    size_t threads = (size_t)jt_pool_threads(r->pool);
    double best = 0.0;
    r->spin = r->kernels->spin[int8 ? JT_SPIN_INT8 : JT_SPIN_F32];
    for (int round = 0; round < rounds; round++) {
        double start = jt_seconds(), sum = 0.0;
        jt_pool_run(r->pool, spin_one, r, threads);
        double seconds = jt_seconds() - start;
        for (size_t i = 0; i < threads; i++)
            sum += r->operations[i];
        best = sum / seconds > best ? sum / seconds : best;
    }
    return best;
}
