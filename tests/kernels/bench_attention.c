/* Speeds of attention over a document of floats, forward and back, two heads to a key,
 * beside what fma alone reaches on this thread. Operations that the mask makes useless
 * do not count. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

enum { DIM = 64, GROUP = 2, TOKENS = JT_ATTN_MAX_Q / GROUP, LONGEST = 2048 };

typedef struct document {
    float *q, *out, *dout, *dq; /* [LONGEST, GROUP, DIM] */
    float *k, *v, *dk, *dv;     /* [LONGEST, DIM] */
    float *lse, *scratch;
} document;

static void tile(const jt_kernels *k, const document *d, size_t first, bool back)
{
    int32_t from[JT_ATTN_MAX_Q] = {0}, to[JT_ATTN_MAX_Q];
    size_t row = first * GROUP * DIM;
    for (int i = 0; i < JT_ATTN_MAX_Q; i++)
        to[i] = (int32_t)first + i / GROUP + 1;
    jt_attn a = {.out = d->out + row,
                 .lse = d->lse + first * GROUP,
                 .q = d->q + row,
                 .k = d->k,
                 .v = d->v,
                 .k_type = JT_F32,
                 .v_type = JT_F32,
                 .rows = LONGEST,
                 .from = from,
                 .to = to,
                 .out_stride = DIM,
                 .q_stride = DIM,
                 .k_stride = DIM,
                 .v_stride = DIM,
                 .n_q = JT_ATTN_MAX_Q,
                 .k_dim = DIM,
                 .v_dim = DIM,
                 .scale = 0.125f};
    if (!back) {
        k->attention(&a);
        return;
    }
    k->attention_back(&(jt_attn_back){.fwd = a,
                                      .dout = d->dout + row,
                                      .dq = d->dq + row,
                                      .dk = d->dk,
                                      .dv = d->dv,
                                      .scratch = d->scratch});
}

static double now_peak(jt_cpu_level level)
{
    double start = bench_now(), work = bench_spin(level);
    return work / (bench_now() - start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percent of fma that whole documents reach: the median of some rounds. */
static double share(jt_cpu_level level, const document *d, size_t length, bool back)
{
    enum { ROUNDS = 9 };
    const jt_kernels *k = jt_kernels_level(level);
    double part[ROUNDS], pairs = (double)(GROUP * length) * (double)(length + 1) / 2;
    int repeat = (int)(1 << 20) / (int)(length * length) + 1;
    for (int round = 0; round < ROUNDS; round++) {
        double peak = now_peak(level), start = bench_now();
        for (int i = 0; i < repeat; i++)
            for (size_t t = 0; t < length; t += TOKENS)
                tile(k, d, t, back);
        double speed = repeat * pairs * DIM * (back ? 10 : 4) / (bench_now() - start);
        part[round] = 100 * speed / peak;
    }
    qsort(part, ROUNDS, sizeof *part, by_value);
    return part[ROUNDS / 2];
}

static float *values(checker *c, size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (!x)
        abort();
    fill_floats(c, x, n, FILL_NORMAL);
    return x;
}

void bench_attention(void)
{
    static const size_t lengths[] = {256, 512, LONGEST};
    checker c = {.rng = {.seed = 1}};
    size_t keys = LONGEST * DIM, queries = keys * GROUP;
    document d = {values(&c, queries),      values(&c, queries), values(&c, queries),
                  values(&c, queries),      values(&c, keys),    values(&c, keys),
                  values(&c, keys),         values(&c, keys),    values(&c, queries),
                  malloc(jt_gemm_scratch())};
    for (int level = JT_CPU_AVX2; d.scratch && level < JT_CPU_COUNT; level++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)level);
        for (size_t i = 0; k && i < sizeof lengths / sizeof *lengths; i++)
            printf("%-8s attention over %4zu tokens: %3.0f%% of fma, back %3.0f%%\n",
                   k->name, lengths[i],
                   share((jt_cpu_level)level, &d, lengths[i], false),
                   share((jt_cpu_level)level, &d, lengths[i], true));
    }
    float *all[] = {d.q, d.out, d.dout, d.dq, d.k, d.v, d.dk, d.dv, d.lse, d.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
