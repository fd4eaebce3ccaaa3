#include "serve/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/buffer.h"

static bool no_memory(jt_problem *p)
{
    return jt_refuse(p, 500, NULL, NULL, "out of memory");
}

bool jt_prompt_tokens(const json_t *list, const char *param, const jt_tokenizer *tok,
                      jt_tokens *out, jt_problem *p)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list))
        return jt_refuse(p, 400, param, "invalid_type", "'%s' must be a list of tokens",
                         param);
    if (!jt_grow((void **)&out->ids, &out->capacity, count, sizeof *out->ids))
        return no_memory(p);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || (size_t)id >= jt_vocab_size(tok))
            return jt_refuse(p, 400, param, "invalid_value",
                             "entry %zu of '%s' is no token (0 to %zu)", i, param,
                             jt_vocab_size(tok) - 1);
        out->ids[out->count++] = (int32_t)id;
    }
    return true;
}

/* ---- messages ---- */

/* The parts of a content that is a list, as one text: all templates know texts. */
static bool join_parts(json_t *message, const json_t *parts, jt_problem *p)
{
    jt_buffer text = {0};
    bool fits = true;
    for (size_t i = 0; i < json_array_size(parts) && fits; i++) {
        const json_t *part = json_array_get(parts, i);
        const json_t *words = json_object_get(part, "text");
        if (!json_is_string(words)) {
            free(text.data);
            return jt_refuse(p, 400, "messages", "invalid_value",
                             "a message has a content that is no text");
        }
        fits =
            jt_buffer_add(&text, json_string_value(words), json_string_length(words));
    }
    json_t *joined = fits ? json_stringn(text.data ? text.data : "", text.len) : NULL;
    free(text.data);
    return (joined && json_object_set_new(message, "content", joined) == 0) ||
           no_memory(p);
}

/* Templates see what a function was called with as an object; clients send its text. */
static bool open_arguments(json_t *message, jt_problem *p)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        const json_t *text = json_object_get(function, "arguments");
        if (!json_is_string(text))
            continue;
        json_t *object =
            json_loadb(json_string_value(text), json_string_length(text), 0, NULL);
        if (!object)
            return jt_refuse(p, 400, "messages", "invalid_value",
                             "the arguments of a tool call are not JSON");
        if (json_object_set_new(function, "arguments", object))
            return no_memory(p);
    }
    return true;
}

static bool prepare(const json_t *messages, char **out, jt_problem *p)
{
    json_t *copy = json_deep_copy(messages);
    bool fine = copy || no_memory(p);
    for (size_t i = 0; i < json_array_size(copy) && fine; i++) {
        json_t *message = json_array_get(copy, i);
        const json_t *content = json_object_get(message, "content");
        fine = (!json_is_array(content) || join_parts(message, content, p)) &&
               open_arguments(message, p);
    }
    if (fine) {
        *out = json_dumps(copy, JSON_COMPACT);
        fine = *out || no_memory(p);
    }
    json_decref(copy);
    return fine;
}

/* ---- chats ---- */

static bool render(const jt_ask *ask, const jt_chat *chat, const char *messages,
                   char **text, size_t *len, jt_problem *p)
{
    jt_err err = {0};
    char *tools = ask->tools ? json_dumps(ask->tools, JSON_COMPACT) : NULL;
    char *variables = ask->variables ? json_dumps(ask->variables, JSON_COMPACT) : NULL;
    jt_chat_options options = {
        .tools = tools,
        .tools_len = tools ? strlen(tools) : 0,
        .add_generation_prompt = true,
        /* A budget of nothing is the same wish as no thinking. */
        .think = ask->thinking_budget == 0 ? JT_THINK_OFF : JT_THINK_AUTO,
        .variables = variables,
        .variables_len = variables ? strlen(variables) : 0};
    bool fine =
        ((!ask->tools || tools) && (!ask->variables || variables)) || no_memory(p);
    if (fine && jt_chat_render(chat, messages, strlen(messages), &options, text, len,
                               &err) != JT_OK)
        fine = jt_refuse_err(p, "messages", &err);
    free(tools);
    free(variables);
    return fine;
}

bool jt_prompt_chat(const jt_ask *ask, const jt_chat *chat, jt_tokens *out,
                    bool *in_thought, jt_problem *p)
{
    char *messages = NULL, *text = NULL;
    size_t len;
    jt_err err = {0};
    bool fine = prepare(ask->messages, &messages, p) &&
                render(ask, chat, messages, &text, &len, p);
    if (fine) {
        *in_thought = jt_thinking_opened(jt_chat_thinking(chat), text, len);
        if (jt_chat_encode(chat, text, len, out, &err) != JT_OK)
            fine = jt_refuse_err(p, "messages", &err);
    }
    free(messages);
    free(text);
    return fine;
}

bool jt_prompt_text(const json_t *prompt, const jt_tokenizer *tok, jt_tokens *out,
                    jt_problem *p)
{
    jt_err err = {0};
    if (json_is_array(prompt))
        return jt_prompt_tokens(prompt, "prompt", tok, out, p);
    return jt_encode(tok, json_string_value(prompt), json_string_length(prompt),
                     JT_ENCODE_ADD_SPECIAL | JT_ENCODE_PARSE_SPECIAL, out,
                     &err) == JT_OK ||
           jt_refuse_err(p, "prompt", &err);
}
