#include "learn/toml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/toml_scan.h"
#include "base/utf8.h"

enum { MAX_PARTS = 32, MAX_DEPTH = 32 }; /* parts of a key; values within values */

/* What made a key decides what may be added to it later. */
typedef enum origin {
    VALUE,   /* key = ...: complete, also when it is a table or an array */
    DOTTED,  /* the way of a dotted key: more dotted keys */
    PASSED,  /* the way of a header: its own header, once */
    HEADER,  /* [key]: deeper headers */
    ELEMENTS /* [[key]]: more elements */
} origin;

/* Every key in the tree has an address of its own: a hash table of these. */
struct jt_toml_mark {
    const char *key; /* NULL: free */
    size_t line;
    origin origin;
};

static struct jt_toml_mark *find_mark(const jt_toml *toml, const char *key)
{
    size_t mask = toml->n_places - 1;
    size_t i = (size_t)((uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15u >> 32) & mask;
    while (toml->mark[i].key && toml->mark[i].key != key)
        i = (i + 1) & mask;
    return &toml->mark[i];
}

/* Keep at least half of the places free. */
static jt_status make_room(jt_toml *toml, jt_err *err)
{
    if (2 * (toml->n_marks + 1) <= toml->n_places)
        return JT_OK;
    jt_toml larger = {.n_places = toml->n_places ? 2 * toml->n_places : 64};
    larger.mark = jt_calloc(larger.n_places, sizeof *larger.mark);
    if (!larger.mark)
        return jt_fail_memory(err, "reading TOML");
    for (size_t i = 0; i < toml->n_places; i++) {
        if (toml->mark[i].key)
            *find_mark(&larger, toml->mark[i].key) = toml->mark[i];
    }
    free(toml->mark);
    toml->mark = larger.mark;
    toml->n_places = larger.n_places;
    return JT_OK;
}

size_t jt_toml_line(const jt_toml *toml, const char *key)
{
    return toml->n_places ? find_mark(toml, key)->line : 0;
}

typedef struct parser {
    jt_toml_scan s;
    jt_toml *toml;
    int depth;
} parser;

/* ---- keys ---- */

/* Where a value goes: a member of a table. */
typedef struct slot {
    json_t *table;
    void *iter;
} slot;

/* One part of a key, into s->text. */
static jt_status read_part(jt_toml_scan *s)
{
    jt_toml_skip_space(s);
    int c = jt_toml_peek(s);
    return c == '"' || c == '\'' ? jt_toml_scan_string(s, false) : jt_toml_scan_bare(s);
}

static struct jt_toml_mark *mark_of(const parser *p, slot member)
{
    return find_mark(p->toml, json_object_iter_key(member.iter));
}

/* The member of `table` that s->text names; iter NULL when there is none yet. */
static slot find_member(const parser *p, json_t *table)
{
    return (slot){table, json_object_iter_at(table, p->s.text)};
}

/* A new member of `table` under the name in s->text; takes over `value`. */
static jt_status add_member(parser *p, slot *out, json_t *table, origin how,
                            json_t *value)
{
    jt_toml_scan *s = &p->s;
    jt_status status = make_room(p->toml, s->err);
    if (status != JT_OK) {
        json_decref(value);
        return status;
    }
    if (json_object_set_new_nocheck(table, s->text, value) != 0)
        return jt_fail_memory(s->err, "reading TOML");
    *out = find_member(p, table);
    const char *key = json_object_iter_key(out->iter);
    *find_mark(p->toml, key) = (struct jt_toml_mark){key, s->line, how};
    p->toml->n_marks++;
    return JT_OK;
}

static jt_status fail_taken(const parser *p, slot member)
{
    return jt_fail(p->s.err, JT_E_FORMAT, "'%.60s' is already defined on line %zu",
                   p->s.text, mark_of(p, member)->line);
}

/* Go from *table to its member that s->text names, which stands before a dot: in a
 * header any table, otherwise only those that dotted keys made. */
static jt_status step_into(parser *p, json_t **table, bool header)
{
    slot member = find_member(p, *table);
    if (!member.iter) {
        JT_TRY(add_member(p, &member, *table, header ? PASSED : DOTTED, json_object()));
    } else {
        origin how = mark_of(p, member)->origin;
        if (how == VALUE || (how != DOTTED && !header))
            return fail_taken(p, member);
    }
    json_t *value = json_object_iter_value(member.iter);
    if (json_is_array(value))
        value = json_array_get(value, json_array_size(value) - 1);
    *table = value;
    return JT_OK;
}

/* Read a key; *table becomes the table that holds its last part, which is left in
 * s->text. */
static jt_status read_key(parser *p, json_t **table, bool header)
{
    jt_toml_scan *s = &p->s;
    JT_TRY(read_part(s));
    jt_toml_skip_space(s);
    for (int parts = 1; jt_toml_take(s, '.'); parts++) {
        if (parts == MAX_PARTS)
            return jt_fail(s->err, JT_E_FORMAT, "a key of more than %d parts",
                           MAX_PARTS);
        JT_TRY(step_into(p, table, header));
        JT_TRY(read_part(s));
        jt_toml_skip_space(s);
    }
    return JT_OK;
}

/* ---- values ---- */

static jt_status read_value(parser *p, json_t **out);

/* key = value, into `table` */
static jt_status read_pair(parser *p, json_t *table)
{
    jt_toml_scan *s = &p->s;
    JT_TRY(read_key(p, &table, false));
    slot member = find_member(p, table);
    if (member.iter)
        return fail_taken(p, member);
    if (!jt_toml_take(s, '='))
        return jt_toml_expected(s, "'=' after the key");
    JT_TRY(add_member(p, &member, table, VALUE, json_null()));
    json_t *value;
    JT_TRY(read_value(p, &value));
    json_object_iter_set_new(table, member.iter, value);
    return JT_OK;
}

static jt_status read_array(parser *p, json_t *array)
{
    jt_toml_scan *s = &p->s;
    for (;;) {
        JT_TRY(jt_toml_skip_gap(s));
        if (jt_toml_take(s, ']'))
            return JT_OK;
        json_t *value;
        JT_TRY(read_value(p, &value));
        if (json_array_append_new(array, value) != 0)
            return jt_fail_memory(s->err, "reading TOML");
        JT_TRY(jt_toml_skip_gap(s));
        if (!jt_toml_take(s, ',') && jt_toml_peek(s) != ']')
            return jt_toml_expected(s, "',' or ']' in the array");
    }
}

static jt_status read_inline_table(parser *p, json_t *table)
{
    jt_toml_scan *s = &p->s;
    jt_toml_skip_space(s);
    if (jt_toml_take(s, '}'))
        return JT_OK;
    do {
        JT_TRY(read_pair(p, table));
        jt_toml_skip_space(s);
    } while (jt_toml_take(s, ','));
    return jt_toml_take(s, '}') ? JT_OK
                                : jt_toml_expected(s, "',' or '}' in the table");
}

static jt_status read_nested(parser *p, json_t **out, bool array)
{
    jt_toml_scan *s = &p->s;
    if (++p->depth > MAX_DEPTH)
        return jt_fail(s->err, JT_E_FORMAT, "values are nested more than %d deep",
                       MAX_DEPTH);
    json_t *value = array ? json_array() : json_object();
    if (!value)
        return jt_fail_memory(s->err, "reading TOML");
    s->at++;
    jt_status status = array ? read_array(p, value) : read_inline_table(p, value);
    p->depth--;
    if (status != JT_OK)
        json_decref(value);
    else
        *out = value;
    return status;
}

static jt_status read_value(parser *p, json_t **out)
{
    jt_toml_scan *s = &p->s;
    jt_toml_skip_space(s);
    switch (jt_toml_peek(s)) {
    case '[':
        return read_nested(p, out, true);
    case '{':
        return read_nested(p, out, false);
    case '"':
    case '\'':
        JT_TRY(jt_toml_scan_string(s, true));
        *out = json_stringn_nocheck(s->text, s->len);
        break;
    default:
        JT_TRY(jt_toml_scan_plain(s, out));
    }
    return *out ? JT_OK : jt_fail_memory(s->err, "reading TOML");
}

/* ---- documents ---- */

/* [key]: *table becomes the table it names. */
static jt_status open_table(parser *p, json_t **table)
{
    slot member = find_member(p, *table);
    if (!member.iter) {
        JT_TRY(add_member(p, &member, *table, HEADER, json_object()));
    } else {
        struct jt_toml_mark *mark = mark_of(p, member);
        if (mark->origin != PASSED)
            return fail_taken(p, member);
        mark->origin = HEADER;
        mark->line = p->s.line;
    }
    *table = json_object_iter_value(member.iter);
    return JT_OK;
}

/* [[key]]: *table becomes a new element. */
static jt_status open_element(parser *p, json_t **table)
{
    slot member = find_member(p, *table);
    if (!member.iter)
        JT_TRY(add_member(p, &member, *table, ELEMENTS, json_array()));
    else if (mark_of(p, member)->origin != ELEMENTS)
        return fail_taken(p, member);
    *table = json_object();
    if (json_array_append_new(json_object_iter_value(member.iter), *table) != 0)
        return jt_fail_memory(p->s.err, "reading TOML");
    return JT_OK;
}

static jt_status read_header(parser *p, json_t **table)
{
    jt_toml_scan *s = &p->s;
    bool element = jt_toml_take(s, '[');
    *table = p->toml->root;
    JT_TRY(read_key(p, table, true));
    if (!jt_toml_take(s, ']') || (element && !jt_toml_take(s, ']')))
        return jt_toml_expected(s, element ? "']]'" : "']'");
    return element ? open_element(p, table) : open_table(p, table);
}

static jt_status read_document(parser *p)
{
    jt_toml_scan *s = &p->s;
    json_t *table = p->toml->root;
    for (;;) {
        JT_TRY(jt_toml_skip_gap(s));
        if (jt_toml_peek(s) < 0)
            return JT_OK;
        if (jt_toml_take(s, '['))
            JT_TRY(read_header(p, &table));
        else
            JT_TRY(read_pair(p, table));
        JT_TRY(jt_toml_end_line(s));
    }
}

/* ---- from outside ---- */

static size_t count_lines(const char *text, size_t len)
{
    size_t lines = 1;
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    return lines;
}

static jt_status check_utf8(const char *text, size_t len, jt_err *err)
{
    size_t valid = jt_utf8_valid(text, len);
    if (valid == len)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "line %zu: not UTF-8", count_lines(text, valid));
}

