/* Inside the TOML reader: the text at hand, and what stands alone in it. */
#ifndef JT_TOML_SCAN_H
#define JT_TOML_SCAN_H

#include <stdbool.h>

#include "learn/toml.h"

typedef struct jt_toml_scan {
    const char *at, *end;
    size_t line;
    char *text; /* the last string or key */
    size_t len, capacity;
    jt_err *err;
} jt_toml_scan;

/* The next byte; -1 at the end. */
static inline int jt_toml_peek(const jt_toml_scan *s)
{
    return s->at < s->end ? (unsigned char)*s->at : -1;
}

/* Go over `c` if it is next. */
static inline bool jt_toml_take(jt_toml_scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

void jt_toml_skip_space(jt_toml_scan *s);
bool jt_toml_take_newline(jt_toml_scan *s);
/* A comment, if one begins here. */
jt_status jt_toml_skip_comment(jt_toml_scan *s);
/* Space, comments and line ends. */
jt_status jt_toml_skip_gap(jt_toml_scan *s);
/* What must follow a header or a pair: the end of the line. */
jt_status jt_toml_end_line(jt_toml_scan *s);

/* The string that begins at a quote, into s->text; with `multi`, """ and ''' begin
 * strings of several lines. */
jt_status jt_toml_scan_string(jt_toml_scan *s, bool multi);
/* A key without quotes, into s->text. */
jt_status jt_toml_scan_bare(jt_toml_scan *s);
/* A number or boolean. */
jt_status jt_toml_scan_plain(jt_toml_scan *s, json_t **out);

/* "expected WHAT, found 'x'" */
jt_status jt_toml_expected(jt_toml_scan *s, const char *what);

#endif
