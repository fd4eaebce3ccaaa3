/* Upcycling: without noise, and with weights that sum to one, the mixture computes what
 * the dense model computed (Komatsuzaki et al. 2022, section 3). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"

static char out_path[] = "/tmp/junto-upcycle-XXXXXX";

static void source_path(char *path, size_t room, const char *name)
{
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, room, "%s/golden/%s.gguf", data ? data : "tests", name);
}

static void upcycle(const char *name, const jt_upcycle_options *options)
{
    char path[512];
    jt_err err = {0};
    source_path(path, sizeof path, name);
    if (jt_upcycle(path, out_path, options, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

/* The error of the upcycled model's logits against the dense reference. */
static double error_of(const char *name, const jt_upcycle_options *options,
                       int *n_experts)
{
    golden g;
    jt_err err = {0};
    golden_open(&g, name);
    jt_model *dense = g.model;
    upcycle(name, options);
    if (jt_model_load(&g.model, out_path, &err) != JT_OK)
        fail_msg("%s", err.msg);
    float *logits = golden_run(&g, &(jt_session_options){.kv_type = "f32"}, NULL);
    double error = golden_error(logits, g.logits, g.count * g.vocab);
    *n_experts = jt_model_layer_experts(g.model, 0);
    free(logits);
    jt_model_free(dense);
    golden_close(&g);
    return error;
}

static void without_noise_the_logits_are_the_same(void **state)
{
    static const char *const names[] = {"llama", "llama-linear", "llama-llama3",
                                        "qwen2", "qwen2-yarn",   "qwen3"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int router = JT_ROUTER_RANDOM; router <= JT_ROUTER_ZERO; router++) {
            jt_upcycle_options options = {.n_experts = 5,
                                          .top_k = 3,
                                          .router = (jt_router_init)router,
                                          .seed = 3};
            int experts;
            double error = error_of(names[i], &options, &experts);
            print_message("  %-13s error %.2e\n", names[i], error);
            assert_true(error < 1e-4);
            assert_int_equal(experts, 5);
        }
    }
}

static void noise_changes_all_experts_but_the_first(void **state)
{
    (void)state;
    jt_upcycle_options options = {.n_experts = 3, .top_k = 3, .noise = 0.1f, .seed = 5};
    int experts;
    assert_true(error_of("llama", &options, &experts) > 1e-3);
    char path[512];
    jt_gguf *dense, *mixture;
    source_path(path, sizeof path, "llama");
    assert_int_equal(jt_gguf_open(&dense, path, NULL), JT_OK);
    assert_int_equal(jt_gguf_open(&mixture, out_path, NULL), JT_OK);
    const jt_gguf_tensor *a = jt_gguf_find(dense, "blk.1.ffn_down.weight");
    const jt_gguf_tensor *b = jt_gguf_find(mixture, "blk.1.ffn_down_exps.weight");
    const float *x = a->data, *y = b->data;
    size_t n = a->bytes / sizeof(float);
    assert_memory_equal(x, y, a->bytes);
    for (size_t e = 1; e < 3; e++) {
        double square = 0.0, noise = 0.0;
        for (size_t i = 0; i < n; i++) {
            square += (double)x[i] * x[i];
            noise += pow((double)y[e * n + i] - x[i], 2.0);
        }
        double ratio = sqrt(noise / square); /* the deviation that was asked for */
        assert_true(fabs(ratio - 0.1) < 0.01);
    }
    jt_gguf_close(dense);
    jt_gguf_close(mixture);
}

static void same_seed_same_file(void **state)
{
    (void)state;
    jt_upcycle_options options = {
        .n_experts = 2, .top_k = 1, .noise = 0.05f, .seed = 8};
    jt_gguf *a, *b;
    upcycle("qwen3", &options);
    assert_int_equal(jt_gguf_open(&a, out_path, NULL), JT_OK);
    upcycle("qwen3", &options); /* renamed over it: `a` keeps the old file */
    assert_int_equal(jt_gguf_open(&b, out_path, NULL), JT_OK);
    for (size_t i = 0; i < jt_gguf_tensor_count(a); i++) {
        const jt_gguf_tensor *x = jt_gguf_tensor_at(a, i), *y = jt_gguf_tensor_at(b, i);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    jt_gguf_close(a);
    jt_gguf_close(b);
}

static int stop(void *user, const char *what, unsigned long long done,
                unsigned long long total)
{
    (void)user;
    (void)what;
    return done > total / 2;
}

static void refusals_leave_the_old_file(void **state)
{
    (void)state;
    char path[512];
    jt_err err;
    jt_upcycle_options good = {.n_experts = 2, .top_k = 1}, bad = good;
    upcycle("llama", &good);
    source_path(path, sizeof path, "mixtral");
    assert_int_equal(jt_upcycle(path, out_path, &good, &err), JT_E_UNSUPPORTED);
    source_path(path, sizeof path, "llama");
    bad.top_k = 3;
    assert_int_equal(jt_upcycle(path, out_path, &bad, &err), JT_E_ARG);
    bad = good;
    bad.noise = NAN;
    assert_int_equal(jt_upcycle(path, out_path, &bad, &err), JT_E_ARG);
    bad = good;
    bad.progress.fn = stop;
    assert_int_equal(jt_upcycle(path, out_path, &bad, &err), JT_E_INTERRUPTED);
    jt_model *model;
    assert_int_equal(jt_model_load(&model, out_path, &err), JT_OK);
    assert_int_equal(jt_model_layer_experts(model, 0), 2);
    jt_model_free(model);
}

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(out_path);
    return fd >= 0 ? close(fd) : -1;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(out_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_noise_the_logits_are_the_same),
        cmocka_unit_test(noise_changes_all_experts_but_the_first),
        cmocka_unit_test(same_seed_same_file),
        cmocka_unit_test(refusals_leave_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
