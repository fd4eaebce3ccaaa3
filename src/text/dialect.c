#include "text/dialect.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define WORD_CHARS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

typedef struct translation {
    const char *at, *end;
    char *out;
    size_t len, capacity;
    int depth; /* of classes in each other */
    jt_err *err;
} translation;

enum { DEPTH_MOST = 8 };

static jt_status put(translation *t, const char *text, size_t len)
{
    if (!jt_grow((void **)&t->out, &t->capacity, t->len + len + 1, 1))
        return jt_fail_memory(t->err, "reading an expression");
    memcpy(t->out + t->len, text, len);
    t->len += len;
    return JT_OK;
}

static jt_status put_text(translation *t, const char *text)
{
    return put(t, text, strlen(text));
}

static jt_status unsupported(const translation *t, const char *what)
{
    size_t left = (size_t)(t->end - t->at);
    return jt_fail(t->err, JT_E_UNSUPPORTED, "expression with %s at '%.*s'", what,
                   (int)(left < 40 ? left : 40), t->at);
}

/* The character at hand as it is; what is no printable ASCII as an escape. */
static jt_status put_char(translation *t)
{
    static const char names[] = "\t\n\r", letters[] = "tnr";
    char text[16];
    size_t len = jt_utf8_char(t->at, (size_t)(t->end - t->at));
    const unsigned char *p = (const unsigned char *)t->at;
    if (len == 0)
        return unsupported(t, "bytes that are not UTF-8");
    uint32_t code = *p;
    if (len > 1) {
        code = *p & (0x7fu >> len);
        for (size_t i = 1; i < len; i++)
            code = code << 6 | (p[i] & 0x3f);
    }
    const char *name = *p ? strchr(names, *p) : NULL;
    t->at += len;
    if (code >= ' ' && code < 0x7f)
        return put(t, t->at - 1, 1);
    if (name)
        snprintf(text, sizeof text, "\\%c", letters[name - names]);
    else
        snprintf(text, sizeof text, "\\x{%x}", (unsigned)code);
    return put_text(t, text);
}

/* \uXXXX */
static jt_status put_unit(translation *t)
{
    char text[16] = "\\x{";
    t->at += 2;
    for (int i = 0; i < 4; i++, t->at++) {
        if (t->at == t->end || !isxdigit((unsigned char)*t->at))
            return unsupported(t, "\\u without four digits");
        text[3 + i] = *t->at;
    }
    text[7] = '}';
    return put_text(t, text);
}

/* Whether PCRE2 knows a script of this name. */
static bool is_script(const char *name, int len)
{
    char expression[64];
    int error;
    PCRE2_SIZE where;
    snprintf(expression, sizeof expression, "\\p{sc:%.*s}", len, name);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF, &error, &where, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* \p{...}: with the name of a script PCRE2 means all characters that are used in it,
 * the other dialects those that belong to it alone. */
static jt_status put_property(translation *t)
{
    enum { LONGEST = 40 };
    const char *name = t->at + 3;
    ptrdiff_t left = t->end - name;
    const char *end = left > 0 && t->at[2] == '{'
                          ? memchr(name, '}', left < LONGEST ? (size_t)left : LONGEST)
                          : NULL;
    if (!end)
        return unsupported(t, "\\p without a name in braces");
    bool script = end - name > 2 && is_script(name, (int)(end - name));
    JT_TRY(put(t, t->at, 3));
    if (script)
        JT_TRY(put_text(t, "sc:"));
    JT_TRY(put(t, name, (size_t)(end + 1 - name)));
    t->at = end + 1;
    return JT_OK;
}

/* Classes that the dialects do not agree on: in a class, outside, the opposite outside.
 * In a class PCRE2's own opposites are near enough. */
static const struct {
    char letter, opposite;
    const char *inside, *outside, *negated;
} classes[] = {
    {'s', 'S', JT_SPACES, "[" JT_SPACES "]", "[^" JT_SPACES "]"},
    {'w', 'W', WORD_CHARS, "[" WORD_CHARS "]", "[^" WORD_CHARS "]"},
    {'d', 'D', "\\p{Nd}", "\\p{Nd}", "\\P{Nd}"},
    {'h', 'H', "0-9A-Fa-f", "[0-9A-Fa-f]", "[^0-9A-Fa-f]"},
};

/* The escape at hand. */
static jt_status put_escape(translation *t, bool in_class)
{
    if (t->end - t->at < 2)
        return unsupported(t, "a backslash at the end");
    char c = t->at[1];
    if (c == 'u')
        return put_unit(t);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        bool opposite = c == classes[i].opposite;
        if (c != classes[i].letter && !opposite)
            continue;
        if (in_class && opposite)
            break;
        t->at += 2;
        return put_text(t, in_class   ? classes[i].inside
                           : opposite ? classes[i].negated
                                      : classes[i].outside);
    }
    if (c == 'p' || c == 'P')
        return put_property(t);
    t->at++;
    bool plain = c > ' ' && c < 0x7f;
    if (plain)
        JT_TRY(put(t, "\\", 1));
    return put_char(t); /* what is escaped without need comes out as an escape anyway */
}

