/* Methods of texts, and filters on texts. */
#include <string.h>

#include <utf8proc.h>

#include "text/jinja.h"

static jt_jval text_value(jt_jtext text)
{
    return jt_jtext_value(&text);
}

/* ---- strip, split, join ---- */

static jt_jval strip(jt_jrun *run, jt_str text, const jt_jargs *args, bool left,
                     bool right)
{
    jt_jval chars;
    bool given = jt_jarg(args, 0, "chars", &chars) && chars.kind != JT_J_NONE;
    jt_str set = given ? jt_jarg_text(run, args, 0, "chars", NULL) : jt_jstr("");
    return jt_jstring(jt_jstrip(text, left, right, given ? &set : NULL));
}

static jt_jval do_strip(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return strip(run, self.text, args, true, true);
}

static jt_jval do_lstrip(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return strip(run, self.text, args, true, false);
}

static jt_jval do_rstrip(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return strip(run, self.text, args, false, true);
}

static jt_jval do_trim(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return strip(run, jt_jshow(run, self), args, true, true);
}

static void add_part(jt_jrun *run, jt_jval list, const char *from, const char *to)
{
    jt_jlist_add(run, list.list, jt_jstring((jt_str){from, (size_t)(to - from)}));
}

/* At runs of white space; empty parts are left out. */
static void split_words(jt_jrun *run, jt_jval list, jt_str text, int64_t most)
{
    text = jt_jstrip(text, true, false, NULL);
    while (text.len && run->status == JT_OK) {
        size_t end = 0, n;
        if (most-- == 0)
            end = jt_jstrip(text, false, true, NULL).len;
        while (most >= -1 && end < text.len &&
               !jt_jis_space(jt_jdecode((jt_str){text.data + end, text.len - end}, &n)))
            end += n;
        add_part(run, list, text.data, text.data + end);
        text = jt_jstrip((jt_str){text.data + end, text.len - end}, true, false, NULL);
    }
}

static void split_at(jt_jrun *run, jt_jval list, jt_str text, jt_str sep, int64_t most)
{
    const char *at = text.data, *end = text.data + text.len;
    for (; most != 0 && run->status == JT_OK; most--) {
        const char *hit = memmem(at, (size_t)(end - at), sep.data, sep.len);
        if (!hit)
            break;
        add_part(run, list, at, hit);
        at = hit + sep.len;
    }
    add_part(run, list, at, end);
}

/* From the right: find the parts backwards, then turn them around. */
static void split_at_right(jt_jrun *run, jt_jval list, jt_str text, jt_str sep,
                           int64_t most)
{
    const char *end = text.data + text.len;
    for (const char *at = end; most != 0 && run->status == JT_OK;) {
        if ((size_t)(at - text.data) < sep.len)
            break;
        const char *hit = at - sep.len;
        if (memcmp(hit, sep.data, sep.len) != 0) {
            at--;
            continue;
        }
        add_part(run, list, hit + sep.len, end);
        end = at = hit;
        most--;
    }
    add_part(run, list, text.data, end);
    for (size_t i = 0, j = list.list->count; run->status == JT_OK && i + 1 < j; i++) {
        jt_jval swap = list.list->item[i];
        list.list->item[i] = list.list->item[--j];
        list.list->item[j] = swap;
    }
}

static jt_jval split(jt_jrun *run, jt_str text, const jt_jargs *args, bool right)
{
    jt_jval list = jt_jlist_new(run, JT_J_LIST), sep = jt_jnone();
    int64_t most = jt_jarg_int(run, args, 1, "maxsplit", -1);
    jt_jarg(args, 0, "sep", &sep);
    if (run->status != JT_OK)
        return list;
    if (sep.kind == JT_J_NONE) {
        if (right && most >= 0)
            jt_jfail(run, "rsplit() with a limit needs a separator");
        split_words(run, list, text, most < 0 ? INT64_MAX : most);
        return list;
    }
    if (sep.kind != JT_J_STRING || sep.text.len == 0)
        jt_jfail(run, "split() needs a separator that is not empty");
    else if (right)
        split_at_right(run, list, text, sep.text, most);
    else
        split_at(run, list, text, sep.text, most);
    return list;
}

static jt_jval do_split(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return split(run, self.text, args, false);
}

static jt_jval do_rsplit(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return split(run, self.text, args, true);
}

/* Lines without their ends. */
static jt_jval lines_of(jt_jrun *run, jt_str text)
{
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    const char *at = text.data, *end = text.data + text.len;
    while (at < end && run->status == JT_OK) {
        const char *stop = at;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        add_part(run, list, at, stop);
        at = stop + (stop < end);
        at += stop + 1 < end && stop[0] == '\r' && stop[1] == '\n';
    }
    return list;
}

