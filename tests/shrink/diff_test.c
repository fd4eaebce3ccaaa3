/* Comparing models: with themselves, with quantised ones, with others. */
#include <math.h>
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

static jt_diff_text compare_models(const golden *g, const char *path)
{
    jt_model *model;
    jt_session *a, *b;
    jt_diff_text text;
    jt_err err = {0};
    assert_int_equal(jt_model_load(&model, path, &err), JT_OK);
    assert_int_equal(jt_session_new(&a, g->model, NULL, &err), JT_OK);
    assert_int_equal(jt_session_new(&b, model, &(jt_session_options){.chunk = 5}, &err),
                     JT_OK);
    if (jt_diff_logits(a, b, g->tokens, g->count, 12, (jt_progress){0}, &text, &err) !=
        JT_OK)
        fail_msg("%s", err.msg);
    jt_session_free(a);
    jt_session_free(b);
    jt_model_free(model);
    return text;
}

static void test_logits(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *q8 = scratch_path(&dir, "q8"), *q4 = scratch_path(&dir, "q4");
    char source[512];
    golden_open(&g, "mixtral");
    golden_path(source, sizeof source, "mixtral.gguf");
    jt_diff_text same = compare_models(&g, source);
    assert_int_equal(same.scored, g.count / 12 * 11);
    assert_true(same.most == 0 && same.top1 == 1);
    assert_true(same.perplexity_a == same.perplexity_b);
    assert_int_equal(same.n_layers, 2);
    for (size_t i = 0; i < same.n_layers; i++) {
        assert_int_equal(same.layers[i].tokens, g.count / 12 * 12);
        assert_int_equal(same.layers[i].same, same.layers[i].tokens);
        assert_true(same.layers[i].jaccard == 1);
    }
    free(same.layers);
    quantize(source, q8, "q8_0");
    quantize(source, q4, "q4_0");
    jt_diff_text t8 = compare_models(&g, q8), t4 = compare_models(&g, q4);
    print_message("q8_0 %.2g, q4_0 %.2g nats\n", t8.mean, t4.mean);
    assert_true(t8.mean > 0 && t8.mean < t4.mean);
    assert_true(t4.median <= t4.p99 && t4.p99 <= t4.most);
    for (size_t i = 0; i < t4.n_layers; i++)
        assert_true(t4.layers[i].jaccard > 0.5 && t4.layers[i].jaccard <= 1);
    free(t8.layers);
    free(t4.layers);
    golden_close(&g);
    scratch_free(&dir);
}

static void test_wrong(void **state)
{
    (void)state;
    golden g, other;
    jt_session *a, *b;
    jt_diff_text text;
    jt_err err = {0};
    golden_open(&g, "mixtral");
    golden_open(&other, "olmoe");
    assert_int_equal(jt_session_new(&a, g.model, NULL, &err), JT_OK);
    assert_int_equal(jt_session_new(&b, other.model, NULL, &err), JT_OK);
    jt_progress none = {0};
    assert_int_equal(jt_diff_logits(a, b, g.tokens, g.count, 12, none, &text, &err),
                     JT_E_ARG);
    assert_int_equal(jt_diff_logits(a, a, g.tokens, 5, 12, none, &text, &err),
                     JT_E_ARG);
    assert_int_equal(jt_diff_logits(a, a, g.tokens, 5, 1, none, &text, &err), JT_E_ARG);
    jt_session_free(a);
    jt_session_free(b);
    golden_close(&g);
    golden_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
