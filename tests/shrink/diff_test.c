/* Comparing tensors: of a model with itself, with quantised ones, with others. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "scratch.h"

typedef struct tally {
    size_t same, different, others;
    double worst;
} tally;

static void see(void *user, const jt_tensor_diff *d)
{
    tally *t = user;
    t->same += d->error == 0;
    t->different += d->error > 0;
    t->worst = d->error > t->worst ? d->error : t->worst;
}

static void see_other(void *user, const char *name, const char *what)
{
    tally *t = user;
    assert_true(name[0] && what[0]);
    t->others++;
}

static tally compare_files(const char *a, const char *b)
{
    tally t = {0};
    jt_err err = {0};
    jt_diff_options o = {.on_tensor = see, .on_other = see_other, .user = &t};
    if (jt_diff_tensors(a, b, &o, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void quantize(const char *source, const char *path, const char *mix)
{
    jt_quantize_options o = {.mix = mix};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, NULL), JT_OK);
}

static void test_tensors(void **state)
{
    (void)state;
    scratch dir = scratch_new();
    const char *q8 = scratch_path(&dir, "q8"), *q4 = scratch_path(&dir, "q4");
    char source[512], other[512];
    golden_path(source, sizeof source, "mixtral.gguf");
    golden_path(other, sizeof other, "llama.gguf");
    tally t = compare_files(source, source);
    assert_int_equal(t.same, 23);
    assert_int_equal(t.different + t.others, 0);
    quantize(source, q8, "q8_0");
    quantize(source, q4, "q4_0");
    tally t8 = compare_files(source, q8), t4 = compare_files(source, q4);
    assert_true(t8.different > 0 && t8.worst < 0.01);
    assert_true(t4.worst > 5 * t8.worst && t4.worst < 0.2);
    assert_true(compare_files(source, other).others > 0);
    scratch_free(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
