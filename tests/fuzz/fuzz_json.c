/* Any bytes as JSON: refused with a message, or read. Reading every value and skipping
 * the whole agree, and both agree with jansson, but for what one of them alone limits.
 */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "format/json.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned take(jt_json *j)
{
    jt_str text;
    switch (jt_json_peek(j)) {
    case JT_JSON_BOOL:
        return jt_json_bool(j);
    case JT_JSON_NUMBER:
        text = jt_json_number(j);
        return walk_bytes(text.data, text.len);
    case JT_JSON_STRING:
        text = jt_json_str(j);
        return walk_bytes(text.data, text.len);
    default:
        jt_json_skip(j);
        return 0;
    }
}

/* Every value of the document, without recursion. */
static unsigned walk_json(jt_json *j)
{
    unsigned sum = 0, depth = 0;
    do {
        jt_json_type type = jt_json_peek(j);
        if (type == JT_JSON_OBJECT || type == JT_JSON_ARRAY) {
            jt_json_enter(j, type);
            depth++;
        } else {
            sum += take(j);
        }
        while (depth > 0 && !jt_json_next(j))
            depth--;
        sum += walk_bytes(j->key.data, j->key.len);
    } while (depth > 0);
    return sum;
}

/* With jansson, which takes a NUL after the document for its end, and has other limits
 * of numbers and of nesting. */
static void compare(const char *text, size_t size, jt_status status)
{
    if (size > 0 && memchr(text, 0, size))
        return;
    json_error_t reason;
    json_t *tree = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &reason);
    if (tree)
        WALK_CHECK(status == JT_OK || status == JT_E_LIMIT);
    else if (status == JT_OK)
        WALK_CHECK(json_error_code(&reason) == json_error_numeric_overflow ||
                   json_error_code(&reason) == json_error_stack_overflow);
    json_decref(tree);
}

static void check_numbers(const char *text, size_t size)
{
    jt_arena arena = {0};
    jt_json j;
    jt_json_open(&j, text, size, &arena, NULL);
    WALK_CHECK(jt_json_int(&j) == 0 || j.status == JT_OK);
    jt_json_open(&j, text, size, &arena, NULL);
    WALK_CHECK(jt_json_double(&j) == 0 || j.status == JT_OK);
    jt_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    jt_arena arena = {0};
    jt_err err = {0};
    jt_json j;
    jt_json_open(&j, text, size, &arena, &err);
    (void)walk_json(&j);
    jt_status status = jt_json_finish(&j);
    WALK_CHECK((status == JT_OK) == (err.msg[0] == '\0'));
    jt_json_open(&j, text, size, &arena, NULL);
    WALK_CHECK(jt_json_finish(&j) == status);
    jt_arena_free(&arena);

    compare(text, size, status);
    check_numbers(text, size);
    return 0;
}
