/* Traits of data types, and the conversions of half.h for every value. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/half.h"
#include "junto/dtype.h"

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < JT_DTYPE_COUNT; i++) {
        jt_dtype by_name, by_id;
        assert_true(jt_dtype_from_name(jt_dtype_name((jt_dtype)i), &by_name));
        assert_true(jt_dtype_from_gguf(jt_dtype_gguf_id((jt_dtype)i), &by_id));
        assert_int_equal(by_name, i);
        assert_int_equal(by_id, i);
    }
    jt_dtype dtype;
    assert_true(jt_dtype_from_name("q4_k", &dtype));
    assert_int_equal(dtype, JT_Q4_K);
    assert_false(jt_dtype_from_name("Q4_K_M", &dtype));
    assert_false(jt_dtype_from_name("", &dtype));
    assert_false(jt_dtype_from_gguf(9999, &dtype));
    assert_string_equal(jt_dtype_name(JT_DTYPE_COUNT), "?");
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(jt_dtype_row_bytes(JT_F32, 7), 28);
    assert_int_equal(jt_dtype_row_bytes(JT_Q4_K, 512), 288);
    assert_int_equal(jt_dtype_row_bytes(JT_Q8_0, 96), 102);
    assert_int_equal(jt_dtype_row_bytes(JT_Q4_K, 32), 0);
    assert_int_equal(jt_dtype_row_bytes(JT_Q4_K, 0), 0);
    assert_int_equal(jt_dtype_row_bytes(JT_F32, SIZE_MAX / 2), 0);
    assert_int_equal(jt_dtype_row_bytes(JT_DTYPE_COUNT, 32), 0);
    assert_int_equal(jt_dtype_block_values(JT_Q6_K), 256);
    assert_int_equal(jt_dtype_block_bytes(JT_Q6_K), 210);
    assert_int_equal(jt_dtype_block_bytes(JT_DTYPE_COUNT), 0);
}

/* The value of binary16 bits by its definition. */
static double half_value(unsigned h)
{
    int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
    double size =
        exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -size : size;
}

static void test_every_half(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float x = jt_f16_to_float((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(x));
            assert_true(isnan(jt_f16_to_float(jt_float_to_f16(x))));
        } else {
            double value = (h & 0x7fff) == 0x7c00
                               ? copysign(INFINITY, h & 0x8000 ? -1 : 1)
                               : half_value(h);
            assert_true((double)x == value && !signbit(x) == !(h & 0x8000));
            assert_int_equal(jt_float_to_f16(x), h);
        }
    }
}

/* Between two neighbours: to the nearer one, from the middle to the even one. */
static void test_half_rounding(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        double low = half_value(h), high = half_value(h + 1), middle = (low + high) / 2;
        float m = (float)middle;
        assert_true((double)m == middle);
        assert_int_equal(jt_float_to_f16(m), h % 2 ? h + 1 : h);
        assert_int_equal(jt_float_to_f16(nextafterf(m, 0)), h);
        assert_int_equal(jt_float_to_f16(nextafterf(m, INFINITY)), h + 1);
        assert_int_equal(jt_float_to_f16(-m), 0x8000 | (h % 2 ? h + 1 : h));
    }
    assert_int_equal(jt_float_to_f16(1e30f), 0x7c00);
    assert_int_equal(jt_float_to_f16(-INFINITY), 0xfc00);
}

static void test_bfloat(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float x = jt_bf16_to_float((uint16_t)h);
        if (isnan(x))
            assert_true(isnan(jt_bf16_to_float(jt_float_to_bf16(x))));
        else
            assert_int_equal(jt_float_to_bf16(x), h);
    }
    assert_int_equal(jt_float_to_bf16(jt_bits_float(0x3f808000)), 0x3f80); /* to even */
    assert_int_equal(jt_float_to_bf16(jt_bits_float(0x3f818000)), 0x3f82);
    assert_int_equal(jt_float_to_bf16(jt_bits_float(0x3f808001)), 0x3f81);
    assert_int_equal(jt_float_to_bf16(jt_bits_float(0x7f7fffff)), 0x7f80);
    assert_true(isnan(jt_bf16_to_float(jt_float_to_bf16(jt_bits_float(0x7f800001)))));
}

/* An eight-bit float by its definition. */
static double small_value(unsigned x, int fraction_bits, int bias)
{
    int exponent = (int)(x & 127) >> fraction_bits;
    int one = 1 << fraction_bits, fraction = (int)x & (one - 1);
    return exponent == 0 ? ldexp(fraction, 1 - bias - fraction_bits)
                         : ldexp(one + fraction, exponent - bias - fraction_bits);
}

static void test_microscaling(void **state)
{
    (void)state;
    for (unsigned x = 0; x < 256; x++) {
        float f = jt_f8e4m3_to_f32((uint8_t)x);
        assert_true(!signbit(f) == !(x & 0x80));
        if ((x & 0x7f) == 0x7f)
            assert_true(isnan(f));
        else
            assert_true(fabs((double)f) == small_value(x, 3, 7));
        float power = jt_e8m0_to_f32((uint8_t)x);
        if (x == 255)
            assert_true(isnan(power));
        else
            assert_true((double)power == ldexp(1, (int)x - 127));
        double size = small_value(x & 7, 1, 1);
        assert_true((double)jt_f4e2m1_to_f32((uint8_t)x) == (x & 8 ? -size : size));
    }
    assert_true(jt_f8e4m3_to_f32(0x7e) == 448);
}

static void test_uses(void **state)
{
    (void)state;
    assert_true(jt_dtype_is_weight(JT_BF16) && jt_dtype_is_weight(JT_IQ1_M));
    assert_false(jt_dtype_is_weight(JT_I8) || jt_dtype_is_weight(JT_F64));
    assert_false(jt_dtype_is_weight(JT_DTYPE_COUNT));
    assert_true(jt_dtype_can_quantize(JT_Q6_K) && jt_dtype_can_quantize(JT_I64));
    assert_false(jt_dtype_can_quantize(JT_IQ1_S));
    assert_false(jt_dtype_can_quantize(JT_DTYPE_COUNT));
    /* Integers beyond the type end at its border. */
    const float wide[4] = {-1e30f, 1e30f, 1.5f, NAN};
    int8_t small[4];
    jt_quantize(JT_I8, small, wide, 4);
    assert_true(small[0] == -128 && small[1] == 127 && small[2] == 2);
    int64_t large[4];
    jt_quantize(JT_I64, large, wide, 4);
    assert_true(large[0] == INT64_MIN && large[1] > INT64_MAX - ((int64_t)1 << 40));
    const double real[2] = {0.1, -3};
    float out[2];
    jt_dequantize(JT_F64, out, real, 2);
    assert_true(out[0] == 0.1f && out[1] == -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_every_half), cmocka_unit_test(test_half_rounding),
        cmocka_unit_test(test_bfloat),     cmocka_unit_test(test_microscaling),
        cmocka_unit_test(test_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
