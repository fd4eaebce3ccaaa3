#include "serve/calls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One look at a text. */
typedef struct reading {
    jt_calls *calls;
    jt_buffer *text; /* what is certain to be text */
    json_t **deltas;
    bool over, fits;
} reading;

/* ---- what is told ---- */

static void say(reading *r, size_t n)
{
    jt_calls *c = r->calls;
    size_t space = 0;
    while (space < n && strchr(" \n", c->held.data[space]))
        space++;
    if (!c->count || space < n) { /* space behind calls is nobody's */
        r->fits = r->fits && jt_buffer_add(r->text, c->held.data, n);
        c->spoken |= n > 0;
    }
    jt_buffer_drop(&c->held, n);
}

static void tell(reading *r, json_t *delta)
{
    if (!*r->deltas)
        *r->deltas = json_array();
    r->fits = json_array_append_new(*r->deltas, delta) == 0 && r->fits;
}

static void tell_piece(reading *r)
{
    jt_calls *c = r->calls;
    if (c->piece.len)
        tell(r, json_pack("{sI s{so}}", "index", (json_int_t)c->count - 1, "function",
                          "arguments", jt_buffer_json(&c->piece)));
    c->piece.len = 0;
}

static void add_piece(reading *r, const char *text, size_t len)
{
    r->fits = r->fits && jt_buffer_add(&r->calls->piece, text, len);
}

static void make_id(char id[10])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[9] = {0};
    (void)!getrandom(random, sizeof random, 0);
    for (size_t i = 0; i < sizeof random; i++)
        id[i] = letters[random[i] % (sizeof letters - 1)];
    id[9] = '\0';
}

static const json_t *find_tool(const jt_calls *c, jt_str name)
{
    for (size_t i = 0; i < json_array_size(c->tools); i++) {
        const json_t *function =
            json_object_get(json_array_get(c->tools, i), "function");
        const json_t *known = json_object_get(function, "name");
        if (json_string_length(known) == name.len &&
            memcmp(json_string_value(known), name.data, name.len) == 0)
            return function;
    }
    return NULL;
}

static void begin_call(reading *r, jt_str name)
{
    jt_calls *c = r->calls;
    char id[10];
    const json_t *parameters = json_object_get(find_tool(c, name), "parameters");
    jt_buffer text = {.data = (char *)name.data, .len = name.len};
    tell_piece(r);
    make_id(id);
    tell(r, json_pack("{sI ss ss s{so ss}}", "index", (json_int_t)c->count, "id", id,
                      "type", "function", "function", "name", jt_buffer_json(&text),
                      "arguments", ""));
    c->before += !c->spoken;
    c->count++;
    c->properties = json_object_get(parameters, "properties");
    c->quoted = c->escaped = c->fresh = false;
    c->parameters = 0;
}

/* ---- calls that are read as a whole ---- */

static void add_whole(reading *r, const json_t *call)
{
    const json_t *name = json_object_get(call, "name");
    const json_t *given = json_object_get(call, "arguments");
    char *dumped = given && !json_is_string(given)
                       ? json_dumps(given, JSON_COMPACT | JSON_ENCODE_ANY)
                       : NULL;
    const char *arguments = dumped ? dumped : given ? json_string_value(given) : "{}";
    begin_call(r, (jt_str){json_string_value(name), json_string_length(name)});
    if (arguments)
        add_piece(r, arguments, strlen(arguments));
    r->fits &= arguments != NULL;
    free(dumped);
}

/* Are there calls in a text? */
static bool add_all(reading *r, const char *start, size_t len)
{
    const jt_calls *c = r->calls;
    if (!c->style->read)
        return false;
    char *text = strndup(start, len);
    json_t *list = text ? c->style->read(c->style, text, strlen(text)) : NULL, *call;
    const json_t *name = json_object_get(json_array_get(list, 0), "name");
    size_t i;
    r->fits &= text != NULL;
    /* Where nothing but its shape tells a call, it must be of a tool that there is. */
    bool found =
        list && (c->style->open || find_tool(c, (jt_str){json_string_value(name),
                                                         json_string_length(name)}));
    json_array_foreach(list, i, call)
    {
        if (found && r->fits)
            add_whole(r, call);
    }
    json_decref(list);
    free(text);
    return found;
}

