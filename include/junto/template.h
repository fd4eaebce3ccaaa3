/* Chat templates: the Jinja that published models carry, as Hugging Face renders it
 * (blocks trimmed and stripped, loop controls, `tojson` that does not escape, the
 * functions raise_exception and strftime_now, nothing that changes its arguments).
 *
 * A template is a stranger's program. It can do nothing but turn the given values into
 * text, and its steps, memory and depth are bounded. What it uses and Junto does not
 * know is an error that names the line.
 *
 *     jt_template_new(&t, source, strlen(source), &err);
 *     jt_template_value values[] = {{"messages", json, json_len, false},
 *                                   {"bos_token", "<s>", 3, true}};
 *     jt_template_render(t, values, 2, NULL, &text, &n, &err);
 */
#ifndef JUNTO_TEMPLATE_H
#define JUNTO_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_template jt_template;

/* Parse a template; the text is copied. Errors: JT_E_FORMAT (line and what is wrong),
 * JT_E_LIMIT (larger than 4 MiB, or nested too deeply), JT_E_MEMORY. */
JT_API jt_status jt_template_new(jt_template **out, const char *source, size_t len,
                                 jt_err *err);
JT_API void jt_template_free(jt_template *t); /* NULL is fine */

/* Bounds of one rendering; zeros have the usual meaning that is noted. */
typedef struct jt_template_limits {
    uint64_t steps; /* evaluated expressions and the like; 10 million */
    size_t bytes;   /* of memory, the output included; 256 MiB */
    int64_t now;    /* seconds since 1970 for strftime_now; the clock */
} jt_template_limits;

/* A variable. A later one with the same name hides an earlier one. */
typedef struct jt_template_value {
    const char *name; /* NULL: all members of the JSON object `data` */
    const char *data;
    size_t len;
    bool plain; /* `data` is the text itself, not JSON */
} jt_template_value;

/* Render. *text is NUL-terminated (*len bytes before it), the caller frees it.
 * Thread-safe on one template. Errors: JT_E_ARG (a value that is no JSON; the name is
 * told), JT_E_FORMAT (an operation failed, with its line; what raise_exception said),
 * JT_E_LIMIT, JT_E_MEMORY. */
JT_API jt_status jt_template_render(const jt_template *t,
                                    const jt_template_value *values, size_t count,
                                    const jt_template_limits *limits, char **text,
                                    size_t *len, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
