#include "serve/call_styles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "junto/grammar.h"
#include "text/schema_tags.h"

/* ---- calls that are whole ---- */

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

/* ---- how calls begin ---- */

/* A text that may not be all there. */
typedef struct reader {
    const char *at, *end;
    bool wanting; /* it ended in what was expected */
} reader;

static void skip_space(reader *r)
{
    while (r->at < r->end && strchr(" \n\t", *r->at))
        r->at++;
    r->wanting = r->at == r->end;
}

static bool expect(reader *r, const char *word)
{
    for (; *word; word++, r->at++) {
        r->wanting = r->at == r->end;
        if (r->wanting || *r->at != *word)
            return false;
    }
    return true;
}

/* Up to one of `ends`, which is not part of it. */
static bool read_until(reader *r, const char *ends, jt_str *out)
{
    out->data = r->at;
    while (r->at < r->end && !strchr(ends, *r->at))
        r->at++;
    out->len = (size_t)(r->at - out->data);
    r->wanting = r->at == r->end;
    return !r->wanting && out->len;
}

/* "..": a string that is as it is written. */
static bool read_string(reader *r, jt_str *out)
{
    return expect(r, "\"") && read_until(r, "\"\\\n", out) && expect(r, "\"");
}

static bool expect_sign(reader *r, const char *sign)
{
    skip_space(r);
    bool there = expect(r, sign);
    if (there)
        skip_space(r);
    return there;
}

static jt_call_start started(const reader *r, bool found)
{
    return found ? JT_CALL_BEGUN : r->wanting ? JT_CALL_UNSURE : JT_CALL_OTHER;
}

static bool at_object(reader *r)
{
    r->wanting = r->at == r->end;
    return !r->wanting && *r->at == '{';
}

/* {"name": "..", "arguments": { */
static bool read_head(const jt_call_style *style, reader *r, jt_call_head *head)
{
    jt_str key;
    bool found = expect_sign(r, "{") && expect(r, "\"name\"") && expect_sign(r, ":") &&
                 read_string(r, &head->name) && expect_sign(r, ",") &&
                 read_string(r, &key);
    if (found &&
        !(key.len == strlen(style->arguments) &&
          memcmp(key.data, style->arguments, key.len) == 0) &&
        !(key.len == 9 && memcmp(key.data, "arguments", 9) == 0))
        return false;
    head->depth = 1;
    return found && expect_sign(r, ":") && at_object(r);
}

static jt_call_start begin_json(const jt_call_style *style, const char *text,
                                size_t len, jt_call_head *head)
{
    reader r = {text, text + len, true};
    bool found = read_head(style, &r, head);
    head->length = (size_t)(r.at - text);
    return started(&r, found);
}

/* NAME[ARGS]{, perhaps with [CALL_ID].. in between. */
static bool read_named_head(reader *r, jt_call_head *head)
{
    jt_str marks;
    head->depth = 0;
    return read_until(r, "[{ \n", &head->name) && expect(r, "[") &&
           read_until(r, "{", &marks) && at_object(r);
}

static jt_call_start begin_list(const jt_call_style *style, const char *text,
                                size_t len, jt_call_head *head)
{
    reader r = {text, text + len, true};
    skip_space(&r);
    if (r.wanting)
        return JT_CALL_UNSURE;
    if (*r.at == '[')
        r.at++;
    skip_space(&r);
    if (r.wanting)
        return JT_CALL_UNSURE;
    bool found = *r.at == '{' ? read_head(style, &r, head) : read_named_head(&r, head);
    head->length = (size_t)(r.at - text);
    return started(&r, found);
}

static jt_call_start begin_tags(const jt_call_style *style, const char *text,
                                size_t len, jt_call_head *head)
{
    static const char function[] = "<function=";
    const char *at = memmem(text, len, function, sizeof function - 1);
    reader r = {at ? at + sizeof function - 1 : text + len, text + len, true};
    (void)style;
    bool found = read_until(&r, ">\n", &head->name) && expect(&r, ">");
    head->length = (size_t)(r.at - text);
    head->depth = 0;
    return started(&r, found);
}

/* ---- the styles ---- */

/* The more special first: the first whose signs a template has is its style. */
static const jt_call_style styles[] = {
    {.signs = {"<tool_call>", "<function="},
     .open = "<tool_call>",
     .close = "</tool_call>",
     .shown = {"<tool_call>", "</tool_call>"},
     .tags = true,
     .one = "root ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .many = "root ::= one (\"\\n\" one)*\n"
             "one ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .begin = begin_tags},
    {.signs = {"<tool_call>", "name"},
     .open = "<tool_call>",
     .close = "</tool_call>",
     .arguments = "arguments",
     .shown = {"<tool_call>", "</tool_call>"},
     .one = "root ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .many = "root ::= one (\"\\n\" one)*\n"
             "one ::= \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
     .begin = begin_json,
     .read = read_json},
    {.signs = {"[TOOL_CALLS]", ""},
     .open = "[TOOL_CALLS]",
     .arguments = "arguments",
     .shown = {"[TOOL_CALLS]", "[ARGS]"},
     .one = "root ::= \"[\" call \"]\"\n",
     .many = "root ::= \"[\" call (\", \" call)* \"]\"\n",
     .begin = begin_list,
     .read = read_list},
    {.signs = {"parameters", "ipython"},
     .arguments = "parameters",
     .one = "root ::= call\n",
     .many = "root ::= call\n",
     .begin = begin_json,
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
    if (style->tags)
        return json_incref((json_t *)function);
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

/* A call of one of `tools`; *out stays NULL if there is no memory. */
static jt_status write_calls(char **out, const jt_call_style *style,
                             const json_t *tools, jt_err *err)
{
    json_t *defs = json_object(), *calls = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++)
        json_array_append_new(calls, schema_of(style, json_array_get(tools, i), defs));
    json_t *schema =
        json_pack("{so so}", style->tags ? "functions" : "anyOf", calls, "$defs", defs);
    jt_status status = JT_OK;
    if (style->tags) {
        status = schema ? jt_tags_to_gbnf(out, schema, err) : JT_OK;
    } else {
        char *text = schema ? json_dumps(schema, JSON_COMPACT) : NULL;
        status = text ? jt_schema_to_gbnf(out, text, strlen(text), err) : JT_OK;
        free(text);
    }
    json_decref(schema);
    return status;
}

bool jt_call_style_grammar(const jt_call_style *style, const json_t *tools, bool many,
                           char **out, jt_problem *p)
{
    static const char root[] = "\nroot ::= "; /* texts have no newlines */
    jt_err err = {0};
    char *gbnf = NULL;
    if (!style)
        return jt_refuse(p, 400, "tool_choice", "unsupported_parameter",
                         "this model's template has no calls that are known: "
                         "'tool_choice' can only be \"auto\" or \"none\"");
    if (write_calls(&gbnf, style, tools, &err) != JT_OK)
        return jt_refuse_err(p, "tools", &err);
    const char *start = gbnf ? strstr(gbnf, root) : NULL;
    if (!start)
        return no_memory(p);
    start++;
    int n = asprintf(out, "%s%.*scall%s", many ? style->many : style->one,
                     (int)(start - gbnf), gbnf, start + strlen("root"));
    free(gbnf);
    return n >= 0 || no_memory(p);
}
