/* Source to tokens, with the white space rules of trim_blocks and lstrip_blocks: the
 * first line end after a block is left out, so is the white space before a block that
 * begins its line; "-" at a tag takes all white space on its side, "+" none. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

enum { MOST_BRACKETS = 256 };

typedef struct lexer {
    const char *at, *end;
    int line;
    bool line_start; /* `at` is the first of its line */
    jt_jtoken *tokens;
    size_t count, capacity;
    char bracket[MOST_BRACKETS]; /* that closes each open one */
    int depth;
    jt_arena *arena;
    jt_err *err;
} lexer;

static jt_status fail(lexer *l, const char *what)
{
    return jt_fail(l->err, JT_E_FORMAT, "template line %d: %s", l->line, what);
}

static jt_jtoken *push(lexer *l, jt_jtoken_kind kind, const char *text, size_t len)
{
    if (!jt_grow((void **)&l->tokens, &l->capacity, l->count + 1, sizeof *l->tokens))
        return NULL;
    jt_jtoken *t = &l->tokens[l->count++];
    *t = (jt_jtoken){.kind = kind, .line = l->line, .text = {text, len}};
    return t;
}

static jt_status fail_memory(lexer *l)
{
    return jt_fail_memory(l->err, "reading a template");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
    return c == '_' || is_digit(c) || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (unsigned char)c >= 128;
}

static bool starts(const lexer *l, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(l->end - l->at) >= n && memcmp(l->at, text, n) == 0;
}

/* Go on to `to`, counting lines. */
static void advance(lexer *l, const char *to)
{
    for (; l->at < to; l->at++) {
        l->line += *l->at == '\n';
        l->line_start = *l->at == '\n';
    }
}

static void skip_space(lexer *l)
{
    jt_str rest = {l->at, (size_t)(l->end - l->at)};
    advance(l, jt_jstrip(rest, true, false, NULL).data);
}

/* After a tag: `sign` is '-' (all white space goes), '+' (none) or 0 (one line end). */
static void trim_after(lexer *l, char sign)
{
    if (sign == '-')
        skip_space(l);
    else if (sign != '+' && l->at < l->end && *l->at == '\n')
        advance(l, l->at + 1);
}

/* ---- literals ---- */

/* A character as UTF-8; halves of surrogate pairs become U+FFFD. */
static char *put_char(char *to, unsigned long c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 63));
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

/* "\x41", "\u0041", "\U00000041": what is written is never longer. */
static const char *hex_escape(char **to, const char *at, const char *end, size_t digits)
{
    char hex[9] = {0};
    for (size_t i = 0; i < digits; i++) {
        if (at + i >= end || !strchr("0123456789abcdefABCDEF", at[i]))
            return NULL;
        hex[i] = at[i];
    }
    *to = put_char(*to, strtoul(hex, NULL, 16));
    return at + digits;
}

/* One escape of Python's, `at` after the backslash; unknown ones stay as they are. */
static const char *unescape(char **to, const char *at, const char *end)
{
    static const char from[] = "nrtabfv\\'\"", into[] = "\n\r\t\a\b\f\v\\'\"";
    const char *known = strchr(from, *at);
    if (known) {
        *(*to)++ = into[known - from];
        return at + 1;
    }
    if (*at == '\n') /* the line goes on */
        return at + 1;
    if (*at >= '0' && *at <= '7') {
        unsigned long c = 0;
        for (int i = 0; i < 3 && at < end && *at >= '0' && *at <= '7'; i++)
            c = c * 8 + (unsigned long)(*at++ - '0');
        *to = put_char(*to, c);
        return at;
    }
    size_t digits = *at == 'x' ? 2 : *at == 'u' ? 4 : *at == 'U' ? 8 : 0;
    if (digits)
        return hex_escape(to, at + 1, end, digits);
    *(*to)++ = '\\';
    *(*to)++ = *at;
    return at + 1;
}

static jt_status lex_string(lexer *l)
{
    char quote = *l->at;
    const char *close = l->at + 1;
    while (close < l->end && *close != quote)
        close += *close == '\\' ? 2 : 1;
    if (close >= l->end)
        return fail(l, "a string without end");
    char *text = jt_arena_alloc(l->arena, (size_t)(close - l->at), 2), *to = text;
    if (!text)
        return fail_memory(l);
    for (const char *at = l->at + 1; at < close;) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        at = unescape(&to, at + 1, close);
        if (!at)
            return fail(l, "a broken \\x or \\u in a string");
    }
    if (!push(l, JT_T_STRING, text, (size_t)(to - text)))
        return fail_memory(l);
    advance(l, close + 1);
    return JT_OK;
}

