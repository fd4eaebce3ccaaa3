/* Values as text: Python's str() and repr(), and JSON as json.dumps writes it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/jinja.h"
#include "base/utf8.h"

void jt_jwrite(jt_jrun *run, jt_jtext *to, const char *data, size_t len)
{
    if (to->len + len + 1 > to->capacity) {
        size_t room = to->capacity * 2 + len + 64;
        char *fresh = jt_jalloc(run, room, 1);
        if (!fresh)
            return;
        if (to->len)
            memcpy(fresh, to->data, to->len);
        to->data = fresh;
        to->capacity = room;
    }
    if (len)
        memcpy(to->data + to->len, data, len);
    to->len += len;
}

static void write_text(jt_jrun *run, jt_jtext *to, const char *text)
{
    jt_jwrite(run, to, text, strlen(text));
}

/* ---- characters ---- */

int32_t jt_jdecode(jt_str text, size_t *len)
{
    *len = jt_utf8_char(text.data, text.len);
    utf8proc_int32_t c = 0xfffd;
    if (*len)
        utf8proc_iterate((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)*len,
                         &c);
    else
        *len = 1;
    return c;
}

size_t jt_jchar_at(jt_str text, size_t i)
{
    size_t at = 0;
    for (; i && at < text.len; i--) {
        size_t n = jt_utf8_char(text.data + at, text.len - at);
        at += n ? n : 1;
    }
    return at;
}

size_t jt_jchars(jt_str text)
{
    size_t count = 0;
    for (size_t at = 0; at < text.len; count++) {
        size_t n = jt_utf8_char(text.data + at, text.len - at);
        at += n ? n : 1;
    }
    return count;
}

void jt_jwrite_char(jt_jrun *run, jt_jtext *to, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    jt_jwrite(run, to, (const char *)bytes, n > 0 ? (size_t)n : 0);
}

bool jt_jis_space(int32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 ||
           c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Is the character one to strip? */
static bool strips(int32_t c, const jt_str *chars)
{
    if (!chars)
        return jt_jis_space(c);
    for (size_t at = 0, n; at < chars->len; at += n) {
        if (jt_jdecode((jt_str){chars->data + at, chars->len - at}, &n) == c)
            return true;
    }
    return false;
}

jt_str jt_jstrip(jt_str text, bool left, bool right, const jt_str *chars)
{
    size_t n;
    while (left && text.len && strips(jt_jdecode(text, &n), chars)) {
        text.data += n;
        text.len -= n;
    }
    while (right && text.len) {
        size_t last = text.len - 1;
        while (last && text.len - last < 4 &&
               ((unsigned char)text.data[last] >> 6) == 2)
            last--;
        if (!strips(jt_jdecode((jt_str){text.data + last, text.len - last}, &n), chars))
            break;
        text.len = last;
    }
    return text;
}

/* ---- numbers ---- */

/* The shortest digits that read back as the same number, placed as Python does. */
void jt_jwrite_float(jt_jrun *run, jt_jtext *to, double number)
{
    char digits[40], shown[60];
    if (!isfinite(number)) {
        write_text(run, to, isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return;
    }
    int precision = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, number);
    } while (strtod(digits, NULL) != number && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= 16 || exponent < -4) {
        char *e = strchr(digits, 'e');
        snprintf(shown, sizeof shown, "%.*se%c%02d", (int)(e - digits), digits,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else {
        int decimals = precision - exponent;
        snprintf(shown, sizeof shown, "%.*f", decimals > 1 ? decimals : 1, number);
    }
    write_text(run, to, shown);
}

static void write_int(jt_jrun *run, jt_jtext *to, int64_t integer)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)integer);
    write_text(run, to, digits);
}

/* ---- str and repr ---- */

static bool is_printable(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    bool other = kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
                 kind == UTF8PROC_CATEGORY_CS || kind == UTF8PROC_CATEGORY_CO ||
                 kind == UTF8PROC_CATEGORY_CN;
    bool separator = kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP ||
                     kind == UTF8PROC_CATEGORY_ZS;
    return c == ' ' || (!other && !separator);
}

