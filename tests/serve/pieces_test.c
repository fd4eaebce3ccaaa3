/* Calls of functions in texts that come in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/calls.h"

static const char hermes[] = "<tool_call> name", coder[] = "<tool_call> <function=";
static const char mistral[] = "[TOOL_CALLS]", llama[] = "parameters ipython";

static const char tools[] =
    "[{\"function\": {\"name\": \"write\", \"parameters\": {\"properties\": {"
    "\"text\": {\"type\": \"string\"}, \"lines\": {\"type\": \"integer\"}}}}},"
    " {\"function\": {\"name\": \"time\"}}]";

/* A text of a model, what stays of it as text, and "NAME ARGUMENTS\n" of each call. */
typedef struct sample {
    const char *style, *said, *text, *calls;
    bool forced;
} sample;

static const sample samples[] = {
    {hermes, "Hi <b>", "Hi <b>", "", false},
    {hermes,
     "Hm.\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>\n", "Hm.",
     "time {}\n", false},
    {hermes,
     "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": [1, {\"}\": \"\\\"{\"}]}, "
     "\"more\": "
     "{}}</tool_call>\n<tool_call>{\"name\":\"b\",\"arguments\":{}}</tool_call>!",
     "!", "a {\"x\": [1, {\"}\": \"\\\"{\"}]}\nb {}\n", false},
    /* Other orders and shapes are read as a whole. */
    {hermes, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"a\"}</tool_call>", "",
     "a {\"x\":1}\n", false},
    {hermes, "<tool_call>{\"name\": \"a\", \"arguments\": \"{}\"}</tool_call>", "",
     "a {}\n", false},
    {hermes, "<tool_call>{\"name\": \"a\"}", "", "a {}\n", false},
    {hermes, "a <tool_call>no</tool_call> b", "a <tool_call>no</tool_call> b", "",
     false},
    /* Broken off, and broken. */
    {hermes, "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": \"yes", "",
     "a {\"x\": \"yes\n", false},
    {hermes, "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\" </tool_call> b", " b",
     "a {\"x\" \n", false},
    {coder,
     "Well.\n<tool_call>\n<function=write>\n<parameter=text>\nint a[] = {\"1\"};\n\n"
     "</parameter>\n<parameter=lines>\n2\n</parameter>\n<parameter=other>\nx y\n"
     "</parameter>\n</function>\n</tool_call>",
     "Well.",
     "write {\"text\":\"int a[] = {\\\"1\\\"};\\n\",\"lines\":2,\"other\":\"x y\"}\n",
     false},
    {coder,
     "<tool_call><function=write><parameter=text>3</parameter></function></tool_call>",
     "", "write {\"text\":\"3\"}\n", false},
    {coder, "<tool_call><function=time></function></tool_call>", "", "time {}\n",
     false},
    {coder, "<tool_call><function=write><parameter=text>\n</par", "",
     "write {\"text\":\"</par\"}\n", false},
    {coder, "<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", "",
     false},
    {mistral,
     "[TOOL_CALLS][{\"name\": \"a\", \"arguments\": {\"x\": 1}, \"id\": \"1\"}, "
     "{\"name\": \"b\", \"arguments\": {}}]",
     "", "a {\"x\": 1}\nb {}\n", false},
    {mistral, "Hm.[TOOL_CALLS]a[CALL_ID]7[ARGS]{\"x\": {}}[TOOL_CALLS]b[ARGS]{}", "Hm.",
     "a {\"x\": {}}\nb {}\n", false},
    {mistral, "[{\"name\": \"a\", \"arguments\": {}}]", "", "a {}\n", true},
    {mistral, "[TOOL_CALLS]a[ARGS]{}", "", "a {}\n", true},
    {mistral, "[1]", "[1]", "", false},
    {llama, "{\"name\": \"time\", \"parameters\": {\"x\": 1}}", "", "time {\"x\": 1}\n",
     false},
    {llama, "{\"name\": \"other\", \"parameters\": {}}",
     "{\"name\": \"other\", \"parameters\": {}}", "", false},
    {llama, "It is {fine}.", "It is {fine}.", "", false},
};

typedef struct result {
    jt_buffer text, calls;
    size_t deltas;
} result;

/* Calls, each with its arguments from all its deltas. */
static void write_calls(jt_buffer *out, const json_t *deltas)
{
    json_t *calls = jt_calls_join(deltas);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        const char *arguments =
            json_string_value(json_object_get(function, "arguments"));
        assert_true(jt_buffer_add(out, name, strlen(name)) &&
                    jt_buffer_add(out, " ", 1) &&
                    jt_buffer_add(out, arguments, strlen(arguments)) &&
                    jt_buffer_add(out, "\n", 1));
    }
    json_decref(calls);
}

/* Read with `first` bytes at once, and then `step` at a time. */
static result read_sample(const sample *s, size_t first, size_t step)
{
    json_t *known = json_loads(tools, 0, NULL), *deltas = NULL;
    jt_calls calls = {.style = jt_call_style_find((jt_str){s->style, strlen(s->style)}),
                      .tools = known,
                      .forced = s->forced};
    result r = {0};
    size_t size = strlen(s->said);
    for (size_t at = 0, n = first; at <= size; at += n, n = step) {
        jt_buffer piece = {0};
        bool last = at + n > size;
        assert_true(jt_buffer_add(&piece, s->said + at, last ? size - at : n));
        assert_true(jt_calls_read(&calls, &piece, last, &deltas));
        assert_true(jt_buffer_add(&r.text, piece.data, piece.len));
        free(piece.data);
    }
    r.deltas = json_array_size(deltas);
    write_calls(&r.calls, deltas);
    jt_calls_free(&calls);
    json_decref(deltas);
    json_decref(known);
    return r;
}

static void expect(const jt_buffer *got, const char *expected)
{
    assert_int_equal(got->len, strlen(expected));
    if (got->len)
        assert_memory_equal(got->data, expected, got->len);
}

static void check(const sample *s, size_t first, size_t step)
{
    result r = read_sample(s, first, step);
    expect(&r.text, s->text);
    expect(&r.calls, s->calls);
    free(r.text.data);
    free(r.calls.data);
}

static void calls_are_the_same_however_a_text_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        size_t size = strlen(samples[i].said);
        for (size_t first = 1; first <= size + 1; first++)
            check(&samples[i], first, size + 1);
        for (size_t step = 1; step < 8; step++)
            check(&samples[i], step, step);
    }
}

