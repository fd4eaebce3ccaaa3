/* Models written with smaller types. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "golden.h"
#include "scratch.h"

typedef struct seen_tensors {
    size_t count, fell_back, weighted, unseen;
    uint64_t bytes;
} seen_tensors;

static void see(void *user, const jt_quantize_tensor *t)
{
    seen_tensors *s = user;
    s->count++;
    s->fell_back += t->fell_back;
    s->weighted += t->weighted;
    s->unseen += t->unseen;
    s->bytes += t->bytes_to;
}

static jt_dtype type_of(const jt_gguf *file, const char *name)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, name);
    assert_non_null(t);
    return t->dtype;
}

/* Types by role and rule, keys kept, the model runs and says nearly the same. */
static void test_mixture(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *path = scratch_path(&dir, "q.gguf"), *rules[] = {"blk\\.1.*_exps=f16"};
    char source[512];
    seen_tensors seen = {0};
    jt_err err = {0};
    jt_quantize_report report;
    jt_quantize_options o = {
        .mix = "q8_0", .rules = rules, .n_rules = 1, .on_tensor = see, .user = &seen};
    golden_open(&g, "qwen2moe");
    golden_path(source, sizeof source, "qwen2moe.gguf");
    if (jt_quantize_model(source, path, &o, &report, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(report.tensors, seen.count);
    assert_int_equal(report.bytes_to, seen.bytes);
    assert_true(report.bytes_to < report.bytes_from / 2);
    jt_model *whole = g.model;
    assert_int_equal(jt_model_load(&g.model, path, &err), JT_OK);
    const jt_gguf *file = jt_model_file(g.model);
    assert_int_equal(type_of(file, "blk.0.attn_norm.weight"), JT_F32);
    assert_int_equal(type_of(file, "blk.0.ffn_gate_inp.weight"), JT_F32);
    assert_int_equal(type_of(file, "blk.0.attn_q.weight"), JT_Q8_0);
    assert_int_equal(type_of(file, "blk.0.ffn_up_exps.weight"), JT_Q8_0);
    assert_int_equal(type_of(file, "blk.1.ffn_up_exps.weight"), JT_F16);
    uint32_t number = 0;
    assert_true(jt_gguf_get_u32(file, "general.file_type", &number) && number == 7);
    for (size_t i = 0; i < jt_gguf_kv_count(jt_model_file(whole)); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(jt_model_file(whole), i);
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
        assert_non_null(jt_gguf_kv_find(file, key));
    }
    float *logits = golden_run(&g, &(jt_session_options){.kv_type = "f32"}, NULL);
    double error = golden_error(logits, g.logits, g.count * g.vocab);
    print_message("logits off by %.4f of the largest\n", error);
    assert_true(error < 0.1);
    free(logits);
    jt_model_free(whole);
    golden_close(&g);
    scratch_free(&dir);
}

/* Rows of no whole blocks get another type; a plan writes nothing. */
static void test_odd_widths(void **state)
{
    (void)state;
    char source[512];
    seen_tensors seen = {0};
    jt_quantize_options o = {.mix = "q4_k_m", .on_tensor = see, .user = &seen};
    jt_quantize_report report;
    golden_path(source, sizeof source, "mixtral.gguf");
    assert_int_equal(jt_quantize_model(source, NULL, &o, &report, NULL), JT_OK);
    assert_int_equal(report.fell_back, 16); /* all matrices: rows of 32 and 24 */
    assert_int_equal(seen.fell_back, 16);
}

static int stop(void *user, const char *what, unsigned long long done,
                unsigned long long total)
{
    (void)user;
    (void)what;
    return done > total / 2;
}

static void test_wrong(void **state)
{
    (void)state;
    scratch dir = scratch_new();
    const char *path = scratch_path(&dir, "q.gguf"), *rules[] = {"(=q8_0"};
    char source[512];
    jt_err err = {0};
    golden_path(source, sizeof source, "mixtral.gguf");
    jt_quantize_options o = {.mix = "q5"};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, &err), JT_E_ARG);
    o = (jt_quantize_options){.mix = "q5_0", .rules = rules, .n_rules = 1};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, &err), JT_E_ARG);
    o = (jt_quantize_options){.mix = "q5_0", .importance = source};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, &err), JT_E_FORMAT);
    o = (jt_quantize_options){.mix = "q5_0", .progress = {stop, NULL}};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, &err), JT_E_INTERRUPTED);
    assert_int_equal(scratch_entries(&dir, 0), 0);
    scratch_free(&dir);
}

/* Experts without tokens are quantised by the mean of their layer: the file says that
 * importance was there, and nothing is zero. */
static void test_unseen_experts(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *matrix = scratch_path(&dir, "i.gguf"), *path = scratch_path(&dir, "q");
    char source[512];
    jt_err err = {0};
    golden_open(&g, "mixtral");
    golden_path(source, sizeof source, "mixtral.gguf");
    jt_importance *m;
    jt_session *s;
    assert_int_equal(jt_importance_new(&m, &err), JT_OK);
    assert_int_equal(jt_session_new(&s, g.model, NULL, &err), JT_OK);
    int32_t one[] = {1, 1}; /* two tokens cannot reach eight experts of two each */
    assert_int_equal(
        jt_importance_gather(m, s, one, 2, 2, 0, "two tokens", (jt_progress){0}, &err),
        JT_OK);
    assert_int_equal(jt_importance_save(m, matrix, &err), JT_OK);
    seen_tensors seen = {0};
    jt_quantize_options o = {
        .mix = "q4_0", .importance = matrix, .on_tensor = see, .user = &seen};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, &err), JT_OK);
    assert_true(seen.weighted > 0 && seen.unseen > 0);
    jt_gguf *file;
    jt_str dataset;
    assert_int_equal(jt_gguf_open(&file, path, &err), JT_OK);
    assert_true(jt_gguf_get_str(file, "quantize.imatrix.dataset", &dataset));
    assert_int_equal(dataset.len, strlen("two tokens"));
    const jt_gguf_tensor *t = jt_gguf_find(file, "blk.0.ffn_up_exps.weight");
    float row[32];
    for (uint64_t r = 0; r < t->shape[0] * t->shape[1]; r++) {
        double size = 0;
        jt_dequantize(t->dtype, row, jt_gguf_row(t, r), 32);
        for (int i = 0; i < 32; i++)
            size += (double)row[i] * (double)row[i];
        assert_true(size > 0);
    }
    jt_gguf_close(file);
    jt_session_free(s);
    jt_importance_free(m);
    golden_close(&g);
    scratch_free(&dir);
}

static void test_no_memory(void **state)
{
    (void)state;
    scratch dir = scratch_new();
    const char *path = scratch_path(&dir, "q.gguf"), *rules[] = {"exps=q8_0"};
    char source[512];
    jt_err err = {0};
    golden_path(source, sizeof source, "mixtral.gguf");
    jt_quantize_options o = {.mix = "q5_0", .rules = rules, .n_rules = 1, .threads = 1};
    jt_status status = JT_E_MEMORY;
    long n = 0;
    for (; status != JT_OK; n++) {
        assert_int_equal(scratch_entries(&dir, 0), 0);
        jt_fault_after(n);
        status = jt_quantize_model(source, path, &o, NULL, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 50);
    scratch_free(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixture),   cmocka_unit_test(test_odd_widths),
        cmocka_unit_test(test_wrong),     cmocka_unit_test(test_unseen_experts),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