static void write_quoted(jt_jrun *run, jt_jtext *to, jt_str text)
{
    bool single = text.len && memchr(text.data, '\'', text.len);
    bool both = single && memchr(text.data, '"', text.len);
    char quote = single && !both ? '"' : '\'', code[12];
    jt_jwrite(run, to, &quote, 1);
    for (size_t n; text.len && run->status == JT_OK; text.data += n, text.len -= n) {
        int32_t c = jt_jdecode(text, &n);
        const char *escape = c == '\n'   ? "\\n"
                             : c == '\r' ? "\\r"
                             : c == '\t' ? "\\t"
                             : c == '\\' ? "\\\\"
                                         : NULL;
        if (escape) {
            write_text(run, to, escape);
        } else if (c == quote) {
            jt_jwrite(run, to, "\\", 1);
            jt_jwrite(run, to, &quote, 1);
        } else if (is_printable(c)) {
            jt_jwrite(run, to, text.data, n);
        } else {
            const char *form = c < 0x100     ? "\\x%02x"
                               : c < 0x10000 ? "\\u%04x"
                                             : "\\U%08x";
            snprintf(code, sizeof code, form, (unsigned)c);
            write_text(run, to, code);
        }
    }
    jt_jwrite(run, to, &quote, 1);
}

static void write_list(jt_jrun *run, jt_jtext *to, jt_jval v)
{
    bool tuple = v.kind == JT_J_TUPLE;
    write_text(run, to, tuple ? "(" : "[");
    for (size_t i = 0; i < v.list->count && run->status == JT_OK; i++) {
        if (i)
            write_text(run, to, ", ");
        jt_jwrite_repr(run, to, v.list->item[i]);
    }
    write_text(run, to, tuple && v.list->count == 1 ? ",)" : tuple ? ")" : "]");
}

static void write_dict(jt_jrun *run, jt_jtext *to, const jt_jdict *dict)
{
    write_text(run, to, "{");
    for (size_t i = 0; i < dict->count && run->status == JT_OK; i++) {
        if (i)
            write_text(run, to, ", ");
        jt_jwrite_repr(run, to, dict->pair[i].key);
        write_text(run, to, ": ");
        jt_jwrite_repr(run, to, dict->pair[i].value);
    }
    write_text(run, to, "}");
}

void jt_jwrite_repr(jt_jrun *run, jt_jtext *to, jt_jval v)
{
    if (!jt_jenter(run))
        return;
    switch (v.kind) {
    case JT_J_UNDEFINED:
        write_text(run, to, "Undefined");
        break;
    case JT_J_NONE:
        write_text(run, to, "None");
        break;
    case JT_J_BOOL:
        write_text(run, to, v.truth ? "True" : "False");
        break;
    case JT_J_INT:
        write_int(run, to, v.integer);
        break;
    case JT_J_FLOAT:
        jt_jwrite_float(run, to, v.number);
        break;
    case JT_J_STRING:
        write_quoted(run, to, v.text);
        break;
    case JT_J_LIST:
    case JT_J_TUPLE:
        write_list(run, to, v);
        break;
    case JT_J_DICT:
        write_dict(run, to, v.dict);
        break;
    default:
        jt_jfail(run, "a %s has no text", jt_jkind_name(v));
    }
    run->depth--;
}

void jt_jwrite_str(jt_jrun *run, jt_jtext *to, jt_jval v)
{
    if (v.kind == JT_J_STRING)
        jt_jwrite(run, to, v.text.data, v.text.len);
    else if (v.kind != JT_J_UNDEFINED)
        jt_jwrite_repr(run, to, v);
}

jt_str jt_jshow(jt_jrun *run, jt_jval v)
{
    if (v.kind == JT_J_STRING)
        return v.text;
    jt_jtext text = {0};
    jt_jwrite_str(run, &text, v);
    return jt_jtext_value(&text).text;
}

/* ---- JSON ---- */

static void write_unit(jt_jrun *run, jt_jtext *to, unsigned unit)
{
    char code[8];
    snprintf(code, sizeof code, "\\u%04x", unit & 0xffff);
    write_text(run, to, code);
}

static void write_json_text(jt_jrun *run, jt_jtext *to, jt_str text, bool ascii)
{
    static const char from[] = "\"\\\n\r\t\b\f", into[] = "\"\\nrtbf";
    jt_jwrite(run, to, "\"", 1);
    for (size_t n; text.len && run->status == JT_OK; text.data += n, text.len -= n) {
        int32_t c = jt_jdecode(text, &n);
        const char *known = c && c < 128 ? strchr(from, c) : NULL;
        if (known) {
            jt_jwrite(run, to, "\\", 1);
            jt_jwrite(run, to, &into[known - from], 1);
        } else if (c < ' ' || (ascii && c > 126 && c < 0x10000)) {
            write_unit(run, to, (unsigned)c);
        } else if (ascii && c > 126) {
            write_unit(run, to, 0xd800 + ((unsigned)(c - 0x10000) >> 10));
            write_unit(run, to, 0xdc00 + ((unsigned)c & 0x3ff));
        } else {
            jt_jwrite(run, to, text.data, n);
        }
    }
    jt_jwrite(run, to, "\"", 1);
}

