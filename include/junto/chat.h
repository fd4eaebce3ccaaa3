/* Chats: a list of messages becomes the text that a model was trained to go on from.
 *
 * The model's own template does it (tokenizer.chat_template of its file), or another
 * one; models without a template get a built-in one, which is a template as well.
 *
 *     jt_chat *chat;
 *     jt_chat_new(&chat, jt_model_file(model), jt_model_tokenizer(model), NULL, 0,
 * &err); jt_chat_options options = {.add_generation_prompt = true};
 *     jt_chat_render(chat, messages, strlen(messages), &options, &text, &len, &err);
 *     jt_chat_encode(chat, text, len, &tokens, &err);
 *     jt_generate(session, sampler, tokens.ids, tokens.count,
 *                 &(jt_generate_options){.whole = true,
 *                                        .thinking = jt_chat_thinking(chat), ...},
 * ...);
 *
 * On each turn the whole chat is rendered anew; with `whole`, generation evaluates only
 * what differs from the session.
 */
#ifndef JUNTO_CHAT_H
#define JUNTO_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/generate.h"
#include "junto/gguf.h"
#include "junto/status.h"
#include "junto/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_chat jt_chat;

/* The source of a built-in template: "chatml", "llama3", "zephyr", "plain" (the turns
 * as they are, for models that know no chat); NULL for another name. */
JT_API const char *jt_chat_builtin(const char *name);

/* With `given` NULL the template of `file`, or "plain" where there is none; otherwise
 * the `len` bytes of Jinja at `given`. `file` may be NULL with a given template; `tok`
 * may be NULL (no bos_token and eos_token, no jt_chat_encode) and must outlive the
 * chat. The file may be closed. Errors: those of jt_template_new. */
JT_API jt_status jt_chat_new(jt_chat **out, const jt_gguf *file,
                             const jt_tokenizer *tok, const char *given, size_t len,
                             jt_err *err);
JT_API void jt_chat_free(jt_chat *chat); /* NULL is fine */

/* The template's text, borrowed. */
JT_API jt_str jt_chat_source(const jt_chat *chat);

typedef enum jt_think {
    JT_THINK_AUTO, /* as the template does it by itself */
    JT_THINK_ON,
    JT_THINK_OFF
} jt_think;

/* All zero: no tools, nothing that asks for a reply. */
typedef struct jt_chat_options {
    const char *tools; /* JSON list of functions that the model may call, or NULL */
    size_t tools_len;
    bool add_generation_prompt; /* end where the assistant's reply begins */
    jt_think think;             /* sets `enable_thinking` and `thinking` */
    const char *variables;      /* JSON object: more variables, or NULL */
    size_t variables_len;
    long long now; /* seconds since 1970, for templates that tell the date; 0: now */
} jt_chat_options;

/* Render the JSON list `messages` ([{"role": "user", "content": ".."}, ..]). As in
 * transformers, the thoughts of a message may be called reasoning_content, thinking or
 * reasoning, and tools come from the template "tool_use" where the file has one. *text
 * is NUL-terminated; the caller frees it. Errors: JT_E_ARG (what is no JSON), those of
 * jt_template_render. */
JT_API jt_status jt_chat_render(const jt_chat *chat, const char *messages, size_t len,
                                const jt_chat_options *options, char **text,
                                size_t *text_len, jt_err *err);

/* Append the tokens of a rendered text. Names of special tokens become those tokens; a
 * begin token that the vocabulary asks for is put before a text that has none. */
JT_API jt_status jt_chat_encode(const jt_chat *chat, const char *text, size_t len,
                                jt_tokens *tokens, jt_err *err);

/* The marks of the model's thoughts; NULL where it has none. Lives as long as the
 * program. */
JT_API const jt_thinking *jt_chat_thinking(const jt_chat *chat);
/* The same from the source of a template and a vocabulary (may be NULL). */
JT_API const jt_thinking *jt_thinking_find(const char *source, size_t len,
                                           const jt_tokenizer *tok);
/* A rendered text ends inside a thought. */
JT_API bool jt_thinking_opened(const jt_thinking *thinking, const char *text,
                               size_t len);

#ifdef __cplusplus
}
#endif
#endif
