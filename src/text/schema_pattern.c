/* Regular expressions of JSON schemas (ECMA 262, the part of it that is regular) for
 * the inside of a JSON string: what JSON cannot write as it is becomes its escape. */
#include <string.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/grammar.h"
#include "text/schema.h"

enum { RANGES = 256, DEPTH = 24, LAST_CHARACTER = 0x10ffff };

typedef struct pattern {
    jt_schema_writer *w;
    FILE *out;
    const char *text, *at;
    size_t depth;
} pattern;

static jt_status refuse(pattern *p, const char *what)
{
    return jt_schema_refuse(p->w, JT_E_UNSUPPORTED, "'pattern', character %zu: %s",
                            (size_t)(p->at - p->text) + 1, what);
}

/* ---- sets of characters ---- */

typedef struct set {
    jt_char_range range[RANGES];
    size_t count;
} set;

static jt_status add(pattern *p, set *s, uint32_t low, uint32_t high)
{
    if (s->count == RANGES)
        return refuse(p, "a class with too many parts");
    s->range[s->count++] = (jt_char_range){low, high};
    return JT_OK;
}

static bool has(const set *s, uint32_t c)
{
    bool found = false;
    for (size_t i = 0; i < s->count; i++)
        found |= s->range[i].low <= c && c <= s->range[i].high;
    return found;
}

/* \d, \w or \s, or what is none of those for capital letters; false: no such class. */
static bool add_named(pattern *p, set *s, char name, jt_status *status)
{
    static const struct {
        char name;
        size_t count;
        jt_char_range range[4];
    } named[] = {
        {'d', 1, {{'0', '9'}}},
        {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'s', 2, {{9, 13}, {' ', ' '}}},
        {'D', 2, {{0, '/'}, {':', LAST_CHARACTER}}},
        {'S', 3, {{0, 8}, {14, 31}, {33, LAST_CHARACTER}}},
    };
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (named[i].name != name)
            continue;
        for (size_t k = 0; k < named[i].count && *status == JT_OK; k++)
            *status = add(p, s, named[i].range[k].low, named[i].range[k].high);
        return true;
    }
    return false;
}

/* What is not in a set, which is sorted for that. */
static jt_status negate(pattern *p, set *s)
{
    set sorted = *s;
    for (size_t i = 1; i < sorted.count; i++) {
        jt_char_range it = sorted.range[i];
        size_t j = i;
        for (; j > 0 && sorted.range[j - 1].low > it.low; j--)
            sorted.range[j] = sorted.range[j - 1];
        sorted.range[j] = it;
    }
    uint32_t low = 0;
    s->count = 0;
    for (size_t i = 0; i < sorted.count; i++) {
        if (sorted.range[i].low > low)
            JT_TRY(add(p, s, low, sorted.range[i].low - 1));
        if (sorted.range[i].high >= low)
            low = sorted.range[i].high + 1;
    }
    return low <= LAST_CHARACTER ? add(p, s, low, LAST_CHARACTER) : JT_OK;
}