static jt_jval do_splitlines(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return lines_of(run, self.text);
}

static jt_jval do_join(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval items = jt_jlist_new(run, JT_J_LIST);
    jt_jtext text = {0};
    jt_jarg(args, 0, "iterable", &items);
    const jt_jlist *list = jt_jitems(run, items);
    for (size_t i = 0; i < list->count && run->status == JT_OK; i++) {
        if (list->item[i].kind != JT_J_STRING)
            jt_jfail(run, "join() of %s", jt_jkind_name(list->item[i]));
        if (i)
            jt_jwrite(run, &text, self.text.data, self.text.len);
        jt_jwrite_str(run, &text, list->item[i]);
    }
    return text_value(text);
}

/* ---- case ---- */

enum { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITAL };

static bool is_letter(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LT;
}

/* TITLE: the first letter of each word is large; CAPITAL: that of the text. */
static jt_jval change_case(jt_jrun *run, jt_str text, int how)
{
    jt_jtext out = {0};
    bool start = true;
    for (size_t n; text.len && jt_jstep(run, 1); text.data += n, text.len -= n) {
        int32_t c = jt_jdecode(text, &n);
        bool large = how == CASE_UPPER || (how != CASE_LOWER && start);
        start = how == CASE_TITLE && !is_letter(c);
        jt_jwrite_char(run, &out, large ? utf8proc_toupper(c) : utf8proc_tolower(c));
    }
    return text_value(out);
}

static jt_jval do_lower(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return change_case(run, jt_jshow(run, self), CASE_LOWER);
}

static jt_jval do_upper(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return change_case(run, jt_jshow(run, self), CASE_UPPER);
}

static jt_jval do_title(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return change_case(run, jt_jshow(run, self), CASE_TITLE);
}

static jt_jval do_capitalize(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return change_case(run, jt_jshow(run, self), CASE_CAPITAL);
}

/* ---- find and replace ---- */

/* Does the text begin (or end) with this, or with one of these? */
static bool has_edge(jt_jrun *run, jt_str text, jt_jval edge, bool end)
{
    if (edge.kind == JT_J_TUPLE) {
        for (size_t i = 0; i < edge.list->count; i++) {
            if (edge.list->item[i].kind == JT_J_STRING &&
                has_edge(run, text, edge.list->item[i], end))
                return true;
        }
        return false;
    }
    if (edge.kind != JT_J_STRING) {
        jt_jfail(run, "startswith() and endswith() need a text, not %s",
                 jt_jkind_name(edge));
        return false;
    }
    size_t n = edge.text.len;
    return n <= text.len && (n == 0 || memcmp(text.data + (end ? text.len - n : 0),
                                              edge.text.data, n) == 0);
}

static jt_jval do_startswith(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval edge = jt_jnone();
    jt_jarg(args, 0, "prefix", &edge);
    return jt_jbool(has_edge(run, self.text, edge, false));
}

static jt_jval do_endswith(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval edge = jt_jnone();
    jt_jarg(args, 0, "suffix", &edge);
    return jt_jbool(has_edge(run, self.text, edge, true));
}

static jt_jval do_removeprefix(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str edge = jt_jarg_text(run, args, 0, "prefix", NULL), text = self.text;
    if (!has_edge(run, text, jt_jstring(edge), false))
        return self;
    return jt_jstring((jt_str){text.data + edge.len, text.len - edge.len});
}

static jt_jval do_removesuffix(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str edge = jt_jarg_text(run, args, 0, "suffix", NULL), text = self.text;
    if (!has_edge(run, text, jt_jstring(edge), true))
        return self;
    return jt_jstring((jt_str){text.data, text.len - edge.len});
}

/* The place of the first (or last) hit, in characters; -1 when there is none. */
static jt_jval find(jt_jrun *run, jt_jval self, const jt_jargs *args, bool last)
{
    jt_str what = jt_jarg_text(run, args, 0, "sub", NULL), text = self.text;
    int64_t found = -1;
    for (size_t at = 0; at + what.len <= text.len && jt_jstep(run, 1); at++) {
        const char *hit = memmem(text.data + at, text.len - at, what.data, what.len);
        if (!hit)
            break;
        at = (size_t)(hit - text.data);
        found = (int64_t)at;
        if (!last)
            break;
    }
    return jt_jint(found < 0 ? -1
                             : (int64_t)jt_jchars((jt_str){text.data, (size_t)found}));
}

static jt_jval do_find(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return find(run, self, args, false);
}

static jt_jval do_rfind(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return find(run, self, args, true);
}

static jt_jval do_index(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval at = find(run, self, args, false);
    if (at.integer < 0)
        jt_jfail(run, "index(): the text does not contain this");
    return at;
}

