/* A routed layer costs what its active experts cost: time per token of a mixture with 8
 * of 64 experts, router and all, over that of a dense FFN of the same active size.
 *
 * Both read weights from memory, not from cache: the dense side rotates over as many
 * layers as make up the size of the mixture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "junto/junto.h"
#include "moe/mixture.h"
#include "store/mapped.h"

enum {
    D = 2048,
    WIDTH = 1024,
    EXPERTS = 64,
    USED = 8,
    LAYERS = EXPERTS / USED,
    ROUNDS = 15
};

static jt_rng rng = {.seed = 7};

/* A Q4_K matrix [experts, rows, n]; rows repeat a small pool of random ones. */
static jt_tensor matrix(size_t experts, size_t rows, size_t n)
{
    enum { POOL = 64 };
    size_t bytes = jt_dtype_row_bytes(JT_Q4_K, n);
    char *data = jt_alloc(experts * rows, bytes);
    float *x = jt_alloc(n, sizeof *x);
    if (!data || !x)
        exit(1);
    for (size_t r = 0; r < experts * rows; r++) {
        if (r >= POOL) {
            memcpy(data + r * bytes, data + r % POOL * bytes, bytes);
            continue;
        }
        jt_rng_normals(&rng, x, n);
        for (size_t i = 0; i < n; i++)
            x[i] *= 0.02f;
        jt_quantize(JT_Q4_K, data + r * bytes, x, n);
    }
    free(x);
    return (jt_tensor){
        .data = data, .dtype = JT_Q4_K, .n_dims = 3, .shape = {experts, rows, n}};
}

static jt_bank bank(size_t experts, size_t width)
{
    return (jt_bank){.kind = jt_expert_kind_find("ffn"),
                     .n_experts = (int)experts,
                     .d = D,
                     .width = width,
                     .part = {matrix(experts, width, D), matrix(experts, width, D),
                              matrix(experts, D, width)}};
}

static jt_mixture mixture(void)
{
    float *w = jt_alloc(EXPERTS * D, sizeof *w);
    if (!w)
        exit(1);
    jt_rng_normals(&rng, w, (size_t)EXPERTS * D);
    return (jt_mixture){.router = {.scorer = jt_scorer_find("linear"),
                                   .selector = jt_selector_find("topk"),
                                   .n_experts = EXPERTS,
                                   .k = USED,
                                   .weight = {.data = w,
                                              .dtype = JT_F32,
                                              .n_dims = 2,
                                              .shape = {EXPERTS, D}},
                                   .renormalise = true,
                                   .scale = 1.0f},
                        .experts = bank(EXPERTS, WIDTH)};
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds per token, over LAYERS passes with fresh random inputs of `tokens` rows. */
static double measure(jt_context *ctx, const jt_mixture *m, const jt_bank *dense,
                      size_t tokens)
{
    static const jt_hooks none;
    double seconds = 0.0;
    for (int layer = 0; layer < LAYERS; layer++) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        jt_input x = jt_input_of(jt_new(ctx, tokens, D));
        if (jt_failed(ctx))
            exit(1);
        jt_rng_normals(&rng, x.x.data, tokens * D);
        jt_route_site site = {0};
        double start = jt_seconds();
        if (m)
            jt_mixture_forward(ctx, m, &jt_store_mapped, &none, &site, &x);
        else
            jt_dense_forward(ctx, &dense[layer], &jt_store_mapped, &x);
        seconds += jt_seconds() - start;
        jt_arena_rewind(&ctx->scratch, mark);
    }
    return seconds / (double)(LAYERS * tokens);
}

int main(void)
{
    jt_context ctx;
    jt_err err = {0};
    jt_mixture m = mixture();
    jt_bank dense[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        dense[i] = bank(1, (size_t)WIDTH * USED);
    for (int threads = 1; threads <= jt_processors(); threads++) {
        double ratio[ROUNDS], routed = 0.0, plain = 0.0;
        if (jt_context_init(&ctx, threads, NULL, &err) != JT_OK) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        measure(&ctx, &m, NULL, 1); /* warm up */
        for (int i = 0; i < ROUNDS; i++) {
            double a = measure(&ctx, &m, NULL, 1), b = measure(&ctx, NULL, dense, 1);
            ratio[i] = a / b;
            routed += a / ROUNDS;
            plain += b / ROUNDS;
        }
        qsort(ratio, ROUNDS, sizeof *ratio, by_value);
        printf("{\"bench\": \"routed_vs_dense\", \"cpu\": \"%s\", \"threads\": %d, "
               "\"routed_us\": %.1f, \"dense_us\": %.1f, \"ratio\": {\"min\": %.3f, "
               "\"median\": %.3f, \"max\": %.3f}}\n",
               ctx.kernels->name, threads, routed * 1e6, plain * 1e6, ratio[0],
               ratio[ROUNDS / 2], ratio[ROUNDS - 1]);
        jt_context_free(&ctx);
    }
    return 0;
}
