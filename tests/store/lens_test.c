/* What a lens makes of logits that are too early. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/random.h"
#include "store/lens.h"

enum { N = 24, MIXED = 6 };

/* Early logits, and those in their turn: each with its neighbour's, and shifted. */
static void draw(jt_rng *rng, float *early, float *late)
{
    for (int i = 0; i < N; i++)
        early[i] = jt_rng_normal(rng);
    assert_true(jt_lens_centre(early, N));
    for (int i = 0; i < N; i++)
        late[i] = early[i] + early[(i + 1) % N] + (float)(i % MIXED);
    assert_true(jt_lens_centre(late, N));
}

static double error(const jt_lens *lens, const jt_kernels *kernels, const float *early,
                    const float *late)
{
    float seen[N];
    double sum = 0.0;
    jt_lens_look(lens, kernels, early, seen);
    for (int i = 0; i < N; i++)
        sum += fabs((double)seen[i] - (double)late[i]);
    return sum / N;
}

static void it_learns_what_is_wrong(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_lens lens;
    const jt_kernels *kernels;
    float early[N], late[N], seen[N];
    jt_rng rng = {.seed = 7};
    assert_int_equal(jt_kernels_choose(&kernels, "scalar", &err), JT_OK);
    assert_int_equal(jt_lens_init(&lens, N, &err), JT_OK);
    draw(&rng, early, late);
    jt_lens_look(&lens, kernels, early, seen);
    assert_memory_equal(seen, early, sizeof seen); /* nothing is known at first */
    double before = error(&lens, kernels, early, late);
    for (int i = 0; i < 3000; i++) {
        draw(&rng, early, late);
        jt_lens_learn(&lens, kernels, early, late);
    }
    draw(&rng, early, late);
    assert_true(error(&lens, kernels, early, late) < 0.02 * before);
    jt_lens_free(&lens);
}

static void what_is_right_stays(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_lens lens;
    const jt_kernels *kernels;
    float early[N], late[N], seen[N], nothing[N] = {0};
    jt_rng rng = {.seed = 8};
    assert_int_equal(jt_kernels_choose(&kernels, "scalar", &err), JT_OK);
    assert_int_equal(jt_lens_init(&lens, N, &err), JT_OK);
    for (int i = 0; i < 100; i++) {
        draw(&rng, early, late);
        memcpy(late, early, sizeof late);
        jt_lens_learn(&lens, kernels, early, late);
    }
    jt_lens_learn(&lens, kernels, nothing, nothing);
    jt_lens_look(&lens, kernels, early, seen);
    assert_memory_equal(seen, early, sizeof seen);
    early[3] = -INFINITY; /* a policy took this expert out */
    assert_false(jt_lens_centre(early, N));
    jt_lens_free(&lens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns_what_is_wrong),
        cmocka_unit_test(what_is_right_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
