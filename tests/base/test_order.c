#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/join.h"
#include "base/order.h"
#include "base/random.h"

enum { MOST = 200 };

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Random, with few distinct values, falling, rising. */
static void fill(float *values, size_t n, int kind, jt_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = kind == 1 ? (float)jt_rng_below(rng, 4) : jt_rng_normal(rng);
        if (kind == 1 && jt_rng_below(rng, 8) == 0)
            values[i] = -INFINITY;
        if (kind >= 2)
            values[i] = (float)i * (kind == 2 ? 1.0f : -1.0f);
    }
}

static void nth_largest(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 1};
    for (int trial = 0; trial < 400; trial++) {
        float values[MOST], sorted[MOST], work[MOST];
        size_t n = 1 + jt_rng_below(&rng, MOST),
               nth = 1 + jt_rng_below(&rng, (uint32_t)n);
        fill(values, n, trial % 4, &rng);
        memcpy(sorted, values, sizeof values);
        memcpy(work, values, sizeof values);
        qsort(sorted, n, sizeof *sorted, falling);
        assert_true(jt_nth_largest(work, n, nth) == sorted[nth - 1]);
        qsort(work, n, sizeof *work, falling); /* the same values, moved */
        assert_memory_equal(work, sorted, n * sizeof *work);
    }
}

static void keep_largest(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 2};
    for (int trial = 0; trial < 400; trial++) {
        float values[MOST], room[MOST];
        uint8_t keep[MOST];
        size_t n = 1 + jt_rng_below(&rng, MOST), count = jt_rng_below(&rng, MOST + 9);
        fill(values, n, trial % 4, &rng);
        jt_keep_largest(values, n, count, room, keep);
        for (size_t i = 0; i < n; i++) {
            size_t before = 0; /* those that go first */
            for (size_t j = 0; j < n; j++)
                before += values[j] > values[i] || (values[j] == values[i] && j < i);
            assert_int_equal(keep[i], before < count && values[i] > -INFINITY);
        }
    }
}

/* Whatever the result, it ends and stays inside. */
static void nan_is_survived(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 3};
    for (int trial = 0; trial < 200; trial++) {
        size_t n = 1 + jt_rng_below(&rng, MOST), kept = 0;
        float *values = malloc(n * sizeof *values), *room = malloc(n * sizeof *room);
        uint8_t *keep = malloc(n);
        fill(values, n, trial % 4, &rng);
        for (size_t i = 0; i < n; i += 1 + jt_rng_below(&rng, 5))
            values[i] = NAN;
        jt_keep_largest(values, n, n / 2, room, keep);
        for (size_t i = 0; i < n; i++) {
            assert_false(keep[i] && isnan(values[i]));
            kept += keep[i];
        }
        assert_in_range(kept, 0, n / 2);
        memcpy(room, values, n * sizeof *room);
        jt_nth_largest(room, n, (n + 1) / 2);
        size_t nans = 0;
        for (size_t i = 0; i < n; i++)
            nans += (size_t) !!isnan(values[i]) - (size_t) !!isnan(room[i]);
        assert_int_equal(nans, 0);
        free(values);
        free(room);
        free(keep);
    }
}

static const char *three(size_t i)
{
    static const char *const names[] = {"one", "two", "three"};
    return i < 3 ? names[i] : NULL;
}

static const char *nobody(size_t i)
{
    (void)i;
    return NULL;
}

static void names_are_joined(void **state)
{
    (void)state;
    char text[32], small[8];
    jt_join_names(text, sizeof text, three);
    assert_string_equal(text, "one, two, three");
    jt_join_names(small, sizeof small, three);
    assert_string_equal(small, "one");
    jt_join_names(text, sizeof text, nobody);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_largest),
        cmocka_unit_test(keep_largest),
        cmocka_unit_test(nan_is_survived),
        cmocka_unit_test(names_are_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
