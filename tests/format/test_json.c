/* The JSON reader: values, nesting, skipping, and what it refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "format/json.h"

/* A reader of `text` whose bytes end where an access beyond them is seen. */
typedef struct document {
    jt_json j;
    jt_arena arena;
    jt_err err;
    char *bytes;
} document;

static void open_bytes(document *d, const char *text, size_t len)
{
    *d = (document){.bytes = malloc(len ? len : 1)};
    assert_non_null(d->bytes);
    memcpy(d->bytes, text, len);
    jt_json_open(&d->j, d->bytes, len, &d->arena, &d->err);
}

static void open_text(document *d, const char *text)
{
    open_bytes(d, text, strlen(text));
}

static void done(document *d)
{
    jt_arena_free(&d->arena);
    free(d->bytes);
}

static void check_str(jt_str got, const char *expected, size_t len)
{
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, expected, len);
}

static void a_document(void **state)
{
    (void)state;
    document d;
    open_text(&d,
              " {\"model\": {\"skipped\": [{\"a\": [1, \"]\\\"\"]}, null], \"n\": -12,"
              "\"vocab\": {\"a\": 0, \"\\u00e9\": 1}},\n\t\"list\": [true, false,"
              " 1.5e1, \"x\"], \"empty\": {}, \"none\": [ ]} \r\n");
    int64_t n = 0, ids = 0;
    int items = 0;
    jt_json_enter(&d.j, JT_JSON_OBJECT);
    while (jt_json_next(&d.j)) {
        if (jt_json_key_is(&d.j, "model")) {
            jt_json_enter(&d.j, JT_JSON_OBJECT);
            while (jt_json_next(&d.j)) {
                if (jt_json_key_is(&d.j, "n")) {
                    n = jt_json_int(&d.j);
                } else if (jt_json_key_is(&d.j, "vocab")) {
                    jt_json_enter(&d.j, JT_JSON_OBJECT);
                    for (int64_t i = 0; jt_json_next(&d.j); i++) {
                        check_str(d.j.key, i ? "é" : "a", i ? 2 : 1);
                        assert_int_equal(jt_json_int(&d.j), i);
                        ids++;
                    }
                }
            }
        } else if (jt_json_key_is(&d.j, "list")) {
            jt_json_enter(&d.j, JT_JSON_ARRAY);
            assert_true(jt_json_next(&d.j) && jt_json_bool(&d.j));
            assert_true(jt_json_next(&d.j) && !jt_json_bool(&d.j));
            assert_true(jt_json_next(&d.j) && jt_json_double(&d.j) == 15);
            assert_true(jt_json_next(&d.j));
            check_str(jt_json_str(&d.j), "x", 1);
            assert_false(jt_json_next(&d.j));
            items++;
        } else if (jt_json_key_is(&d.j, "empty")) {
            jt_json_enter(&d.j, JT_JSON_OBJECT);
            assert_false(jt_json_next(&d.j));
            items++;
        } else {
            assert_true(jt_json_key_is(&d.j, "none"));
            items++;
        }
    }
    assert_int_equal(jt_json_finish(&d.j), JT_OK);
    assert_int_equal(n, -12);
    assert_int_equal(ids, 2);
    assert_int_equal(items, 3);
    done(&d);
}

static void types_are_seen_before_reading(void **state)
{
    (void)state;
    static const jt_json_type types[] = {JT_JSON_NULL,   JT_JSON_BOOL,  JT_JSON_NUMBER,
                                         JT_JSON_STRING, JT_JSON_ARRAY, JT_JSON_OBJECT};
    document d;
    open_text(&d, "[null, false, -1, \"\", [], {}]");
    jt_json_enter(&d.j, JT_JSON_ARRAY);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_true(jt_json_next(&d.j));
        assert_int_equal(jt_json_peek(&d.j), types[i]);
        assert_int_equal(jt_json_peek(&d.j), types[i]);
    }
    assert_false(jt_json_next(&d.j));
    assert_int_equal(jt_json_finish(&d.j), JT_OK);
    done(&d);
}

static void a_copy_is_a_bookmark(void **state)
{
    (void)state;
    document d;
    open_text(&d, "{\"vocab\": [1, 2], \"type\": \"BPE\"}");
    jt_json later = d.j;
    jt_json_enter(&d.j, JT_JSON_OBJECT);
    while (jt_json_next(&d.j)) {
        if (jt_json_key_is(&d.j, "vocab"))
            later = d.j;
    }
    assert_int_equal(jt_json_finish(&d.j), JT_OK);
    jt_json_enter(&later, JT_JSON_ARRAY);
    assert_true(jt_json_next(&later) && jt_json_int(&later) == 1);
    assert_true(jt_json_next(&later) && jt_json_int(&later) == 2);
    assert_false(jt_json_next(&later));
    assert_int_equal(later.status, JT_OK);
    done(&d);
}