/* 12, 1_000, 1.5, 2e9. */
static jt_status lex_number(lexer *l)
{
    char digits[64];
    size_t n = 0;
    bool real = false;
    const char *at = l->at;
    for (; at < l->end && n + 1 < sizeof digits; at++) {
        bool sign = n && (*at == '+' || *at == '-') && (at[-1] == 'e' || at[-1] == 'E');
        bool point = *at == '.' && at + 1 < l->end && is_digit(at[1]) && !real;
        bool power = (*at == 'e' || *at == 'E') && at + 1 < l->end &&
                     (is_digit(at[1]) || at[1] == '+' || at[1] == '-');
        if (*at == '_')
            continue;
        if (!is_digit(*at) && !sign && !point && !power)
            break;
        real = real || point || power;
        digits[n++] = *at;
    }
    digits[n] = '\0';
    jt_jtoken *t = push(l, real ? JT_T_FLOAT : JT_T_INT, l->at, (size_t)(at - l->at));
    if (!t)
        return fail_memory(l);
    if (n + 1 >= sizeof digits || (!real && n > 18))
        return fail(l, "a number that is too large");
    t->number = strtod(digits, NULL);
    t->integer = real ? 0 : strtoll(digits, NULL, 10);
    advance(l, at);
    return JT_OK;
}

