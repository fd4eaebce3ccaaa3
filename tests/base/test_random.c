#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/random.h"

/* The known answers that come with Random123 for philox4x32-10. */
static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        jt_philox4x32(out, cases[i].counter, cases[i].key);
        assert_memory_equal(out, cases[i].out, sizeof out);
    }
}

/* Words come in the order of the blocks, and each depends only on where it stands. */
static void a_stream_is_its_blocks(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 0x1122334455667788u, .stream = 0x99aabbccddeeff00u};
    const uint32_t key[2] = {0x55667788u, 0x11223344u};
    for (uint32_t block = 0; block < 3; block++) {
        const uint32_t counter[4] = {block, 0, 0xddeeff00u, 0x99aabbccu};
        uint32_t words[4];
        jt_philox4x32(words, counter, key);
        for (int i = 0; i < 4; i++)
            assert_int_equal(jt_rng_u32(&rng), words[i]);
    }
    assert_int_equal(rng.counter, 12);
    jt_rng jump = rng, other = rng;
    jump.counter = 4;
    other.stream++;
    rng.counter = 4;
    uint32_t word = jt_rng_u32(&rng);
    assert_int_equal(jt_rng_u32(&jump), word);
    assert_int_not_equal(jt_rng_u32(&other), word);
}

static void uniform(void **state)
{
    (void)state;
    enum { COUNT = 200000, BINS = 50 };
    jt_rng rng = {.seed = 1};
    int bins[BINS] = {0}, bins_double[BINS] = {0};
    for (int i = 0; i < COUNT; i++) {
        float f = jt_rng_float(&rng);
        double d = jt_rng_double(&rng);
        assert_true(f >= 0 && f < 1 && d >= 0 && d < 1);
        bins[(int)(f * BINS)]++;
        bins_double[(int)(d * BINS)]++;
    }
    double expected = (double)COUNT / BINS, chi = 0, chi_double = 0;
    for (int i = 0; i < BINS; i++) {
        chi += pow(bins[i] - expected, 2) / expected;
        chi_double += pow(bins_double[i] - expected, 2) / expected;
    }
    /* 49 degrees of freedom: 85.35 is passed by chance once in a thousand. */
    assert_true(chi < 85.35 && chi_double < 85.35);
}

static void below(void **state)
{
    (void)state;
    enum { COUNT = 70000, N = 7 };
    jt_rng rng = {.seed = 2};
    int seen[N] = {0};
    for (int i = 0; i < COUNT; i++) {
        uint32_t v = jt_rng_below(&rng, N);
        assert_true(v < N);
        seen[v]++;
    }
    double chi = 0, expected = (double)COUNT / N;
    for (int i = 0; i < N; i++)
        chi += pow(seen[i] - expected, 2) / expected;
    assert_true(chi < 22.46); /* 6 degrees of freedom, 1 in 1000 */
    assert_int_equal(jt_rng_below(&rng, 1), 0);
    for (int i = 0; i < 1000; i++)
        assert_true(jt_rng_below(&rng, 0xc0000000u) < 0xc0000000u);
}

static void normal(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    jt_rng rng = {.seed = 3};
    double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0;
    for (int i = 0; i < COUNT; i++) {
        double v = jt_rng_normal(&rng);
        assert_true(isfinite(v));
        sum += v;
        sum2 += v * v;
        sum3 += v * v * v;
        sum4 += v * v * v * v;
    }
    /* Five standard errors of each moment. */
    double root = sqrt(COUNT);
    assert_true(fabs(sum / COUNT) < 5 / root);
    assert_true(fabs(sum2 / COUNT - 1) < 5 * sqrt(2) / root);
    assert_true(fabs(sum3 / COUNT) < 5 * sqrt(15) / root);
    assert_true(fabs(sum4 / COUNT - 3) < 5 * sqrt(96) / root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers), cmocka_unit_test(a_stream_is_its_blocks),
        cmocka_unit_test(uniform),       cmocka_unit_test(below),
        cmocka_unit_test(normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