static void values_as_they_are_written(void **state)
{
    (void)state;
    document d;
    open_text(&d, "[ {\"a\": [1, \"]\"]} , 1.50,nul]");
    jt_json_enter(&d.j, JT_JSON_ARRAY);
    assert_true(jt_json_next(&d.j));
    check_str(jt_json_raw(&d.j), "{\"a\": [1, \"]\"]}", 15);
    assert_true(jt_json_next(&d.j));
    check_str(jt_json_raw(&d.j), "1.50", 4);
    assert_true(jt_json_next(&d.j));
    check_str(jt_json_raw(&d.j), "", 0);
    assert_int_equal(jt_json_finish(&d.j), JT_E_FORMAT);
    done(&d);
}

static void strings(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
        size_t len;
    } cases[] = {
        {"\"\"", "", 0},
        {"\"plain \xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\x7f\"",
         "plain \xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\x7f", 16},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\u00E9\\u4e2D!\"", "\xc3\xa9\xe4\xb8\xad!", 6},
        {"\"\\ud83d\\ude00\\uffff\"", "\xf0\x9f\x98\x80\xef\xbf\xbf", 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        document d;
        open_text(&d, cases[i].json);
        check_str(jt_json_str(&d.j), cases[i].text, cases[i].len);
        assert_int_equal(jt_json_finish(&d.j), JT_OK);
        done(&d);
        open_text(&d, cases[i].json);
        jt_json_skip(&d.j);
        assert_int_equal(jt_json_finish(&d.j), JT_OK);
        assert_null(d.arena.first);
        done(&d);
    }
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        double value;
    } doubles[] = {{"0", 0},      {"-0.5", -0.5},
                   {"1E+2", 100}, {"12e-1", 1.2},
                   {"0.1", 0.1},  {"-11.337271690368652", -11.337271690368652},
                   {"1e-400", 0}, {"9007199254740993", 9007199254740992}};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        document d;
        open_text(&d, doubles[i].json);
        assert_true(jt_json_double(&d.j) == doubles[i].value);
        assert_int_equal(jt_json_finish(&d.j), JT_OK);
        done(&d);
    }
    static const struct {
        const char *json;
        int64_t value;
    } ints[] = {{"0", 0},
                {"-0", 0},
                {"42", 42},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        document d;
        open_text(&d, ints[i].json);
        assert_true(jt_json_int(&d.j) == ints[i].value);
        assert_int_equal(jt_json_finish(&d.j), JT_OK);
        done(&d);
    }
    document d;
    open_text(&d, " 18446744073709551616.50 ");
    check_str(jt_json_number(&d.j), "18446744073709551616.50", 23);
    assert_int_equal(jt_json_finish(&d.j), JT_OK);
    done(&d);
}

/* Refused with the same words whether it is skipped or not. */
static void check_refused(const char *text, size_t len, const char *message)
{
    document d;
    open_bytes(&d, text, len);
    assert_int_equal(jt_json_finish(&d.j), JT_E_FORMAT);
    assert_int_equal(d.err.code, JT_E_FORMAT);
    assert_string_equal(d.err.msg, message);
    assert_false(jt_json_next(&d.j));
    assert_int_equal(jt_json_peek(&d.j), JT_JSON_NONE);
    assert_int_equal(jt_json_int(&d.j), 0);
    assert_string_equal(d.err.msg, message);
    done(&d);
}

#define REFUSED(text, message) check_refused(text, sizeof(text) - 1, message)

