/* What sessions remember: windows that keep only their rows, going back past them,
 * quantised keys and values, the two forms of latent attention. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../golden/model.h"
#include "model/cache.h"

enum { CONTEXT = 128, TEXT = 120, VOCAB = 40 };

static jt_model *open_model(const char *name)
{
    jt_model *model = golden_model(name);
    assert_non_null(model);
    return model;
}

static const int32_t *text(void)
{
    static int32_t ids[TEXT];
    for (int i = 0; i < TEXT; i++)
        ids[i] = (i * 37 + i * i % 11) % VOCAB;
    return ids;
}

static jt_session *open_session(const jt_model *model, int chunk, const char *type)
{
    jt_session *s;
    jt_err err;
    jt_session_options options = {
        .n_ctx = CONTEXT, .chunk = chunk, .threads = 2, .kv_type = type};
    if (jt_session_new(&s, model, &options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return s;
}

static void eval(jt_session *s, int from, int to)
{
    jt_err err;
    if (jt_session_eval(s, text() + from, (size_t)(to - from), NULL, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

/* Logits after the first `count` tokens of the text, in one chunk. */
static float *logits_of(const jt_model *model, int count, const char *type)
{
    jt_session *s = open_session(model, CONTEXT, type);
    float *logits = malloc(VOCAB * sizeof *logits);
    eval(s, 0, count);
    memcpy(logits, jt_session_logits(s), VOCAB * sizeof *logits);
    jt_session_free(s);
    return logits;
}

static const char *const windowed[] = {"gpt-oss", "gemma2", "gemma3", "llama4",
                                       "cohere2"};

/* A small chunk makes rows fewer than the context; in one chunk all are kept. */
static void windows_keep_what_is_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof windowed / sizeof *windowed; i++) {
        jt_model *model = open_model(windowed[i]);
        jt_session *all = open_session(model, CONTEXT, "f32");
        float *want = logits_of(model, TEXT, "f32");
        static const int chunks[] = {1, 7, 40};
        for (int c = 0; c < 3; c++) {
            jt_session *s = open_session(model, chunks[c], "f32");
            eval(s, 0, TEXT);
            assert_true(jt_session_kv_bytes(s) < jt_session_kv_bytes(all));
            assert_memory_equal(jt_session_logits(s), want, VOCAB * sizeof *want);
            jt_session_free(s);
        }
        free(want);
        jt_session_free(all);
        jt_model_free(model);
    }
}

/* Back by a little, by more than the rows that are kept, and to the start. */
static void going_back_is_right_however_far(void **state)
{
    static const int lengths[] = {TEXT - 1, TEXT - 20, 40, 3, 0};
    (void)state;
    for (size_t i = 0; i < sizeof windowed / sizeof *windowed; i++) {
        jt_model *model = open_model(windowed[i]);
        for (int l = 0; l < 5; l++) {
            jt_session *s = open_session(model, 4, "f32");
            float *want = logits_of(model, lengths[l] + 1, "f32");
            eval(s, 0, TEXT);
            jt_session_truncate(s, lengths[l]);
            assert_int_equal(jt_session_length(s), lengths[l]);
            eval(s, lengths[l], lengths[l] + 1);
            assert_memory_equal(jt_session_logits(s), want, VOCAB * sizeof *want);
            free(want);
            jt_session_free(s);
        }
        jt_model_free(model);
    }
}

static void count_call(void *self, const jt_route_site *site, const jt_route *route)
{
    (void)site;
    *(int *)self += route->n_tokens;
}

/* Tokens that run again have been watched. */
static void watchers_see_a_token_once(void **state)
{
    int seen = 0, before;
    jt_watcher watcher = {.name = "count", .self = &seen, .on_route = count_call};
    jt_model *model = open_model("gpt-oss");
    jt_session *s = open_session(model, 4, "f32");
    (void)state;
    assert_int_equal(jt_session_add_watcher(s, &watcher, NULL), JT_OK);
    eval(s, 0, TEXT);
    before = seen;
    jt_session_truncate(s, 30);
    eval(s, 30, 31);
    assert_int_equal(seen - before, before / TEXT);
    jt_session_free(s);
    jt_model_free(model);
}

