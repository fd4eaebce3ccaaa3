/* Templates against renderings of the reference (make_templates.py), their bounds, and
 * what happens without memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "junto/template.h"

static jt_status render(const char *source, size_t len, const char *values,
                        const jt_template_limits *limits, char **text, size_t *n,
                        jt_err *err)
{
    jt_template *t;
    JT_TRY(jt_template_new(&t, source, len, err));
    jt_template_value all = {.data = values, .len = strlen(values)};
    jt_status status = jt_template_render(t, &all, 1, limits, text, n, err);
    jt_template_free(t);
    return status;
}

static void check_golden(const json_t *entry, const char *values, int64_t now)
{
    const json_t *source = json_object_get(entry, "template");
    const json_t *want = json_object_get(entry, "text");
    jt_template_limits limits = {.now = now};
    jt_err err = {0};
    char *text = NULL;
    size_t n = 0;
    jt_status status = render(json_string_value(source), json_string_length(source),
                              values, &limits, &text, &n, &err);
    if (json_is_null(want)) {
        if (status == JT_OK)
            fail_msg("%s: gave '%s', expected an error", json_string_value(source),
                     text);
        assert_int_equal(err.code, status);
        assert_non_null(strstr(err.msg, "template line "));
        return;
    }
    if (status != JT_OK)
        fail_msg("%s: %s", json_string_value(source), err.msg);
    if (n != json_string_length(want) || memcmp(text, json_string_value(want), n) != 0)
        fail_msg("%s:\n'%s'\nexpected\n'%s'", json_string_value(source), text,
                 json_string_value(want));
    free(text);
}

static json_t *load_golden(void)
{
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/text/data/templates.json",
             getenv("JUNTO_TEST_DATA"));
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static void test_golden(void **state)
{
    (void)state;
    json_t *root = load_golden(), *entry;
    char *usual = json_dumps(json_object_get(root, "values"), 0);
    json_int_t now = json_integer_value(json_object_get(root, "now"));
    size_t i, count = 0;
    setenv("TZ", "UTC", 1);
    tzset();
    json_array_foreach(json_object_get(root, "templates"), i, entry)
    {
        const json_t *own = json_object_get(entry, "values");
        char *values = own ? json_dumps(own, 0) : NULL;
        check_golden(entry, values ? values : usual, now);
        free(values);
        count++;
    }
    assert_true(count > 100);
    free(usual);
    json_decref(root);
}

/* Programs without end, and ones that grow, end in an error. */
static void test_bounds(void **state)
{
    static const char *const endless[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(100000000000) %}x{% endfor %}",
        ("{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s "
         "%}"
         "{% endfor %}"),
        ("{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l + n.l "
         "%}"
         "{% endfor %}"),
        "{{ 'x' * 100000000000 }}",
        "{{ [1] * 100000000000 }}",
        ("{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = [n.l] %}"
         "{% endfor %}{{ n.l }}"),
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000) }}",
        "{{ 'x' | indent(100000000000) | length }}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        jt_template_limits limits = {.steps = 1000000, .bytes = 64 << 20};
        jt_err err = {0};
        char *text;
        size_t n;
        jt_status status =
            render(endless[i], strlen(endless[i]), "{}", &limits, &text, &n, &err);
        if (status != JT_E_LIMIT && !(status == JT_OK && strstr(endless[i], "indent")))
            fail_msg("%s: status %d, %s", endless[i], status, err.msg);
        if (status == JT_OK)
            free(text);
    }
}

static void test_deep_source(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    static const char *const parts[] = {"(", "[", "-", "not ", "{% if x %}", "1 if "};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        size_t len = strlen(parts[p]), at = 0;
        char *source = malloc(DEPTH * len + 4);
        assert_non_null(source);
        if (parts[p][0] != '{')
            at = (size_t)sprintf(source, "{{");
        for (int i = 0; i < DEPTH; i++, at += len)
            memcpy(source + at, parts[p], len);
        jt_err err = {0};
        jt_template *t;
        assert_int_not_equal(jt_template_new(&t, source, at, &err), JT_OK);
        assert_non_null(strstr(err.msg, "template line 1"));
        free(source);
    }
}

static void test_values(void **state)
{
    (void)state;
    static const char source[] = "{{ a }}{{ b }}{{ c }}";
    jt_template_value values[] = {{NULL, "{\"a\": 1, \"b\": [2]}", 18, false},
                                  {"b", "<s>", 3, true},
                                  {"c", "\"x\"", 3, false}};
    jt_err err = {0};
    jt_template *t;
    char *text;
    size_t n;
    assert_int_equal(jt_template_new(&t, source, strlen(source), &err), JT_OK);
    assert_int_equal(jt_template_render(t, values, 3, NULL, &text, &n, &err), JT_OK);
    assert_string_equal(text, "1<s>x");
    free(text);
    values[2] = (jt_template_value){"c", "{\"x\": ", 6, false};
    assert_int_equal(jt_template_render(t, values, 3, NULL, &text, &n, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "c of a template"));
    values[0] = (jt_template_value){NULL, "[]", 2, false};
    assert_int_equal(jt_template_render(t, values, 1, NULL, &text, &n, &err), JT_E_ARG);
    jt_template_free(t);
}

static void test_no_memory(void **state)
{
    static const char source[] =
        "{% macro m(a) %}{{ a | upper }}{% endmacro %}{% for i in [1, 2] %}{{ m('x') }}"
        "{{ {'k': i} | tojson }}{% endfor %}";
    (void)state;
    int failures = 0;
    for (long n = 0;; n++) {
        jt_err err = {0};
        char *text;
        size_t len;
        jt_fault_after(n);
        jt_status status =
            render(source, strlen(source), "{\"a\": [1, {}]}", NULL, &text, &len, &err);
        jt_fault_after(-1);
        if (status == JT_OK) {
            assert_string_equal(text, "X{\"k\": 1}X{\"k\": 2}");
            free(text);
            break;
        }
        assert_int_equal(status, JT_E_MEMORY);
        failures++;
    }
    assert_true(failures > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),      cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_deep_source), cmocka_unit_test(test_values),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
