/* TOML 1.0: what documents mean, and which are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "learn/toml.h"

typedef struct pair {
    const char *toml, *expected;
} pair;

/* Each document as compact JSON. */
static void check_documents(const pair *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        jt_toml toml = {0};
        jt_err err = {0};
        if (jt_toml_parse(&toml, cases[i].toml, strlen(cases[i].toml), &err) != JT_OK)
            fail_msg("%s: %s", cases[i].toml, err.msg);
        char *json = json_dumps(toml.root, JSON_COMPACT | JSON_REAL_PRECISION(12));
        assert_string_equal(json, cases[i].expected);
        free(json);
        jt_toml_free(&toml);
    }
}

/* Each document is refused with that message. */
static void check_refused(const pair *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        jt_toml toml = {0};
        jt_err err = {0};
        if (jt_toml_parse(&toml, cases[i].toml, strlen(cases[i].toml), &err) == JT_OK)
            fail_msg("not refused: %s", cases[i].toml);
        assert_int_equal(err.code, JT_E_FORMAT);
        assert_string_equal(err.msg, cases[i].expected);
        assert_null(toml.root);
    }
}

#define COUNT(cases) (sizeof(cases) / sizeof *(cases))

static void numbers(void **state)
{
    (void)state;
    static const pair good[] = {
        {"a=1", "{\"a\":1}"},
        {"a = +99 # c", "{\"a\":99}"},
        {"a = -0", "{\"a\":0}"},
        {"a = 1_000_000", "{\"a\":1000000}"},
        {"a = 9223372036854775807", "{\"a\":9223372036854775807}"},
        {"a = -9223372036854775808", "{\"a\":-9223372036854775808}"},
        {"a = 0xDEAD_beef", "{\"a\":3735928559}"},
        {"a = 0x7fffffffffffffff", "{\"a\":9223372036854775807}"},
        {"a = 0o755", "{\"a\":493}"},
        {"a = 0b1101_0110", "{\"a\":214}"},
        {"a = +1.0", "{\"a\":1.0}"},
        {"a = -0.01", "{\"a\":-0.01}"},
        {"a = 5e+22", "{\"a\":5e22}"},
        {"a = 1e06", "{\"a\":1000000.0}"},
        {"a = -2E-2", "{\"a\":-0.02}"},
        {"a = 6.626e-34", "{\"a\":6.626e-34}"},
        {"a = 224_617.445_991_228", "{\"a\":224617.445991}"},
        {"a = true\nb = false", "{\"a\":true,\"b\":false}"},
    };
    check_documents(good, COUNT(good));
    static const char *const bad[] = {"01",
                                      "1_",
                                      "1__0",
                                      "+-1",
                                      "1.",
                                      ".5",
                                      "1.e3",
                                      "1e",
                                      "0x",
                                      "0xg",
                                      "0b2",
                                      "0o8",
                                      "+0x1",
                                      "0X1",
                                      "-0b1",
                                      "1._5",
                                      "1_.5",
                                      "1e1_000",
                                      "9223372036854775808",
                                      "0x8000000000000000",
                                      "0x_1",
                                      "1-2",
                                      "--1"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        char text[60], message[100];
        snprintf(text, sizeof text, "a = %s", bad[i]);
        snprintf(message, sizeof message,
                 "line 1: '%s' is not a number of TOML, or too large", bad[i]);
        check_refused(&(pair){text, message}, 1);
    }
    char text[200] = "a = 1";
    memset(text + 5, '0', 150);
    check_refused(&(pair){text, "line 1: '10000000000000000000...' is too long for a "
                                "number"},
                  1);
    static const pair other[] = {
        {"a = inf", "line 1: 'inf' is not a finite number"},
        {"a = -nan", "line 1: '-nan' is not a finite number"},
        {"a = True", "line 1: 'True' is no value: a text stands in quotes"},
        {"a = word", "line 1: 'word' is no value: a text stands in quotes"},
        {"a = ", "line 1: expected a value, found the end"},
        {"a = # c", "line 1: expected a value, found '#'"},
        {"a =\n1", "line 1: expected a value, found the end of the line"},
        {"a = 1979-05-27", "line 1: dates and times have no use here; '1979-05-27' must"
                           " be a text in quotes"},
        {"a = 07:32:00", "line 1: dates and times have no use here; '07:32:00' must be "
                         "a text in quotes"},
    };
    check_refused(other, COUNT(other));
}

