/* Products with a tape: the same bits for any number of threads and in any company, as
 * precise as the context asks for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

/* Two weights for each part of the tokens, and one for all. */
enum { PARTS = 3, TOKENS = 700, N = 70, ROWS = 150, WEIGHTS = 2 * PARTS + 1 };
static const size_t starts[PARTS + 1] = {0, 1, 300, TOKENS};

typedef struct result {
    float y[3][TOKENS * ROWS];
    float dx[TOKENS * N];
    float dw[WEIGHTS][ROWS * N];
} result;

static float x_data[TOKENS * N], w_data[WEIGHTS][ROWS * N];

static void fill(void)
{
    jt_rng rng = {.seed = 9};
    jt_rng_normals(&rng, x_data, TOKENS * N);
    for (int i = 0; i < WEIGHTS; i++)
        jt_rng_normals(&rng, w_data[i], (size_t)ROWS * N);
}

static jt_tensor matrix(float *data, float *grad, size_t rows)
{
    return (jt_tensor){
        .data = data, .dtype = JT_F32, .n_dims = 2, .shape = {rows, N}, .grad = grad};
}

/* Products first .. first + count of the list, forward and back. */
static void run(result *r, const char *cpu, int threads, jt_precision precision,
                size_t first, size_t count)
{
    jt_context ctx;
    jt_tape tape = {0};
    jt_product list[WEIGHTS];
    jt_tensor y[3];
    memset(r, 0, sizeof *r);
    assert_int_equal(jt_context_init(&ctx, threads, cpu, NULL), JT_OK);
    ctx.tape = &tape;
    ctx.precision = precision;
    jt_input x = jt_input_of(matrix(x_data, r->dx, TOKENS));
    for (int i = 0; i < 3; i++) {
        y[i] = jt_new(&ctx, TOKENS, ROWS);
        memset(y[i].data, 0, sizeof r->y[i]);
        for (size_t j = 0; j < (size_t)TOKENS * ROWS; j++)
            y[i].grad[j] = (float)((int)(j * 7 % 11) - 5);
    }
    for (size_t i = 0; i < WEIGHTS; i++) {
        size_t part = i % PARTS, from = i < 2 * PARTS ? starts[part] : 0;
        size_t to = i < 2 * PARTS ? starts[part + 1] : TOKENS;
        jt_tensor w = matrix(w_data[i], r->dw[i], ROWS);
        list[i] = jt_product_rows(&y[i / PARTS], &w, &x, from, to - from);
    }
    jt_products(&ctx, list + first, count);
    jt_tape_backward(&ctx);
    assert_int_equal(ctx.err.code, JT_OK);
    for (int i = 0; i < 3; i++)
        memcpy(r->y[i], y[i].data, sizeof r->y[i]);
    jt_context_free(&ctx);
}

static double worst(const float *a, const float *b, size_t n)
{
    double difference = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return difference / size;
}

static void bits(void **state)
{
    static result one, other;
    (void)state;
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)level);
        for (int p = JT_PRECISION_F32; k && p <= JT_PRECISION_BF16; p++) {
            run(&one, k->name, 1, (jt_precision)p, 0, WEIGHTS);
            for (int threads = 2; threads <= 3; threads++) {
                run(&other, k->name, threads, (jt_precision)p, 0, WEIGHTS);
                assert_memory_equal(&one, &other, sizeof one);
            }
            /* the last alone */
            run(&other, k->name, 2, (jt_precision)p, WEIGHTS - 1, 1);
            assert_memory_equal(one.y[2], other.y[2], sizeof one.y[2]);
            assert_memory_equal(one.dw[WEIGHTS - 1], other.dw[WEIGHTS - 1],
                                sizeof one.dw[0]);
        }
    }
}

/* All levels agree, and BF16 is near F32, but not the same. */
static void precision(void **state)
{
    static result truth, rough, other;
    (void)state;
    run(&truth, "scalar", 1, JT_PRECISION_F32, 0, WEIGHTS);
    run(&rough, "scalar", 1, JT_PRECISION_BF16, 0, WEIGHTS);
    size_t n_y = 3 * TOKENS * ROWS, n_dx = TOKENS * N, n_dw = WEIGHTS * ROWS * N;
    assert_in_range((long)(1e6 * worst(rough.y[0], truth.y[0], n_y)), 500, 8000);
    assert_in_range((long)(1e6 * worst(rough.dx, truth.dx, n_dx)), 500, 8000);
    assert_in_range((long)(1e6 * worst(rough.dw[0], truth.dw[0], n_dw)), 500, 8000);
    for (int level = JT_CPU_AVX2; level < JT_CPU_COUNT; level++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)level);
        for (int p = JT_PRECISION_F32; k && p <= JT_PRECISION_BF16; p++) {
            const result *want = p == JT_PRECISION_F32 ? &truth : &rough;
            run(&other, k->name, 2, (jt_precision)p, 0, WEIGHTS);
            assert_true(worst(other.y[0], want->y[0], n_y) < 1e-6);
            assert_true(worst(other.dx, want->dx, n_dx) < 1e-6);
            assert_true(worst(other.dw[0], want->dw[0], n_dw) < 1e-6);
        }
    }
}

/* y and dx of one product with a weight of this type, all y having the gradient 1. */
static void run_one(const void *data, jt_dtype dtype, float *y, float *dx)
{
    jt_context ctx;
    jt_tape tape = {0};
    assert_int_equal(jt_context_init(&ctx, 2, NULL, NULL), JT_OK);
    ctx.tape = &tape;
    jt_tensor w = {.data = (void *)(uintptr_t)data,
                   .dtype = dtype,
                   .n_dims = 2,
                   .shape = {ROWS, N}};
    memset(dx, 0, 5 * N * sizeof *dx);
    jt_input x = jt_input_of(matrix(x_data, dx, 5));
    jt_tensor out = jt_linear(&ctx, &x, &w, NULL);
    assert_int_equal(ctx.err.code, JT_OK);
    for (size_t i = 0; i < (size_t)5 * ROWS; i++)
        out.grad[i] = 1.0f;
    memcpy(y, out.data, (size_t)5 * ROWS * sizeof *y);
    jt_tape_backward(&ctx);
    assert_int_equal(ctx.err.code, JT_OK);
    jt_context_free(&ctx);
}

/* Gradients go through weights of other types as through their values in F32. */
static void other_types(void **state)
{
    (void)state;
    static uint16_t halves[ROWS * N];
    static float plain[ROWS * N], y[2][5 * ROWS], dx[2][5 * N];
    const jt_kernels *k = jt_kernels_level(JT_CPU_SCALAR);
    k->f32_to_f16(halves, w_data[0], (size_t)ROWS * N);
    k->dequant[JT_F16](plain, halves, (size_t)ROWS * N);
    run_one(halves, JT_F16, y[0], dx[0]);
    run_one(plain, JT_F32, y[1], dx[1]);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
    assert_true(fabsf(dx[0][0]) > 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits),
        cmocka_unit_test(precision),
        cmocka_unit_test(other_types),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
