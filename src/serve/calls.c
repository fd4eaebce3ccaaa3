#include "serve/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "junto/grammar.h"

struct jt_call_style {
    const char *signs[2];     /* a template of this style has them */
    const char *open, *close; /* NULL: the whole text is a call; to its end */
    const char *arguments;    /* what they are called in JSON */
    const char *shown[3];
    /* A grammar's root, around `call`; one and many. NULL: it cannot be forced. */
    const char *one, *many;
    /* Calls in the text between `open` and `close`, as [{"name", "arguments"}]. NULL:
     * there are none. */
    json_t *(*read)(const jt_call_style *style, const char *text, size_t len);
};

/* ---- the styles ---- */

static json_t *read_json(const jt_call_style *style, const char *text, size_t len)
{
    json_t *call = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL), *list = NULL;
    json_t *arguments = json_object_get(call, style->arguments);
    if (!arguments) /* models mix the names up */
        arguments = json_object_get(call, "arguments");
    if (json_is_string(json_object_get(call, "name")))
        list =
            json_pack("[{sO so}]", "name", json_object_get(call, "name"), "arguments",
                      arguments ? json_incref(arguments) : json_object());
    json_decref(call);
    return list;
}

/* NAME[ARGS]{..}, perhaps with [CALL_ID].. in between. */
static json_t *read_named(const char *text, size_t len)
{
    const char *brace = memchr(text, '{', len), *mark = memchr(text, '[', len);
    size_t name = strcspn(text, "[{ \n");
    if (!brace || !mark || mark > brace)
        return NULL;
    json_t *arguments =
        json_loadb(brace, len - (size_t)(brace - text), JSON_DISABLE_EOF_CHECK, NULL);
    return arguments
               ? json_pack("[{ss% so}]", "name", text, name, "arguments", arguments)
               : NULL;
}

static json_t *read_list(const jt_call_style *style, const char *text, size_t len)
{
    size_t space = strspn(text, " \n");
    json_t *list = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL);
    if (text[space] != '[') {
        json_decref(list);
        list = read_json(style, text, len);
        return list ? list : read_named(text + space, len - space);
    }
    bool good = json_array_size(list) > 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        good &= json_is_string(json_object_get(json_array_get(list, i), "name"));
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

/* A parameter's text: JSON where it is, but for strings, which are as they are. */
static json_t *parameter(const char *text, size_t len)
{
    if (len && *text == '\n') {
        text++;
        len--;
    }
    len -= len && text[len - 1] == '\n';
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    jt_buffer plain = {.data = (char *)text, .len = len};
    return value ? value : jt_buffer_json(&plain);
}

static json_t *read_tags(const jt_call_style *style, const char *text, size_t len)
{
    static const char function[] = "<function=", key[] = "<parameter=";
    static const char end[] = "</parameter>";
    const char *at = strstr(text, function);
    (void)style;
    if (!at || at > text + len)
        return NULL;
    at += sizeof function - 1;
    json_t *list =
        json_pack("[{ss% s{}}]", "name", at, strcspn(at, ">\n"), "arguments");
    json_t *arguments = json_object_get(json_array_get(list, 0), "arguments");
    while ((at = strstr(at, key)) && arguments) {
        at += sizeof key - 1;
        size_t n = strcspn(at, ">");
        const char *value = at + n + (at[n] == '>'), *stop = strstr(value, end);
        if (!stop)
            break;
        json_object_setn_new(arguments, at, n,
                             parameter(value, (size_t)(stop - value)));
        at = stop;
    }
    return list;
}

