#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "junto/status.h"

static void texts(void **state)
{
    (void)state;
    assert_string_equal(jt_status_text(JT_OK), "ok");
    assert_string_equal(jt_status_text(JT_E_MEMORY), "out of memory");
    assert_string_equal(jt_status_text((jt_status)999), "unknown error");
}

static void fail_fills_in(void **state)
{
    (void)state;
    jt_err err = {0};
    assert_int_equal(jt_fail(&err, JT_E_IO, "cannot open '%s'", "x"), JT_E_IO);
    assert_int_equal(err.code, JT_E_IO);
    assert_string_equal(err.msg, "cannot open 'x'");
    assert_int_equal(jt_fail(NULL, JT_E_ARG, "nobody listens"), JT_E_ARG);
    assert_int_equal(jt_fail_within(NULL, JT_E_ARG, "nobody listens"), JT_E_ARG);
}

/* A terminal must not obey what a file contains. */
static void controls_are_masked(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_fail(&err, JT_E_FORMAT, "key '%s'",
            "a\x1b[31m\n\x7f"
            "b\tc");
    assert_string_equal(err.msg, "key 'a?[31m??b?c'");
    jt_fail(&err, JT_E_FORMAT, "%s",
            "\xc2\x9b"
            "31m \xc3\x9b");
    assert_string_equal(err.msg, "??31m \xc3\x9b");
    jt_fail(&err, JT_E_FORMAT, "x");
    jt_fail_within(&err, JT_E_FORMAT, "in '%s'", "\x1b");
    assert_string_equal(err.msg, "in '?': x");
}

static void within_puts_context_before(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_fail(&err, JT_E_FORMAT, "key 3 is bad");
    assert_int_equal(jt_fail_within(&err, JT_E_UNSUPPORTED, "'%s'", "m.gguf"),
                     JT_E_UNSUPPORTED);
    assert_int_equal(err.code, JT_E_UNSUPPORTED);
    assert_string_equal(err.msg, "'m.gguf': key 3 is bad");
}

/* Long texts are cut, and the cut text still ends inside the buffer. */
static void long_texts(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    jt_err err = {0};
    jt_fail(&err, JT_E_FORMAT, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    memset(text, 'b', sizeof text - 1);
    jt_fail_within(&err, JT_E_FORMAT, "%s", text);
    size_t half = sizeof err.msg / 2;
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_memory_equal(err.msg + half - 1, "b: a", 4);
    jt_fail(&err, JT_E_FORMAT, "short");
    jt_fail_within(&err, JT_E_FORMAT, "%s", text);
    assert_string_equal(err.msg + half, ": short");
}

typedef struct heard {
    int calls;
    jt_log_level level;
    char line[64];
    unsigned long long done;
} heard;

static void hear(void *user, jt_log_level level, const char *line)
{
    heard *h = user;
    h->calls++;
    h->level = level;
    strncpy(h->line, line, sizeof h->line - 1);
}

static void log_lines(void **state)
{
    (void)state;
    heard h = {0};
    jt_log log = {hear, &h};
    jt_log_line(&log, JT_LOG_WARN, "%d\x1b", 7);
    assert_int_equal(h.calls, 1);
    assert_int_equal(h.level, JT_LOG_WARN);
    assert_string_equal(h.line, "7?");
    jt_log_line(NULL, JT_LOG_WARN, "silence");
    log.fn = NULL;
    jt_log_line(&log, JT_LOG_WARN, "silence");
    assert_int_equal(h.calls, 1);
}

static int stop_at_two(void *user, const char *what, unsigned long long done,
                       unsigned long long total)
{
    heard *h = user;
    assert_string_equal(what, "counting");
    assert_int_equal(total, 4);
    h->done = done;
    return done >= 2;
}

static void progress_can_stop(void **state)
{
    (void)state;
    heard h = {0};
    jt_progress p = {stop_at_two, &h};
    jt_err err = {0};
    assert_int_equal(jt_progress_report(NULL, "counting", 9, 9, &err), JT_OK);
    assert_int_equal(jt_progress_report(&p, "counting", 1, 4, &err), JT_OK);
    assert_int_equal(h.done, 1);
    assert_int_equal(jt_progress_report(&p, "counting", 2, 4, &err), JT_E_INTERRUPTED);
    assert_string_equal(err.msg, "counting: interrupted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(fail_fills_in),
        cmocka_unit_test(controls_are_masked),
        cmocka_unit_test(within_puts_context_before),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(progress_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
