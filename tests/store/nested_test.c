/* Nested experts: any width from one file, whole or through a store, and bits that are
 * earned. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/reader.h"
#include "junto/junto.h"
#include "learn/checkpoint.h"

enum { VOCAB = 32, PROMPT = 24, STEPS = 10, EXPERTS = 2 * 6 };

static char dir[64], whole[96], nested[96];

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

/* A fresh mixture whose rows are whole blocks, and the same with nested experts. */
static int make_models(void **state)
{
    jt_err err = {0};
    jt_blueprint blueprint;
    jt_sizes sizes = {.family = "qwen3moe",
                      .name = "nested",
                      .n_layers = 2,
                      .d_model = 256,
                      .n_heads = 2,
                      .n_kv_heads = 2,
                      .head_dim = 32,
                      .n_experts = 6,
                      .n_experts_used = 2,
                      .expert_width = 256,
                      .n_ctx = 128,
                      .n_vocab = VOCAB,
                      .rope_base = 1e4f,
                      .norm_eps = 1e-6f,
                      .router = {.renormalise = true, .scale = 1.0f}};
    sizes.router.scorer = jt_scorer_find("linear");
    sizes.router.selector = jt_selector_find("topk");
    jt_quantize_options o = {.mix = "q8_0", .nested = 4, .threads = 2};
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/junto-nested-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    snprintf(nested, sizeof nested, "%s/nested.gguf", dir);
    must(jt_blueprint_new(&blueprint, &sizes, 0.0f, &err), &err);
    must(jt_checkpoint_create(whole, &blueprint, NULL, 5, &err), &err);
    jt_blueprint_free(&blueprint);
    must(jt_quantize_model(whole, nested, &o, NULL, &err), &err);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    unlink(whole);
    unlink(nested);
    return rmdir(dir);
}

enum { LOGITS = (STEPS + 1) * VOCAB };

/* Logits after a prompt and after each of some tokens. */
static void play(float *logits, const char *path, const jt_store_options *store,
                 jt_store_stats *stats)
{
    jt_err err = {0};
    jt_model *model;
    jt_session *s;
    jt_session_options o = {.threads = 2, .n_ctx = 64, .chunk = 8};
    if (store)
        o.store = *store;
    must(store ? jt_model_load_apart(&model, path, &err)
               : jt_model_load(&model, path, &err),
         &err);
    must(jt_session_new(&s, model, &o, &err), &err);
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * 7 + 3) % VOCAB;
    must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
    for (int i = 0;; i++) {
        memcpy(logits + i * VOCAB, jt_session_logits(s), VOCAB * sizeof *logits);
        if (i == STEPS)
            break;
        int32_t token = (i * 11 + 5) % VOCAB;
        must(jt_session_eval(s, &token, 1, NULL, &err), &err);
    }
    if (stats)
        assert_true(jt_session_store_stats(s, stats));
    jt_session_free(s);
    jt_model_free(model);
}

static double error_of(const float *x, const float *y)
{
    double sum = 0.0, all = 0.0;
    for (int i = 0; i < LOGITS; i++) {
        sum += pow((double)x[i] - (double)y[i], 2);
        all += pow((double)x[i], 2);
    }
    return sqrt(sum / all);
}

static void any_width_from_one_file(void **state)
{
    static float exact[LOGITS], all[LOGITS], some[LOGITS];
    static const char *const bits[] = {"2", "3", "4"};
    (void)state;
    play(exact, whole, NULL, NULL);
    play(all, nested, NULL, NULL);
    double before = 1.0;
    for (int i = 0; i < 3; i++) {
        jt_store_stats stats;
        play(some, nested, &(jt_store_options){.bits = bits[i]}, &stats);
        double error = error_of(exact, some);
        print_message("%s bits: logits off by %.3f\n", bits[i], error);
        assert_true(error < 0.75 * before);
        assert_true(stats.bits == 2.0 + i && stats.bits_high == 2 + i);
        before = error;
    }
    assert_memory_equal(some, all, sizeof all); /* the store, and the file as a whole */
    play(some, nested, &(jt_store_options){.slots = 5}, NULL);
    assert_memory_equal(some, all, sizeof all); /* all bits where none are asked for */
}