static jt_jval do_count(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str what = jt_jarg_text(run, args, 0, "sub", NULL), text = self.text;
    int64_t count = 0;
    if (what.len == 0)
        return jt_jint((int64_t)jt_jchars(text) + 1);
    for (const char *at = text.data, *hit;
         (hit = memmem(at, (size_t)(text.data + text.len - at), what.data, what.len)) &&
         jt_jstep(run, 1);
         at = hit + what.len)
        count++;
    return jt_jint(count);
}

static jt_jval replace(jt_jrun *run, jt_str text, const jt_jargs *args)
{
    jt_str old = jt_jarg_text(run, args, 0, "old", NULL);
    jt_str fresh = jt_jarg_text(run, args, 1, "new", NULL);
    int64_t most = jt_jarg_int(run, args, 2, "count", -1);
    jt_jtext out = {0};
    const char *at = text.data, *end = text.data + text.len;
    while (most != 0 && jt_jstep(run, 1)) {
        size_t n = 0;
        const char *hit = old.len ? memmem(at, (size_t)(end - at), old.data, old.len)
                                  : at; /* an empty one is before each character */
        if (!hit)
            break;
        jt_jwrite(run, &out, at, (size_t)(hit - at));
        jt_jwrite(run, &out, fresh.data, fresh.len);
        at = hit + old.len;
        most--;
        if (old.len)
            continue;
        if (at == end)
            break;
        jt_jdecode((jt_str){at, (size_t)(end - at)}, &n);
        jt_jwrite(run, &out, at, n);
        at += n;
    }
    jt_jwrite(run, &out, at, (size_t)(end - at));
    return text_value(out);
}

static jt_jval do_replace(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return replace(run, jt_jshow(run, self), args);
}

/* The value of a field "{}", "{0}" or "{name}" of format(). */
static jt_jval field_value(jt_jrun *run, const jt_jargs *args, jt_str name,
                           size_t *next)
{
    size_t i = 0;
    const jt_jval *named = jt_jdict_find(&args->named, jt_jstring(name));
    bool number = name.len < 4;
    for (size_t c = 0; c < name.len; c++) {
        number = number && name.data[c] >= '0' && name.data[c] <= '9';
        i = i * 10 + (size_t)(name.data[c] - '0') % 10;
    }
    if (!name.len)
        i = (*next)++;
    if (named)
        return *named;
    if (number && i < args->count)
        return args->item[i];
    jt_jfail(run, "format() has no value for the field '%.*s'",
             (int)(name.len < 40 ? name.len : 40), name.data);
    return jt_jnone();
}

/* Python's str.format without conversions and format specifications. */
static jt_jval do_format(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str text = self.text;
    jt_jtext out = {0};
    size_t next = 0;
    for (size_t i = 0; i < text.len && jt_jstep(run, 1); i++) {
        char c = text.data[i];
        bool doubled = i + 1 < text.len && text.data[i + 1] == c;
        const char *close = c == '{' ? memchr(text.data + i, '}', text.len - i) : NULL;
        if ((c != '{' && c != '}') || doubled) {
            jt_jwrite(run, &out, &c, 1);
            i += c == '{' || c == '}';
        } else if (!close) {
            jt_jfail(run, "format() of a text with a single '%c'", c);
        } else {
            jt_str name = {text.data + i + 1, (size_t)(close - text.data) - i - 1};
            jt_jwrite_str(run, &out, field_value(run, args, name, &next));
            i = (size_t)(close - text.data);
        }
    }
    return text_value(out);
}

/* ---- what kind of text ---- */

static bool all_chars(jt_jrun *run, jt_str text, bool (*is)(int32_t))
{
    bool all = text.len > 0;
    for (size_t n; all && text.len && jt_jstep(run, 1); text.data += n, text.len -= n)
        all = is(jt_jdecode(text, &n));
    return all;
}

