/* GBNF, read. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "format/names.h"
#include "text/grammar.h"

enum { LAST_CHARACTER = 0x10ffff };

typedef struct parser {
    jt_grammar_text *out;
    const char *text, *at, *end;
    size_t depth;
    jt_names names;
    jt_err *err;
} parser;

/* ---- places ---- */

static jt_status refuse(parser *p, jt_status status, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *c = p->text; c < p->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    return jt_fail(p->err, status, "grammar, line %zu, column %zu: %s", line, column,
                   what);
}

static jt_status no_memory(parser *p)
{
    return jt_fail_memory(p->err, "reading a grammar");
}

static bool is_next(const parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
}

/* White space and comments; over the ends of lines only with `lines`. */
static void skip(parser *p, bool lines)
{
    while (p->at < p->end) {
        if (*p->at == '#') {
            while (p->at < p->end && *p->at != '\n')
                p->at++;
        } else if (*p->at == ' ' || *p->at == '\t' ||
                   (lines && (*p->at == '\n' || *p->at == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

/* ---- characters ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static jt_status read_hex(parser *p, size_t digits, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < digits; i++, p->at++) {
        int value = p->at < p->end ? hex_value(*p->at) : -1;
        if (value < 0)
            return refuse(p, JT_E_FORMAT, "an escape with too few hex digits");
        *out = *out << 4 | (uint32_t)value;
    }
    if (*out <= LAST_CHARACTER && (*out < 0xd800 || *out > 0xdfff))
        return JT_OK;
    return refuse(p, JT_E_FORMAT, "an escape that is no character");
}

static jt_status read_escape(parser *p, uint32_t *out)
{
    static const char from[] = "nrt\\\"[]-^", to[] = "\n\r\t\\\"[]-^";
    char c = p->at < p->end ? *p->at++ : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    if (c == 'x' || c == 'u' || c == 'U')
        return read_hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    if (!known)
        return refuse(p, JT_E_FORMAT, "an unknown escape");
    *out = (unsigned char)to[known - from];
    return JT_OK;
}

static jt_status read_character(parser *p, uint32_t *out)
{
    if (is_next(p, '\\')) {
        p->at++;
        return read_escape(p, out);
    }
    size_t n = jt_utf8_char(p->at, (size_t)(p->end - p->at));
    if (n == 0)
        return refuse(p, JT_E_FORMAT, "the grammar ends too soon, or is no UTF-8");
    utf8proc_int32_t c;
    utf8proc_iterate((const utf8proc_uint8_t *)p->at, (utf8proc_ssize_t)n, &c);
    *out = (uint32_t)c;
    p->at += n;
    return JT_OK;
}

/* ---- terms ---- */

static jt_term *new_term(parser *p, jt_term_kind kind)
{
    jt_term *term = jt_arena_alloc(&p->out->arena, 1, sizeof *term);
    if (term)
        *term = (jt_term){.kind = kind};
    return term;
}

static jt_status read_text(parser *p, jt_term **out)
{
    const char *close = ++p->at;
    while (close < p->end && *close != '"')
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    if (close >= p->end)
        return refuse(p, JT_E_FORMAT, "a literal without its end");
    char *bytes = jt_arena_alloc(&p->out->arena, (size_t)(close - p->at) + 4, 1);
    *out = new_term(p, JT_TERM_TEXT);
    if (!bytes || !*out)
        return no_memory(p);
    size_t n = 0;
    while (p->at < close) { /* no escape is shorter than what it stands for */
        uint32_t c = 0;
        JT_TRY(read_character(p, &c));
        n += (size_t)utf8proc_encode_char((utf8proc_int32_t)c,
                                          (utf8proc_uint8_t *)bytes + n);
    }
    p->at = close + 1;
    (*out)->text = (jt_str){bytes, n};
    return JT_OK;
}

/* Sort ranges, let none touch another, and give how many are left. */
static size_t merge(jt_char_range *r, size_t n)
{
    size_t kept = 0;
    for (size_t i = 1; i < n; i++) {
        jt_char_range it = r[i];
        size_t j = i;
        for (; j > 0 && r[j - 1].low > it.low; j--)
            r[j] = r[j - 1];
        r[j] = it;
    }
    for (size_t i = 0; i < n; i++) {
        if (kept && r[i].low <= r[kept - 1].high + 1) {
            if (r[i].high > r[kept - 1].high)
                r[kept - 1].high = r[i].high;
        } else {
            r[kept++] = r[i];
        }
    }
    return kept;
}

/* The characters between sorted ranges; `out` has room for one more than them. */
static size_t others(const jt_char_range *r, size_t n, jt_char_range *out)
{
    size_t count = 0;
    uint32_t low = 0;
    for (size_t i = 0; i < n; i++) {
        if (r[i].low > low)
            out[count++] = (jt_char_range){low, r[i].low - 1};
        low = r[i].high + 1;
    }
    if (low <= LAST_CHARACTER)
        out[count++] = (jt_char_range){low, LAST_CHARACTER};
    return count;
}

static jt_status add_ranges(parser *p, jt_char_range *ranges, size_t n, bool negated,
                            jt_term **out)
{
    jt_char_range *rest = jt_arena_alloc(&p->out->arena, n + 1, sizeof *rest);
    *out = new_term(p, JT_TERM_CLASS);
    if (!rest || !*out)
        return no_memory(p);
    n = merge(ranges, n);
    (*out)->ranges = negated ? rest : ranges;
    (*out)->n_ranges = negated ? others(ranges, n, rest) : n;
    return (*out)->n_ranges ? JT_OK
                            : refuse(p, JT_E_FORMAT, "a class without characters");
}

static jt_status read_class(parser *p, jt_term **out)
{
    enum { MOST = 1024 };
    jt_char_range ranges[MOST], *kept;
    size_t n = 0;
    p->at++;
    bool negated = is_next(p, '^');
    p->at += negated;
    for (; !is_next(p, ']'); n++) {
        jt_char_range range = {0};
        if (n == MOST)
            return refuse(p, JT_E_LIMIT, "a class with too many parts");
        JT_TRY(read_character(p, &range.low));
        range.high = range.low;
        if (p->at + 1 < p->end && p->at[0] == '-' && p->at[1] != ']') {
            p->at++;
            JT_TRY(read_character(p, &range.high));
        }
        if (range.high < range.low)
            return refuse(p, JT_E_FORMAT, "a range that ends before it begins");
        ranges[n] = range;
    }
    p->at++;
    kept = jt_arena_alloc(&p->out->arena, n, sizeof *kept);
    if (!kept)
        return no_memory(p);
    memcpy(kept, ranges, n * sizeof *kept);
    return add_ranges(p, kept, n, negated, out);
}

/* The rule of a name that is used or defined here. */
static jt_status find_rule(parser *p, size_t *out)
{
    jt_str name = {p->at, 0};
    while (p->at < p->end && is_name(*p->at))
        p->at++;
    name.len = (size_t)(p->at - name.data);
    jt_grammar_text *t = p->out;
    *out = jt_names_find(&p->names, name);
    if (*out != JT_NAMES_NONE)
        return JT_OK;
    if (t->n_rules == JT_GRAMMAR_RULES)
        return refuse(p, JT_E_LIMIT, "too many rules");
    if (!jt_grow((void **)&t->rules, &t->capacity, t->n_rules + 1, sizeof *t->rules) ||
        !jt_names_add(&p->names, name, t->n_rules))
        return no_memory(p);
    *out = t->n_rules;
    t->rules[t->n_rules++] = (jt_grammar_rule){.name = name, .at = p->at};
    return JT_OK;
}

static jt_status read_alternatives(parser *p, bool lines, jt_sequence **out);

static jt_status read_group(parser *p, jt_term **out)
{
    p->at++;
    *out = new_term(p, JT_TERM_GROUP);
    if (!*out)
        return no_memory(p);
    if (++p->depth > JT_GRAMMAR_DEPTH)
        return refuse(p, JT_E_LIMIT, "groups too deep in each other");
    JT_TRY(read_alternatives(p, true, &(*out)->group));
    p->depth--;
    if (!is_next(p, ')'))
        return refuse(p, JT_E_FORMAT, "a group without its end");
    p->at++;
    return JT_OK;
}

/* *out NULL: no term begins here. */
static jt_status read_term(parser *p, jt_term **out)
{
    static const char tokens[] = "tokens in grammars are not supported";
    char c = p->at < p->end ? *p->at : '\0';
    *out = NULL;
    if (c == '"')
        return read_text(p, out);
    if (c == '[')
        return read_class(p, out);
    if (c == '(')
        return read_group(p, out);
    if (c == '.') {
        p->at++;
        return add_ranges(p, NULL, 0, true, out);
    }
    if (c == '<' || c == '!')
        return refuse(p, JT_E_UNSUPPORTED, tokens);
    if (!is_name(c))
        return JT_OK;
    *out = new_term(p, JT_TERM_RULE);
    return *out ? find_rule(p, &(*out)->rule) : no_memory(p);
}

/* ---- repetition ---- */

static jt_status read_number(parser *p, uint32_t *out)
{
    if (p->at >= p->end || *p->at < '0' || *p->at > '9')
        return refuse(p, JT_E_FORMAT, "a number is missing");
    for (*out = 0; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        *out = *out * 10 + (uint32_t)(*p->at - '0');
        if (*out > JT_GRAMMAR_TIMES)
            return refuse(p, JT_E_LIMIT, "too many repetitions");
    }
    return JT_OK;
}

static jt_status read_bounds(parser *p, uint32_t *least, uint32_t *most)
{
    p->at++;
    skip(p, false);
    JT_TRY(read_number(p, least));
    *most = *least;
    skip(p, false);
    if (is_next(p, ',')) {
        p->at++;
        skip(p, false);
        *most = UINT32_MAX;
        if (!is_next(p, '}'))
            JT_TRY(read_number(p, most));
        skip(p, false);
    }
    if (!is_next(p, '}') || *most < *least)
        return refuse(p, JT_E_FORMAT, "bad bounds of a repetition");
    p->at++;
    return JT_OK;
}

/* What stands behind a term, as often as something does. */
static jt_status read_repeats(parser *p, jt_term **term)
{
    for (size_t times = 0;; times++) {
        char c = p->at < p->end ? *p->at : '\0';
        uint32_t least = c == '+', most = c == '?' ? 1 : UINT32_MAX;
        if (c == '{')
            JT_TRY(read_bounds(p, &least, &most));
        else if (c == '*' || c == '+' || c == '?')
            p->at++;
        else
            return JT_OK;
        if (times == JT_GRAMMAR_DEPTH)
            return refuse(p, JT_E_LIMIT, "repetitions too deep in each other");
        jt_term *repeat = new_term(p, JT_TERM_REPEAT);
        if (!repeat)
            return no_memory(p);
        repeat->item = *term;
        repeat->least = least;
        repeat->most = most;
        *term = repeat;
        skip(p, false);
    }
}

/* ---- sequences, alternatives, rules ---- */

static jt_status read_sequence(parser *p, bool lines, jt_sequence **out)
{
    *out = jt_arena_alloc(&p->out->arena, 1, sizeof **out);
    if (!*out)
        return no_memory(p);
    **out = (jt_sequence){0};
    for (jt_term *term;;) {
        skip(p, lines);
        JT_TRY(read_term(p, &term));
        if (!term)
            return JT_OK;
        skip(p, lines);
        JT_TRY(read_repeats(p, &term));
        term->before = (*out)->last;
        (*out)->last = term;
    }
}

static jt_status read_alternatives(parser *p, bool lines, jt_sequence **out)
{
    JT_TRY(read_sequence(p, lines, out));
    for (jt_sequence *last = *out; is_next(p, '|'); last = last->next) {
        p->at++;
        skip(p, true);
        JT_TRY(read_sequence(p, lines, &last->next));
    }
    return JT_OK;
}

static jt_status read_rule(parser *p)
{
    size_t rule;
    if (!is_name(*p->at))
        return refuse(p, JT_E_FORMAT, "a rule's name is missing");
    JT_TRY(find_rule(p, &rule));
    skip(p, false);
    if (p->end - p->at < 3 || memcmp(p->at, "::=", 3) != 0)
        return refuse(p, JT_E_FORMAT, "'::=' is missing");
    if (p->out->rules[rule].body)
        return refuse(p, JT_E_FORMAT, "this rule is there already");
    p->at += 3;
    skip(p, true);
    jt_sequence *body;
    JT_TRY(read_alternatives(p, false, &body));
    p->out->rules[rule].body = body;
    if (p->at < p->end && *p->at != '\n' && *p->at != '\r')
        return refuse(p, JT_E_FORMAT, "this is no part of a rule");
    return JT_OK;
}

static jt_status check_rules(parser *p)
{
    size_t root = jt_names_find(&p->names, (jt_str){"root", 4});
    for (size_t i = 0; i < p->out->n_rules; i++) {
        const jt_grammar_rule *rule = &p->out->rules[i];
        if (rule->body)
            continue;
        p->at = rule->at;
        return refuse(p, JT_E_FORMAT, "there is no rule of this name");
    }
    if (root == JT_NAMES_NONE)
        return jt_fail(p->err, JT_E_FORMAT, "the grammar has no rule 'root'");
    p->out->root = root;
    return JT_OK;
}

static jt_status parse(parser *p)
{
    for (skip(p, true); p->at < p->end; skip(p, true))
        JT_TRY(read_rule(p));
    return check_rules(p);
}

jt_status jt_grammar_parse(jt_grammar_text *out, const char *text, size_t len,
                           jt_err *err)
{
    *out = (jt_grammar_text){0};
    parser p = {.out = out, .text = text, .at = text, .end = text + len, .err = err};
    jt_status status = parse(&p);
    jt_names_free(&p.names);
    return status;
}

void jt_grammar_text_free(jt_grammar_text *text)
{
    jt_arena_free(&text->arena);
    free(text->rules);
    *text = (jt_grammar_text){0};
}
