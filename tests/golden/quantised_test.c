/* Models whose matrices use every block format, against transformers on the decoded
 * weights. What is left is the error of 8-bit activations. */
#include <math.h>
#include <stdlib.h>

#include "golden.h"

/* Mean squared error over mean square. */
static double normalised_error(const float *a, const float *b, size_t n)
{
    double error = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)a[i] - b[i], 2.0);
        square += pow(b[i], 2.0);
    }
    return error / square;
}

static void check_level(const golden *g, const char *cpu)
{
    float *logits = golden_run(g, &(jt_session_options){.cpu = cpu}, NULL);
    double error = normalised_error(logits, g->logits, g->count * g->vocab);
    size_t same = 0;
    for (size_t t = 0; t < g->count; t++)
        same += golden_argmax(logits + t * g->vocab, g->vocab) ==
                golden_argmax(g->logits + t * g->vocab, g->vocab);
    print_message("  %-7s normalised error %.2e, same argmax %zu of %zu\n", cpu, error,
                  same, g->count);
    assert_true(error < 1e-3);
    assert_true(same * 10 >= g->count * 9);
    free(logits);
}

static void mixed_formats(void **state)
{
    golden g;
    golden_open(&g, *state);
    golden_each_level(check_level, &g);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(mixed_formats, "mixed"),
        cmocka_unit_test_prestate(mixed_formats, "mixed-grids"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