static bool at(const translation *t, const char *text)
{
    size_t len = strlen(text);
    return (size_t)(t->end - t->at) >= len && memcmp(t->at, text, len) == 0;
}

/* "[:alpha:]" in a class, as it is. */
static jt_status put_posix(translation *t)
{
    const char *end = memmem(t->at, (size_t)(t->end - t->at), ":]", 2);
    if (!end)
        return unsupported(t, "a class that is not closed");
    JT_TRY(put(t, t->at, (size_t)(end + 2 - t->at)));
    t->at = end + 2;
    return JT_OK;
}

static jt_status put_items(translation *t);

/* A class in a class is part of it: its items are. */
static jt_status put_nested(translation *t)
{
    t->at++;
    if (at(t, "^") || ++t->depth > DEPTH_MOST)
        return unsupported(t, "an opposite class in a class");
    JT_TRY(put_items(t));
    if (!at(t, "]"))
        return unsupported(t, "'&&' in a class in a class");
    t->at++;
    t->depth--;
    return JT_OK;
}

/* What stands in a class, up to its "]" or to "&&". */
static jt_status put_items(translation *t)
{
    bool first = true;
    for (; !at(t, "&&") && (first || !at(t, "]")); first = false) {
        if (t->at == t->end)
            return unsupported(t, "a class that is not closed");
        if (*t->at == '\\')
            JT_TRY(put_escape(t, true));
        else if (at(t, "[:"))
            JT_TRY(put_posix(t));
        else if (*t->at == '[')
            JT_TRY(put_nested(t));
        else
            JT_TRY(put_char(t));
    }
    return JT_OK;
}

static jt_status put_open(translation *t)
{
    t->at++;
    JT_TRY(put(t, "[", 1));
    return at(t, "^") ? put_char(t) : JT_OK;
}

/* "[A&&[B]]" becomes "(?:(?=[B])[A])": `start` is where [A has been put. */
static jt_status put_both(translation *t, size_t start)
{
    if (t->out[start + 1] == '^')
        return unsupported(t, "the opposite of an intersection");
    t->at += 2;
    size_t len = t->len - start;
    char *first = jt_strndup(t->out + start, len);
    if (!first)
        return jt_fail_memory(t->err, "reading an expression");
    t->len = start;
    jt_status status = put_text(t, "(?:(?=");
    if (status == JT_OK)
        status = at(t, "[") ? put_open(t) : unsupported(t, "'&&' without a class");
    if (status == JT_OK)
        status = put_items(t);
    if (status == JT_OK && !at(t, "]]"))
        status = unsupported(t, "more than two classes in one");
    t->at += 2;
    if (status == JT_OK)
        status = put_text(t, "])");
    if (status == JT_OK)
        status = put(t, first, len);
    if (status == JT_OK)
        status = put_text(t, "])");
    free(first);
    return status;
}

static jt_status put_class(translation *t)
{
    size_t start = t->len;
    JT_TRY(put_open(t));
    JT_TRY(put_items(t));
    if (at(t, "&&"))
        return put_both(t, start);
    t->at++;
    return put(t, "]", 1);
}

static jt_status put_all(translation *t)
{
    while (t->at < t->end) {
        if (*t->at == '\\') {
            JT_TRY(put_escape(t, false));
        } else if (*t->at == '[') {
            JT_TRY(put_class(t));
        } else if (*t->at == '^' || *t->at == '$') { /* of any line */
            JT_TRY(put_text(t, *t->at == '^' ? "(?m:^)" : "(?m:$)"));
            t->at++;
        } else {
            JT_TRY(put_char(t));
        }
    }
    return JT_OK;
}

static jt_status put_quoted(translation *t)
{
    while (t->at < t->end) {
        unsigned char c = (unsigned char)*t->at;
        if (c > ' ' && c < 0x7f && strchr("\\^$.[]|()?*+{}", c))
            JT_TRY(put(t, "\\", 1));
        JT_TRY(put_char(t));
    }
    return JT_OK;
}

static jt_status translate(char **out, jt_arena *arena, jt_str text,
                           jt_status (*all)(translation *), jt_err *err)
{
    translation t = {.at = text.data, .end = text.data + text.len, .err = err};
    jt_status status = all(&t);
    if (status == JT_OK) {
        *out = jt_arena_alloc(arena, t.len + 1, 1);
        if (!*out)
            status = jt_fail_memory(err, "reading an expression");
        else if (t.len > 0)
            memcpy(*out, t.out, t.len);
    }
    if (status == JT_OK)
        (*out)[t.len] = '\0';
    free(t.out);
    return status;
}

jt_status jt_dialect_translate(char **out, jt_arena *arena, jt_str expression,
                               jt_err *err)
{
    return translate(out, arena, expression, put_all, err);
}

jt_status jt_dialect_quote(char **out, jt_arena *arena, jt_str text, jt_err *err)
{
    return translate(out, arena, text, put_quoted, err);
}
