/* Requests to /v1/responses as chats. */
#include <stdio.h>
#include <string.h>

#include "serve/responses.h"

static bool no_memory(jt_problem *p)
{
    return jt_refuse(p, 500, NULL, NULL, "out of memory");
}

static const json_t *given(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static bool is(const json_t *item, const char *type)
{
    const char *own = json_string_value(json_object_get(item, "type"));
    return own && strcmp(own, type) == 0;
}

/* ---- messages ---- */

/* A call that the model has made, as a message or as one more of the last one. */
static bool add_call(json_t *messages, const json_t *item)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    json_t *calls = json_object_get(last, "tool_calls");
    json_t *call =
        json_pack("{sO? ss s{sO? sO?}}", "id", json_object_get(item, "call_id"), "type",
                  "function", "function", "name", json_object_get(item, "name"),
                  "arguments", json_object_get(item, "arguments"));
    if (calls)
        return json_array_append_new(calls, call) == 0;
    return json_array_append_new(messages,
                                 json_pack("{ss sn s[o]}", "role", "assistant",
                                           "content", "tool_calls", call)) == 0;
}

static bool add_item(json_t *messages, const json_t *item, jt_problem *p)
{
    const json_t *role = json_object_get(item, "role");
    const json_t *content = json_object_get(item, "content");
    json_t *message = NULL;
    if (is(item, "reasoning"))
        return true;
    if (is(item, "function_call"))
        return add_call(messages, item) || no_memory(p);
    if (is(item, "function_call_output"))
        message = json_pack("{ss sO? sO?}", "role", "tool", "tool_call_id",
                            json_object_get(item, "call_id"), "content",
                            json_object_get(item, "output"));
    else if (!json_is_string(role) || (given(item, "type") && !is(item, "message")))
        return jt_refuse(p, 400, "input", "invalid_value",
                         "an item of 'input' is no message, and no call of a function");
    else
        message = json_pack("{ss sO?}", "role",
                            strcmp(json_string_value(role), "developer") == 0
                                ? "system"
                                : json_string_value(role),
                            "content", content);
    return json_array_append_new(messages, message) == 0 || no_memory(p);
}

static bool make_messages(const json_t *root, json_t *messages, jt_problem *p)
{
    const json_t *input = given(root, "input");
    json_t *instructions = json_object_get(root, "instructions");
    if (json_is_string(instructions) &&
        json_array_append_new(
            messages, json_pack("{ss sO}", "role", "system", "content", instructions)))
        return no_memory(p);
    if (json_is_string(input))
        return json_array_append_new(messages, json_pack("{ss sO}", "role", "user",
                                                         "content", input)) == 0 ||
               no_memory(p);
    if (json_array_size(input) == 0)
        return jt_refuse(p, 400, "input", "invalid_type",
                         "'input' must be a text, or a list that is not empty");
    for (size_t i = 0; i < json_array_size(input); i++) {
        if (!add_item(messages, json_array_get(input, i), p))
            return false;
    }
    return true;
}

/* ---- the other fields ---- */

static bool make_tools(const json_t *root, json_t *out, jt_problem *p)
{
    const json_t *tools = given(root, "tools"), *choice = given(root, "tool_choice");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i);
        if (!is(tool, "function")) {
            json_decref(list);
            return jt_refuse(p, 400, "tools", "unsupported_parameter",
                             "the only tools are functions");
        }
        json_array_append_new(
            list, json_pack("{ss sO}", "type", "function", "function", tool));
    }
    int failed = json_object_set_new(out, "tools", list);
    if (json_is_object(choice))
        failed |=
            json_object_set_new(out, "tool_choice",
                                json_pack("{ss s{sO?}}", "type", "function", "function",
                                          "name", json_object_get(choice, "name")));
    return !failed || no_memory(p);
}

static bool make_format(const json_t *root, json_t *out, jt_problem *p)
{
    json_t *format = json_object_get(json_object_get(root, "text"), "format");
    if (!format || json_is_null(format))
        return true;
    json_t *same = json_pack("{sO? sO}", "type", json_object_get(format, "type"),
                             "json_schema", format);
    return json_object_set_new(out, "response_format", same) == 0 || no_memory(p);
}

/* Other things to include are of tools that there are not. */
static bool make_logprobs(const json_t *root, json_t *out, jt_problem *p)
{
    const json_t *include = given(root, "include"), *top = given(root, "top_logprobs");
    bool wanted = false;
    if (include && !json_is_array(include))
        return jt_refuse(p, 400, "include", "invalid_type", "'include' must be a list");
    for (size_t i = 0; i < json_array_size(include); i++) {
        const char *what = json_string_value(json_array_get(include, i));
        wanted |= what && strcmp(what, "message.output_text.logprobs") == 0;
    }
    if (!wanted && json_integer_value(top) > 0)
        return jt_refuse(
            p, 400, "top_logprobs", "invalid_value",
            "'top_logprobs' needs \"message.output_text.logprobs\" in 'include'");
    if (!wanted)
        json_object_del(out, "top_logprobs");
    return json_object_set_new(out, "logprobs", json_boolean(wanted)) == 0 ||
           no_memory(p);
}

static bool refuse_unknown_wishes(const json_t *root, jt_problem *p)
{
    static const char *const names[] = {"previous_response_id", "conversation",
                                        "prompt", "background", "n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = given(root, names[i]);
        if (value && !json_is_false(value))
            return jt_refuse(p, 400, names[i], "unsupported_parameter",
                             "'%s' is not supported: nothing is kept between requests",
                             names[i]);
    }
    return true;
}

/* Fields that mean something else in a chat, or nothing. */
static void drop_fields(json_t *out)
{
    static const char *const names[] = {"input",          "instructions",
                                        "text",           "max_output_tokens",
                                        "stream_options", "logprobs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        json_object_del(out, names[i]);
}

static bool make(const json_t *root, json_t *out, jt_problem *p)
{
    json_t *messages = json_array(), *most = json_object_get(root, "max_output_tokens");
    drop_fields(out);
    if (json_object_set_new(out, "messages", messages) ||
        (most && json_object_set(out, "max_tokens", most)))
        return no_memory(p);
    return refuse_unknown_wishes(root, p) && make_messages(root, messages, p) &&
           make_tools(root, out, p) && make_format(root, out, p) &&
           make_logprobs(root, out, p);
}

bool jt_response_ask(const json_t *root, json_t **out, jt_problem *p)
{
    *out = json_copy((json_t *)root);
    return *out ? make(root, *out, p) : no_memory(p);
}

void jt_response_blame(jt_problem *p)
{
    static const char *const names[][2] = {
        {"messages", "input"},
        {"max_tokens", "max_output_tokens"},
        {"response_format", "text.format"},
        {"response_format.type", "text.format.type"},
        {"response_format.json_schema", "text.format"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(p->param, names[i][0]) == 0) {
            snprintf(p->param, sizeof p->param, "%s", names[i][1]);
            return;
        }
    }
}