/* The more special first: the first whose signs a template has is its style. */
static const jt_call_style styles[] = {
    {.signs = {"<tool_call>", "<function="},
     .open = "<tool_call>",
     .close = "</tool_call>",
     .shown = {"<tool_call>", "</tool_call>"},
     .read = read_tags},
    {.signs = {"<tool_call>", "name"},
     .open = "<tool_call>",
     .close = "</tool_call>",
     .arguments = "arguments",
     .shown = {"<tool_call>", "</tool_call>"},
     .one = "root ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .many = "root ::= one (\"\\n\" one)*\n"
             "one ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .read = read_json},
    {.signs = {"[TOOL_CALLS]", ""},
     .open = "[TOOL_CALLS]",
     .arguments = "arguments",
     .shown = {"[TOOL_CALLS]", "[ARGS]"},
     .one = "root ::= \"[\" call \"]\"\n",
     .many = "root ::= \"[\" call (\", \" call)* \"]\"\n",
     .read = read_list},
    {.signs = {"parameters", "ipython"},
     .arguments = "parameters",
     .one = "root ::= call\n",
     .many = "root ::= call\n",
     .read = read_json},
};

static bool has(jt_str source, const char *sign)
{
    return memmem(source.data, source.len, sign, strlen(sign)) != NULL;
}

const jt_call_style *jt_call_style_find(jt_str source)
{
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        if (has(source, styles[i].signs[0]) && has(source, styles[i].signs[1]))
            return &styles[i];
    }
    return NULL;
}

const char *const *jt_call_style_shown(const jt_call_style *style)
{
    return style->shown;
}

/* ---- the grammar ---- */

static json_t *no_parameters(void)
{
    return json_pack("{ss sb}", "type", "object", "additionalProperties", 0);
}

/* The schema of a call of one tool. What its parameters define moves to `defs`, where
 * their references look for it. */
static json_t *schema_of(const jt_call_style *style, const json_t *tool, json_t *defs)
{
    const json_t *function = json_object_get(tool, "function");
    json_t *parameters = json_object_get(function, "parameters");
    json_object_update_missing(defs, json_object_get(parameters, "$defs"));
    return json_pack("{ss s{s{sO} so} s[ss] sb}", "type", "object", "properties",
                     "name", "const", json_object_get(function, "name"),
                     style->arguments,
                     parameters ? json_incref(parameters) : no_parameters(), "required",
                     "name", style->arguments, "additionalProperties", 0);
}

static bool no_memory(jt_problem *p)
{
    return jt_refuse(p, 500, NULL, NULL, "out of memory");
}

bool jt_call_style_grammar(const jt_call_style *style, const json_t *tools, bool many,
                           char **out, jt_problem *p)
{
    static const char root[] = "root ::= ";
    jt_err err = {0};
    char *gbnf = NULL, *start;
    if (!style || !style->one)
        return jt_refuse(
            p, 400, "tool_choice", "unsupported_parameter",
            "with the calls of this model's template, 'tool_choice' can only "
            "be \"auto\" or \"none\"");
    json_t *defs = json_object(), *calls = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++)
        json_array_append_new(calls, schema_of(style, json_array_get(tools, i), defs));
    json_t *schema = json_pack("{so so}", "anyOf", calls, "$defs", defs);
    char *text = schema ? json_dumps(schema, JSON_COMPACT) : NULL;
    jt_status status =
        text ? jt_schema_to_gbnf(&gbnf, text, strlen(text), &err) : JT_OK;
    json_decref(schema);
    free(text);
    if (status != JT_OK)
        return jt_refuse_err(p, "tools", &err);
    start = gbnf ? strstr(gbnf, root) : NULL;
    if (!start)
        return no_memory(p);
    memcpy(start, "call", 4);
    int n = asprintf(out, "%s%s", many ? style->many : style->one, gbnf);
    free(gbnf);
    return n >= 0 || no_memory(p);
}

/* ---- reading ---- */

static void make_id(char id[10])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[9] = {0};
    (void)!getrandom(random, sizeof random, 0);
    for (size_t i = 0; i < sizeof random; i++)
        id[i] = letters[random[i] % (sizeof letters - 1)];
    id[9] = '\0';
}

static json_t *call_json(const json_t *call, size_t index)
{
    const json_t *given = json_object_get(call, "arguments");
    char id[10], *arguments = given && !json_is_string(given)
                                  ? json_dumps(given, JSON_COMPACT | JSON_ENCODE_ANY)
                                  : NULL;
    make_id(id);
    json_t *json = json_pack("{sI ss ss s{sO ss}}", "index", (json_int_t)index, "id",
                             id, "type", "function", "function", "name",
                             json_object_get(call, "name"), "arguments",
                             arguments ? arguments
                             : given   ? json_string_value(given)
                                       : "{}");
    free(arguments);
    return json;
}

static bool is_tool(const jt_calls *c, const json_t *call)
{
    const json_t *name = json_object_get(call, "name");
    for (size_t i = 0; i < json_array_size(c->tools); i++) {
        const json_t *function =
            json_object_get(json_array_get(c->tools, i), "function");
        if (json_equal(json_object_get(function, "name"), name))
            return true;
    }
    return false;
}

