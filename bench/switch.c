/* How long it takes to put an adapter into a weight, or take it out: LoRA, a product of
 * two thin matrices that touches every value, beside SHiRA, which touches a few.
 *
 *     switch [size=4096] [rank=32] [percent=1] [rounds=15]
 *
 * A weight [size, size] in F32; both kinds take turns, on one thread, by the
 * time of the processor. Prints one JSON object: median times and the ratio (median,
 * least and most of the rounds). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapt/adapter.h"
#include "base/random.h"
#include "tensor/gemms.h"

enum { MAX_ROUNDS = 200 };

static jt_context ctx;
static jt_err err;
static jt_rng rng = {.seed = 1};

static void must(jt_status status)
{
    if (status == JT_OK)
        return;
    fprintf(stderr, "switch: %s\n", err.msg);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *room(size_t count, size_t size)
{
    void *p = jt_alloc(count, size);
    if (!p)
        must(jt_fail_memory(&err, "measuring"));
    return p;
}

static float *normals(size_t n)
{
    float *x = room(n, sizeof *x);
    jt_rng_normals(&rng, x, n);
    return x;
}

/* W += B A, as fast as training does it. */
static double fuse(float *w, const float *b, const float *a, size_t size, size_t rank)
{
    jt_gemm product = {.c = w,
                       .ldc = size,
                       .a = b,
                       .a_row = rank,
                       .a_col = 1,
                       .b = a,
                       .b_row = size,
                       .b_col = 1,
                       .m = size,
                       .n = size,
                       .k = rank,
                       .accumulate = true};
    double start = now();
    jt_gemms(&ctx, &product, 1);
    must(ctx.err.code);
    return now() - start;
}

typedef struct scattering {
    const jt_adapter_slot *slot;
    float *w;
} scattering;

static void scatter_row(void *arg, size_t r)
{
    const scattering *s = arg;
    jt_adapter_shira.merge_row(s->slot, 1.0f, r, s->w + r * s->slot->cols);
}

static double scatter(const jt_adapter_slot *slot, float *w)
{
    scattering s = {slot, w};
    double start = now();
    jt_for_rows(&ctx, slot->rows, slot->rows * slot->cols, scatter_row, &s);
    return now() - start;
}

/* Every 1 / share-th value, more or less: one in each run of so many. */
static jt_adapter_slot *make_sparse(jt_adapter **adapter, size_t size, double percent)
{
    static const char name[] = "blk.0.attn_q.weight";
    size_t run = (size_t)(100.0 / percent), n = size * size / run;
    int32_t *row = room(n, sizeof *row), *column = room(n, sizeof *column);
    float *value = normals(n);
    jt_adapter_slot *slot;
    for (size_t i = 0; i < n; i++) {
        size_t at = i * run + jt_rng_below(&rng, (uint32_t)run);
        row[i] = (int32_t)(at / size);
        column[i] = (int32_t)(at % size);
    }
    must(jt_adapter_new(adapter, &jt_adapter_shira, "bench", &err));
    must(jt_adapter_add(*adapter, &slot, (jt_str){name, sizeof name - 1},
                        (size_t[]){1, size, size}, n, 1.0f, &err));
    must(jt_sparse_place(slot, value, row, column, &err));
    free(row);
    free(column);
    free(value);
    return slot;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
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
    size_t size = (size_t)setting(argc, argv, "size", 4096);
    size_t rank = (size_t)setting(argc, argv, "rank", 32);
    int rounds = (int)setting(argc, argv, "rounds", 15);
    double percent = setting(argc, argv, "percent", 1.0);
    static double fused[MAX_ROUNDS], scattered[MAX_ROUNDS], ratio[MAX_ROUNDS];
    jt_adapter *adapter;
    rounds = rounds < 1 ? 1 : rounds < MAX_ROUNDS ? rounds : MAX_ROUNDS;
    must(jt_context_init(&ctx, 1, NULL, &err));
    float *w = normals(size * size), *a = normals(rank * size),
          *b = normals(size * rank);
    jt_adapter_slot *slot = make_sparse(&adapter, size, percent);
    fuse(w, b, a, size, rank); /* memory finds its size */
    for (int i = 0; i < rounds; i++) {
        fused[i] = fuse(w, b, a, size, rank);
        scattered[i] = scatter(slot, w);
        ratio[i] = fused[i] / scattered[i];
    }
    qsort(fused, (size_t)rounds, sizeof *fused, by_value);
    qsort(scattered, (size_t)rounds, sizeof *scattered, by_value);
    qsort(ratio, (size_t)rounds, sizeof *ratio, by_value);
    printf("{\"bench\": \"switch\", \"size\": %zu, \"rank\": %zu, \"percent\": %g, "
           "\"rounds\": %d, \"lora_ms\": %.2f, \"shira_ms\": %.3f, "
           "\"ratio\": {\"median\": %.1f, \"least\": %.1f, \"most\": %.1f}}\n",
           size, rank, percent, rounds, 1e3 * fused[rounds / 2],
           1e3 * scattered[rounds / 2], ratio[rounds / 2], ratio[0], ratio[rounds - 1]);
    jt_adapter_free(adapter);
    free(a);
    free(b);
    free(w);
    jt_context_free(&ctx);
    return 0;
}
