/* Sessions on models whose layers carry a state: the same bits whatever the chunks, and
 * after going back; and what happens without memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/junto.h"

enum { PROMPT = 24, VOCAB = 40 };

static const char *const models[] = {"jamba", "lfm2", "granitehybrid", "qwen3next"};
enum { MODELS = sizeof models / sizeof *models };

static int32_t prompt[PROMPT];

static jt_status load(jt_model **model, const char *name, jt_err *err)
{
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/golden/%s.gguf", data ? data : "tests", name);
    return jt_model_load(model, path, err);
}

static jt_model *must_load(const char *name)
{
    jt_model *model;
    jt_err err = {0};
    if (load(&model, name, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return model;
}

static jt_session *open_session(const jt_model *model, int chunk, int threads)
{
    jt_session *s;
    jt_session_options options = {.chunk = chunk, .threads = threads};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    return s;
}

static void same_logits(jt_session *s, const float *logits)
{
    assert_memory_equal(jt_session_logits(s), logits, VOCAB * sizeof *logits);
}

static void chunks_and_threads_do_not_matter(void **state)
{
    static const int chunks[] = {1, 2, 3, 7, 64};
    jt_model *model = must_load(*state);
    jt_session *whole = open_session(model, 0, 1);
    assert_int_equal(jt_session_eval(whole, prompt, PROMPT, NULL, NULL), JT_OK);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        jt_session *s = open_session(model, chunks[i], 1 + (int)i % 3);
        assert_int_equal(jt_session_eval(s, prompt, PROMPT, NULL, NULL), JT_OK);
        same_logits(s, jt_session_logits(whole));
        jt_session_free(s);
    }
    jt_session_free(whole);
    jt_model_free(model);
}

/* The state cannot go back: the tokens that are left run again. */
static void truncating_goes_back(void **state)
{
    jt_model *model = must_load(*state);
    jt_session *straight = open_session(model, 0, 1), *s = open_session(model, 5, 2);
    assert_int_equal(jt_session_eval(straight, prompt, 10, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_eval(s, prompt, PROMPT, NULL, NULL), JT_OK);
    for (int length = 9; length >= 0; length -= 3) {
        jt_session_truncate(s, length);
        assert_int_equal(jt_session_length(s), length);
        assert_int_equal(
            jt_session_eval(s, prompt + length, (size_t)(10 - length), NULL, NULL),
            JT_OK);
        same_logits(s, jt_session_logits(straight));
    }
    jt_session_free(straight);
    jt_session_free(s);
    jt_model_free(model);
}

static jt_status load_and_eval(const char *name, jt_err *err)
{
    jt_model *model;
    JT_TRY(load(&model, name, err));
    jt_session *s = NULL;
    jt_session_options options = {.threads = 1};
    jt_status status = jt_session_new(&s, model, &options, err);
    if (status == JT_OK)
        status = jt_session_eval(s, prompt, PROMPT, NULL, err);
    jt_session_free(s);
    jt_model_free(model);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        status = load_and_eval(*state, &err);
        jt_fault_after(-1);
        if (status != JT_OK)
            assert_int_equal(status, JT_E_MEMORY);
        assert_true(n < 10000);
    }
}

static void the_state_counts(void **state)
{
    jt_model *model = must_load(*state);
    jt_model_info info;
    jt_model_describe(model, &info);
    assert_true(info.state_bytes > 0);
    jt_session *s = open_session(model, 0, 1);
    uint64_t keys = info.kv_bytes_per_token * (uint64_t)jt_session_capacity(s);
    assert_true(jt_session_kv_bytes(s) >= keys + info.state_bytes);
    jt_session_free(s);
    jt_model_free(model);
}

int main(void)
{
    void (*const each[])(void **state) = {chunks_and_threads_do_not_matter,
                                          truncating_goes_back,
                                          every_allocation_may_fail, the_state_counts};
    enum { EACH = sizeof each / sizeof *each };
    struct CMUnitTest tests[MODELS * EACH];
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * 37 + 11) % VOCAB;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        const char *name = models[i / EACH];
        tests[i] = (struct CMUnitTest){
            .name = name,
            .test_func = each[i % EACH],
            .initial_state = (void *)(uintptr_t)name,
        };
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