static void write_break(jt_jrun *run, jt_jtext *to, const jt_jjson *how, int level)
{
    if (how->indent < 0)
        return;
    jt_jwrite(run, to, "\n", 1);
    for (int i = 0; i < how->indent * level && run->status == JT_OK; i++)
        jt_jwrite(run, to, " ", 1);
}

static int by_key(const void *a, const void *b)
{
    const struct jt_jpair *x = a, *y = b;
    size_t n = x->key.text.len < y->key.text.len ? x->key.text.len : y->key.text.len;
    int order = n ? memcmp(x->key.text.data, y->key.text.data, n) : 0;
    return order ? order
                 : (x->key.text.len > y->key.text.len) -
                       (x->key.text.len < y->key.text.len);
}

/* The members with keys as texts, sorted when that is asked for. */
static struct jt_jpair *json_members(jt_jrun *run, const jt_jdict *dict, bool sorted)
{
    struct jt_jpair *pair = jt_jalloc(run, dict->count, sizeof *pair);
    for (size_t i = 0; pair && i < dict->count; i++) {
        jt_jtext key = {0};
        jt_jval k = dict->pair[i].key;
        if (k.kind == JT_J_NONE || k.kind == JT_J_BOOL) {
            const char *word = k.kind == JT_J_NONE ? "null"
                               : k.truth           ? "true"
                                                   : "false";
            write_text(run, &key, word);
            k = jt_jtext_value(&key);
        } else {
            k = jt_jstring(jt_jshow(run, k));
        }
        pair[i] = (struct jt_jpair){k, dict->pair[i].value};
    }
    if (pair && sorted)
        qsort(pair, dict->count, sizeof *pair, by_key);
    return pair;
}

static void write_json_dict(jt_jrun *run, jt_jtext *to, const jt_jdict *dict,
                            const jt_jjson *how, int level)
{
    struct jt_jpair *pair = json_members(run, dict, how->sort_keys);
    write_text(run, to, "{");
    for (size_t i = 0; pair && i < dict->count && run->status == JT_OK; i++) {
        if (i)
            jt_jwrite(run, to, how->item_separator.data, how->item_separator.len);
        write_break(run, to, how, level + 1);
        write_json_text(run, to, pair[i].key.text, how->ascii);
        jt_jwrite(run, to, how->key_separator.data, how->key_separator.len);
        jt_jwrite_json(run, to, pair[i].value, how, level + 1);
    }
    if (dict->count)
        write_break(run, to, how, level);
    write_text(run, to, "}");
}

static void write_json_list(jt_jrun *run, jt_jtext *to, const jt_jlist *list,
                            const jt_jjson *how, int level)
{
    write_text(run, to, "[");
    for (size_t i = 0; i < list->count && run->status == JT_OK; i++) {
        if (i)
            jt_jwrite(run, to, how->item_separator.data, how->item_separator.len);
        write_break(run, to, how, level + 1);
        jt_jwrite_json(run, to, list->item[i], how, level + 1);
    }
    if (list->count)
        write_break(run, to, how, level);
    write_text(run, to, "]");
}

void jt_jwrite_json(jt_jrun *run, jt_jtext *to, jt_jval v, const jt_jjson *how,
                    int level)
{
    if (!jt_jenter(run))
        return;
    switch (v.kind) {
    case JT_J_NONE:
        write_text(run, to, "null");
        break;
    case JT_J_BOOL:
        write_text(run, to, v.truth ? "true" : "false");
        break;
    case JT_J_INT:
    case JT_J_FLOAT:
        if (v.kind == JT_J_FLOAT && !isfinite(v.number))
            write_text(run, to,
                       isnan(v.number) ? "NaN"
                       : v.number > 0  ? "Infinity"
                                       : "-Infinity");
        else
            jt_jwrite_repr(run, to, v);
        break;
    case JT_J_STRING:
        write_json_text(run, to, v.text, how->ascii);
        break;
    case JT_J_LIST:
    case JT_J_TUPLE:
        write_json_list(run, to, v.list, how, level);
        break;
    case JT_J_DICT:
        write_json_dict(run, to, v.dict, how, level);
        break;
    default:
        jt_jfail(run, "a value of kind %s cannot be written as JSON", jt_jkind_name(v));
    }
    run->depth--;
}
