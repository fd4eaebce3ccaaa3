/* Quantised formats against golden blocks of another implementation (blocks.bin, see
 * make_blocks.py), and the errors of our quantisers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "junto/dtype.h"
#include "kernels/kernels.h"

/* The next part of the file. */
static const char *take(const char **at, const char *end, size_t bytes)
{
    const char *part = *at;
    assert_true((size_t)(end - part) >= bytes);
    *at += bytes;
    return part;
}

static void check_decoded(jt_dtype dtype, const char *blocks, const char *values,
                          size_t n)
{
    float *x = malloc(n * sizeof *x);
    jt_dequantize(dtype, x, blocks, n);
    assert_memory_equal(x, values, n * sizeof *x);
    for (int i = 0; i < JT_CPU_COUNT; i++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)i);
        if (!k)
            continue;
        memset(x, 0, n * sizeof *x);
        k->dequant[dtype](x, blocks, n);
        assert_memory_equal(x, values, n * sizeof *x);
    }
    free(x);
}

static double squared_error(const float *x, const float *y, const float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (w ? (double)w[i] : 1) * pow((double)x[i] - (double)y[i], 2);
    return sum;
}

/* Ours are no worse than the blocks that the other implementation made. */
static void check_encoded(jt_dtype dtype, const char *values, const char *blocks,
                          size_t n)
{
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    char *coded = malloc(jt_dtype_row_bytes(dtype, n));
    memcpy(x, values, n * sizeof *x);
    jt_dequantize(dtype, y, blocks, n);
    double theirs = squared_error(x, y, NULL, n);
    jt_quantize(dtype, coded, x, n);
    jt_dequantize(dtype, y, coded, n);
    double ours = squared_error(x, y, NULL, n);
    print_message("%s: %.3f of the error\n", jt_dtype_name(dtype),
                  theirs > 0 ? ours / theirs : 1);
    assert_true(ours <= 1.02 * theirs);
    free(coded);
    free(x);
    free(y);
}

static void test_golden(void **state)
{
    (void)state;
    char path[1024], *data;
    size_t bytes, records = 0;
    const char *folder = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/kernels/blocks.bin", folder ? folder : "tests");
    assert_int_equal(jt_read_file(&data, &bytes, path, 1 << 20, NULL), JT_OK);
    const char *at = data, *end = data + bytes;
    for (; at < end; records++) {
        uint32_t head[3];
        memcpy(head, take(&at, end, sizeof head), sizeof head);
        jt_dtype dtype;
        assert_true(jt_dtype_from_gguf(head[0], &dtype));
        size_t block = jt_dtype_block_values(dtype), size = jt_dtype_block_bytes(dtype);
        const char *blocks = take(&at, end, head[1] * size);
        check_decoded(dtype, blocks, take(&at, end, head[1] * block * sizeof(float)),
                      head[1] * block);
        if (head[2] == 0)
            continue;
        const char *values = take(&at, end, head[2] * block * sizeof(float));
        check_encoded(dtype, values, take(&at, end, head[2] * size), head[2] * block);
    }
    assert_int_equal(records, 25);
    free(data);
}

/* Error of quantise and dequantise relative to the values, root mean square. */
static double relative_error(jt_dtype dtype, const float *x, size_t n)
{
    void *coded = malloc(jt_dtype_row_bytes(dtype, n));
    float *back = malloc(n * sizeof *back);
    double error = 0, size = 0;
    jt_quantize(dtype, coded, x, n);
    jt_dequantize(dtype, back, coded, n);
    for (size_t i = 0; i < n; i++) {
        error += pow((double)back[i] - (double)x[i], 2);
        size += pow((double)x[i], 2);
    }
    free(coded);
    free(back);
    return sqrt(error / size);
}

static void test_error_order(void **state)
{
    (void)state;
    /* Measured on normal values, plus about a tenth. */
    const struct {
        jt_dtype dtype;
        double most;
    } formats[] = {{JT_Q8_0, 0.006},    {JT_Q6_K, 0.0185}, {JT_Q5_K, 0.0385},
                   {JT_Q4_K, 0.0775},   {JT_IQ3_S, 0.142}, {JT_Q3_K, 0.158},
                   {JT_IQ3_XXS, 0.195}, {JT_Q2_K, 0.285},  {JT_IQ2_XS, 0.315},
                   {JT_IQ2_XXS, 0.365}, {JT_TQ2_0, 0.477}};
    static float x[16 * 1024];
    jt_rng rng = {.seed = 5};
    for (size_t i = 0; i < 16 * 1024; i++)
        x[i] = 0.02f * jt_rng_normal(&rng);
    double last = 0;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        double error = relative_error(formats[i].dtype, x, 16 * 1024);
        print_message("%s %.4f\n", jt_dtype_name(formats[i].dtype), error);
        assert_true(error > last && error < formats[i].most);
        last = error;
    }
    const struct {
        jt_dtype dtype;
        double most;
    } others[] = {{JT_Q5_1, 0.0375}, {JT_Q5_0, 0.0443},  {JT_Q4_1, 0.077},
                  {JT_Q4_0, 0.0896}, {JT_IQ4_NL, 0.081}, {JT_IQ4_XS, 0.0815},
                  {JT_MXFP4, 0.123}, {JT_NVFP4, 0.112},  {JT_IQ2_S, 0.266},
                  {JT_TQ1_0, 0.477}, {JT_Q1_0, 0.664},   {JT_Q2_0, 0.387}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(relative_error(others[i].dtype, x, 16 * 1024) < others[i].most);
    assert_true(relative_error(JT_BF16, x, 16 * 1024) < 0.002);
    assert_true(relative_error(JT_F16, x, 16 * 1024) < 0.0003);
    assert_true(relative_error(JT_F32, x, 16 * 1024) == 0);
}