static bool is_digit(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

static bool is_alpha(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

static bool is_alnum(int32_t c)
{
    return is_alpha(c) || is_digit(c);
}

static jt_jval do_isdigit(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(all_chars(run, self.text, is_digit));
}

static jt_jval do_isalpha(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(all_chars(run, self.text, is_alpha));
}

static jt_jval do_isalnum(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(all_chars(run, self.text, is_alnum));
}

static jt_jval do_isspace(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(all_chars(run, self.text, jt_jis_space));
}

/* Has letters with case, all of them this one. */
static bool has_case(jt_jrun *run, jt_str text, bool upper)
{
    bool any = false;
    for (size_t n; text.len && jt_jstep(run, 1); text.data += n, text.len -= n) {
        int32_t c = jt_jdecode(text, &n);
        if (c != (upper ? utf8proc_toupper(c) : utf8proc_tolower(c)))
            return false;
        any = any || is_letter(c);
    }
    return any;
}

static jt_jval do_isupper(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(has_case(run, self.text, true));
}

static jt_jval do_islower(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(has_case(run, self.text, false));
}

const jt_jnamed jt_jinja_string_methods[] = {
    {"capitalize", do_capitalize},
    {"count", do_count},
    {"endswith", do_endswith},
    {"find", do_find},
    {"format", do_format},
    {"index", do_index},
    {"isalnum", do_isalnum},
    {"isalpha", do_isalpha},
    {"isdigit", do_isdigit},
    {"islower", do_islower},
    {"isnumeric", do_isdigit},
    {"isspace", do_isspace},
    {"isupper", do_isupper},
    {"join", do_join},
    {"lower", do_lower},
    {"lstrip", do_lstrip},
    {"removeprefix", do_removeprefix},
    {"removesuffix", do_removesuffix},
    {"replace", do_replace},
    {"rfind", do_rfind},
    {"rsplit", do_rsplit},
    {"rstrip", do_rstrip},
    {"split", do_split},
    {"splitlines", do_splitlines},
    {"startswith", do_startswith},
    {"strip", do_strip},
    {"title", do_title},
    {"upper", do_upper},
    {NULL, NULL},
};

/* ---- filters of their own ---- */

/* Lines but the first (unless `first`) and empty ones (unless `blank`) are indented. */
static jt_jval do_indent(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval width = jt_jint(4);
    jt_jtext pad = {0}, out = {0};
    bool first = jt_jarg_truth(args, 1, "first", false);
    bool blank = jt_jarg_truth(args, 2, "blank", false);
    jt_str text = jt_jshow(run, self);
    jt_jarg(args, 0, "width", &width);
    if (width.kind == JT_J_STRING)
        jt_jwrite_str(run, &pad, width);
    for (int64_t i = 0; width.kind == JT_J_INT && i < width.integer && jt_jstep(run, 1);
         i++)
        jt_jwrite(run, &pad, " ", 1);
    jt_jval lines = lines_of(run, text);
    bool ends = text.len && text.data[text.len - 1] == '\n';
    if (run->status == JT_OK && (ends || !text.len))
        jt_jlist_add(run, lines.list, jt_jstring(jt_jstr("")));
    for (size_t i = 0; run->status == JT_OK && i < lines.list->count; i++) {
        jt_jval line = lines.list->item[i];
        if (i)
            jt_jwrite(run, &out, "\n", 1);
        if (i ? blank || line.text.len > 0 : first)
            jt_jwrite(run, &out, pad.data, pad.len);
        jt_jwrite_str(run, &out, line);
    }
    return text_value(out);
}

/* Jinja's title: words begin after white space and after - ( { [ <. */
static jt_jval do_title_filter(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    jt_str text = jt_jshow(run, self);
    jt_jtext out = {0};
    bool start = true;
    for (size_t n; text.len && jt_jstep(run, 1); text.data += n, text.len -= n) {
        int32_t c = jt_jdecode(text, &n);
        jt_jwrite_char(run, &out, start ? utf8proc_toupper(c) : utf8proc_tolower(c));
        start = jt_jis_space(c) || (c > 0 && c < 128 && strchr("-({[<", c));
    }
    return text_value(out);
}

static jt_jval do_escape(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    static const struct {
        char from;
        const char *into;
    } entities[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    (void)args;
    jt_str text = jt_jshow(run, self);
    jt_jtext out = {0};
    for (size_t i = 0; i < text.len && jt_jstep(run, 1); i++) {
        const char *into = NULL;
        for (size_t e = 0; e < sizeof entities / sizeof *entities; e++)
            into = entities[e].from == text.data[i] ? entities[e].into : into;
        jt_jwrite(run, &out, into ? into : text.data + i, into ? strlen(into) : 1);
    }
    return text_value(out);
}

static jt_jval do_string(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return jt_jstring(jt_jshow(run, self));
}

static jt_jval do_wordcount(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    split_words(run, list, jt_jshow(run, self), INT64_MAX);
    return jt_jint(run->status == JT_OK ? (int64_t)list.list->count : 0);
}

const jt_jnamed jt_jinja_string_filters[] = {
    {"capitalize", do_capitalize},
    {"e", do_escape},
    {"escape", do_escape},
    {"indent", do_indent},
    {"lower", do_lower},
    {"replace", do_replace},
    {"safe", do_string},
    {"string", do_string},
    {"title", do_title_filter},
    {"trim", do_trim},
    {"upper", do_upper},
    {"wordcount", do_wordcount},
    {NULL, NULL},
};