static void strings(void **state)
{
    (void)state;
    static const pair good[] = {
        {"a = \"\"", "{\"a\":\"\"}"},
        {"a = ''", "{\"a\":\"\"}"},
        {"a = \"x\\t\\\"\\\\\\u00e9\\U0001F600\"", "{\"a\":\"x\\t\\\"\\\\é😀\"}"},
        {"a = 'C:\\n'", "{\"a\":\"C:\\\\n\"}"},
        {"a = \"\"\"\nx\r\ny\"\"\"", "{\"a\":\"x\\ny\"}"},
        {"a = \"\"\"x \\\n\n   y\"\"\"", "{\"a\":\"x y\"}"},
        {"a = \"\"\"\"x\"\"\"\"\"", "{\"a\":\"\\\"x\\\"\\\"\"}"},
        {"a = \"\"\"\"\"\"", "{\"a\":\"\"}"},
        {"a = '''\n'x''\n\\'''", "{\"a\":\"'x''\\n\\\\\"}"},
        {"\xef\xbb\xbf"
         "a = 'b'",
         "{\"a\":\"b\"}"},
    };
    check_documents(good, COUNT(good));
    static const pair bad[] = {
        {"a = \"x", "line 1: the text has no closing quote"},
        {"a = 'x\n'", "line 1: the text has no closing quote"},
        {"\n\na = \"\"\"x\n\n\ny\"\"", "line 3: the text has no closing quotes"},
        {"a = \"\\q\"",
         "line 1: expected b, t, n, f, r, \", \\, u or U after '\\', found 'q'"},
        {"a = \"\\u12\"", "line 1: \\u needs 4 hexadecimal digits"},
        {"a = \"\\U1234567x\"", "line 1: \\U needs 8 hexadecimal digits"},
        {"a = \"\\ud800\"", "line 1: U+D800 is no character"},
        {"a = \"\\U00110000\"", "line 1: U+110000 is no character"},
        {"a = \"\\u0000\"", "line 1: a text cannot hold NUL"},
        {"a = \"\001\"", "line 1: control character in a text (write it as \\u0001)"},
        {"a = 'x\177'", "line 1: control character in a text (write it as \\u007f)"},
        {"a = \"\"\"x\\ y\"\"\"",
         "line 1: expected the end of the line after '\\', found 'y'"},
        {"a = \"\"\"x\"\"\"\"\"\"", "line 1: expected the end of the line, found '\"'"},
        {"a = 1\nb = '\xff'", "line 2: not UTF-8"},
        {"a = 1 # \002", "line 1: control character in a comment"},
        {"a = 1\r", "line 1: expected the end of the line, found the end of the line"},
    };
    check_refused(bad, COUNT(bad));
}

