/* Contexts that are kept: who goes on from one gets the bits that it would have got by
 * running all of it. */
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
#include "base/memory.h"
#include "junto/junto.h"
#include "run/kept.h"

enum { LENGTH = 110, SHARED = 44 };

typedef struct subject {
    const char *name, *type; /* of a model, and of its keys and values */
    bool goes_back;          /* what it remembers can be cut off anywhere */
    float close;             /* logits, to their largest; 0: the same bits */
} subject;

static int32_t first[LENGTH], second[LENGTH]; /* the first SHARED tokens are the same */

static jt_model *open_model(const char *name)
{
    jt_model *model = golden_model(name);
    jt_model_info info;
    assert_non_null(model);
    jt_model_describe(model, &info);
    for (int t = 0; t < LENGTH; t++) {
        first[t] = (t * 31 + 5) % info.n_vocab;
        second[t] = t < SHARED ? first[t] : (t * 17 + 3) % info.n_vocab;
    }
    second[SHARED] = (first[SHARED] + 1) % info.n_vocab;
    return model;
}

static jt_session *open_session(const jt_model *model, const char *type)
{
    jt_session *s;
    jt_session_options options = {.chunk = 16, .threads = 2, .kv_type = type};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    return s;
}

static void run(jt_session *s, const int32_t *tokens, size_t count)
{
    assert_int_equal(jt_session_eval(s, tokens, count, NULL, NULL), JT_OK);
}

static void expect_logits(const jt_session *s, const jt_session *alone, float close)
{
    jt_model_info info;
    jt_model_describe(s->model, &info);
    size_t n = (size_t)info.n_vocab;
    const float *a = jt_session_logits(s), *b = jt_session_logits(alone);
    float largest = 0.0f, off = 0.0f;
    if (close == 0.0f)
        assert_memory_equal(a, b, n * sizeof *a);
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(b[i]));
        off = fmaxf(off, fabsf(a[i] - b[i]));
    }
    assert_true(off <= close * largest);
}

/* `s` holds what is kept of `tokens`, and runs the rest: as `alone` does it all. */
static size_t goes_on(jt_kept *kept, jt_session *s, jt_session *alone,
                      const int32_t *tokens, size_t count, float close)
{
    size_t common;
    const jt_kept_context *c = jt_kept_find(kept, 0, tokens, count, &common);
    if (!c)
        return 0;
    jt_session_adopt(s, &c->cache, c->ids);
    assert_int_equal(jt_session_reuse(s, tokens, count), common);
    run(s, tokens + common, count - common);
    jt_session_truncate(alone, 0);
    run(alone, tokens, count);
    expect_logits(s, alone, close);
    return common;
}

static void same_bits(void **state)
{
    const subject *of = *state;
    jt_model *model = open_model(of->name);
    jt_session *a = open_session(model, of->type), *b = open_session(model, of->type);
    jt_session *alone = open_session(model, of->type);
    jt_kept kept = {.most_bytes = 1 << 24};
    int32_t longer[LENGTH + 4] = {0};
    memcpy(longer, first, sizeof first);
    run(a, first, LENGTH);
    jt_kept_put(&kept, a, 0);
    assert_int_equal(kept.count, 1);
    run(a, longer + LENGTH, 3); /* what is kept stays as it was */
    size_t common = goes_on(&kept, b, alone, second, LENGTH, of->close);
    assert_int_equal(common, of->goes_back ? SHARED : 0);
    jt_session_truncate(b, 0);
    run(b, second, LENGTH); /* has held something else before */
    assert_int_equal(goes_on(&kept, b, alone, longer, LENGTH + 4, of->close), LENGTH);
    jt_kept_free(&kept);
    jt_session_free(alone);
    jt_session_free(b);
    jt_session_free(a);
    jt_model_free(model);
}