/* A cache that is too small for all: more bits than two, fewer than four, and what is
 * read is between, however slow the disk is. */
static void bits_are_earned(void **state)
{
    static float exact[LOGITS], two[LOGITS], some[LOGITS];
    static const char *const prefetch[] = {"off", "router", "paths"};
    (void)state;
    jt_store_options o = {.bits = "2", .slots = 8, .prefetch = "off"};
    jt_store_stats fewer, stats, more;
    play(exact, whole, NULL, NULL);
    play(two, nested, &o, &fewer);
    o.bits = "4";
    play(some, nested, &o, &more);
    o.bits = "2-4";
    for (int i = 0; i < 3; i++) {
        o.prefetch = prefetch[i];
        jt_read_fault_set((jt_read_fault){.after = -1, .pause_us = i * 300});
        play(some, nested, &o, &stats);
        jt_read_fault_set((jt_read_fault){.after = -1});
        assert_true(stats.bits > 2.2 && stats.bits < 3.99);
        assert_true(stats.bits_low == 2 && stats.bits_high == 4);
        assert_true(error_of(exact, some) < error_of(exact, two));
    }
    o.prefetch = "off";
    play(some, nested, &o, &stats);
    assert_true(fewer.read_bytes < stats.read_bytes &&
                stats.read_bytes < more.read_bytes);
}

/* Where nobody has to leave, bits follow from the tokens alone. */
static void bits_do_not_depend_on_the_disk(void **state)
{
    static float first[LOGITS], other[LOGITS];
    static const char *const engine[] = {"uring", "pread"};
    static const char *const prefetch[] = {"off", "router", "paths"};
    (void)state;
    for (int i = 0; i < 6; i++) {
        jt_store_options o = {.bits = "2-4",
                              .slots = EXPERTS,
                              .engine = engine[i % 2],
                              .prefetch = prefetch[i / 2]};
        jt_read_fault_set((jt_read_fault){.after = -1, .pause_us = i * 100});
        play(i ? other : first, nested, &o, NULL);
        jt_read_fault_set((jt_read_fault){.after = -1});
        if (i)
            assert_memory_equal(first, other, sizeof first);
    }
}

/* What a plan with so many bits says that is read per token, and lacking. */
static double planned(const char *bits, double *expert_bytes)
{
    jt_err err = {0};
    jt_model *model;
    jt_session *s;
    jt_session_options o = {
        .threads = 2, .n_ctx = 64, .store = {.bits = bits, .slots = 8}};
    jt_forecast f;
    must(jt_model_load_apart(&model, nested, &err), &err);
    must(jt_session_new(&s, model, &o, &err), &err);
    must(jt_forecast_decoding(&f, s, NULL, &err), &err);
    jt_session_free(s);
    jt_model_free(model);
    *expert_bytes = f.costs.expert_bytes;
    return f.costs.read_bytes;
}

/* To the byte where all experts have the same bits; with a range, between its ends. */
static void a_plan_counts_planes(void **state)
{
    static float some[LOGITS];
    static const char *const bits[] = {"2", "3", "4"};
    double read[3], expert, least;
    (void)state;
    for (int i = 0; i < 3; i++) {
        jt_store_options o = {
            .bits = bits[i], .slots = 8, .prefetch = "off", .io = "buffered"};
        jt_store_stats stats;
        play(some, nested, &o, &stats);
        assert_int_equal(stats.read_bytes, stats.misses * stats.budget.expert);
        read[i] = planned(bits[i], &expert);
        assert_true(expert == (double)stats.budget.expert);
        least = i ? least : expert;
        assert_true(!i || read[i] > read[i - 1]);
    }
    double range = planned("2-4", &expert);
    assert_true(expert == least && read[0] < range && range < read[2]);
}