static void malformed(void **state)
{
    (void)state;
    REFUSED("", "line 1, column 1: expected a value, found the end");
    REFUSED("\xef\xbb\xbf{}",
            "line 1, column 1: expected a value, found '\xef\xbb\xbf'");
    REFUSED("{\n\"é\": 1,}", "line 2, column 8: expected a name in quotes, found '}'");
    REFUSED("[1,]", "line 1, column 4: expected a value, found ']'");
    REFUSED("[1 2]", "line 1, column 4: expected ',' or ']', found '2'");
    REFUSED("{\"a\" 1}", "line 1, column 6: expected ':', found '1'");
    REFUSED("{\"a\": 1]", "line 1, column 8: expected ',' or '}', found ']'");
    REFUSED("[", "line 1, column 2: expected a value, found the end");
    REFUSED("{\"a", "line 1, column 4: the text ends inside a string");
    REFUSED("1 2", "line 1, column 3: expected the end, found '2'");
    REFUSED("[// no\n]", "line 1, column 2: expected a value, found '/'");
    REFUSED("NaN", "line 1, column 1: expected a value, found 'N'");
    REFUSED("nul", "line 1, column 1: expected a value, found 'n'");
    REFUSED("truth", "line 1, column 1: expected a value, found 't'");
    REFUSED("+1", "line 1, column 1: expected a value, found '+'");
    REFUSED("01", "line 1, column 2: a number begins with a needless 0");
    REFUSED("-", "line 1, column 2: expected a digit, found the end");
    REFUSED("1.e5", "line 1, column 3: expected a digit, found 'e'");
    REFUSED("1e", "line 1, column 3: expected a digit, found the end");
    REFUSED("\"\t\"", "line 1, column 2: control character 0x09 in a string");
    REFUSED("\"\xc3(\"", "line 1, column 2: byte 0xc3 in a string is not UTF-8");
    REFUSED("\"\xed\xa0\x80\"", "line 1, column 2: byte 0xed in a string is not UTF-8");
    REFUSED("\"\\x41\"", "line 1, column 3: expected one of \" \\ / b f n r t u after a"
                         " backslash, found 'x'");
    REFUSED("\"\\u12g4\"",
            "line 1, column 6: expected four hexadecimal digits after \\u, found 'g'");
    REFUSED("\"\\ud83d\"", "line 1, column 2: half of a surrogate pair");
    REFUSED("\"\\ude00\\ud83d\"", "line 1, column 2: half of a surrogate pair");
    REFUSED("\"\\ud83d\\u0041\"", "line 1, column 2: half of a surrogate pair");
    REFUSED("\xff", "line 1, column 1: expected a value, found byte 0xff");
}

static void other_types_and_sizes(void **state)
{
    (void)state;
    static const char *const not_ints[] = {
        "1.0", "1e2", "9223372036854775808", "-9223372036854775809", "\"1\"", "null"};
    for (size_t i = 0; i < sizeof not_ints / sizeof *not_ints; i++) {
        document d;
        open_text(&d, not_ints[i]);
        assert_int_equal(jt_json_int(&d.j), 0);
        assert_int_equal(jt_json_finish(&d.j), JT_E_FORMAT);
        done(&d);
    }
    document d;
    open_text(&d, "1e999");
    assert_true(jt_json_double(&d.j) == 0);
    assert_int_equal(jt_json_finish(&d.j), JT_E_FORMAT);
    assert_string_equal(d.err.msg, "line 1, column 6: 1e999 is too large");
    done(&d);
    open_text(&d, "[1]");
    jt_json_enter(&d.j, JT_JSON_OBJECT);
    assert_false(jt_json_next(&d.j));
    assert_int_equal(jt_json_finish(&d.j), JT_E_FORMAT);
    assert_string_equal(d.err.msg,
                        "line 1, column 1: expected an object, found an array");
    done(&d);
    open_text(&d, "[3]");
    jt_json_enter(&d.j, JT_JSON_ARRAY);
    assert_true(jt_json_next(&d.j));
    assert_int_equal(jt_json_int(&d.j), 3);
    assert_int_equal(jt_json_fail(&d.j, JT_E_UNSUPPORTED, "%d is odd", 3),
                     JT_E_UNSUPPORTED);
    assert_int_equal(jt_json_finish(&d.j), JT_E_UNSUPPORTED);
    assert_string_equal(d.err.msg, "line 1, column 3: 3 is odd");
    done(&d);
}

static jt_status nest(int depth, bool skip)
{
    char text[2 * 200 + 1];
    assert_true(depth <= 200);
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    document d;
    open_bytes(&d, text, 2 * (size_t)depth);
    for (int i = 0; i < depth && !skip; i++) {
        jt_json_enter(&d.j, JT_JSON_ARRAY);
        if (i < depth - 1 && d.j.status == JT_OK)
            assert_true(jt_json_next(&d.j));
    }
    for (int i = 0; i < depth && !skip; i++)
        assert_false(jt_json_next(&d.j));
    jt_status status = jt_json_finish(&d.j);
    done(&d);
    return status;
}

static void depth_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(nest(JT_JSON_DEPTH, true), JT_OK);
    assert_int_equal(nest(JT_JSON_DEPTH, false), JT_OK);
    assert_int_equal(nest(JT_JSON_DEPTH + 1, true), JT_E_LIMIT);
    assert_int_equal(nest(JT_JSON_DEPTH + 1, false), JT_E_LIMIT);
}

static void out_of_memory(void **state)
{
    (void)state;
    document d;
    open_text(&d, "\"\\n\"");
    jt_fault_after(0);
    assert_int_equal(jt_json_str(&d.j).len, 0);
    jt_fault_after(-1);
    assert_int_equal(jt_json_finish(&d.j), JT_E_MEMORY);
    done(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document),
        cmocka_unit_test(types_are_seen_before_reading),
        cmocka_unit_test(a_copy_is_a_bookmark),
        cmocka_unit_test(values_as_they_are_written),
        cmocka_unit_test(strings),
        cmocka_unit_test(numbers),
        cmocka_unit_test(malformed),
        cmocka_unit_test(other_types_and_sizes),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