/* ---- the parts of a text ---- */

/* What ends a call, but for the end of the text. NULL: nothing. */
static const char *end_mark(const jt_calls *c)
{
    return c->style->close ? c->style->close : c->style->open;
}

static const char *find_end(const jt_calls *c, size_t from)
{
    const char *mark = end_mark(c);
    return mark ? memmem(c->held.data + from, c->held.len - from, mark, strlen(mark))
                : NULL;
}

/* Bytes of what is held that are no part of a mark. */
static size_t certain(const reading *r, const char *end)
{
    const jt_calls *c = r->calls;
    if (end)
        return (size_t)(end - c->held.data);
    return c->held.len -
           (r->over || !end_mark(c) ? 0 : jt_buffer_tail(&c->held, end_mark(c)));
}

/* Text before a call goes out without the space between them. */
static size_t without_space(const char *text, size_t len)
{
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    return len;
}

static bool enter(jt_calls *c, jt_calls_at at, size_t mark)
{
    c->at = at;
    c->mark = mark;
    return true;
}

/* A text that is a call or is none tells by how it begins. */
static bool read_bare(reading *r)
{
    jt_calls *c = r->calls;
    size_t space = 0;
    while (space < c->held.len && strchr(" \n", c->held.data[space]))
        space++;
    if (!c->spoken && space < c->held.len && c->held.data[space] == '{')
        return enter(c, JT_CALLS_HEAD, 0);
    if (c->spoken || space < c->held.len || r->over)
        say(r, c->held.len);
    return false;
}

static bool read_text(reading *r)
{
    jt_calls *c = r->calls;
    const char *open = c->style->open;
    if (!open)
        return read_bare(r);
    if (c->forced && !c->style->close && !c->count && !c->spoken) {
        /* The mark need not be part of the text. */
        size_t n = c->held.len < strlen(open) ? c->held.len : strlen(open);
        if (memcmp(c->held.data, open, n) != 0)
            return enter(c, JT_CALLS_HEAD, 0);
        if (n < strlen(open) && !r->over)
            return false;
    }
    const char *begin = memmem(c->held.data, c->held.len, open, strlen(open));
    if (!begin) {
        size_t n = c->held.len - (r->over ? 0 : jt_buffer_tail(&c->held, open));
        say(r, r->over ? n : without_space(c->held.data, n));
        return false;
    }
    size_t before = (size_t)(begin - c->held.data);
    size_t spoken = without_space(c->held.data, before);
    say(r, spoken);
    return enter(c, JT_CALLS_HEAD, before - spoken + strlen(open));
}

static bool read_head(reading *r)
{
    jt_calls *c = r->calls;
    jt_call_head head;
    const char *text = c->held.data + c->mark, *end = find_end(c, c->mark);
    size_t len = end ? (size_t)(end - text) : c->held.len - c->mark;
    jt_call_start start = c->style->begin(c->style, text, len, &head);
    if (start == JT_CALL_BEGUN && (c->style->open || find_tool(c, head.name))) {
        begin_call(r, head.name);
        c->depth = c->base = head.depth;
        jt_buffer_drop(&c->held, c->mark + head.length);
        return enter(c, JT_CALLS_ARGUMENTS, 0);
    }
    if (!end && !r->over)
        return false;
    size_t all = c->mark + len + (end && c->style->close ? strlen(c->style->close) : 0);
    if (add_all(r, text, len))
        jt_buffer_drop(&c->held, all);
    else
        say(r, all);
    return enter(c, JT_CALLS_TEXT, 0);
}

/* Bytes of JSON up to where there are only so many brackets around it, or all. */
static size_t walk(jt_calls *c, size_t limit, int depth)
{
    size_t n = 0;
    while (n < limit) {
        char byte = c->held.data[n++];
        if (c->escaped)
            c->escaped = false;
        else if (c->quoted && byte == '\\')
            c->escaped = true;
        else if (byte == '"')
            c->quoted = !c->quoted;
        else if (!c->quoted && strchr("{[", byte) && byte)
            c->depth++;
        else if (!c->quoted && strchr("}]", byte) && byte && --c->depth <= depth)
            break;
    }
    return n;
}