static void wrong_bits_are_refused(void **state)
{
    static const char *const wrong[] = {"1", "5", "4-2", "x", "2-", "2-4x", ""};
    jt_err err = {0};
    jt_model *model;
    jt_session *s;
    jt_session_options o = {0};
    (void)state;
    must(jt_model_load_apart(&model, nested, &err), &err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.store.bits = wrong[i];
        assert_int_equal(jt_session_new(&s, model, &o, &err), JT_E_ARG);
        assert_non_null(strstr(err.msg, "the file has 2 to 4"));
    }
    jt_model_free(model);
    o.store.bits = "3";
    must(jt_model_load_apart(&model, whole, &err), &err);
    assert_int_equal(jt_session_new(&s, model, &o, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "not nested"));
    jt_model_free(model);
    must(jt_model_load(&model, nested, &err), &err);
    assert_int_equal(jt_session_new(&s, model, &o, &err), JT_E_ARG);
    jt_model_free(model);
    jt_quantize_options q = {.mix = "q8_0", .nested = 7};
    assert_int_equal(jt_quantize_model(whole, NULL, &q, NULL, &err), JT_E_ARG);
}

/* A plane of another shape. */
static void planes_must_fit(void **state)
{
    char path[96];
    jt_err err = {0};
    jt_gguf *file;
    jt_gguf_writer *w;
    jt_model *model;
    (void)state;
    snprintf(path, sizeof path, "%s/wrong.gguf", dir);
    must(jt_gguf_open(&file, nested, &err), &err);
    must(jt_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(file, i), &err), &err);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
            jt_gguf_tensor t = *jt_gguf_tensor_at(file, i);
            char name[96];
            snprintf(name, sizeof name, "%.*s", (int)t.name.len, t.name.data);
            if (strcmp(name, "blk.1.ffn_up_exps.plane3") == 0) {
                t.shape[1]--;
                t.bytes = t.shape[0] * t.shape[1] * t.shape[2];
            }
            if (pass)
                must(jt_gguf_write_tensor(w, &t, &err), &err);
            else
                must(jt_gguf_add_tensor(w, name, t.dtype, t.n_dims, t.shape, &err),
                     &err);
        }
    must(jt_gguf_writer_finish(w, &err), &err);
    jt_gguf_close(file);
    assert_int_equal(jt_model_load(&model, path, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "blk.1.ffn_up_exps.plane3"));
    assert_int_equal(jt_model_load_apart(&model, path, &err), JT_E_FORMAT);
    unlink(path);
}

/* Any read may fail, also one of a plane: one request says so, the next one works. */
static void a_plane_that_cannot_be_read(void **state)
{
    jt_err err = {0};
    jt_model *model;
    jt_session *s;
    jt_session_options o = {.n_ctx = 64,
                            .chunk = 8,
                            .store = {.bits = "2-4", .slots = 6, .prefetch = "off"}};
    int32_t prompt[PROMPT];
    int failures = 0;
    (void)state;
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = i;
    must(jt_model_load_apart(&model, nested, &err), &err);
    must(jt_session_new(&s, model, &o, &err), &err);
    for (int n = 0; n < 60; n++) {
        jt_session_truncate(s, 0);
        jt_read_fault_set((jt_read_fault){.after = n, .error = EIO});
        jt_status status = jt_session_eval(s, prompt, PROMPT, NULL, &err);
        jt_read_fault_set((jt_read_fault){.after = -1});
        assert_true(status == JT_OK || status == JT_E_IO);
        failures += status != JT_OK;
        jt_session_truncate(s, 0);
        must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
    }
    assert_true(failures > 10);
    jt_session_free(s);
    jt_model_free(model);
}

static void missing_memory_is_an_error(void **state)
{
    jt_model *model;
    jt_err err;
    jt_status status = JT_E_MEMORY;
    long n = 0;
    (void)state;
    for (; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_model_load(&model, nested, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 10);
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_width_from_one_file),
        cmocka_unit_test(bits_are_earned),
        cmocka_unit_test(bits_do_not_depend_on_the_disk),
        cmocka_unit_test(a_plan_counts_planes),
        cmocka_unit_test(wrong_bits_are_refused),
        cmocka_unit_test(planes_must_fit),
        cmocka_unit_test(a_plane_that_cannot_be_read),
        cmocka_unit_test(missing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
