#include "junto/chat.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/template.h"

struct jt_chat {
    jt_template *usual;
    jt_template *with_tools; /* NULL: the usual one */
    char *source;            /* of the usual one */
    size_t source_len;
    const jt_tokenizer *tok;
    const jt_thinking *thinking;
};

static jt_status read_templates(jt_chat *chat, const jt_gguf *file, jt_str given,
                                jt_err *err)
{
    jt_str source = given, tools;
    const char *plain = jt_chat_builtin("plain");
    bool own = !given.data && file &&
               jt_gguf_get_str(file, "tokenizer.chat_template", &source);
    if (!source.data)
        source = (jt_str){plain, strlen(plain)};
    chat->thinking = jt_thinking_find(source.data, source.len, chat->tok);
    chat->source = jt_strndup(source.data, source.len);
    chat->source_len = source.len;
    if (!chat->source)
        return jt_fail_memory(err, "reading a template");
    jt_status status = jt_template_new(&chat->usual, source.data, source.len, err);
    if (status == JT_OK && own &&
        jt_gguf_get_str(file, "tokenizer.chat_template.tool_use", &tools))
        status = jt_template_new(&chat->with_tools, tools.data, tools.len, err);
    return status == JT_OK || !own
               ? status
               : jt_fail_within(err, status, "the file's chat template");
}

jt_status jt_chat_new(jt_chat **out, const jt_gguf *file, const jt_tokenizer *tok,
                      const char *given, size_t len, jt_err *err)
{
    jt_chat *chat = jt_calloc(1, sizeof *chat);
    if (!chat)
        return jt_fail_memory(err, "starting a chat");
    chat->tok = tok;
    jt_status status = read_templates(chat, file, (jt_str){given, len}, err);
    if (status != JT_OK) {
        jt_chat_free(chat);
        return status;
    }
    *out = chat;
    return JT_OK;
}

void jt_chat_free(jt_chat *chat)
{
    if (!chat)
        return;
    jt_template_free(chat->usual);
    jt_template_free(chat->with_tools);
    free(chat->source);
    free(chat);
}

jt_str jt_chat_source(const jt_chat *chat)
{
    return (jt_str){chat->source, chat->source_len};
}

const jt_thinking *jt_chat_thinking(const jt_chat *chat)
{
    return chat->thinking;
}

/* ---- messages ---- */

/* Thoughts have had several names; templates read "reasoning_content", that of gpt-oss
 * "thinking". */
static int alias_thoughts(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *thoughts = NULL;
    for (int i = 0; i < 3 && !thoughts; i++) {
        thoughts = json_object_get(message, names[i]);
        if (json_is_null(thoughts))
            thoughts = NULL;
    }
    if (!thoughts)
        return 0;
    int failed = 0;
    json_incref(thoughts); /* setting a name may replace the one that holds it */
    if (!json_object_get(message, "thinking"))
        failed = json_object_set(message, "thinking", thoughts);
    failed |= json_object_set(message, "reasoning_content", thoughts);
    json_decref(thoughts);
    return failed;
}

static jt_status prepare(const char *messages, size_t len, char **prepared, jt_err *err)
{
    json_error_t where;
    json_t *list = json_loadb(messages, len, JSON_ALLOW_NUL, &where), *message;
    if (!json_is_array(list)) {
        json_decref(list);
        return jt_fail(err, JT_E_ARG, "messages: %s",
                       list ? "not a JSON list" : where.text);
    }
    int failed = 0;
    size_t i;
    json_array_foreach(list, i, message) failed |=
        json_is_object(message) && alias_thoughts(message);
    *prepared = failed ? NULL : json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return *prepared ? JT_OK : jt_fail_memory(err, "reading messages");
}

/* ---- rendering ---- */

enum { MAX_VALUES = 12 };

typedef struct variables {
    jt_template_value list[MAX_VALUES];
    size_t count;
} variables;

static void set(variables *v, const char *name, const char *data, size_t len,
                bool plain)
{
    v->list[v->count++] = (jt_template_value){name, data, len, plain};
}

static void set_json(variables *v, const char *name, const char *json)
{
    set(v, name, json, strlen(json), false);
}

/* The name of a special token; undefined where the vocabulary has none. */
static void set_token(variables *v, const char *name, const jt_tokenizer *tok,
                      int32_t id)
{
    jt_str piece = jt_token_piece(tok, id);
    if (id >= 0)
        set(v, name, piece.data, piece.len, true);
}

static void set_options(variables *v, const jt_chat *chat, const jt_chat_options *o)
{
    if (chat->tok) {
        set_token(v, "bos_token", chat->tok, jt_token_bos(chat->tok));
        set_token(v, "eos_token", chat->tok, jt_token_eos(chat->tok));
        set_token(v, "unk_token", chat->tok, jt_token_unknown(chat->tok));
    }
    set_json(v, "documents", "null");
    set(v, "tools", o->tools ? o->tools : "null", o->tools ? o->tools_len : 4, false);
    set_json(v, "add_generation_prompt", o->add_generation_prompt ? "true" : "false");
    if (o->think != JT_THINK_AUTO) {
        const char *on = o->think == JT_THINK_ON ? "true" : "false";
        set_json(v, "enable_thinking", on);
        set_json(v, "thinking", on);
    }
    if (o->variables)
        set(v, NULL, o->variables, o->variables_len, false);
}

jt_status jt_chat_render(const jt_chat *chat, const char *messages, size_t len,
                         const jt_chat_options *options, char **text, size_t *text_len,
                         jt_err *err)
{
    char *prepared;
    JT_TRY(prepare(messages, len, &prepared, err));
    variables v = {0};
    set_json(&v, "messages", prepared);
    set_options(&v, chat, options);
    bool tools = options->tools && chat->with_tools;
    jt_template_limits limits = {.now = options->now};
    jt_status status =
        jt_template_render(tools ? chat->with_tools : chat->usual, v.list, v.count,
                           &limits, text, text_len, err);
    free(prepared);
    return status;
}

/* ---- tokens ---- */

jt_status jt_chat_encode(const jt_chat *chat, const char *text, size_t len,
                         jt_tokens *tokens, jt_err *err)
{
    if (!chat->tok)
        return jt_fail(err, JT_E_ARG, "a chat without a vocabulary has no tokens");
    jt_tokens begin = {0};
    size_t before = tokens->count;
    int32_t bos = jt_token_bos(chat->tok);
    JT_TRY(jt_encode(chat->tok, "", 0, JT_ENCODE_ADD_SPECIAL, &begin, err));
    bool wants_bos = begin.count && bos >= 0 && begin.ids[0] == bos;
    free(begin.ids);
    JT_TRY(jt_encode(chat->tok, text, len, JT_ENCODE_PARSE_SPECIAL, tokens, err));
    if (!wants_bos || (tokens->count > before && tokens->ids[before] == bos))
        return JT_OK;
    if (!jt_grow((void **)&tokens->ids, &tokens->capacity, tokens->count + 1,
                 sizeof *tokens->ids)) {
        tokens->count = before;
        return jt_fail_memory(err, "encoding a chat");
    }
    int32_t *first = tokens->ids + before;
    memmove(first + 1, first, (tokens->count - before) * sizeof *first);
    *first = bos;
    tokens->count++;
    return JT_OK;
}