/* What is long ago makes room; what begins another text is not kept beside it. */
static void the_oldest_makes_room(void **state)
{
    (void)state;
    jt_model *model = open_model("mixtral");
    jt_session *s = open_session(model, NULL);
    jt_kept kept = {.most_bytes = 1 << 24};
    size_t common, one;
    run(s, first, LENGTH - 8);
    jt_kept_put(&kept, s, 0);
    run(s, first + LENGTH - 8, 8);
    jt_kept_put(&kept, s, 0);
    assert_int_equal(kept.count, 1);
    one = kept.bytes;
    jt_session_truncate(s, LENGTH - 8);
    jt_kept_put(&kept, s, 0);
    assert_int_equal(kept.bytes, one);
    kept.most_bytes = 2 * one;
    jt_session_truncate(s, 0);
    run(s, second, LENGTH);
    jt_kept_put(&kept, s, 0);
    assert_int_equal(kept.count, 2);
    assert_non_null(jt_kept_find(&kept, 0, first, LENGTH, &common)); /* used last */
    assert_int_equal(common, LENGTH - 1);
    jt_session_truncate(s, 0);
    run(s, second + 1, LENGTH - 1);
    jt_kept_put(&kept, s, 0);
    assert_int_equal(kept.count, 2);
    assert_true(kept.bytes <= kept.most_bytes);
    assert_non_null(jt_kept_find(&kept, 0, second, LENGTH, &common));
    assert_int_equal(common, SHARED); /* of the first text */
    kept.most_bytes = 3 * one;
    jt_kept_put(&kept, s, 7); /* the same text, run with adapters */
    assert_int_equal(kept.count, 3);
    assert_null(jt_kept_find(&kept, 7, first, LENGTH, &common));
    assert_non_null(jt_kept_find(&kept, 7, second + 1, LENGTH - 1, &common));
    assert_int_equal(common, LENGTH - 2);
    kept.most_bytes = one / 2;
    jt_session_truncate(s, 0);
    run(s, second + 2, LENGTH - 2);
    jt_kept_put(&kept, s, 0); /* larger than all that may be kept */
    assert_int_equal(kept.count, 3);
    jt_kept_free(&kept);
    jt_session_free(s);
    jt_model_free(model);
}

/* Of a steered session, of a few tokens, and without memory nothing is kept. */
static void not_everything_is_kept(void **state)
{
    (void)state;
    jt_model *model = open_model("mixtral");
    jt_session *s = open_session(model, NULL), *steered = open_session(model, NULL);
    jt_kept kept = {.most_bytes = 1 << 24};
    jt_policy policy = {.name = "nothing"};
    assert_int_equal(jt_session_add_policy(steered, &policy, NULL), JT_OK);
    run(steered, first, LENGTH);
    jt_kept_put(&kept, steered, 0);
    run(s, first, 8);
    jt_kept_put(&kept, s, 0);
    run(s, first + 8, LENGTH - 8);
    for (long n = 0; n < 4; n++) {
        jt_fault_after(n);
        jt_kept_put(&kept, s, 0);
        jt_fault_after(-1);
        assert_int_equal(kept.count, 0);
        assert_int_equal(kept.bytes, 0);
    }
    jt_kept_put(&kept, s, 0);
    assert_int_equal(kept.count, 1);
    jt_kept_free(&kept);
    jt_session_free(steered);
    jt_session_free(s);
    jt_model_free(model);
}

int main(void)
{
    static const subject subjects[] = {
        {"mixtral", NULL, true, 0.0f},     {"mixed", "q8_0", true, 0.0f},
        {"mixed", "q4_0", true, 0.0f},     {"gpt-oss", NULL, false, 0.0f},
        {"gemma3", "f32", false, 0.0f},    {"gemma4-moe", NULL, false, 0.0f},
        {"llama4", NULL, false, 0.0f},     {"deepseek2", NULL, true, 1e-4f},
        {"qwen3next", NULL, false, 0.0f},  {"falcon-h1", NULL, false, 0.0f},
        {"lfm2moe", NULL, false, 0.0f},    {"kimi-linear", NULL, false, 1e-4f},
        {"gemma4-e2b", NULL, false, 0.0f},
    };
    enum { SUBJECTS = sizeof subjects / sizeof *subjects };
    struct CMUnitTest tests[SUBJECTS + 2] = {
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(not_everything_is_kept),
    };
    for (size_t i = 0; i < SUBJECTS; i++)
        tests[i + 2] = (struct CMUnitTest){subjects[i].name, same_bits, NULL, NULL,
                                           (void *)(uintptr_t)&subjects[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