static jt_status lex_operator(lexer *l)
{
    static const char *const twos[] = {"//", "**", "==", "!=", "<=", ">="};
    size_t n = 0;
    for (size_t i = 0; i < sizeof twos / sizeof *twos && !n; i++)
        n = starts(l, twos[i]) ? 2 : 0;
    char c = *l->at;
    if (!n)
        n = c && strchr("+-*/%~<>=.:|,()[]{}", c) ? 1 : 0;
    if (!n)
        return fail(l, "an unexpected character in a tag");
    if (strchr("([{", c)) {
        if (l->depth == MOST_BRACKETS)
            return fail(l, "brackets nested too deeply");
        l->bracket[l->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    }
    if (strchr(")]}", c) && (l->depth == 0 || l->bracket[--l->depth] != c))
        return fail(l, "a bracket that was not opened");
    if (!push(l, JT_T_OP, l->at, n))
        return fail_memory(l);
    advance(l, l->at + n);
    return JT_OK;
}

/* ---- tags ---- */

/* The end of a tag ("%}", "-%}", "+%}") with its sign; false when it is not here. */
static bool at_end_of_tag(const lexer *l, const char *close, char *sign)
{
    *sign = l->at < l->end && (*l->at == '-' || *l->at == '+') ? *l->at : 0;
    if (l->depth)
        return false;
    const char *at = l->at + (*sign ? 1 : 0);
    return l->end - at >= 2 && at[0] == close[0] && at[1] == close[1];
}

/* What is inside a tag, up to and with its end. */
static jt_status lex_tag(lexer *l, const char *close, jt_jtoken_kind end)
{
    char sign;
    l->depth = 0;
    for (;;) {
        skip_space(l);
        if (l->at >= l->end)
            return fail(l, "a tag without end");
        if (at_end_of_tag(l, close, &sign) && !(sign == '+' && end == JT_T_PRINT_END)) {
            if (!push(l, end, l->at, 0))
                return fail_memory(l);
            advance(l, l->at + (sign ? 3 : 2));
            trim_after(l, end == JT_T_PRINT_END && sign != '-' ? '+' : sign);
            return JT_OK;
        }
        if (*l->at == '"' || *l->at == '\'') {
            JT_TRY(lex_string(l));
        } else if (is_digit(*l->at)) {
            JT_TRY(lex_number(l));
        } else if (is_name(*l->at)) {
            const char *stop = l->at;
            while (stop < l->end && is_name(*stop))
                stop++;
            if (!push(l, JT_T_NAME, l->at, (size_t)(stop - l->at)))
                return fail_memory(l);
            advance(l, stop);
        } else {
            JT_TRY(lex_operator(l));
        }
    }
}

static jt_status lex_comment(lexer *l)
{
    const char *close = l->at;
    while (close + 1 < l->end && !(close[0] == '#' && close[1] == '}'))
        close++;
    if (close + 1 >= l->end)
        return fail(l, "a comment without end");
    char sign = close > l->at && (close[-1] == '-' || close[-1] == '+') ? close[-1] : 0;
    advance(l, close + 2);
    trim_after(l, sign);
    return JT_OK;
}

/* "{% raw %}": text up to "{% endraw %}". `at` is after the name. */
static const char *word_after(const char *at, const char *end, const char *word)
{
    size_t n = strlen(word);
    at = jt_jstrip((jt_str){at, (size_t)(end - at)}, true, false, NULL).data;
    if ((size_t)(end - at) < n || memcmp(at, word, n) != 0)
        return NULL;
    at += n;
    return jt_jstrip((jt_str){at, (size_t)(end - at)}, true, false, NULL).data;
}

/* After the "%}" at `at` (perhaps with "-"); NULL when it is not there. */
static const char *block_end(const char *at, const char *end, char *sign)
{
    *sign = at < end && (*at == '-' || *at == '+') ? *at : 0;
    at += *sign ? 1 : 0;
    return end - at >= 2 && at[0] == '%' && at[1] == '}' ? at + 2 : NULL;
}

static void strip_end(const char *text, size_t *len)
{
    *len = jt_jstrip((jt_str){text, *len}, false, true, NULL).len;
}

/* `at` is at "{%"; *done when it was a raw block. */
static jt_status lex_raw(lexer *l, bool *done)
{
    char sign;
    const char *at = l->at + 2;
    at += at < l->end && (*at == '-' || *at == '+');
    at = word_after(at, l->end, "raw");
    at = at ? block_end(at, l->end, &sign) : NULL;
    *done = at != NULL;
    if (!at)
        return JT_OK;
    advance(l, at);
    if (sign == '-')
        skip_space(l);
    const char *text = l->at;
    for (at = text; at + 1 < l->end; at++) {
        if (at[0] != '{' || at[1] != '%')
            continue;
        const char *in = at + 2;
        char before = in < l->end && (*in == '-' || *in == '+') ? *in : 0;
        in = word_after(in + (before ? 1 : 0), l->end, "endraw");
        in = in ? block_end(in, l->end, &sign) : NULL;
        if (!in)
            continue;
        size_t len = (size_t)(at - text);
        if (before == '-')
            strip_end(text, &len);
        if (!push(l, JT_T_TEXT, text, len))
            return fail_memory(l);
        advance(l, in);
        trim_after(l, sign);
        return JT_OK;
    }
    return fail(l, "a raw block without end");
}

/* Text before the tag at `tag`, less what the tag takes away. */
static jt_status push_text(lexer *l, const char *tag, bool is_print)
{
    const char *text = l->at;
    size_t len = (size_t)(tag - text);
    char sign = tag + 2 < l->end ? tag[2] : 0;
    if (sign == '-') {
        strip_end(text, &len);
    } else if (sign != '+' && !is_print) {
        const char *line = memrchr(text, '\n', len);
        size_t start = line ? (size_t)(line - text) + 1 : 0;
        jt_str before = {text + start, len - start};
        if ((line || l->line_start) && !jt_jstrip(before, true, false, NULL).len)
            len = start;
    }
    if (len && !push(l, JT_T_TEXT, text, len))
        return fail_memory(l);
    advance(l, tag);
    return JT_OK;
}

static const char *find_tag(const lexer *l)
{
    for (const char *at = l->at; at + 1 < l->end; at++) {
        if (at[0] == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#'))
            return at;
    }
    return NULL;
}

static jt_status lex_part(lexer *l)
{
    const char *tag = find_tag(l);
    if (!tag) {
        if (!push(l, JT_T_TEXT, l->at, (size_t)(l->end - l->at)))
            return fail_memory(l);
        l->at = l->end;
        return JT_OK;
    }
    char kind = tag[1];
    JT_TRY(push_text(l, tag, kind == '{'));
    bool raw = false;
    if (kind == '%')
        JT_TRY(lex_raw(l, &raw));
    if (raw)
        return JT_OK;
    advance(l, tag + 2);
    if (l->at < l->end && (*l->at == '-' || *l->at == '+') && kind != '#')
        advance(l, l->at + 1);
    if (kind == '#')
        return lex_comment(l);
    jt_jtoken_kind begin = kind == '{' ? JT_T_PRINT_BEGIN : JT_T_BLOCK_BEGIN;
    if (!push(l, begin, l->at, 0))
        return fail_memory(l);
    return lex_tag(l, kind == '{' ? "}}" : "%}",
                   kind == '{' ? JT_T_PRINT_END : JT_T_BLOCK_END);
}

static jt_status lex_all(lexer *l)
{
    while (l->at < l->end)
        JT_TRY(lex_part(l));
    return push(l, JT_T_END, l->end, 0) ? JT_OK : fail_memory(l);
}

/* Line ends become "\n"; one at the very end is left out, as Jinja does. */
static jt_str normalise(jt_str source, jt_arena *arena)
{
    char *text = jt_arena_alloc(arena, source.len + 1, 1);
    size_t n = 0;
    for (size_t i = 0; text && i < source.len; i++) {
        bool pair =
            source.data[i] == '\r' && i + 1 < source.len && source.data[i + 1] == '\n';
        if (!pair)
            text[n++] = source.data[i] == '\r' ? '\n' : source.data[i];
    }
    if (text && n && text[n - 1] == '\n')
        n--;
    return (jt_str){text, n};
}

jt_status jt_jinja_lex(jt_jtoken **out, jt_str source, jt_arena *arena, jt_err *err)
{
    jt_str text = normalise(source, arena);
    lexer l = {
        .at = text.data, .line = 1, .line_start = true, .arena = arena, .err = err};
    if (!text.data)
        return fail_memory(&l);
    l.end = text.data + text.len;
    jt_status status = lex_all(&l);
    if (status == JT_OK) {
        *out = jt_arena_alloc(arena, l.count, sizeof **out);
        if (*out)
            memcpy(*out, l.tokens, l.count * sizeof **out);
        else
            status = fail_memory(&l);
    }
    free(l.tokens);
    return status;
}
