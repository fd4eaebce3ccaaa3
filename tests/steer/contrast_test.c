/* Self-contrast: two sequences in one pass are what they are alone, to the bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"

enum { TOKENS = 23 };

static int32_t prompt[TOKENS];

typedef struct rows {
    float *logits;
    size_t vocab;
} rows;

static jt_status keep(void *user, size_t first, const float *logits, size_t n,
                      jt_err *err)
{
    rows *r = user;
    (void)err;
    memcpy(r->logits + first * r->vocab, logits, n * r->vocab * sizeof *logits);
    return JT_OK;
}

/* Logits of every token [TOKENS, vocab]; the last ones evaluated one by one. */
static float *logits_of(const jt_model *model, const char *const *policies, int chunk,
                        int threads, size_t *vocab)
{
    jt_session_options options = {.n_ctx = 64, .chunk = chunk, .threads = threads};
    jt_model_info info;
    jt_model_describe(model, &info);
    *vocab = (size_t)info.n_vocab;
    steered s = steer(model, policies, &options);
    rows r = {calloc(TOKENS * *vocab, sizeof(float)), *vocab};
    jt_eval_options eval = {.on_logits = keep, .user = &r};
    assert_int_equal(jt_session_eval(s.session, prompt, TOKENS - 3, &eval, NULL),
                     JT_OK);
    for (size_t i = TOKENS - 3; i < TOKENS; i++) {
        assert_int_equal(jt_session_eval(s.session, prompt + i, 1, NULL, NULL), JT_OK);
        memcpy(r.logits + i * *vocab, jt_session_logits(s.session),
               *vocab * sizeof(float));
    }
    unsteer(&s);
    return r.logits;
}

/* The formula, from the logits of sessions that run by themselves. */
static void check_model(const char *name, const char *weak, const char *ranks)
{
    const double alpha = 0.125, beta = 0.75;
    jt_model *model = golden_model(name);
    char scmoe[80];
    size_t vocab, out = 0;
    snprintf(scmoe, sizeof scmoe, "scmoe:alpha=0.125,beta=0.75,weak=%s", weak);
    float *a = logits_of(model, (const char *[]){NULL}, 0, 1, &vocab);
    float *b = logits_of(model, (const char *[]){ranks, NULL}, 0, 1, &vocab);
    float *got = logits_of(model, (const char *[]){scmoe, NULL}, 0, 1, &vocab);
    float *again = logits_of(model, (const char *[]){scmoe, NULL}, 5, 2, &vocab);
    for (size_t t = 0; t < TOKENS; t++) {
        float *z = a + t * vocab, best = z[0];
        for (size_t i = 1; i < vocab; i++)
            best = fmaxf(best, z[i]);
        for (size_t i = 0; i < vocab; i++) {
            float s = got[t * vocab + i];
            double want = (1 + beta) * (double)z[i] - beta * (double)b[t * vocab + i];
            double above = (double)z[i] - ((double)best + log(alpha));
            if (s == -INFINITY) {
                assert_true(above < 1e-5);
                out++;
            } else {
                assert_true(above > -1e-5);
                assert_true(fabs((double)s - want) <= 1e-5 * (1 + fabs(want)));
            }
        }
    }
    assert_true(out > 0);
    bool latent = strcmp(name, "deepseek2") == 0; /* whose form depends on the chunk */
    if (!latent)
        assert_memory_equal(got, again, TOKENS * vocab * sizeof *got);
    free(a);
    free(b);
    free(got);
    free(again);
    jt_model_free(model);
}

static void scores_are_those_of_two_sequences(void **state)
{
    (void)state;
    check_model("mixtral", "2", "ranks:take=2");
    check_model("qwen3moe", "0+3", "ranks:take=0+3");
    check_model("gpt-oss", "1", "ranks:take=1");    /* windows */
    check_model("gemma4-moe", "1", "ranks:take=1"); /* shared keys */
}

