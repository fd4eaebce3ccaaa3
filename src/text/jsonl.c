#include "text/jsonl.h"

#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "text/lines.h"

bool jt_is_jsonl(const char *path)
{
    static const char *const ends[] = {".jsonl", ".ndjson", ".json"};
    size_t len = strlen(path);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t n = strlen(ends[i]);
        if (len > n && strcasecmp(path + len - n, ends[i]) == 0)
            return true;
    }
    return false;
}

/* The string at `key` of an object; false when there is none. */
static bool get_str(const json_t *object, const char *key, jt_str *out)
{
    const json_t *value = json_object_get(object, key);
    *out = (jt_str){json_string_value(value), json_string_length(value)};
    return json_is_string(value);
}

/* ---- chats ---- */

size_t jt_record_messages(const jt_record *record)
{
    return json_array_size(record->messages);
}

/* A system message may only come first, and then user and assistant take turns: the
 * formats know no other chats. */
jt_status jt_record_message(const jt_record *record, size_t i, jt_message *message,
                            jt_err *err)
{
    static const char *const names[JT_ROLES] = {"system", "user", "assistant"};
    const json_t *item = json_array_get(record->messages, i);
    jt_role expected = i > 0 && message->role == JT_USER ? JT_ASSISTANT : JT_USER, role;
    jt_str name;
    if (!get_str(item, "role", &name) || !get_str(item, "content", &message->content))
        return jt_fail(err, JT_E_FORMAT,
                       "message %zu has no \"role\" and \"content\" that are strings",
                       i + 1);
    for (role = JT_SYSTEM; role < JT_ROLES; role++) {
        if (strcmp(name.data, names[role]) == 0)
            break;
    }
    message->role = role;
    if (role == expected || (i == 0 && role == JT_SYSTEM))
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "message %zu is of '%.40s', expected '%s'", i + 1,
                   name.data, names[expected]);
}

/* ---- records ---- */

static jt_status understand(const json_t *json, jt_record *out, jt_err *err)
{
    bool text = json_object_get(json, "text");
    bool completion = json_object_get(json, "completion");
    out->messages = json_object_get(json, "messages");
    if (text + completion + !!out->messages != 1)
        return jt_fail(err, JT_E_FORMAT,
                       "a record has \"text\", or \"prompt\" and \"completion\", or"
                       " \"messages\"");
    out->kind = text         ? JT_RECORD_TEXT
                : completion ? JT_RECORD_COMPLETION
                             : JT_RECORD_MESSAGES;
    if (text && !get_str(json, "text", &out->text))
        return jt_fail(err, JT_E_FORMAT, "\"text\" is not a string");
    if (completion && (!get_str(json, "prompt", &out->text) ||
                       !get_str(json, "completion", &out->completion)))
        return jt_fail(err, JT_E_FORMAT,
                       "\"prompt\" and \"completion\" must both be strings");
    if (out->messages && !json_is_array(out->messages))
        return jt_fail(err, JT_E_FORMAT, "\"messages\" is not a list");
    return JT_OK;
}

static jt_status read_line(jt_str line, size_t end, jt_record_fn *each, void *user,
                           jt_err *err)
{
    json_error_t why;
    json_t *json = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, &why);
    if (!json && json_error_code(&why) == json_error_out_of_memory)
        return jt_fail_memory(err, "parsing JSON");
    if (!json)
        return jt_fail(err, JT_E_FORMAT, "bad JSON: %s", why.text);
    jt_record record = {.end = end};
    jt_status status = understand(json, &record, err);
    if (status == JT_OK)
        status = each(user, &record, err);
    json_decref(json);
    return status;
}

jt_status jt_jsonl_read(jt_str input, jt_record_fn *each, void *user, jt_err *err)
{
    jt_str rest = jt_skip_mark(input);
    for (size_t number = 1; rest.len > 0; number++) {
        jt_str line = jt_take_line(&rest);
        if (jt_is_blank(line))
            continue;
        jt_status status = read_line(line, input.len - rest.len, each, user, err);
        if (status == JT_E_INTERRUPTED)
            return status;
        if (status != JT_OK)
            return jt_fail_within(err, status, "line %zu", number);
    }
    return JT_OK;
}
