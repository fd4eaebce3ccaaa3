/* The suite of small tasks: documents of a mix change their task with every question,
 * and what is asked is answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "learn/suite.h"
#include "scratch.h"

enum { LENGTH = 5, TURN = LENGTH + 2, SEGMENTS = 4, DOCUMENTS = 30 };

static const char *const tasks[] = {"copy", "reverse", "sort", "shift3"};
static const char *const some[] = {"reverse", "sort", "shift3"};

static jt_suite_options options(const jt_suite_mix *mix)
{
    return (jt_suite_options){.task = tasks,
                              .n_tasks = 4,
                              .mix = mix,
                              .n_mixes = 1,
                              .documents = DOCUMENTS,
                              .length = LENGTH,
                              .symbols = 8,
                              .segments = 1,
                              .mixed_segments = SEGMENTS,
                              .seed = 1};
}

/* "Bacdfe=" is answered by the letter's task. */
static void check_answer(const char *asked, const char *answer)
{
    for (int i = 0; i < LENGTH; i++) {
        char is = answer[i];
        if (*asked == 'B')
            assert_int_equal(is, asked[LENGTH - i]);
        else if (*asked == 'C')
            assert_true(strchr(asked + 1, is) && (i == 0 || answer[i - 1] <= is));
        else
            assert_int_equal(is, 'a' + (asked[i + 1] - 'a' + 3) % 8);
    }
}

static void check_document(const char *line)
{
    char before = '\0';
    for (int i = 0; i < SEGMENTS; i++) {
        const char *asked = strstr(line, "user\",\"content\":\"");
        assert_non_null(asked);
        asked = strchr(asked, ':') + 2;
        const char *answer = strstr(asked, "assistant\",\"content\":\"");
        assert_non_null(answer);
        answer = strchr(answer, ':') + 2;
        assert_in_range(*asked, 'B', 'D');
        assert_int_not_equal(*asked, before);
        assert_int_equal(asked[TURN - 1], '=');
        check_answer(asked, answer);
        before = *asked;
        line = answer;
    }
    assert_null(strstr(line, "user"));
}

static void test_mix(void **state)
{
    const jt_suite_mix mix = {"any", some, 3};
    jt_suite_options o = options(&mix);
    scratch folder = scratch_new();
    char line[1024];
    int documents = 0;
    jt_err err = {0};
    (void)state;
    assert_int_equal(jt_suite_write(folder.dir, &o, &err), JT_OK);
    FILE *f = fopen(scratch_path(&folder, "any.jsonl"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        check_document(line);
        documents++;
    }
    fclose(f);
    assert_int_equal(documents, DOCUMENTS);
    scratch_free(&folder);
}

static void test_refusals(void **state)
{
    static const char *const wrong[] = {"copy", "fold"};
    const jt_suite_mix unknown = {"any", wrong, 2}, taken = {"sort", some, 3},
                       empty = {"any", some, 0};
    const jt_suite_mix *const mixes[] = {&unknown, &taken, &empty};
    scratch folder = scratch_new();
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        jt_err err = {0};
        jt_suite_options o = options(mixes[i]);
        assert_int_equal(jt_suite_write(folder.dir, &o, &err), JT_E_ARG);
        assert_non_null(strstr(err.msg, i ? "is no mix" : "'fold'"));
    }
    scratch_free(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mix),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
