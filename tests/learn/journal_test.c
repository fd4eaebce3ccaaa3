/* The log of a run: what a line holds, and that a resumed log reads as one that was
 * never stopped. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "learn/journal.h"
#include "scratch.h"

static const char *log_path(void)
{
    return scratch_path(&scratch_dir, "log.jsonl");
}

static char *read_log(void)
{
    char *text;
    size_t len;
    assert_int_equal(jt_read_file(&text, &len, log_path(), 1 << 20, NULL), JT_OK);
    return text;
}

static void write_step(jt_journal *journal, int64_t step)
{
    jt_train_event event = {.kind = JT_TRAIN_STEP,
                            .step = step,
                            .tokens = 64,
                            .loss = 9.0 / (double)step,
                            .lr = 1e-3};
    assert_int_equal(jt_journal_write(journal, &event, NULL, NULL), JT_OK);
}

static void write_eval(jt_journal *journal, int64_t step)
{
    const char *domain[] = {"books", "code", "books", "\xff"};
    const double loss[] = {1.5, 2.5, NAN, 4};
    jt_train_event event = {.kind = JT_TRAIN_EVAL,
                            .step = step,
                            .loss = 2,
                            .n_domains = 4,
                            .domain = domain,
                            .domain_loss = loss};
    assert_int_equal(jt_journal_write(journal, &event, NULL, NULL), JT_OK);
}

/* Steps first .. last with an evaluation at every second one. */
static void run(int64_t resume, int64_t last)
{
    jt_journal *journal;
    assert_int_equal(jt_journal_open(&journal, log_path(), resume, NULL), JT_OK);
    for (int64_t step = resume < 0 ? 1 : resume + 1; step <= last; step++) {
        write_step(journal, step);
        if (step % 2 == 0)
            write_eval(journal, step);
    }
    jt_journal_close(journal);
}

static void lines(void **state)
{
    (void)state;
    jt_journal *journal;
    assert_int_equal(jt_journal_open(&journal, log_path(), -1, NULL), JT_OK);
    jt_train_event event = {.kind = JT_TRAIN_STEP,
                            .step = 7,
                            .tokens = 5000000000u,
                            .loss = NAN,
                            .grad_norm = INFINITY,
                            .lr = 0.1};
    json_t *more = json_pack("{s:[f,f], s:f}", "congestion", 1.5, 1.25, "loss", 3.0);
    assert_int_equal(jt_journal_write(journal, &event, more, NULL), JT_OK);
    json_decref(more);
    event = (jt_train_event){.kind = JT_TRAIN_SAVE, .step = 7, .path = "x"};
    assert_int_equal(jt_journal_write(journal, &event, NULL, NULL), JT_OK);
    /* The line is there while the run goes on. */
    char *text = read_log();
    assert_string_equal(
        text, "{\"kind\":\"step\",\"step\":7,\"tokens\":5000000000,\"loss\":null,"
              "\"lr\":0.1,\"grad_norm\":null,\"balance_loss\":0.0,\"z_loss\":0.0,"
              "\"max_violation\":0.0,\"worst_violation\":0.0,\"experts_used\":0.0,"
              "\"dropped\":0.0,\"tokens_per_second\":0.0,\"congestion\":[1.5,1.25]}\n");
    free(text);
    jt_journal_close(journal);
    assert_int_equal(jt_journal_open(&journal, log_path(), -1, NULL), JT_OK);
    write_eval(journal, 3);
    jt_journal_close(journal);
    text = read_log();
    assert_string_equal(
        text, "{\"kind\":\"eval\",\"step\":3,\"tokens\":0,\"loss\":2.0,\"domains\":{"
              "\"books\":1.5,\"code\":2.5,\"books (2)\":null,\"?\":4.0}}\n");
    free(text);
}

static void resumed_equals_uninterrupted(void **state)
{
    (void)state;
    run(-1, 9);
    char *whole = read_log();
    for (int64_t stopped = 0; stopped <= 8; stopped++) {
        for (int64_t saved = 0; saved <= stopped; saved++) {
            run(-1, stopped);
            run(saved, 9);
            char *resumed = read_log();
            assert_string_equal(resumed, whole);
            free(resumed);
        }
    }
    free(whole);
}

/* A run that was killed inside a line. */
static void cut_last_line(void **state)
{
    (void)state;
    run(-1, 4);
    char *whole = read_log();
    for (size_t len = 0; len < strlen(whole); len++) {
        scratch_write(log_path(), whole, len);
        run(4, 4);
        char *left = read_log();
        size_t kept = strlen(left);
        assert_true(kept <= len && (kept == 0 || left[kept - 1] == '\n'));
        assert_null(memchr(whole + kept, '\n', len - kept));
        assert_memory_equal(left, whole, kept);
        free(left);
    }
    free(whole);
}

static jt_status collect(void *user, const json_t *line, jt_err *err)
{
    int64_t *sum = user, step = json_integer_value(json_object_get(line, "step"));
    *sum = *sum * 10 + step;
    return step == 3 ? jt_fail(err, JT_E_LIMIT, "three") : JT_OK;
}

static void reading(void **state)
{
    (void)state;
    static const char text[] =
        "{\"step\":1}\n\nnonsense\n[1]\n{\"step\":2}\n{\"step\":4}\n{\"step\": 5";
    scratch_write(log_path(), text, strlen(text));
    int64_t sum = 0;
    jt_err err = {0};
    assert_int_equal(jt_journal_read(log_path(), collect, &sum, &err), JT_OK);
    assert_int_equal(sum, 124);
    run(-1, 5);
    sum = 0;
    assert_int_equal(jt_journal_read(log_path(), collect, &sum, &err), JT_E_LIMIT);
    assert_string_equal(err.msg, "three");
    assert_int_equal(sum, 1223);
}

static void trouble(void **state)
{
    (void)state;
    jt_journal *journal;
    jt_err err = {0};
    const char *nowhere = scratch_path(&scratch_dir, "no/log.jsonl");
    assert_int_equal(jt_journal_open(&journal, nowhere, -1, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "no/log.jsonl"));
    assert_int_equal(jt_journal_open(&journal, nowhere, 3, &err), JT_E_IO);
    assert_int_equal(jt_journal_read(nowhere, collect, NULL, &err), JT_E_IO);
    jt_journal_close(NULL);
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(jt_journal_open(&journal, "/dev/full", -1, &err), JT_OK);
    jt_train_event event = {.kind = JT_TRAIN_STEP, .step = 1};
    assert_int_equal(jt_journal_write(journal, &event, NULL, &err), JT_E_IO);
    assert_string_equal(err.msg, "cannot write '/dev/full': No space left on device");
    jt_journal_close(journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),         cmocka_unit_test(resumed_equals_uninterrupted),
        cmocka_unit_test(cut_last_line), cmocka_unit_test(reading),
        cmocka_unit_test(trouble),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