static void keys(void **state)
{
    (void)state;
    static const pair good[] = {
        {"", "{}"},
        {"# nothing\n\n", "{}"},
        {"a-b_1 = 1\n1234 = 2", "{\"a-b_1\":1,\"1234\":2}"},
        {"\"\" = 1\n'x y' = 2", "{\"\":1,\"x y\":2}"},
        {"a.b.c = 1\na . d = 2\na.\"e.f\" = 3",
         "{\"a\":{\"b\":{\"c\":1},\"d\":2,\"e.f\":3}}"},
        {"3.14 = 1", "{\"3\":{\"14\":1}}"},
    };
    check_documents(good, COUNT(good));
    static const pair bad[] = {
        {"= 1", "line 1: expected a key, found '='"},
        {"a", "line 1: expected '=' after the key, found the end"},
        {"a b = 1", "line 1: expected '=' after the key, found 'b'"},
        {"a. = 1", "line 1: expected a key, found '='"},
        {"é = 1", "line 1: expected a key, found 'é'"},
        {"\"\"\"a\"\"\" = 1", "line 1: expected '=' after the key, found '\"'"},
        {"a = 1 b = 2", "line 1: expected the end of the line, found 'b'"},
        {"a = 1\n\na = 2", "line 3: 'a' is already defined on line 1"},
        {"a = 1\n\"\\u0061\" = 2", "line 2: 'a' is already defined on line 1"},
        {"a = 1\na.b = 2", "line 2: 'a' is already defined on line 1"},
        {"a.b = 1\na = 2", "line 2: 'a' is already defined on line 1"},
        {"a.b.c = 1\na.b = 2", "line 2: 'b' is already defined on line 1"},
    };
    check_refused(bad, COUNT(bad));
}

static void tables(void **state)
{
    (void)state;
    static const pair good[] = {
        {"[a]\nx = 1\n[b]\nx = 2", "{\"a\":{\"x\":1},\"b\":{\"x\":2}}"},
        {"[ a . \"b\" ]\nx = 1\n[a]\ny = 2", "{\"a\":{\"b\":{\"x\":1},\"y\":2}}"},
        {"[a]\nb.c = 1\n[a.b.d]\nx = 2", "{\"a\":{\"b\":{\"c\":1,\"d\":{\"x\":2}}}}"},
        {"[[a]]\nx = 1\n[[a]]\n[a.b]\ny = 2\n[[a.c]]\n[[a.c]]\nz = 3",
         "{\"a\":[{\"x\":1},{\"b\":{\"y\":2},\"c\":[{},{\"z\":3}]}]}"},
        {"a = {b = 1, c.d = 'x', e = {}}",
         "{\"a\":{\"b\":1,\"c\":{\"d\":\"x\"},\"e\":{}}}"},
        {"a = [1, [2, 'x'], {b = 3}, ]", "{\"a\":[1,[2,\"x\"],{\"b\":3}]}"},
        {"a = [ # c\n\n 1\n , 2 # d\n]", "{\"a\":[1,2]}"},
        {"a = []", "{\"a\":[]}"},
    };
    check_documents(good, COUNT(good));
    static const pair bad[] = {
        {"[a]\n[a]", "line 2: 'a' is already defined on line 1"},
        {"[a.b]\n[a]\n[a]", "line 3: 'a' is already defined on line 2"},
        {"a = 1\n[a]", "line 2: 'a' is already defined on line 1"},
        {"a = 1\n[a.b]", "line 2: 'a' is already defined on line 1"},
        {"a.b = 1\n[a]", "line 2: 'a' is already defined on line 1"},
        {"a = {}\n[a.b]", "line 2: 'a' is already defined on line 1"},
        {"a = {b = 1}\na.c = 2", "line 2: 'a' is already defined on line 1"},
        {"[a.b.c]\n[a]\nb.d = 1", "line 3: 'b' is already defined on line 1"},
        {"[a.b]\n[a]\nb = 1", "line 3: 'b' is already defined on line 1"},
        {"[a]\n[[a]]", "line 2: 'a' is already defined on line 1"},
        {"[[a]]\n[a]", "line 2: 'a' is already defined on line 1"},
        {"a = []\n[[a]]", "line 2: 'a' is already defined on line 1"},
        {"a = [{}]\n[a.b]", "line 2: 'a' is already defined on line 1"},
        {"a = {b = 1, b = 2}", "line 1: 'b' is already defined on line 1"},
        {"a = {b = 1,}", "line 1: expected a key, found '}'"},
        {"a = {b = 1\n}",
         "line 1: expected ',' or '}' in the table, found the end of the line"},
        {"a = {b = 1 c = 2}", "line 1: expected ',' or '}' in the table, found 'c'"},
        {"a = [1 2]", "line 1: expected ',' or ']' in the array, found '2'"},
        {"a = [1,\n2", "line 2: expected ',' or ']' in the array, found the end"},
        {"a = [,]", "line 1: expected a value, found ','"},
        {"[]", "line 1: expected a key, found ']'"},
        {"[a", "line 1: expected ']', found the end"},
        {"[[a]", "line 1: expected ']]', found the end"},
        {"[ [a] ]", "line 1: expected a key, found '['"},
        {"[a] b = 1", "line 1: expected the end of the line, found 'b'"},
    };
    check_refused(bad, COUNT(bad));
}

