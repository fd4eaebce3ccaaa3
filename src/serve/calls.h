/* Calls of functions that a model writes into its text, in one of the published styles;
 * the chat template tells which.
 *
 *     hermes   <tool_call> {"name": .., "arguments": {..}} </tool_call>   (Qwen,
 * Hermes) coder    <tool_call> <function=NAME> <parameter=KEY> text </parameter> ..
 *              </function> </tool_call>                                    (Qwen3
 * Coder) mistral  [TOOL_CALLS][{"name": .., "arguments": {..}}, ..], or
 *              [TOOL_CALLS]NAME[ARGS]{..}
 *     llama    {"name": .., "parameters": {..}}, and nothing else          (Llama 3)
 */
#ifndef JT_CALLS_H
#define JT_CALLS_H

#include "junto/gguf.h"
#include "serve/buffer.h"
#include "serve/problem.h"

typedef struct jt_call_style jt_call_style;

/* The style of a chat template; NULL: none that is known. */
const jt_call_style *jt_call_style_find(jt_str source);

/* Special tokens that are part of the text of calls, up to NULL. */
const char *const *jt_call_style_shown(const jt_call_style *style);

/* The grammar of a text that is a call of one of `tools`, or of several with `many`, in
 * GBNF; the caller frees. */
bool jt_call_style_grammar(const jt_call_style *style, const json_t *tools, bool many,
                           char **out, jt_problem *problem);

/* A text on its way. All zero with `style` NULL: all is text. */
typedef struct jt_calls {
    const jt_call_style *style;
    const json_t *tools; /* borrowed */
    jt_buffer held;      /* what may be part of a call */
    bool forced;         /* the whole text is calls */
    bool plain;          /* the text is no call, for styles that are nothing else */
    size_t count;        /* calls so far */
} jt_calls;

/* The text goes on with *text, or is over. What is certain to be text stays in it;
 * calls that are complete are appended to *calls, made when it is NULL, as OpenAI's
 * clients expect them: {"index", "id", "type", "function": {"name", "arguments"}}.
 * False: no memory. */
bool jt_calls_read(jt_calls *c, jt_buffer *text, bool over, json_t **calls);
void jt_calls_free(jt_calls *c);

#endif
