/* Any text of a model in every style of calls: what is no call comes out again, calls
 * have names, each delta goes on with the last call, and all is the same however the
 * text is cut. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/calls.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What became of a text. */
typedef struct result {
    jt_buffer text;
    json_t *deltas;
} result;

static void check_deltas(const json_t *deltas)
{
    json_int_t calls = 0;
    for (size_t i = 0; i < json_array_size(deltas); i++) {
        const json_t *delta = json_array_get(deltas, i);
        const json_t *function = json_object_get(delta, "function");
        bool first = json_object_get(delta, "id") != NULL;
        calls += first;
        WALK_CHECK(json_integer_value(json_object_get(delta, "index")) == calls - 1);
        WALK_CHECK(first == json_is_string(json_object_get(function, "name")));
        WALK_CHECK(json_is_string(json_object_get(function, "arguments")));
    }
}

static result read_as(const char *source, const uint8_t *data, size_t size, bool forced,
                      size_t step)
{
    json_t *tools = json_pack("[{s{ss s{s{s{ss}}}}}]", "function", "name", "f",
                              "parameters", "properties", "s", "type", "string");
    jt_calls reader = {.style = jt_call_style_find((jt_str){source, strlen(source)}),
                       .tools = tools,
                       .forced = forced};
    result r = {0};
    WALK_CHECK(reader.style && tools);
    for (size_t at = 0; at <= size; at += step) {
        jt_buffer text = {0};
        size_t n = size - at < step ? size - at : step;
        WALK_CHECK(jt_buffer_add(&text, (const char *)data + at, n));
        WALK_CHECK(jt_calls_read(&reader, &text, at + step > size, &r.deltas));
        WALK_CHECK(jt_buffer_add(&r.text, text.data, text.len));
        free(text.data);
    }
    WALK_CHECK(r.text.len <= size && (r.deltas || r.text.len == size));
    check_deltas(r.deltas);
    jt_calls_free(&reader);
    json_decref(tools);
    return r;
}

static void check_alike(const result *a, const result *b)
{
    json_t *of_a = jt_calls_join(a->deltas), *of_b = jt_calls_join(b->deltas);
    WALK_CHECK(of_a && of_b && json_array_size(of_a) == json_array_size(of_b));
    for (size_t i = 0; i < json_array_size(of_a); i++)
        WALK_CHECK(json_equal(json_object_get(json_array_get(of_a, i), "function"),
                              json_object_get(json_array_get(of_b, i), "function")));
    WALK_CHECK(a->text.len == b->text.len);
    WALK_CHECK(!a->text.len || memcmp(a->text.data, b->text.data, a->text.len) == 0);
    json_decref(of_a);
    json_decref(of_b);
}

static void free_result(result *r)
{
    free(r->text.data);
    json_decref(r->deltas);
}

/* Pieces are whole characters where texts come from, so only ASCII is compared. */
static void check_style(const char *source, const uint8_t *data, size_t size,
                        bool forced)
{
    bool ascii = true;
    for (size_t i = 0; i < size; i++)
        ascii &= data[i] < 0x80 && data[i];
    result whole = read_as(source, data, size, forced, size + 1);
    result parts = read_as(source, data, size, forced, size ? 1 + data[0] % 16 : 1);
    result bytes = read_as(source, data, size, forced, 1);
    if (ascii) {
        check_alike(&whole, &parts);
        check_alike(&whole, &bytes);
    }
    free_result(&whole);
    free_result(&parts);
    free_result(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const sources[] = {"<tool_call> name",
                                          "<tool_call> <function=", "[TOOL_CALLS]",
                                          "parameters ipython"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        check_style(sources[i], data, size, false);
        check_style(sources[i], data, size, true);
    }
    return 0;
}