/* Mean squared error over mean square, of the logits after the text. */
static double error_of(const jt_model *model, const char *type)
{
    float *want = logits_of(model, TEXT, "f32"), *got = logits_of(model, TEXT, type);
    double error = 0.0, square = 0.0;
    for (int i = 0; i < VOCAB; i++) {
        error += pow((double)got[i] - (double)want[i], 2.0);
        square += pow((double)want[i], 2.0);
    }
    free(want);
    free(got);
    return error / square;
}

/* Bounds of the normalised error; a block of 32 values takes 34 and 18 bytes. */
static void quantised_rows_cost_what_is_said(void **state)
{
    jt_model *model = open_model("mixed");
    double half = error_of(model, "f16"), q8 = error_of(model, "q8_0");
    double q4 = error_of(model, "q4_0");
    (void)state;
    print_message("  normalised error: f16 %.1e, q8_0 %.1e, q4_0 %.1e\n", half, q8, q4);
    assert_true(half < 1e-3);
    assert_true(q8 < 1e-3);
    assert_true(q4 < 1e-2);
    jt_session *s8 = open_session(model, 0, "q8_0");
    jt_session *s4 = open_session(model, 0, "q4_0");
    jt_session *s16 = open_session(model, 0, "f16");
    assert_int_equal(jt_session_kv_bytes(s8) * 32, jt_session_kv_bytes(s16) * 17);
    assert_int_equal(jt_session_kv_bytes(s4) * 32, jt_session_kv_bytes(s16) * 9);
    jt_session_free(s8);
    jt_session_free(s4);
    jt_session_free(s16);
    jt_model_free(model);
}

static void types_that_do_not_fit_are_named(void **state)
{
    jt_model *model = open_model("qwen3"); /* heads of 16 values */
    jt_session_options options = {.n_ctx = 16, .kv_type = "q8_0"};
    jt_session *s;
    jt_err err;
    (void)state;
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "Q8_0"));
    options = (jt_session_options){.n_ctx = 16, .k_type = "f32", .v_type = "q4_k"};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "Q4_K"));
    jt_model_free(model);
}

static void force(jt_model *model, jt_latent_form form)
{
    for (int i = 0; i < model->params.n_layers; i++)
        model->layers[i].latent.form = form;
}

/* Both layouts of the file: kv_b in one (lite), or split. A row of the cache is all
 * that a token takes. */
static void latent_forms_agree(void **state)
{
    static const char *const names[] = {"deepseek2", "deepseek2-lite", "deepseek3"};
    (void)state;
    for (int n = 0; n < 3; n++) {
        jt_model *model = open_model(names[n]);
        jt_model_info info;
        jt_model_describe(model, &info);
        assert_int_equal(info.kv_bytes_per_token, 2 * (16 + 4) * sizeof(uint16_t));
        force(model, JT_LATENT_ABSORBED);
        float *absorbed = logits_of(model, TEXT, "f32");
        force(model, JT_LATENT_EXPANDED);
        float *expanded = logits_of(model, TEXT, "f32");
        double most = 0.0, largest = 0.0;
        for (int i = 0; i < VOCAB; i++) {
            most = fmax(most, fabs((double)absorbed[i] - (double)expanded[i]));
            largest = fmax(largest, fabs((double)absorbed[i]));
        }
        assert_true(most < 1e-5 * largest);
        free(absorbed);
        free(expanded);
        jt_model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_keep_what_is_seen),
        cmocka_unit_test(going_back_is_right_however_far),
        cmocka_unit_test(watchers_see_a_token_once),
        cmocka_unit_test(quantised_rows_cost_what_is_said),
        cmocka_unit_test(types_that_do_not_fit_are_named),
        cmocka_unit_test(latent_forms_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