/* How many bytes of `said` must be there until the first delta, and until so much of
 * the arguments. */
static size_t bytes_until(const char *style, const char *said, const char *arguments)
{
    for (size_t n = 1; n <= strlen(said); n++) {
        json_t *known = json_loads(tools, 0, NULL), *deltas = NULL;
        jt_calls calls = {.style = jt_call_style_find((jt_str){style, strlen(style)}),
                          .tools = known};
        jt_buffer piece = {0};
        assert_true(jt_buffer_add(&piece, said, n));
        assert_true(jt_calls_read(&calls, &piece, false, &deltas));
        json_t *all = jt_calls_join(deltas);
        const char *got = json_string_value(json_object_get(
            json_object_get(json_array_get(all, 0), "function"), "arguments"));
        bool there = got && strcmp(got, arguments) == 0;
        json_decref(all);
        json_decref(deltas);
        json_decref(known);
        jt_calls_free(&calls);
        free(piece.data);
        if (there)
            return n;
    }
    return 0;
}

static void pieces_come_as_soon_as_they_are_certain(void **state)
{
    (void)state;
    static const char json[] =
        "<tool_call>{\"name\": \"time\", \"arguments\": {\"x\": 12}}";
    static const char tags[] = "<tool_call><function=write>\n<parameter=text>\nabc def";
    static const char bare[] = "{\"name\": \"time\", \"parameters\": {\"x\": 12}}";
    size_t name = strcspn(json, "1") - strlen("{\"x\": ");
    assert_int_equal(bytes_until(hermes, json, "{"), name + 1);
    assert_int_equal(bytes_until(hermes, json, "{\"x\": 1"), name + 7);
    assert_int_equal(bytes_until(hermes, json, "{\"x\": 12}"), name + 9);
    assert_int_equal(bytes_until(coder, tags, ""),
                     strlen("<tool_call><function=write>"));
    assert_int_equal(bytes_until(coder, tags, "{\"text\":\"ab"),
                     strlen(tags) - strlen("c def"));
    assert_int_equal(bytes_until(llama, bare, "{\"x\": 1"), strcspn(bare, "1") + 1);
}

static void each_delta_goes_on_with_the_last_call(void **state)
{
    (void)state;
    result whole = read_sample(&samples[2], strlen(samples[2].said) + 1, 1);
    result bytes = read_sample(&samples[2], 1, 1);
    assert_int_equal(whole.deltas, 4); /* the name, and all of the arguments */
    assert_int_equal(bytes.deltas, 2 + strlen("{\"x\": [1, {\"}\": \"\\\"{\"}]}{}"));
    free(whole.text.data);
    free(whole.calls.data);
    free(bytes.text.data);
    free(bytes.calls.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_the_same_however_a_text_is_cut),
        cmocka_unit_test(pieces_come_as_soon_as_they_are_certain),
        cmocka_unit_test(each_delta_goes_on_with_the_last_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
