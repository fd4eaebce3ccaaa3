#include "learn/toml_scan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

/* May stand in a key without quotes. */
static bool is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-';
}

jt_status jt_toml_expected(jt_toml_scan *s, const char *what)
{
    int c = jt_toml_peek(s);
    if (c < 0)
        return jt_fail(s->err, JT_E_FORMAT, "expected %s, found the end", what);
    if (c == '\n' || c == '\r')
        return jt_fail(s->err, JT_E_FORMAT, "expected %s, found the end of the line",
                       what);
    return jt_fail(s->err, JT_E_FORMAT, "expected %s, found '%.*s'", what,
                   (int)jt_utf8_char(s->at, (size_t)(s->end - s->at)), s->at);
}

void jt_toml_skip_space(jt_toml_scan *s)
{
    while (jt_toml_peek(s) == ' ' || jt_toml_peek(s) == '\t')
        s->at++;
}

bool jt_toml_take_newline(jt_toml_scan *s)
{
    size_t bytes = jt_toml_peek(s) == '\r' ? 2 : 1;
    if ((size_t)(s->end - s->at) < bytes || s->at[bytes - 1] != '\n')
        return false;
    s->at += bytes;
    s->line++;
    return true;
}

static bool is_control(int c)
{
    return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f;
}

jt_status jt_toml_skip_comment(jt_toml_scan *s)
{
    if (!jt_toml_take(s, '#'))
        return JT_OK;
    while (s->at < s->end && !is_control(jt_toml_peek(s)))
        s->at++;
    int c = jt_toml_peek(s);
    if (c < 0 || c == '\n' || c == '\r')
        return JT_OK;
    return jt_fail(s->err, JT_E_FORMAT, "control character in a comment");
}

jt_status jt_toml_skip_gap(jt_toml_scan *s)
{
    do {
        jt_toml_skip_space(s);
        JT_TRY(jt_toml_skip_comment(s));
    } while (jt_toml_take_newline(s));
    return JT_OK;
}

jt_status jt_toml_end_line(jt_toml_scan *s)
{
    jt_toml_skip_space(s);
    JT_TRY(jt_toml_skip_comment(s));
    if (jt_toml_peek(s) < 0 || jt_toml_take_newline(s))
        return JT_OK;
    return jt_toml_expected(s, "the end of the line");
}

/* ---- strings ---- */

static jt_status append(jt_toml_scan *s, const char *text, size_t len)
{
    if (!jt_grow((void **)&s->text, &s->capacity, s->len + len + 1, 1))
        return jt_fail_memory(s->err, "reading TOML");
    memcpy(s->text + s->len, text, len);
    s->len += len;
    s->text[s->len] = '\0';
    return JT_OK;
}

static jt_status append_code(jt_toml_scan *s, uint32_t c)
{
    char utf8[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6)
        utf8[i] = (char)(0x80 | (c & 0x3f));
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    utf8[0] = (char)(lead[n - 1] | c);
    return append(s, utf8, n);
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The digits of \u and \U. */
static jt_status read_code(jt_toml_scan *s, int digits)
{
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        int digit = hex_digit(jt_toml_peek(s));
        if (digit < 0)
            return jt_fail(s->err, JT_E_FORMAT, "\\%c needs %d hexadecimal digits",
                           digits == 4 ? 'u' : 'U', digits);
        code = code << 4 | (uint32_t)digit;
        s->at++;
    }
    if (code == 0)
        return jt_fail(s->err, JT_E_FORMAT, "a text cannot hold NUL");
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return jt_fail(s->err, JT_E_FORMAT, "U+%04X is no character", (unsigned)code);
    return append_code(s, code);
}

