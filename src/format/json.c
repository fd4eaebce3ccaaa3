#include "format/json.h"

#include <assert.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { AT_VALUE, AFTER_VALUE, AT_START };

/* A number of more digits is refused as a double: none is written like that. */
enum { LONGEST_NUMBER = 400 };

void jt_json_open(jt_json *j, const char *text, size_t bytes, jt_arena *strings,
                  jt_err *err)
{
    *j = (jt_json){.text = bytes ? text : "", .strings = strings, .err = err};
    j->at = j->text;
    j->end = j->text + bytes;
}

/* ---- errors ---- */

jt_status jt_json_fail(jt_json *j, jt_status status, const char *fmt, ...)
{
    if (j->status != JT_OK)
        return j->status;
    size_t line = 1, column = 1;
    for (const char *p = j->text; p < j->at; p++) {
        column += ((unsigned char)*p & 0xc0) != 0x80;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    char message[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    j->status = status;
    return jt_fail(j->err, status, "line %zu, column %zu: %s", line, column, message);
}

static void expected(jt_json *j, const char *what)
{
    if (j->at == j->end) {
        jt_json_fail(j, JT_E_FORMAT, "expected %s, found the end", what);
        return;
    }
    size_t len = jt_utf8_char(j->at, (size_t)(j->end - j->at));
    if (len == 0)
        jt_json_fail(j, JT_E_FORMAT, "expected %s, found byte 0x%02x", what,
                     (unsigned char)*j->at);
    else
        jt_json_fail(j, JT_E_FORMAT, "expected %s, found '%.*s'", what, (int)len,
                     j->at);
}

/* ---- bytes ---- */

/* The next byte; -1 at the end. */
static int peek(const jt_json *j)
{
    return j->at < j->end ? (unsigned char)*j->at : -1;
}

static bool take(jt_json *j, char c)
{
    if (j->at == j->end || *j->at != c)
        return false;
    j->at++;
    return true;
}

static void skip_space(jt_json *j)
{
    while (j->at < j->end &&
           (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t'))
        j->at++;
}

/* ---- strings ---- */

/* Go over the bytes of a string that stand for themselves. */
static void skip_plain(jt_json *j)
{
    while (j->at < j->end) {
        unsigned char c = (unsigned char)*j->at;
        if (c >= 0xc2 && c < 0xe0 && j->end - j->at > 1 &&
            ((unsigned char)j->at[1] & 0xc0) == 0x80) {
            j->at += 2; /* most of what is not ASCII in vocabularies of bytes */
        } else if (c >= 0x80) {
            size_t len = jt_utf8_char(j->at, (size_t)(j->end - j->at));
            if (len == 0)
                return;
            j->at += len;
        } else if (c < 0x20 || c == '"' || c == '\\') {
            return;
        } else {
            j->at++;
        }
    }
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of \u; -1 when they are not there. */
static int32_t read_unit(jt_json *j)
{
    int32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(peek(j));
        if (digit < 0) {
            expected(j, "four hexadecimal digits after \\u");
            return -1;
        }
        unit = unit << 4 | digit;
        j->at++;
    }
    return unit;
}

/* The character of \u, which may take a pair of them; -1 after an error. */
static int32_t read_code(jt_json *j)
{
    const char *start = j->at - 2;
    int32_t code = read_unit(j);
    if (code < 0xd800 || code > 0xdfff)
        return code;
    int32_t low = -1;
    if (code < 0xdc00 && take(j, '\\') && take(j, 'u')) {
        low = read_unit(j);
        if (low < 0)
            return -1;
    }
    if (low < 0xdc00 || low > 0xdfff) {
        j->at = start;
        jt_json_fail(j, JT_E_FORMAT, "half of a surrogate pair");
        return -1;
    }
    return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

static size_t write_code(char *out, int32_t code)
{
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; --i > 0; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[n - 1] | code);
    return n;
}

/* What follows a backslash, into `out`: at most as many bytes as it is written with. */
static size_t read_escape(jt_json *j, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    int c = peek(j);
    if (take(j, 'u')) {
        int32_t code = read_code(j);
        return code < 0 ? 0 : write_code(out, code);
    }
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (!name) {
        expected(j, "one of \" \\ / b f n r t u after a backslash");
        return 0;
    }
    j->at++;
    *out = values[name - names];
    return 1;
}

/* Stand before the closing quote, or fail. */
static bool at_quote(jt_json *j)
{
    int c = peek(j);
    if (c == '"')
        return true;
    if (c < 0)
        jt_json_fail(j, JT_E_FORMAT, "the text ends inside a string");
    else if (c < 0x20)
        jt_json_fail(j, JT_E_FORMAT, "control character 0x%02x in a string", c);
    else
        jt_json_fail(j, JT_E_FORMAT, "byte 0x%02x in a string is not UTF-8", c);
    return false;
}

/* The bytes up to the closing quote, as they are written, from a backslash on; the
 * reader stays. They are not more than the string has when it is decoded. */
static size_t escaped_bytes(const jt_json *j)
{
    const char *p = j->at;
    while (p < j->end && *p != '"')
        p += *p == '\\' && p + 1 < j->end ? 2 : 1;
    return (size_t)(p - j->at);
}

/* A string with escapes: `start` is its first byte, the reader stands at the first
 * backslash. */
static jt_str decode_string(jt_json *j, const char *start)
{
    size_t len = (size_t)(j->at - start);
    char *out = jt_arena_alloc(j->strings, len + escaped_bytes(j), 1);
    if (!out) {
        j->status = jt_fail_memory(j->err, "reading JSON");
        return (jt_str){0};
    }
    memcpy(out, start, len);
    while (j->status == JT_OK && take(j, '\\')) {
        len += read_escape(j, out + len);
        start = j->at;
        skip_plain(j);
        memcpy(out + len, start, (size_t)(j->at - start));
        len += (size_t)(j->at - start);
    }
    return j->status == JT_OK && at_quote(j) ? (jt_str){out, len} : (jt_str){0};
}

/* Go over the string at whose quote the reader stands: checked, not decoded. */
static void pass_string(jt_json *j)
{
    char ignored[4];
    j->at++;
    skip_plain(j);
    while (j->status == JT_OK && take(j, '\\')) {
        read_escape(j, ignored);
        skip_plain(j);
    }
    if (j->status == JT_OK && at_quote(j))
        j->at++;
}

/* The string at whose quote the reader stands. */
static jt_str read_string(jt_json *j)
{
    const char *start = ++j->at;
    skip_plain(j);
    jt_str text = {start, (size_t)(j->at - start)};
    if (peek(j) == '\\')
        text = decode_string(j, start);
    else if (!at_quote(j))
        text = (jt_str){0};
    if (j->status == JT_OK)
        j->at++;
    return text;
}

/* ---- numbers and words ---- */

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(jt_json *j)
{
    const char *start = j->at;
    while (is_digit(peek(j)))
        j->at++;
    if (j->at == start)
        expected(j, "a digit");
    return j->at > start;
}

/* The number that begins here, as it is written. */
static jt_str read_number(jt_json *j)
{
    const char *start = j->at;
    (void)take(j, '-');
    if (take(j, '0')) {
        if (is_digit(peek(j)))
            jt_json_fail(j, JT_E_FORMAT, "a number begins with a needless 0");
    } else {
        take_digits(j);
    }
    if (j->status == JT_OK && take(j, '.'))
        take_digits(j);
    if (j->status == JT_OK && (take(j, 'e') || take(j, 'E'))) {
        if (!take(j, '-'))
            (void)take(j, '+');
        take_digits(j);
    }
    return j->status == JT_OK ? (jt_str){start, (size_t)(j->at - start)} : (jt_str){0};
}

/* "true", "false" or "null", as jt_json_peek has seen its first letter. */
static void read_word(jt_json *j, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(j->end - j->at) < len || memcmp(j->at, word, len) != 0)
        expected(j, "a value");
    else
        j->at += len;
}

/* ---- values ---- */

jt_json_type jt_json_peek(jt_json *j)
{
    if (j->status != JT_OK || j->place != AT_VALUE)
        return JT_JSON_NONE;
    skip_space(j);
    switch (peek(j)) {
    case '{':
        return JT_JSON_OBJECT;
    case '[':
        return JT_JSON_ARRAY;
    case '"':
        return JT_JSON_STRING;
    case 't':
    case 'f':
        return JT_JSON_BOOL;
    case 'n':
        return JT_JSON_NULL;
    default:
        if (is_digit(peek(j)) || peek(j) == '-')
            return JT_JSON_NUMBER;
        expected(j, "a value");
        return JT_JSON_NONE;
    }
}

/* Whether a value of `type` is next. If so it is taken: the caller reads it. */
static bool begin(jt_json *j, jt_json_type type)
{
    static const char *const names[] = {"no value", "null",     "true or false",
                                        "a number", "a string", "an array",
                                        "an object"};
    jt_json_type found = jt_json_peek(j);
    if (found != type) /* says nothing after an error */
        jt_json_fail(j, JT_E_FORMAT, "expected %s, found %s", names[type],
                     names[found]);
    if (j->status != JT_OK)
        return false;
    j->place = AFTER_VALUE;
    return true;
}

void jt_json_enter(jt_json *j, jt_json_type type)
{
    if (!begin(j, type))
        return;
    if (j->depth == JT_JSON_DEPTH) {
        jt_json_fail(j, JT_E_LIMIT, "more than %d objects and arrays in each other",
                     JT_JSON_DEPTH);
        return;
    }
    j->object[j->depth++] = type == JT_JSON_OBJECT;
    j->at++;
    j->place = AT_START;
}

/* The name of the next value, and its colon. `decode` false: j->key is of no use. */
static void read_key(jt_json *j, bool decode)
{
    skip_space(j);
    if (peek(j) != '"') {
        expected(j, "a name in quotes");
        return;
    }
    if (decode)
        j->key = read_string(j);
    else
        pass_string(j);
    skip_space(j);
    if (j->status == JT_OK && !take(j, ':'))
        expected(j, "':'");
}

static bool step(jt_json *j, bool decode)
{
    if (j->status != JT_OK || j->depth == 0)
        return false;
    bool object = j->object[j->depth - 1];
    skip_space(j);
    if (take(j, object ? '}' : ']')) {
        j->depth--;
        j->place = AFTER_VALUE;
        return false;
    }
    if (j->place == AFTER_VALUE && !take(j, ',')) {
        expected(j, object ? "',' or '}'" : "',' or ']'");
        return false;
    }
    j->key = (jt_str){0};
    if (object)
        read_key(j, decode);
    j->place = AT_VALUE;
    return j->status == JT_OK;
}

bool jt_json_next(jt_json *j)
{
    if (j->place == AT_VALUE && j->depth > 0)
        jt_json_skip(j);
    return step(j, true);
}

bool jt_json_key_is(const jt_json *j, const char *name)
{
    size_t len = strlen(name);
    return j->key.len == len && memcmp(j->key.data, name, len) == 0;
}

bool jt_json_bool(jt_json *j)
{
    if (!begin(j, JT_JSON_BOOL))
        return false;
    bool value = *j->at == 't';
    read_word(j, value ? "true" : "false");
    return value && j->status == JT_OK;
}

jt_str jt_json_number(jt_json *j)
{
    return begin(j, JT_JSON_NUMBER) ? read_number(j) : (jt_str){0};
}

jt_str jt_json_str(jt_json *j)
{
    return begin(j, JT_JSON_STRING) ? read_string(j) : (jt_str){0};
}

int64_t jt_json_int(jt_json *j)
{
    jt_str text = jt_json_number(j);
    bool minus = text.len && text.data[0] == '-';
    int64_t value = 0;
    for (size_t i = minus; i < text.len; i++) {
        int digit = text.data[i] - '0';
        bool fits = is_digit(text.data[i]) &&
                    !__builtin_mul_overflow(value, 10, &value) &&
                    !__builtin_sub_overflow(value, digit, &value);
        if (!fits) {
            jt_json_fail(j, JT_E_FORMAT, "%.*s is not a whole number of 64 bits",
                         (int)(text.len < 40 ? text.len : 40), text.data);
            return 0;
        }
    }
    /* Summed up below zero, where there is room for one more. */
    if (!minus && __builtin_sub_overflow(0, value, &value)) {
        jt_json_fail(j, JT_E_FORMAT, "%.*s is not a whole number of 64 bits",
                     (int)text.len, text.data);
        return 0;
    }
    return value;
}

/* As strtod has it in the C locale, whatever the locale of the program is. */
static double parse_double(const char *text)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value = strtod_l(text, NULL, plain);
    freelocale(plain);
    return value;
}

double jt_json_double(jt_json *j)
{
    char text[LONGEST_NUMBER + 1];
    jt_str number = jt_json_number(j);
    if (number.len == 0)
        return 0;
    if (number.len > LONGEST_NUMBER) {
        jt_json_fail(j, JT_E_FORMAT, "a number of %zu characters", number.len);
        return 0;
    }
    memcpy(text, number.data, number.len);
    text[number.len] = '\0';
    double value = parse_double(text);
    if (isfinite(value))
        return value;
    jt_json_fail(j, JT_E_FORMAT, "%.40s is too large", text);
    return 0;
}

/* One value, or the beginning of an object or array. */
static void pass_value(jt_json *j)
{
    jt_json_type type = jt_json_peek(j);
    if (type == JT_JSON_OBJECT || type == JT_JSON_ARRAY) {
        jt_json_enter(j, type);
        return;
    }
    j->place = AFTER_VALUE;
    if (type == JT_JSON_STRING) {
        pass_string(j);
    } else if (type == JT_JSON_NUMBER) {
        read_number(j);
    } else if (type != JT_JSON_NONE) {
        int c = peek(j);
        read_word(j, c == 't' ? "true" : c == 'f' ? "false" : "null");
    }
}

void jt_json_skip(jt_json *j)
{
    size_t depth = j->depth;
    pass_value(j);
    while (j->status == JT_OK && j->depth > depth) {
        if (step(j, false))
            pass_value(j);
    }
}

jt_str jt_json_raw(jt_json *j)
{
    skip_space(j);
    const char *start = j->at;
    jt_json_skip(j);
    return j->status == JT_OK ? (jt_str){start, (size_t)(j->at - start)} : (jt_str){0};
}

jt_status jt_json_finish(jt_json *j)
{
    if (j->status == JT_OK && j->place == AT_VALUE && j->depth == 0)
        jt_json_skip(j);
    assert(j->status != JT_OK || j->depth == 0);
    skip_space(j);
    if (j->status == JT_OK && j->at < j->end)
        expected(j, "the end");
    return j->status;
}
