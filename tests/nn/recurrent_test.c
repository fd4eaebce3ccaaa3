/* Recurrent layers: against doubles, and the same bits however a text is cut into
 * chunks, however many threads there are, and whatever stands before a document. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "naive.h"

enum { TOKENS = 23, D = 24 };

/* Memory of a test's weights, and the generator that fills them. */
typedef struct bench {
    jt_arena arena;
    jt_rng rng;
} bench;

/* Normal values times `width`, plus `middle`. */
static jt_tensor tensor(bench *b, size_t rows, size_t cols, float width, float middle)
{
    float *x = jt_arena_alloc(&b->arena, rows * cols, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = jt_rng_normal(&b->rng) * width + middle;
    return (jt_tensor){.data = x, .dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
}

static jt_tensor vector(bench *b, size_t n, float width, float middle)
{
    jt_tensor t = tensor(b, 1, n, width, middle);
    t.n_dims = 1;
    t.shape[0] = n;
    return t;
}

static jt_causal_conv conv(bench *b, size_t channels, size_t width, bool bias)
{
    return (jt_causal_conv){.weight = tensor(b, channels, width, 0.5f, 0),
                            .bias =
                                bias ? vector(b, channels, 0.3f, 0) : (jt_tensor){0},
                            .silu = true};
}

/* One layer of any kind: its own struct, and what to call for it. */
typedef jt_tensor forward_fn(jt_context *ctx, const void *layer, jt_input *x,
                             float *state, const jt_places *places);

/* y [tokens, D], the text in chunks of `chunk` tokens; first as in jt_places. */
static float *run(forward_fn *fn, const void *layer, const jt_tensor *x,
                  const int32_t *first, size_t state_size, const char *cpu, int threads,
                  size_t chunk)
{
    size_t tokens = jt_rows(x);
    jt_context ctx = {0};
    jt_err err = {0};
    float *y = malloc(sizeof(float) * tokens * D);
    float *state = malloc(state_size * sizeof *state);
    memset(state, 0xff, state_size * sizeof *state); /* what was there does not count */
    assert_int_equal(jt_context_init(&ctx, threads, cpu, &err), JT_OK);
    for (size_t t = 0; t < tokens; t += chunk) {
        jt_tensor part = jt_some_rows(x, t, tokens - t < chunk ? tokens - t : chunk);
        jt_input input = jt_input_of(part);
        jt_places places = {.start = t, .first = first ? first + t : NULL};
        jt_tensor out = fn(&ctx, layer, &input, state, &places);
        assert_int_equal(ctx.err.code, JT_OK);
        assert_int_equal(jt_rows(&out), part.shape[0]);
        memcpy(y + t * D, out.data, part.shape[0] * D * sizeof *y);
    }
    free(state);
    jt_context_free(&ctx);
    return y;
}

static void check_level(forward_fn *fn, const void *layer, const jt_tensor *x,
                        size_t state_size, const double *truth, const char *cpu)
{
    double worst = 0, largest = 0;
    float *whole = run(fn, layer, x, NULL, state_size, cpu, 3, TOKENS);
    for (size_t i = 0; i < (size_t)TOKENS * D; i++) {
        worst = fmax(worst, fabs(whole[i] - truth[i]));
        largest = fmax(largest, fabs(truth[i]));
    }
    print_message("  %-7s error %.1e of %.1f\n", cpu, worst / largest, largest);
    assert_true(largest > 0.1 && worst < 1e-5 * largest);
    for (size_t chunk = 1; chunk <= 7; chunk += 2) { /* shorter than the convolution */
        float *cut =
            run(fn, layer, x, NULL, state_size, cpu, (int)chunk % 3 + 1, chunk);
        assert_memory_equal(cut, whole, sizeof(float) * TOKENS * D);
        free(cut);
    }
    free(whole);
}

/* Three documents, one after the other and each by itself. */
static void check_documents(forward_fn *fn, const void *layer, const jt_tensor *x,
                            size_t state_size)
{
    static const size_t start[] = {0, 2, 9, TOKENS};
    int32_t first[TOKENS];
    for (size_t i = 0; i < 3; i++)
        for (size_t t = start[i]; t < start[i + 1]; t++)
            first[t] = (int32_t)start[i];
    for (size_t chunk = 1; chunk <= TOKENS; chunk += TOKENS / 2) {
        float *packed = run(fn, layer, x, first, state_size, NULL, 2, chunk);
        for (size_t i = 0; i < 3; i++) {
            size_t n = start[i + 1] - start[i];
            jt_tensor part = jt_some_rows(x, start[i], n);
            float *alone = run(fn, layer, &part, NULL, state_size, NULL, 1, n);
            assert_memory_equal(alone, packed + start[i] * D, n * D * sizeof *alone);
            free(alone);
        }
        free(packed);
    }
}

static void check_layer(bench *b, forward_fn *fn, const void *layer, size_t state_size,
                        void (*naive)(const void *layer, const double *x, double *y))
{
    jt_tensor x = tensor(b, TOKENS, D, 1, 0);
    double in[TOKENS * D], truth[TOKENS * D];
    for (size_t i = 0; i < (size_t)TOKENS * D; i++)
        in[i] = ((float *)x.data)[i];
    naive(layer, in, truth);
    for (int level = 0; level < JT_CPU_COUNT; level++)
        if (jt_kernels_level((jt_cpu_level)level))
            check_level(fn, layer, &x, state_size, truth,
                        jt_kernels_level((jt_cpu_level)level)->name);
    check_documents(fn, layer, &x, state_size);
    jt_arena_free(&b->arena);
}

#define LAYER(kind)                                                                    \
    static jt_tensor forward_##kind(jt_context *ctx, const void *layer, jt_input *x,   \
                                    float *state, const jt_places *places)             \
    {                                                                                  \
        return jt_##kind##_forward(ctx, layer, x, state, places);                      \
    }                                                                                  \
    static void truth_##kind(const void *layer, const double *x, double *y)            \
    {                                                                                  \
        naive_##kind(layer, x, TOKENS, y);                                             \
    }                                                                                  \
    static void check_##kind(bench *b, const jt_##kind *layer)                         \
    {                                                                                  \
        check_layer(b, forward_##kind, layer, jt_##kind##_state(layer), truth_##kind); \
    }
LAYER(short_conv)
LAYER(mamba)
LAYER(mamba2)
LAYER(delta_net)
LAYER(kimi_delta)
LAYER(lightning)
#undef LAYER

static void test_short_conv(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 1}};
    for (size_t width = 1; width <= 5; width++) {
        jt_short_conv m = {.in = tensor(&b, 3 * (size_t)D, D, 0.3f, 0),
                           .conv = conv(&b, D, width, false),
                           .out = tensor(&b, D, D, 0.3f, 0)};
        m.conv.silu = false;
        check_short_conv(&b, &m);
    }
}

