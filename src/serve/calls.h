/* Calls of functions in a text that a model is writing, and their arguments as they
 * come. */
#ifndef JT_CALLS_H
#define JT_CALLS_H

#include "serve/call_styles.h"

/* What the text that is held begins with. */
typedef enum jt_calls_at {
    JT_CALLS_TEXT,
    JT_CALLS_HEAD,      /* a mark, and what may be a call */
    JT_CALLS_ARGUMENTS, /* of a call that has been told */
    JT_CALLS_AFTER,     /* what its object has behind them */
    JT_CALLS_NEXT,      /* a comma, or not */
    JT_CALLS_REST,      /* nothing of interest, up to a mark */
    JT_CALLS_STATES
} jt_calls_at;

/* A text on its way. All zero with `style` NULL: all is text. */
typedef struct jt_calls {
    const jt_call_style *style;
    const json_t *tools; /* borrowed */
    bool forced;         /* the whole text is calls */

    jt_calls_at at;
    jt_buffer held; /* what is not certain yet */
    size_t mark;    /* bytes of it before what may be a call */
    size_t count;   /* calls so far */
    size_t before;  /* those of them that came before any text */
    bool spoken;    /* there was text */

    /* Of the call that is under way. */
    const json_t *properties; /* that its function has; borrowed, or NULL */
    jt_buffer piece;          /* arguments that have not been told */
    int depth, base;          /* brackets, now and around the arguments */
    bool quoted, escaped;     /* within a string; behind a backslash */
    bool fresh;               /* the value of a parameter is about to begin */
    size_t parameters;        /* so far */
} jt_calls;

/* The text goes on with *text, or is over. What is certain to be text stays in it; what
 * is certain of calls is appended to *deltas, made when it is NULL, as OpenAI's clients
 * expect it of a stream: for each call first {"index", "id", "type", "function":
 * {"name", "arguments": ""}}, then {"index", "function": {"arguments"}} with what
 * follows. Arguments are as the model writes them. False: no memory. */
bool jt_calls_read(jt_calls *c, jt_buffer *text, bool over, json_t **deltas);

/* Calls of which this is all there is: {"id", "type", "function"}. NULL: no memory. */
json_t *jt_calls_join(const json_t *deltas);

void jt_calls_free(jt_calls *c);

/* Of calls with tags: go on with the arguments in what is held, up to `limit`; `last`:
 * no more of them come. They become JSON: strings where the function says so, or where
 * they are no JSON. True: look again. */
bool jt_calls_parameters(jt_calls *c, size_t limit, bool last, bool *fits);

#endif
