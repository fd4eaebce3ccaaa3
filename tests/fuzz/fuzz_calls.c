/* Any text of a model, in pieces, in every style of calls: what is no call comes out
 * again, and calls have names. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/calls.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_calls(const json_t *calls)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        WALK_CHECK(json_is_string(json_object_get(function, "name")));
        WALK_CHECK(json_is_string(json_object_get(function, "arguments")));
    }
}

static void read_as(const char *source, const uint8_t *data, size_t size, bool forced)
{
    json_t *tools = json_pack("[{s{ss}}]", "function", "name", "f"), *calls = NULL;
    jt_calls reader = {.style = jt_call_style_find((jt_str){source, strlen(source)}),
                       .tools = tools,
                       .forced = forced};
    size_t out = 0, step = size ? 1 + data[0] % 16 : 1;
    WALK_CHECK(reader.style);
    for (size_t at = 0; at <= size; at += step) {
        jt_buffer text = {0};
        size_t n = size - at < step ? size - at : step;
        WALK_CHECK(jt_buffer_add(&text, (const char *)data + at, n));
        WALK_CHECK(jt_calls_read(&reader, &text, at + step > size, &calls));
        out += text.len;
        free(text.data);
    }
    WALK_CHECK(out <= size && (calls || out == size));
    check_calls(calls);
    jt_calls_free(&reader);
    json_decref(calls);
    json_decref(tools);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const sources[] = {"<tool_call> name",
                                          "<tool_call> <function=", "[TOOL_CALLS]",
                                          "parameters ipython"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        read_as(sources[i], data, size, false);
        read_as(sources[i], data, size, true);
    }
    return 0;
}