/* More channels than one item of the loops takes. */
static void test_mamba(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 2}};
    for (int norms = 0; norms < 2; norms++) {
        const size_t inner = 300, n = 7, rank = 5;
        jt_mamba m = {.in = tensor(&b, 2 * inner, D, 0.3f, 0),
                      .conv = conv(&b, inner, 4, true),
                      .x = tensor(&b, rank + 2 * n, inner, 0.1f, 0),
                      .dt = tensor(&b, inner, rank, 0.5f, 0),
                      .dt_bias = vector(&b, inner, 0.5f, -1),
                      .a = tensor(&b, inner, n, 0.2f, -1),
                      .d = vector(&b, inner, 0.5f, 1),
                      .out = tensor(&b, D, inner, 0.1f, 0),
                      .norm_eps = 1e-5f};
        if (norms) {
            m.dt_norm = vector(&b, rank, 0.2f, 1);
            m.b_norm = vector(&b, n, 0.2f, 1);
            m.c_norm = vector(&b, n, 0.2f, 1);
        }
        check_mamba(&b, &m);
    }
}

static void test_mamba2(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 3}};
    for (size_t groups = 1; groups <= 4; groups *= 2) {
        const size_t heads = 4, dim = 6, n = 19, inner = heads * dim;
        const size_t channels = inner + 2 * groups * n;
        jt_mamba2 m = {.in = tensor(&b, inner + channels + heads, D, 0.3f, 0),
                       .conv = conv(&b, channels, 4, groups != 2),
                       .dt_bias = vector(&b, heads, 0.5f, -1),
                       .a = vector(&b, heads, 0.2f, -1),
                       .d = vector(&b, heads, 0.5f, 1),
                       .out = tensor(&b, D, inner, 0.3f, 0),
                       .heads = heads,
                       .head_dim = dim,
                       .groups = groups,
                       .d_state = n,
                       .norm_eps = 1e-5f};
        if (groups < 4)
            m.norm = vector(&b, inner, 0.2f, 1);
        check_mamba2(&b, &m);
    }
}