/* What follows a backslash. */
static jt_status read_escape(jt_toml_scan *s, bool multi)
{
    static const char names[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
    int c = jt_toml_peek(s);
    if (multi && (c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
        jt_toml_skip_space(s);
        if (!jt_toml_take_newline(s))
            return jt_toml_expected(s, "the end of the line after '\\'");
        do {
            jt_toml_skip_space(s);
        } while (jt_toml_take_newline(s));
        return JT_OK;
    }
    if (jt_toml_take(s, 'u'))
        return read_code(s, 4);
    if (jt_toml_take(s, 'U'))
        return read_code(s, 8);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (!name)
        return jt_toml_expected(s, "b, t, n, f, r, \", \\, u or U after '\\'");
    s->at++;
    return append(s, &values[name - names], 1);
}

/* How many of `quote` stand here, at most `most`. */
static size_t count_quotes(const jt_toml_scan *s, char quote, size_t most)
{
    size_t n = 0;
    while (n < most && s->at + n < s->end && s->at[n] == quote)
        n++;
    return n;
}

/* One byte, escape or line end of a string. */
static jt_status read_piece(jt_toml_scan *s, bool literal, bool multi)
{
    if (multi && jt_toml_take_newline(s))
        return append(s, "\n", 1);
    int c = jt_toml_peek(s);
    if (c < 0 || c == '\n' || c == '\r')
        return jt_fail(s->err, JT_E_FORMAT, "the text has no closing quote");
    if (is_control(c))
        return jt_fail(s->err, JT_E_FORMAT,
                       "control character in a text (write it as \\u%04x)", c);
    s->at++;
    if (c == '\\' && !literal)
        return read_escape(s, multi);
    return append(s, s->at - 1, 1);
}

jt_status jt_toml_scan_string(jt_toml_scan *s, bool multi)
{
    char quote = *s->at;
    multi = multi && count_quotes(s, quote, 3) == 3;
    size_t fence = multi ? 3 : 1, first = s->line;
    s->at += fence;
    s->len = 0;
    if (multi)
        jt_toml_take_newline(s);
    while (count_quotes(s, quote, fence) < fence) {
        if (multi && jt_toml_peek(s) < 0) {
            s->line = first;
            return jt_fail(s->err, JT_E_FORMAT, "the text has no closing quotes");
        }
        JT_TRY(read_piece(s, quote == '\'', multi));
    }
    /* Up to two quotes may stand right before the closing three. */
    size_t quotes = count_quotes(s, quote, multi ? 5 : 1);
    JT_TRY(append(s, s->at, quotes - fence));
    s->at += quotes;
    return JT_OK;
}

jt_status jt_toml_scan_bare(jt_toml_scan *s)
{
    const char *start = s->at;
    while (is_bare(jt_toml_peek(s)))
        s->at++;
    if (s->at == start)
        return jt_toml_expected(s, "a key");
    s->len = 0;
    return append(s, start, (size_t)(s->at - start));
}

/* ---- numbers and booleans ---- */

enum { LONGEST_NUMBER = 100 };

/* "YYYY-" or "HH:" */
static bool looks_like_time(const char *word)
{
    size_t digits = strspn(word, "0123456789");
    return (digits == 4 && word[4] == '-') || (digits == 2 && word[2] == ':');
}

/* Take the underscores out; each must stand between two digits. */
static bool drop_underscores(char *word)
{
    char *to = word;
    for (const char *p = word; *p; p++) {
        if (*p != '_')
            *to++ = *p;
        else if (p == word || hex_digit(p[-1]) < 0 || hex_digit(p[1]) < 0)
            return false;
    }
    *to = '\0';
    return true;
}

/* The digits after 0x, 0o or 0b; false when there are none or others or too many. */
static bool read_radix(const char *digits, int shift, int64_t *value)
{
    *value = 0;
    for (const char *p = digits; *p; p++) {
        int digit = hex_digit(*p);
        if (digit < 0 || digit >= 1 << shift || *value > INT64_MAX >> shift)
            return false;
        *value = *value << shift | digit;
    }
    return *digits != '\0';
}

/* Decimal numbers are what they are in JSON, but for a plus and the underscores. */
static json_t *read_decimal(const char *word)
{
    bool plus = *word == '+', minus = *word == '-';
    if (strspn(word + (plus || minus), "0123456789") == 0)
        return NULL;
    return json_loads(word + plus, JSON_DECODE_ANY, NULL);
}

static json_t *read_number(char *word)
{
    static const char radix[] = "xob";
    static const int shift[] = {4, 3, 1};
    if (!drop_underscores(word))
        return NULL;
    const char *kind = word[0] == '0' && word[1] ? strchr(radix, word[1]) : NULL;
    if (!kind)
        return read_decimal(word);
    int64_t value;
    return read_radix(word + 2, shift[kind - radix], &value) ? json_integer(value)
                                                             : NULL;
}

/* May stand in a number, boolean or date. */
static bool is_plain(int c)
{
    return is_bare(c) || c == '+' || c == '.' || c == ':';
}

jt_status jt_toml_scan_plain(jt_toml_scan *s, json_t **out)
{
    char word[LONGEST_NUMBER + 1] = "";
    size_t len = 0;
    while (is_plain(jt_toml_peek(s))) {
        if (len == LONGEST_NUMBER)
            return jt_fail(s->err, JT_E_FORMAT, "'%.20s...' is too long for a number",
                           word);
        word[len++] = *s->at++;
    }
    if (len == 0)
        return jt_toml_expected(s, "a value");
    if (looks_like_time(word))
        return jt_fail(s->err, JT_E_FORMAT,
                       "dates and times have no use here; '%.40s' must be a text in "
                       "quotes",
                       word);
    const char *name = word + strspn(word, "+-");
    if (strcmp(name, "inf") == 0 || strcmp(name, "nan") == 0)
        return jt_fail(s->err, JT_E_FORMAT, "'%s' is not a finite number", word);
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
        *out = json_boolean(word[0] == 't');
        return JT_OK;
    }
    char number[sizeof word];
    memcpy(number, word, len + 1);
    *out = read_number(number);
    if (*out)
        return JT_OK;
    bool numeric = strchr("0123456789+-.", word[0]);
    return jt_fail(s->err, JT_E_FORMAT,
                   numeric ? "'%.40s' is not a number of TOML, or too large"
                           : "'%.40s' is no value: a text stands in quotes",
                   word);
}
