/* JSONL files: a record a line. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/data_impl.h"

/* The string at `key` of a record; false when there is none. */
static bool get_str(const json_t *record, const char *key, jt_str *out)
{
    const json_t *value = json_object_get(record, key);
    *out = (jt_str){json_string_value(value), json_string_length(value)};
    return json_is_string(value);
}

/* Text that is put together; starts as {0}. */
typedef struct buffer {
    char *data;
    size_t len, capacity;
} buffer;

static jt_status append(buffer *b, jt_str text, jt_err *err)
{
    if (!jt_grow((void **)&b->data, &b->capacity, b->len + text.len, 1))
        return jt_fail_memory(err, "reading a record");
    if (text.len)
        memcpy(b->data + b->len, text.data, text.len);
    b->len += text.len;
    return JT_OK;
}

static jt_status append_around(buffer *b, const char *prefix, jt_str text,
                               const char *suffix, jt_err *err)
{
    JT_TRY(append(b, (jt_str){prefix, strlen(prefix)}, err));
    JT_TRY(append(b, text, err));
    return append(b, (jt_str){suffix, strlen(suffix)}, err);
}

static jt_status read_plain(jt_reader *r, const json_t *record, jt_err *err)
{
    jt_str text;
    if (!get_str(record, "text", &text))
        return jt_fail(err, JT_E_FORMAT, "\"text\" is not a string");
    JT_TRY(jt_reader_begin(r, err));
    JT_TRY(jt_reader_text(r, text, 0, err));
    return jt_reader_end(r, true, err);
}

static jt_status read_completion(jt_reader *r, const json_t *record, buffer *joined,
                                 jt_err *err)
{
    jt_str prompt, completion;
    if (!get_str(record, "prompt", &prompt) ||
        !get_str(record, "completion", &completion))
        return jt_fail(err, JT_E_FORMAT,
                       "\"prompt\" and \"completion\" must both be strings");
    JT_TRY(append(joined, prompt, err));
    JT_TRY(append(joined, completion, err));
    JT_TRY(jt_reader_begin(r, err));
    JT_TRY(jt_reader_reply(r, (jt_str){joined->data, joined->len}, prompt.len, 0, err));
    return jt_reader_end(r, true, err);
}

typedef enum chat_role { SYSTEM, USER, ASSISTANT, ROLES } chat_role;

static const char *const role_names[ROLES] = {"system", "user", "assistant"};

/* Role and content of message `i`. A system message may only come first, and then user
 * and assistant take turns: the formats know no other chats. */
static jt_status get_message(const json_t *messages, size_t i, chat_role before,
                             chat_role *role, jt_str *content, jt_err *err)
{
    const json_t *message = json_array_get(messages, i);
    jt_str name;
    if (!get_str(message, "role", &name) || !get_str(message, "content", content))
        return jt_fail(err, JT_E_FORMAT,
                       "message %zu has no \"role\" and \"content\" that are strings",
                       i + 1);
    for (*role = SYSTEM; *role < ROLES; ++*role) {
        if (strcmp(name.data, role_names[*role]) == 0)
            break;
    }
    chat_role expected = before == USER ? ASSISTANT : USER;
    if (*role == expected || (i == 0 && *role == SYSTEM))
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "message %zu is of '%.40s', expected '%s'", i + 1,
                   name.data, role_names[expected]);
}

static jt_status read_messages(jt_reader *r, const json_t *messages, buffer *turn,
                               jt_err *err)
{
    const jt_chat_format *format = r->chat;
    chat_role role = SYSTEM;
    jt_str content = {NULL, 0};
    JT_TRY(jt_reader_begin(r, err));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        JT_TRY(get_message(messages, i, role, &role, &content, err));
        if (role == SYSTEM) {
            JT_TRY(append_around(turn, format->system_prefix, content,
                                 format->system_suffix, err));
        } else if (role == USER) {
            JT_TRY(append_around(turn, format->user_prefix, content,
                                 format->user_suffix, err));
        } else {
            size_t prompt = turn->len;
            JT_TRY(append(turn, content, err));
            JT_TRY(jt_reader_reply(r, (jt_str){turn->data, turn->len}, prompt,
                                   JT_ENCODE_PARSE_SPECIAL, err));
            JT_TRY(jt_reader_close_reply(r, err));
            turn->len = 0;
        }
    }
    return jt_reader_end(r, false, err); /* a question without a reply is left out */
}

static jt_status read_record(jt_reader *r, const json_t *record, jt_err *err)
{
    const json_t *messages = json_object_get(record, "messages");
    bool plain = json_object_get(record, "text");
    bool completion = json_object_get(record, "completion");
    if (plain + completion + !!messages != 1)
        return jt_fail(err, JT_E_FORMAT,
                       "a record has \"text\", or \"prompt\" and \"completion\", or"
                       " \"messages\"");
    if (plain)
        return read_plain(r, record, err);
    buffer joined = {0};
    jt_status status;
    if (completion)
        status = read_completion(r, record, &joined, err);
    else if (json_is_array(messages))
        status = read_messages(r, messages, &joined, err);
    else
        status = jt_fail(err, JT_E_FORMAT, "\"messages\" is not a list");
    free(joined.data);
    return status;
}

static jt_status read_line(jt_reader *r, jt_str line, jt_err *err)
{
    json_error_t why;
    json_t *record = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, &why);
    if (!record && json_error_code(&why) == json_error_out_of_memory)
        return jt_fail_memory(err, "parsing JSON");
    if (!record)
        return jt_fail(err, JT_E_FORMAT, "bad JSON: %s", why.text);
    jt_status status = read_record(r, record, err);
    json_decref(record);
    return status;
}

jt_status jt_data_read_jsonl(jt_reader *r, jt_err *err)
{
    jt_str text = jt_reader_input(r);
    for (size_t number = 1; text.len > 0; number++) {
        jt_str line = jt_take_line(&text);
        if (jt_is_blank(line))
            continue;
        jt_status status = read_line(r, line, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "line %zu", number);
        JT_TRY(jt_reader_report(r, r->docs->map.bytes - text.len, err));
    }
    return JT_OK;
}