static void test_delta_net(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 4}};
    for (int tiled = 0; tiled < 2; tiled++) {
        const size_t k_heads = 2, v_heads = 6, k_dim = 21, v_dim = 10;
        const size_t channels = 2 * k_heads * k_dim + v_heads * v_dim;
        jt_delta_net m = {.qkv = tensor(&b, channels, D, 0.3f, 0),
                          .z = tensor(&b, v_heads * v_dim, D, 0.3f, 0),
                          .conv = conv(&b, channels, 4, false),
                          .rate = vector(&b, v_heads, 0.2f, -1),
                          .dt_bias = vector(&b, v_heads, 0.5f, 0),
                          .norm = vector(&b, v_dim, 0.2f, 1),
                          .out = tensor(&b, D, v_heads * v_dim, 0.2f, 0),
                          .k_heads = k_heads,
                          .v_heads = v_heads,
                          .k_dim = k_dim,
                          .v_dim = v_dim,
                          .tiled = tiled,
                          .norm_eps = 1e-6f};
        if (tiled) {
            m.b = tensor(&b, v_heads, D, 0.3f, 0);
            m.a = tensor(&b, v_heads, D, 0.3f, 0);
        } else {
            m.ba = tensor(&b, 2 * v_heads, D, 0.3f, 0);
        }
        check_delta_net(&b, &m);
    }
}

static void test_kimi_delta(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 5}};
    const size_t heads = 3, dim = 21, width = heads * dim, rank = 5;
    jt_kimi_delta m = {.b = tensor(&b, heads, D, 0.3f, 0),
                       .f_a = tensor(&b, rank, D, 0.3f, 0),
                       .f_b = tensor(&b, width, rank, 0.5f, 0),
                       .dt_bias = vector(&b, width, 0.5f, 0),
                       .rate = vector(&b, heads, 0.2f, -1),
                       .g_a = tensor(&b, rank, D, 0.3f, 0),
                       .g_b = tensor(&b, width, rank, 0.5f, 0),
                       .norm = vector(&b, dim, 0.2f, 1),
                       .out = tensor(&b, D, width, 0.2f, 0),
                       .heads = heads,
                       .dim = dim,
                       .norm_eps = 1e-5f};
    for (int i = 0; i < JT_KIMI_QKV; i++) {
        m.in[i] = tensor(&b, width, D, 0.3f, 0);
        m.conv[i] = conv(&b, width, 4, false);
    }
    check_kimi_delta(&b, &m);
}

static void test_lightning(void **state)
{
    (void)state;
    bench b = {.rng = {.seed = 6}};
    const size_t heads = 4, dim = 13, width = heads * dim;
    for (int layer = 0; layer < 2; layer++) {
        jt_lightning m = {.qkv = tensor(&b, 3 * width, D, 0.3f, 0),
                          .gate = tensor(&b, width, D, 0.3f, 0),
                          .norm = vector(&b, width, 0.2f, 1),
                          .out = tensor(&b, D, width, 0.2f, 0),
                          .heads = heads,
                          .dim = dim,
                          .slope_scale = jt_lightning_slope_scale(layer, 3)};
        check_lightning(&b, &m);
    }
}

/* The first layer forgets fastest, the last hardly; a lone one like the first. */
static void test_slopes(void **state)
{
    (void)state;
    assert_float_equal(jt_lightning_slope_scale(0, 80), 1.00001, 1e-6);
    assert_float_equal(jt_lightning_slope_scale(40, 80), 1 - 40.0 / 79 + 1e-5, 1e-6);
    assert_float_equal(jt_lightning_slope_scale(79, 80), 1e-5, 2e-6);
    assert_float_equal(jt_lightning_slope_scale(0, 1), 1.00001, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_conv), cmocka_unit_test(test_mamba),
        cmocka_unit_test(test_mamba2),     cmocka_unit_test(test_delta_net),
        cmocka_unit_test(test_kimi_delta), cmocka_unit_test(test_lightning),
        cmocka_unit_test(test_slopes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