/* Add the calls in a text; *found: there are some. */
static bool add_calls(jt_calls *c, const char *start, size_t len, json_t **calls,
                      bool *found)
{
    char *text = strndup(start, len);
    json_t *list = text ? c->style->read(c->style, text, strlen(text)) : NULL, *call;
    size_t i;
    bool fits = text;
    /* Where nothing but its shape tells a call, it must be of a tool that there is. */
    *found = list && (c->style->open || is_tool(c, json_array_get(list, 0)));
    json_array_foreach(list, i, call)
    {
        if (!*found || !fits)
            break;
        if (!*calls)
            *calls = json_array();
        fits = json_array_append_new(*calls, call_json(call, c->count)) == 0;
        c->count += fits;
    }
    json_decref(list);
    free(text);
    return fits;
}

static void drop(jt_buffer *b, size_t n)
{
    b->len -= n;
    memmove(b->data, b->data + n, b->len);
}

/* Bytes at the end of a text that may begin a mark. */
static size_t tail(const jt_buffer *b, const char *mark)
{
    size_t most = strlen(mark) - 1, n = most < b->len ? most : b->len;
    while (n && memcmp(b->data + b->len - n, mark, n) != 0)
        n--;
    return n;
}

/* Text before a call goes out without the space between them. */
static size_t without_space(const char *text, size_t len)
{
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    return len;
}

/* The next piece of held text or call; *more: there may be another. */
static bool read_marked(jt_calls *c, jt_buffer *text, bool over, json_t **calls,
                        bool *more)
{
    const char *open = c->style->open, *close = c->style->close;
    jt_buffer *held = &c->held;
    const char *begin = memmem(held->data, held->len, open, strlen(open));
    *more = false;
    if (c->forced && !begin && !close)
        begin = held->data; /* the mark is not part of the text then */
    if (!begin) {
        size_t keep = over ? 0 : tail(held, open), n = held->len - keep;
        if (!over) /* space may stand before a call */
            n = without_space(held->data, n);
        bool fits = jt_buffer_add(text, held->data, n);
        drop(held, n);
        return fits;
    }
    size_t before = without_space(held->data, (size_t)(begin - held->data));
    size_t start = (size_t)(begin - held->data) - before;
    if (!jt_buffer_add(text, held->data, before))
        return false;
    drop(held, before);
    bool marked = held->len - start >= strlen(open) &&
                  memcmp(held->data + start, open, strlen(open)) == 0;
    start += marked ? strlen(open) : 0;
    const char *next = close ? close : open;
    const char *end = memmem(held->data + start, held->len - start, next, strlen(next));
    if (!end && !over)
        return true;
    size_t stop = end ? (size_t)(end - held->data) : held->len;
    size_t all = stop + (end && close ? strlen(close) : 0);
    bool found, fits = add_calls(c, held->data + start, stop - start, calls, &found);
    if (fits && !found)
        fits = jt_buffer_add(text, held->data, all);
    drop(held, all);
    *more = held->len > 0;
    return fits;
}

/* A text that is a call or is none: that can be told by how it begins. */
static bool read_bare(jt_calls *c, jt_buffer *text, bool over, json_t **calls)
{
    bool found = false, fits = true;
    size_t space = 0;
    while (space < c->held.len && strchr(" \n", c->held.data[space]))
        space++;
    c->plain |= space < c->held.len && c->held.data[space] != '{';
    if (!c->plain && !over)
        return true;
    if (!c->plain && c->held.len)
        fits = add_calls(c, c->held.data, c->held.len, calls, &found);
    if (fits && !found)
        fits = jt_buffer_add(text, c->held.data, c->held.len);
    c->held.len = 0;
    return fits;
}

bool jt_calls_read(jt_calls *c, jt_buffer *text, bool over, json_t **calls)
{
    if (!c->style)
        return true;
    bool fits = jt_buffer_add(&c->held, text->data, text->len);
    text->len = 0;
    if (fits && !c->style->open)
        return read_bare(c, text, over, calls);
    for (bool more = c->held.len > 0; fits && more;)
        fits = read_marked(c, text, over, calls, &more);
    return fits;
}

void jt_calls_free(jt_calls *c)
{
    free(c->held.data);
    *c = (jt_calls){0};
}