static void other_mixers_have_twins_too(void **state)
{
    (void)state;
    check_model("deepseek2", "1", "ranks:take=1"); /* latent */
    check_model("jamba", "1", "ranks:take=1");     /* a state */
}

static void without_beta_it_is_the_model(void **state)
{
    (void)state;
    jt_model *model = golden_model("mixtral");
    size_t vocab;
    float *a = logits_of(model, (const char *[]){NULL}, 0, 1, &vocab);
    float *b =
        logits_of(model, (const char *[]){"scmoe:alpha=0,beta=0", NULL}, 3, 2, &vocab);
    assert_memory_equal(a, b, TOKENS * vocab * sizeof *a);
    free(a);
    free(b);
    jt_model_free(model);
}

/* Both have the other policies; watchers see the strong one only. */
static void it_goes_with_other_policies(void **state)
{
    (void)state;
    static const char *const policies[] = {"mask:experts=0-2", "scmoe:weak=1", NULL};
    jt_model *model = golden_model("mixtral");
    steered s = steer(model, policies, &(jt_session_options){.n_ctx = 64});
    jt_usage *usage;
    jt_layer_usage layer;
    assert_int_equal(jt_usage_new(&usage, model, NULL), JT_OK);
    jt_watcher watcher = jt_usage_watcher(usage);
    assert_int_equal(jt_session_add_watcher(s.session, &watcher, NULL), JT_OK);
    assert_int_equal(jt_session_eval(s.session, prompt, TOKENS, NULL, NULL), JT_OK);
    jt_usage_layer(usage, 0, &layer);
    assert_int_equal(layer.tokens, TOKENS);
    uint64_t picks = 0;
    for (int e = 0; e < layer.n_experts; e++) {
        assert_true(e > 2 || layer.counts[e] == 0);
        picks += layer.counts[e];
    }
    assert_int_equal(picks, 2 * TOKENS);
    unsteer(&s);
    jt_usage_free(usage);
    jt_model_free(model);
}

static void truncating_goes_back_for_both(void **state)
{
    (void)state;
    static const char *const policies[] = {"scmoe", NULL};
    jt_model *model = golden_model("mixtral");
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t bytes = (size_t)info.n_vocab * sizeof(float);
    steered s = steer(model, policies, &(jt_session_options){.n_ctx = 64});
    float *first = malloc(bytes);
    assert_int_equal(jt_session_eval(s.session, prompt, 10, NULL, NULL), JT_OK);
    memcpy(first, jt_session_logits(s.session), bytes);
    assert_int_equal(jt_session_eval(s.session, prompt + 10, 5, NULL, NULL), JT_OK);
    jt_session_truncate(s.session, 9);
    assert_int_equal(jt_session_eval(s.session, prompt + 9, 1, NULL, NULL), JT_OK);
    assert_memory_equal(jt_session_logits(s.session), first, bytes);
    free(first);
    unsteer(&s);
    jt_model_free(model);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    jt_model *model = golden_model("mixtral");
    jt_steering *steering;
    jt_session *session;
    jt_err err;
    assert_int_equal(jt_steering_new(&steering, model, NULL), JT_OK);
    assert_int_equal(jt_steering_add(steering, "scmoe:weak=8", &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "9 of 8 experts"));
    assert_int_equal(jt_steering_add(steering, "scmoe", NULL), JT_OK);
    assert_int_equal(jt_session_new(&session, model, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_eval(session, prompt, 1, NULL, NULL), JT_OK);
    assert_int_equal(jt_steering_attach(steering, session, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "begun without"));
    jt_session_free(session);
    jt_steering_free(steering);
    jt_model_free(model);
}

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < TOKENS; i++)
        prompt[i] = (i * 37 + 11) % 40;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_two_sequences),
        cmocka_unit_test(other_mixers_have_twins_too),
        cmocka_unit_test(without_beta_it_is_the_model),
        cmocka_unit_test(it_goes_with_other_policies),
        cmocka_unit_test(truncating_goes_back_for_both),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
