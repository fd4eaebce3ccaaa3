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
#ifndef JT_CALL_STYLES_H
#define JT_CALL_STYLES_H

#include "junto/gguf.h"
#include "serve/buffer.h"
#include "serve/problem.h"

/* What a text says of a call whose arguments are still to come. */
typedef struct jt_call_head {
    jt_str name;
    size_t length; /* bytes up to the arguments */
    int depth;     /* brackets around these */
} jt_call_head;

typedef enum jt_call_start {
    JT_CALL_UNSURE, /* more text will tell */
    JT_CALL_BEGUN,
    JT_CALL_OTHER, /* if it is a call, then one that is read as a whole */
} jt_call_start;

typedef struct jt_call_style jt_call_style;
struct jt_call_style {
    const char *signs[2];     /* a template of this style has them */
    const char *open, *close; /* NULL: the whole text is a call; to its end */
    const char *arguments;    /* what they are called in JSON */
    bool tags;                /* they are no JSON; `read` is NULL */
    const char *shown[3];     /* special tokens that are part of its text, up to NULL */
    /* A grammar's root, around `call`; one and many. */
    const char *one, *many;
    /* How the text behind `open` begins. */
    jt_call_start (*begin)(const jt_call_style *style, const char *text, size_t len,
                           jt_call_head *head);
    /* Calls in the text between `open` and `close`, which ends with a NUL, as [{"name",
     * "arguments"}]. NULL: there are none. */
    json_t *(*read)(const jt_call_style *style, const char *text, size_t len);
};

/* The style of a chat template; NULL: none that is known. */
const jt_call_style *jt_call_style_find(jt_str source);

/* The grammar of a text that is a call of one of `tools`, or of several with `many`, in
 * GBNF; the caller frees. */
bool jt_call_style_grammar(const jt_call_style *style, const json_t *tools, bool many,
                           char **out, jt_problem *problem);

#endif