static parser begin(jt_toml *toml, const char *text, size_t len, jt_err *err)
{
    return (parser){.s = {.at = text, .end = text + len, .line = 1, .err = err},
                    .toml = toml};
}

jt_status jt_toml_parse(jt_toml *out, const char *text, size_t len, jt_err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    JT_TRY(check_utf8(text, len, err));
    jt_toml toml = {.root = json_object()};
    if (!toml.root)
        return jt_fail_memory(err, "reading TOML");
    size_t skip = len >= 3 && memcmp(text, bom, 3) == 0 ? 3 : 0;
    parser p = begin(&toml, text + skip, len - skip, err);
    jt_status status = read_document(&p);
    free(p.s.text);
    if (status == JT_OK) {
        *out = toml;
        return JT_OK;
    }
    jt_toml_free(&toml);
    return jt_fail_within(err, status, "line %zu", p.s.line);
}

void jt_toml_free(jt_toml *toml)
{
    json_decref(toml->root);
    free(toml->mark);
    *toml = (jt_toml){0};
}

jt_status jt_toml_parse_value(json_t **out, const char *text, size_t len, jt_err *err)
{
    JT_TRY(check_utf8(text, len, err));
    jt_toml toml = {0};
    parser p = begin(&toml, text, len, err);
    json_t *value = NULL;
    jt_status status = read_value(&p, &value);
    if (status == JT_OK)
        status = jt_toml_end_line(&p.s);
    if (status == JT_OK && p.s.at < p.s.end)
        status = jt_toml_expected(&p.s, "the end");
    free(p.s.text);
    jt_toml_free(&toml);
    if (status == JT_OK)
        *out = value;
    else
        json_decref(value);
    return status;
}
