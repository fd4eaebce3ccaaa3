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

static void check_encoded(jt_dtype dtype, const char *values, const char *blocks,
                          size_t n)
{
    size_t bytes = jt_dtype_row_bytes(dtype, n);
    float *x = malloc(n * sizeof *x);
    char *coded = malloc(bytes);
    memcpy(x, values, n * sizeof *x);
    jt_quantize(dtype, coded, x, n);
    assert_memory_equal(coded, blocks, bytes);
    free(coded);
    free(x);
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
    /* Measured on normal values (0.0054, 0.018, 0.036, 0.072, 0.15, 0.30) plus about a
     * tenth. */
    const struct {
        jt_dtype dtype;
        double most;
    } formats[] = {{JT_Q8_0, 0.0065}, {JT_Q6_K, 0.02}, {JT_Q5_K, 0.04},
                   {JT_Q4_K, 0.08},   {JT_Q3_K, 0.17}, {JT_Q2_K, 0.35}};
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
    assert_true(relative_error(JT_Q5_1, x, 16 * 1024) < 0.045);
    assert_true(relative_error(JT_Q5_0, x, 16 * 1024) < 0.05);
    assert_true(relative_error(JT_Q4_1, x, 16 * 1024) < 0.09);
    assert_true(relative_error(JT_Q4_0, x, 16 * 1024) < 0.1);
    assert_true(relative_error(JT_BF16, x, 16 * 1024) < 0.002);
    assert_true(relative_error(JT_F16, x, 16 * 1024) < 0.0003);
    assert_true(relative_error(JT_F32, x, 16 * 1024) == 0);
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
            assert_true(fabsf(y[j] - x[j]) < 0.03f);
        for (int j = 0; j < 256; j++)
            x[j] = 2;
        jt_quantize((jt_dtype)i, coded, x, 256);
        jt_dequantize((jt_dtype)i, y, coded, 256);
        for (int j = 0; j < 256; j++)
            assert_true(fabsf(y[j] - 2) < 0.03f);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_error_order),
        cmocka_unit_test(test_simple_rows),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