/* Nesting beyond reason is refused, in values and in keys. */
static void depth(void **state)
{
    (void)state;
    char text[4000] = "a = ";
    memset(text + 4, '[', 2000);
    check_refused(&(pair){text, "line 1: values are nested more than 32 deep"}, 1);
    for (size_t i = 0; i < 1000; i++)
        memcpy(text + 3 * i, "{a=", 4);
    memcpy(text, "a =", 3);
    check_refused(&(pair){text, "line 1: values are nested more than 32 deep"}, 1);
    for (size_t i = 0; i < 1000; i++)
        memcpy(text + 2 * i, "a.", 3);
    check_refused(&(pair){text, "line 1: a key of more than 32 parts"}, 1);
}

static void one_value(void **state)
{
    (void)state;
    static const pair good[] = {{"12", "12"},
                                {" 'x y' # c", "\"x y\""},
                                {"[1, {a = true}]", "[1,{\"a\":true}]"}};
    for (size_t i = 0; i < COUNT(good); i++) {
        json_t *value = NULL;
        const char *text = good[i].toml;
        assert_int_equal(jt_toml_parse_value(&value, text, strlen(text), NULL), JT_OK);
        char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        assert_string_equal(json, good[i].expected);
        free(json);
        json_decref(value);
    }
    static const char *const bad[] = {"",     "1 2",  "x",    "'a",
                                      "1\n2", "\xff", "{a=1", "="};
    for (size_t i = 0; i < COUNT(bad); i++) {
        json_t *value = NULL;
        jt_err err = {0};
        assert_int_equal(jt_toml_parse_value(&value, bad[i], strlen(bad[i]), &err),
                         JT_E_FORMAT);
        assert_null(value);
        assert_true(err.msg[0]);
    }
}

/* The line of every key, of thousands. */
static void lines(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    for (int i = 1; i <= 3000; i++)
        fprintf(out, "k%d = %s\n", i, i % 2 ? "true" : "[1]");
    fprintf(out, "[t] # 3001\nu.v = {w = 1} # 3002\n");
    fclose(out);
    jt_toml toml;
    assert_int_equal(jt_toml_parse(&toml, text, len, NULL), JT_OK);
    const char *key;
    json_t *value;
    size_t line = 0;
    json_object_foreach(toml.root, key, value)
    {
        assert_int_equal(jt_toml_line(&toml, key), ++line);
    }
    assert_int_equal(line, 3001);
    json_object_foreach(json_object_get(toml.root, "t"), key, value)
    {
        assert_int_equal(jt_toml_line(&toml, key), 3002);
    }
    assert_int_equal(jt_toml_line(&toml, "elsewhere"), 0);
    jt_toml_free(&toml);
    free(text);
}

static void without_memory(void **state)
{
    (void)state;
    static const char text[] = "[a]\n'b' = \"\"\"c\"\"\"\n[[d]]\ne.f = {g = 1}";
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        assert_true(n < 100);
        jt_toml toml = {0};
        jt_err err = {0};
        jt_fault_after(n);
        status = jt_toml_parse(&toml, text, sizeof text - 1, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        jt_toml_free(&toml);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(strings),
        cmocka_unit_test(keys),    cmocka_unit_test(tables),
        cmocka_unit_test(depth),   cmocka_unit_test(one_value),
        cmocka_unit_test(lines),   cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
