/* TOML 1.0 for configurations, as a JSON tree.
 *
 * Tables are objects; the rest is what it is. Three things of the language have no use
 * in a configuration and are refused: dates and times, infinity and NaN, NUL. Any bytes
 * give a tree or an error that names the line; nesting is limited. */
#ifndef JT_TOML_H
#define JT_TOML_H

#include <jansson.h>
#include <stddef.h>

#include "junto/status.h"

typedef struct jt_toml {
    json_t *root;              /* an object */
    struct jt_toml_mark *mark; /* where each key stands */
    size_t n_marks, n_places;
} jt_toml;

/* JT_E_FORMAT ("line 3: ..."), JT_E_MEMORY. */
jt_status jt_toml_parse(jt_toml *out, const char *text, size_t len, jt_err *err);
void jt_toml_free(jt_toml *toml); /* {0} is fine */

/* The line of a key; `key` is the very string in the tree that iterating an object
 * gives. 0 for other strings. */
size_t jt_toml_line(const jt_toml *toml, const char *key);

/* One value and nothing else. The caller owns it. */
jt_status jt_toml_parse_value(json_t **out, const char *text, size_t len, jt_err *err);

#endif