/* One character of a set: as it is, where JSON lets it, or as its escape. */
static jt_status write_set(pattern *p, const set *s)
{
    static const jt_char_range plain[] = {
        {0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0xd7ff}, {0xe000, LAST_CHARACTER}};
    static const struct {
        char c, escape;
    } escapes[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                   {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
    size_t written = 0;
    for (size_t i = 0; i < s->count; i++) {
        for (size_t k = 0; k < sizeof plain / sizeof *plain; k++) {
            jt_char_range r = s->range[i];
            uint32_t low = r.low > plain[k].low ? r.low : plain[k].low;
            uint32_t high = r.high < plain[k].high ? r.high : plain[k].high;
            if (low <= high)
                fprintf(p->out, "%s\\U%08x-\\U%08x", written++ ? "" : "([", low, high);
        }
    }
    fputs(written ? "]" : "(", p->out);
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (has(s, (uint32_t)escapes[i].c))
            fprintf(p->out, "%s\"\\\\%s%c\"", written++ ? " | " : "",
                    escapes[i].escape == '"' || escapes[i].escape == '\\' ? "\\" : "",
                    escapes[i].escape);
    }
    fputc(')', p->out);
    return written ? JT_OK : refuse(p, "a class that no JSON text has a character of");
}

/* ---- characters ---- */

static jt_status read_hex(pattern *p, size_t digits, uint32_t *c)
{
    static const char hex[] = "0123456789abcdef";
    *c = 0;
    for (size_t i = 0; i < digits; i++, p->at++) {
        const char *digit = *p->at ? strchr(hex, *p->at | 0x20) : NULL;
        if (!digit)
            return refuse(p, "an escape with too few hex digits");
        *c = *c << 4 | (uint32_t)(digit - hex);
    }
    return *c < 0xd800 || *c > 0xdfff ? JT_OK : refuse(p, "half of a surrogate pair");
}

/* After a backslash that names no class. */
static jt_status read_escape(pattern *p, uint32_t *c)
{
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v";
    char e = *p->at;
    const char *known = e ? strchr(from, e) : NULL;
    if (known || (e && strchr("^$\\.*+?()[]{}|/-\"'#@!%&,:;<=>_`~ ", e))) {
        p->at++;
        *c = known ? (unsigned char)to[known - from] : (unsigned char)e;
        return JT_OK;
    }
    if (e != 'x' && e != 'u')
        return refuse(p, "this escape is not supported");
    p->at++;
    return read_hex(p, e == 'x' ? 2 : 4, c);
}

static jt_status read_character(pattern *p, uint32_t *c)
{
    utf8proc_int32_t code;
    size_t n = jt_utf8_char(p->at, strlen(p->at));
    if (*p->at == '\\') {
        p->at++;
        return read_escape(p, c);
    }
    if (n == 0 || !*p->at)
        return refuse(p, "it ends too soon");
    utf8proc_iterate((const utf8proc_uint8_t *)p->at, (utf8proc_ssize_t)n, &code);
    p->at += n;
    *c = (uint32_t)code;
    return JT_OK;
}

/* One part of a class: a character, a range, or the name of a class. */
static jt_status read_part(pattern *p, set *s)
{
    uint32_t low, high;
    jt_status status = JT_OK;
    if (*p->at == '\\' && add_named(p, s, p->at[1], &status)) {
        p->at += 2;
        return status;
    }
    JT_TRY(read_character(p, &low));
    high = low;
    if (p->at[0] == '-' && p->at[1] && p->at[1] != ']') {
        p->at++;
        JT_TRY(read_character(p, &high));
    }
    if (high < low)
        return refuse(p, "a range that ends before it begins");
    return add(p, s, low, high);
}

static jt_status read_class(pattern *p)
{
    set s = {.count = 0};
    bool negated = *++p->at == '^';
    p->at += negated;
    while (*p->at != ']')
        JT_TRY(read_part(p, &s));
    p->at++;
    if (negated)
        JT_TRY(negate(p, &s));
    return write_set(p, &s);
}

static jt_status read_single(pattern *p)
{
    set s = {.count = 0};
    jt_status status = JT_OK;
    uint32_t c = 0;
    if (*p->at == '.') {
        p->at++;
        JT_TRY(add(p, &s, '\n', '\n'));
        JT_TRY(add(p, &s, '\r', '\r'));
        JT_TRY(negate(p, &s));
    } else if (*p->at == '\\' && add_named(p, &s, p->at[1], &status)) {
        p->at += 2;
        JT_TRY(status);
    } else {
        JT_TRY(read_character(p, &c));
        JT_TRY(add(p, &s, c, c));
    }
    return write_set(p, &s);
}

/* ---- sequences ---- */

static jt_status read_alternatives(pattern *p);

static jt_status read_group(pattern *p)
{
    p->at++;
    if (p->at[0] == '?' && p->at[1] != ':')
        return refuse(p, "groups that look around, or have names, are not supported");
    p->at += p->at[0] == '?' ? 2 : 0;
    if (++p->depth > DEPTH)
        return refuse(p, "groups too deep in each other");
    fputc('(', p->out);
    JT_TRY(read_alternatives(p));
    fputc(')', p->out);
    p->depth--;
    if (*p->at != ')')
        return refuse(p, "a group without its end");
    p->at++;
    return JT_OK;
}

/* {2}, {2,}, {2,5} are written as they are. */
static jt_status read_bounds(pattern *p)
{
    size_t n = strspn(p->at, "{0123456789,");
    if (p->at[n] != '}' || p->at[1] < '0' || p->at[1] > '9')
        return refuse(p, "bad bounds of a repetition");
    fprintf(p->out, "%.*s", (int)n + 1, p->at);
    p->at += n + 1;
    return JT_OK;
}

static jt_status read_repeat(pattern *p)
{
    if (*p->at == '{')
        JT_TRY(read_bounds(p));
    else if (*p->at && strchr("*+?", *p->at))
        fputc(*p->at++, p->out);
    else
        return JT_OK;
    p->at += *p->at == '?'; /* lazy: the same texts */
    return *p->at && strchr("*+?{", *p->at) ? refuse(p, "repeated twice") : JT_OK;
}

/* Until one of `ends` or the end. */
static jt_status read_sequence(pattern *p, const char *ends)
{
    fputs("\"\"", p->out);
    while (*p->at && !strchr(ends, *p->at)) {
        fputc(' ', p->out);
        if (strchr("^$*+?{", *p->at))
            return refuse(p, "this cannot stand here");
        if (*p->at == '(')
            JT_TRY(read_group(p));
        else if (*p->at == '[')
            JT_TRY(read_class(p));
        else
            JT_TRY(read_single(p));
        JT_TRY(read_repeat(p));
    }
    return JT_OK;
}

static jt_status read_alternatives(pattern *p)
{
    for (;;) {
        JT_TRY(read_sequence(p, "|)"));
        if (*p->at != '|')
            return JT_OK;
        p->at++;
        fputs(" | ", p->out);
    }
}

/* An alternative of the whole; without anchors, anything may stand around it. */
static jt_status read_whole(pattern *p)
{
    bool begins = *p->at == '^';
    p->at += begins;
    fputs(begins ? "" : "char* ", p->out);
    JT_TRY(read_sequence(p, "|)$"));
    bool ends = *p->at == '$';
    p->at += ends;
    fputs(ends ? "" : " char*", p->out);
    return *p->at == '\0' || *p->at == '|' ? JT_OK
                                           : refuse(p, "this cannot stand here");
}

jt_status jt_schema_pattern(jt_schema_writer *w, const char *text)
{
    pattern p = {.w = w, .out = w->out, .text = text, .at = text};
    fputc('(', w->out);
    JT_TRY(read_whole(&p));
    while (*p.at == '|') {
        p.at++;
        fputs(" | ", w->out);
        JT_TRY(read_whole(&p));
    }
    fputc(')', w->out);
    return JT_OK;
}

const char *jt_schema_format(const char *name)
{
#define DATE  "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
#define ZONE  "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define TIME  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?" ZONE
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", "^" DATE "$"}, /* every month has 28 days */
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"duration", "^P([0-9]{1,4}D(T[0-9]{1,4}[HMS])?|T[0-9]{1,4}[HMS])$"},
        {"uuid", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        {"email", "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16}){0,1}@" LABEL
                  "(\\." LABEL "){1,4}$"},
        {"hostname", "^" LABEL "(\\." LABEL "){0,4}$"},
        {"ipv4", "^" OCTET "(\\." OCTET "){3}$"},
        {"ipv6", "^([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$"},
        {"uri",
         "^[a-z][a-z0-9+.-]{1,15}://[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?"
         "(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].pattern;
    }
    return NULL;
}
