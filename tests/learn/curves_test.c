/* The picture of a log: what is in it, for logs of any length and state. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "learn/curves.h"
#include "scratch.h"

/* Is every element closed, in order, and every `&` that of an entity? */
static bool is_well_formed(const char *svg)
{
    char open[32][16];
    int depth = 0;
    for (const char *p = svg; (p = strchr(p, '<'));) {
        const char *name = p + 1 + (p[1] == '/'), *end = strchr(p, '>');
        size_t len = strcspn(name, " />");
        if (!end || len >= sizeof open[0])
            return false;
        if (p[1] == '/') {
            if (--depth < 0 || strlen(open[depth]) != len ||
                memcmp(open[depth], name, len) != 0)
                return false;
        } else if (end[-1] != '/') {
            if (depth == 32)
                return false;
            memcpy(open[depth], name, len);
            open[depth++][len] = '\0';
        }
        p = end;
    }
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (const char *p = svg; (p = strchr(p, '&')); p++) {
        bool known = false;
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
            known |= strncmp(p, entities[i], strlen(entities[i])) == 0;
        if (!known)
            return false;
    }
    return depth == 0;
}

/* The picture of a log; it must be sound whatever the log. */
static char *draw(const char *log, size_t len)
{
    const char *from = scratch_path(&scratch_dir, "log.jsonl");
    const char *to = scratch_path(&scratch_dir, "curves.svg");
    scratch_write(from, log, len);
    jt_err err = {0};
    if (jt_curves_write(from, to, &err) != JT_OK)
        fail_msg("%s", err.msg);
    char *svg;
    size_t bytes;
    assert_int_equal(jt_read_file(&svg, &bytes, to, 1 << 20, NULL), JT_OK);
    assert_true(is_well_formed(svg));
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf ")); /* "information" may be */
    assert_null(strstr(svg, "-inf"));
    return svg;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

/* A log of `steps` steps with ten evaluations; the caller frees. */
static char *make_log(int steps)
{
    char *log = NULL;
    size_t len;
    FILE *out = open_memstream(&log, &len);
    assert_non_null(out);
    for (int s = 1; s <= steps; s++) {
        double t = (double)s / steps;
        fprintf(out,
                "{\"kind\":\"step\",\"step\":%d,\"loss\":%g,\"lr\":%g,"
                "\"max_violation\":%g,\"worst_violation\":%g}\n",
                s, 8 - 6 * t + (s % 7) * 0.1, 1e-3 * (1 - t), 1 - t, 2 - t);
        if (s % (steps / 10) == 0)
            fprintf(
                out,
                "{\"kind\":\"eval\",\"step\":%d,\"loss\":%g,\"domains\":{"
                "\"books & <i>\":3,\"code\":4},\"information\":%g,\"shuffled\":0.1,"
                "\"congestion\":[1.5,2],\"layers\":[{\"layer\":1},{\"layer\":3}]}\n",
                s, 8 - 5 * t, t);
    }
    fclose(out);
    return log;
}

static void everything(void **state)
{
    (void)state;
    char *log = make_log(50), *svg = draw(log, strlen(log));
    static const char *const parts[] = {">Loss, nats per token<",
                                        ">training<",
                                        ">held out<",
                                        ">books &amp; &lt;i&gt;<",
                                        ">code<",
                                        ">Load of the busiest",
                                        ">worst layer<",
                                        ">Learning rate<",
                                        ">Congestion",
                                        ">layer 1<",
                                        ">layer 3<",
                                        ">information<",
                                        ">by chance<",
                                        "width=\"960\" height=\"1200\""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(svg, parts[i]))
            fail_msg("no %s", parts[i]);
    }
    assert_int_equal(count(svg, "class=\"frame\""), 5);
    assert_null(strstr(svg, "<script"));
    assert_null(strstr(svg, "href"));
    free(svg);
    free(log);
}

/* What has no values has no panel: a dense model, a run without evaluations. */
static void absent_panels(void **state)
{
    (void)state;
    static const char log[] = "{\"kind\":\"step\",\"step\":1,\"loss\":3,\"lr\":0.1,"
                              "\"max_violation\":0,\"worst_violation\":0}\n";
    char *svg = draw(log, sizeof log - 1);
    assert_int_equal(count(svg, "class=\"frame\""), 2);
    assert_null(strstr(svg, "held out"));
    assert_null(strstr(svg, "busiest"));
    free(svg);
}

static void few_lines_and_bad_ones(void **state)
{
    (void)state;
    static const char *const logs[] = {
        "",
        "nonsense\n{}\n[]\n{\"kind\":3}\n",
        "{\"kind\":\"step\",\"step\":1,\"loss\":null,\"lr\":null}\n",
        "{\"kind\":\"step\",\"step\":\"x\",\"loss\":\"y\",\"lr\":[]}\n",
        "{\"kind\":\"eval\",\"step\":1,\"loss\":null,\"domains\":3,\"congestion\":{}}"
        "\n",
        "{\"kind\":\"eval\",\"step\":0,\"domains\":{\"a\":null},\"congestion\":[null]}"
        "\n",
    };
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
        char *svg = draw(logs[i], strlen(logs[i]));
        assert_int_equal(count(svg, "No steps yet"), 1);
        free(svg);
    }
}

static void strange_numbers(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"1e308", "-1e308"}, {"1e30", "-1e30"},    {"5", "5"},
        {"-3", "-3"},        {"1e-300", "2e-300"}, {"null", "7"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char log[400];
        snprintf(log, sizeof log,
                 "{\"kind\":\"step\",\"step\":1,\"loss\":%s,\"lr\":0}\n"
                 "{\"kind\":\"step\",\"step\":2,\"loss\":%s,\"lr\":0}\n"
                 "{\"kind\":\"step\",\"step\":900000000000,\"loss\":4}\n"
                 "{\"kind\":\"step\",\"step\":1e300,\"loss\":4}\n"
                 "{\"kind\":\"step\",\"step\":-5,\"loss\":4}\n",
                 values[i][0], values[i][1]);
        char *svg = draw(log, strlen(log));
        assert_int_equal(count(svg, "class=\"frame\""), 1);
        assert_true(strlen(svg) < 8000);
        free(svg);
    }
}

/* Hundred times the steps, the same size; a spike of one step is still seen. */
static void long_logs(void **state)
{
    (void)state;
    char *small = make_log(1000), *large = make_log(100000);
    char *a = draw(small, strlen(small)), *b = draw(large, strlen(large));
    assert_true(strlen(b) < strlen(a) + 20000);
    assert_true(strlen(b) < 150000);
    free(small);
    free(large);
    free(a);
    free(b);
}

static void trouble(void **state)
{
    (void)state;
    char *log = make_log(20);
    const char *from = scratch_path(&scratch_dir, "log.jsonl");
    const char *to = scratch_path(&scratch_dir, "other.svg");
    scratch_write(from, log, strlen(log));
    jt_err err = {0};
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        assert_true(n < 1000);
        jt_fault_after(n);
        status = jt_curves_write(from, to, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_int_equal(access(to, F_OK) == 0, status == JT_OK);
    }
    assert_int_equal(jt_curves_write("/no/log", to, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "/no/log"));
    assert_int_equal(jt_curves_write(from, "/no/svg", &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "/no/svg"));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(absent_panels),
        cmocka_unit_test(few_lines_and_bad_ones),
        cmocka_unit_test(strange_numbers),
        cmocka_unit_test(long_logs),
        cmocka_unit_test(trouble),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