/* Formats whose codes have no zero. */
static bool lacks_zero(jt_dtype dtype)
{
    return strncmp(jt_dtype_name(dtype), "IQ", 2) == 0 || dtype == JT_Q1_0;
}

/* Zeros, equal values and a lone spike come back (nearly) as they are. */
static void test_simple_rows(void **state)
{
    (void)state;
    for (int i = 0; i < JT_DTYPE_COUNT; i++) {
        if (!jt_dtype_can_quantize((jt_dtype)i))
            continue;
        float x[256] = {0}, y[256];
        unsigned char coded[2048];
        jt_quantize((jt_dtype)i, coded, x, 256);
        jt_dequantize((jt_dtype)i, y, coded, 256);
        for (int j = 0; j < 256; j++)
            assert_true(y[j] == 0);
        x[77] = -4;
        jt_quantize((jt_dtype)i, coded, x, 256);
        jt_dequantize((jt_dtype)i, y, coded, 256);
        for (int j = 0; j < 256; j++)
            assert_true(fabsf(y[j] - x[j]) < 0.03f || lacks_zero((jt_dtype)i));
        for (int j = 0; j < 256; j++)
            x[j] = 2;
        jt_quantize((jt_dtype)i, coded, x, 256);
        jt_dequantize((jt_dtype)i, y, coded, 256);
        for (int j = 0; j < 256; j++)
            assert_true(fabsf(y[j] - 2) < (lacks_zero((jt_dtype)i) ? 0.3f : 0.03f));
    }
}

/* Values that are not finite are coded without touching other memory; formats that are
 * only read touch none. */
static void test_not_finite(void **state)
{
    (void)state;
    const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f};
    for (int i = 0; i < JT_DTYPE_COUNT; i++)
        for (int kind = 0; kind < 6; kind++) {
            float x[256];
            unsigned char coded[2048 + 16];
            size_t bytes = jt_dtype_can_quantize((jt_dtype)i)
                               ? jt_dtype_row_bytes((jt_dtype)i, 256)
                               : 0;
            memset(coded, 0xa5, sizeof coded);
            for (int j = 0; j < 256; j++)
                x[j] = j % 3 ? odd[kind] : (float)j;
            jt_quantize((jt_dtype)i, coded, x, 256);
            for (size_t j = bytes; j < bytes + 16; j++)
                assert_int_equal(coded[j], 0xa5);
        }
}

/* With weights the weighted error is smaller. */
static void test_weights(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float x[N], w[N], y[N];
    static unsigned char plain[8 * N], coded[8 * N];
    jt_rng rng = {.seed = 8};
    for (int i = 0; i < N; i++)
        x[i] = 0.02f * jt_rng_normal(&rng);
    for (int i = 0; i < JT_DTYPE_COUNT; i++) {
        jt_dtype dtype = (jt_dtype)i;
        if (!jt_dtype_can_quantize(dtype))
            continue;
        jt_quantize(dtype, plain, x, N);
        if (jt_dtype_block_values(dtype) == 1 || dtype == JT_Q8_0)
            continue; /* nothing to choose */
        for (int j = 0; j < N; j++)
            w[j] = expf(1.2f * jt_rng_normal(&rng));
        jt_quantize_weighted(dtype, coded, x, w, N);
        jt_dequantize(dtype, y, plain, N);
        double without = squared_error(x, y, w, N);
        jt_dequantize(dtype, y, coded, N);
        double with = squared_error(x, y, w, N);
        print_message("%s: %.3f of the weighted error\n", jt_dtype_name(dtype),
                      with / without);
        assert_true(with < without);
    }
}

/* Weights of zero: their values may become anything, the others still come out. */
static void test_no_weight(void **state)
{
    (void)state;
    float x[256], w[256] = {0}, y[256];
    unsigned char coded[2048];
    for (int j = 0; j < 256; j++)
        x[j] = j % 2 ? 1000.0f : (j & 2 ? -1.0f : 1.0f);
    for (int i = 0; i < JT_DTYPE_COUNT; i++) {
        if (!jt_dtype_can_quantize((jt_dtype)i))
            continue;
        memset(w, 0, sizeof w);
        jt_quantize_weighted((jt_dtype)i, coded, x, w, 256);
        jt_dequantize((jt_dtype)i, y, coded, 256);
        for (int j = 0; j < 256; j++)
            assert_true(isfinite(y[j]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),      cmocka_unit_test(test_error_order),
        cmocka_unit_test(test_simple_rows), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_no_weight),   cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