static bool read_arguments(reading *r)
{
    jt_calls *c = r->calls;
    const char *end = find_end(c, 0);
    if (c->style->tags)
        return jt_calls_parameters(c, certain(r, end), end || r->over, &r->fits);
    size_t n = walk(c, certain(r, end), c->base);
    add_piece(r, c->held.data, n);
    jt_buffer_drop(&c->held, n);
    if (n && c->depth <= c->base)
        return enter(c, c->base ? JT_CALLS_AFTER : JT_CALLS_REST, 0);
    return end && enter(c, JT_CALLS_REST, 0);
}

static bool read_after(reading *r)
{
    jt_calls *c = r->calls;
    const char *end = find_end(c, 0);
    size_t n = walk(c, certain(r, end), 0);
    jt_buffer_drop(&c->held, n);
    if (n && c->depth == 0)
        return enter(c, JT_CALLS_NEXT, 0);
    return end && enter(c, JT_CALLS_REST, 0);
}

static bool read_next(reading *r)
{
    jt_calls *c = r->calls;
    size_t space = 0;
    while (space < c->held.len && strchr(" \n", c->held.data[space]))
        space++;
    if (space == c->held.len)
        return false;
    bool another = c->held.data[space] == ',';
    jt_buffer_drop(&c->held, space + another);
    return enter(c, another ? JT_CALLS_HEAD : JT_CALLS_REST, 0);
}

static bool read_rest(reading *r)
{
    jt_calls *c = r->calls;
    const char *end = find_end(c, 0);
    jt_buffer_drop(&c->held, certain(r, end));
    if (!end)
        return false;
    if (c->style->close)
        jt_buffer_drop(&c->held, strlen(c->style->close));
    return enter(c, JT_CALLS_TEXT, 0);
}

/* ---- the whole ---- */

bool jt_calls_read(jt_calls *c, jt_buffer *text, bool over, json_t **deltas)
{
    static bool (*const parts[JT_CALLS_STATES])(reading *) = {
        [JT_CALLS_TEXT] = read_text,           [JT_CALLS_HEAD] = read_head,
        [JT_CALLS_ARGUMENTS] = read_arguments, [JT_CALLS_AFTER] = read_after,
        [JT_CALLS_NEXT] = read_next,           [JT_CALLS_REST] = read_rest};
    if (!c->style)
        return true;
    reading r = {c, text, deltas, over, jt_buffer_add(&c->held, text->data, text->len)};
    text->len = 0;
    bool again = r.fits;
    while (again && r.fits && (c->held.len || (over && c->at == JT_CALLS_ARGUMENTS)))
        again = parts[c->at](&r);
    tell_piece(&r);
    return r.fits;
}

/* Arguments become one string for each call. */
static bool join(json_t *calls, const json_t *delta)
{
    json_t *function = json_object_get(delta, "function");
    if (json_object_get(delta, "id"))
        return json_array_append_new(
                   calls, json_pack("{sO sO so}", "id", json_object_get(delta, "id"),
                                    "type", json_object_get(delta, "type"), "function",
                                    json_copy(function))) == 0;
    json_t *call = json_array_get(calls, json_array_size(calls) - 1);
    json_t *all = json_object_get(call, "function");
    const json_t *before = json_object_get(all, "arguments");
    const json_t *more = json_object_get(function, "arguments");
    return json_object_set_new(
               all, "arguments",
               json_pack("s%+%", json_string_value(before), json_string_length(before),
                         json_string_value(more), json_string_length(more))) == 0;
}

json_t *jt_calls_join(const json_t *deltas)
{
    json_t *calls = json_array();
    for (size_t i = 0; i < json_array_size(deltas); i++) {
        if (!join(calls, json_array_get(deltas, i))) {
            json_decref(calls);
            return NULL;
        }
    }
    return calls;
}

void jt_calls_free(jt_calls *c)
{
    free(c->held.data);
    free(c->piece.data);
    *c = (jt_calls){0};
}
