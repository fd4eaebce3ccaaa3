/* Nested weights: any width from one encoding, as good as the plain format of that
 * width but for little. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "kernels/nested.h"

enum { N = 64 * 256, BLOCKS = N / 256 };

typedef struct nested {
    jt_q2_k base[BLOCKS];
    uint8_t plane[JT_NESTED_PLANES][N / 8];
} nested;

static void encode(nested *out, const float *x, const float *w, int bits)
{
    uint8_t *plane[JT_NESTED_PLANES];
    for (int k = 0; k < JT_NESTED_PLANES; k++)
        plane[k] = out->plane[k];
    jt_quantize_nested(out->base, plane, x, w, N, bits);
}

/* Values with `bits` of them, woven plane by plane or all at once. */
static void decode(float *y, const nested *from, int bits, bool slowly)
{
    static jt_n6 blocks[BLOCKS];
    const uint8_t *plane[JT_NESTED_PLANES];
    for (int k = 0; k < JT_NESTED_PLANES; k++)
        plane[k] = from->plane[k];
    memcpy(blocks, from->base, sizeof from->base);
    for (int b = 2; slowly && b < bits; b++)
        jt_nested_weave(blocks, BLOCKS, b, b + 1, &plane[b - 2]);
    if (!slowly)
        jt_nested_weave(blocks, BLOCKS, 2, bits, plane);
    jt_dequantize(jt_nested_dtype(bits), y, blocks, N);
}

static double error_of(const float *x, const float *y)
{
    double sum = 0.0, all = 0.0;
    for (int i = 0; i < N; i++) {
        sum += pow((double)x[i] - (double)y[i], 2);
        all += pow((double)x[i], 2);
    }
    return sqrt(sum / all);
}

static double plain_error(const float *x, float *y, int bits)
{
    static const jt_dtype plain[] = {JT_Q2_K, JT_Q3_K, JT_Q4_K, JT_Q5_K, JT_Q6_K};
    static unsigned char coded[4 * N];
    jt_quantize(plain[bits - 2], coded, x, N);
    jt_dequantize(plain[bits - 2], y, coded, N);
    return error_of(x, y);
}

/* Like weights: normal values, some rows of them larger, and a few outliers. */
static void fill(float *x)
{
    jt_rng rng = {.seed = 11};
    for (int i = 0; i < N; i++) {
        x[i] = 0.02f * jt_rng_normal(&rng) * (float)(1 + i / 1024 % 3);
        if (jt_rng_below(&rng, 400) == 0)
            x[i] *= 4.0f;
    }
}

static void every_width_is_good(void **state)
{
    static float x[N], y[N];
    static nested coded;
    (void)state;
    fill(x);
    for (int most = 4; most <= JT_NESTED_MOST; most++) {
        encode(&coded, x, NULL, most);
        for (int bits = 2; bits <= most; bits++) {
            decode(y, &coded, bits, false);
            double own = error_of(x, y), plain = plain_error(x, y, bits);
            print_message("%d of %d bits: %.4f, plain %.4f, %.3f times\n", bits, most,
                          own, plain, own / plain);
            assert_true(own < 1.15 * plain);
        }
    }
}

static void planes_come_one_by_one(void **state)
{
    static float x[N], y[N], z[N];
    static nested coded;
    (void)state;
    fill(x);
    encode(&coded, x, NULL, JT_NESTED_MOST);
    for (int bits = 2; bits <= JT_NESTED_MOST; bits++) {
        decode(y, &coded, bits, false);
        decode(z, &coded, bits, true);
        assert_memory_equal(y, z, sizeof y);
    }
}

static void odd_values(void **state)
{
    static float x[N], w[N], y[N];
    static nested coded;
    (void)state;
    encode(&coded, x, NULL, 4); /* zeros */
    decode(y, &coded, 4, false);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == 0.0f);
    for (int i = 0; i < N; i++) {
        x[i] = i % 5 == 0 ? NAN : i % 7 == 0 ? -INFINITY : 3e38f;
        w[i] = (float)(i % 2);
    }
    encode(&coded, x, w, 6); /* any codes, no other memory */
    assert_int_equal(jt_nested_dtype(2), JT_Q2_K);
    assert_int_equal(jt_nested_dtype(6), JT_N6);
    assert_int_equal(jt_nested_plane_bytes(N), sizeof coded.plane[0]);
}

/* What counts more comes out better. */
static void weights_count(void **state)
{
    static float x[N], w[N], y[N];
    static nested coded;
    double error[2] = {0};
    (void)state;
    fill(x);
    for (int i = 0; i < N; i++)
        w[i] = i % 4 ? 0.05f : 1.0f;
    for (int weighted = 0; weighted < 2; weighted++) {
        encode(&coded, x, weighted ? w : NULL, 3);
        decode(y, &coded, 3, false);
        for (int i = 0; i < N; i++)
            error[weighted] += (double)w[i] * pow((double)x[i] - (double)y[i], 2);
    }
    assert_true(error[1] < 0.95 * error[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_is_good),
        cmocka_unit_test(planes_come_one_by_one),
        cmocka_unit_test(odd_values),
        cmocka_unit_test(weights_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
