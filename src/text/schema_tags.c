#include "text/schema_tags.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/schema.h"

static const char mark[] = "</parameter>";

/* ---- texts ---- */

/* As it is, between the quotes of a literal. */
static void write_plain(FILE *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\n')
            fputs("\\n", out);
        else
            fprintf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    }
}

/* The first bytes of the mark, one or more, but not all; if `off`, then a character
 * that neither goes on with it nor begins another. */
static void write_beginning(FILE *out, bool off)
{
    enum { LAST = sizeof mark - 2 };
    fprintf(out, "\"%c\" ", mark[0]);
    for (size_t i = 1; i < LAST; i++)
        off ? fprintf(out, "([^%c<] | \"%c\" ", mark[i], mark[i])
            : fprintf(out, "(\"%c\" ", mark[i]);
    if (off)
        fprintf(out, "[^%c<]", mark[LAST]);
    for (size_t i = 1; i < LAST; i++)
        fputs(off ? ")" : ")?", out);
}

/* Any text in which the mark is not. */
static jt_status write_text(jt_schema_writer *w, jt_schema_rule *rule)
{
    jt_schema_rule part, off;
    JT_TRY(jt_schema_name(w, &part));
    JT_TRY(jt_schema_name(w, &off));
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= ", part.name);
    write_beginning(w->out, false);
    fprintf(w->out, "\n%s ::= ", off.name);
    write_beginning(w->out, true);
    /* A beginning ends where another begins, or with the text. */
    fprintf(w->out, "\n%s ::= ([^<] | %s* %s)* %s*\n", rule->name, part.name, off.name,
            part.name);
    return JT_OK;
}

/* Of a bounded length; without a bracket, so that each character is one. */
static jt_status write_length(jt_schema_writer *w, const json_t *schema,
                              jt_schema_rule *rule)
{
    json_int_t least, most;
    JT_TRY(jt_schema_count(w, schema, "minLength", 0, &least));
    JT_TRY(jt_schema_count(w, schema, "maxLength", -1, &most));
    if (most >= 0 && most < least)
        return jt_schema_refuse(w, JT_E_FORMAT, "'maxLength' is below 'minLength'");
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= [^<]", rule->name);
    jt_schema_times(w, least, most);
    fputc('\n', w->out);
    return JT_OK;
}

static jt_status write_format(jt_schema_writer *w, const char *format,
                              jt_schema_rule *rule)
{
    const char *pattern = jt_schema_format(format);
    if (!pattern)
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "the format '%.64s'", format);
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= ", rule->name);
    JT_TRY(jt_schema_pattern(w, pattern)); /* of what JSON writes as it is */
    fputc('\n', w->out);
    return JT_OK;
}

/* One of the texts of a list. */
static jt_status write_texts(jt_schema_writer *w, const json_t *values,
                             jt_schema_rule *rule)
{
    size_t written = 0;
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::=", rule->name);
    for (size_t i = 0; i < json_array_size(values); i++) {
        const char *text = json_string_value(json_array_get(values, i));
        if (!text || strstr(text, mark))
            continue;
        fputs(written++ ? " | \"" : " \"", w->out);
        write_plain(w->out, text);
        fputc('"', w->out);
    }
    fputc('\n', w->out);
    return written ? JT_OK
                   : jt_schema_refuse(w, JT_E_FORMAT, "'enum' has nothing that fits");
}

static jt_status write_const(jt_schema_writer *w, json_t *value, jt_schema_rule *rule)
{
    json_t *one = json_pack("[O]", value);
    jt_status status = one ? write_texts(w, one, rule)
                           : jt_fail_memory(w->err, "reading a JSON schema");
    json_decref(one);
    return status;
}

static jt_status write_string(jt_schema_writer *w, const json_t *schema,
                              jt_schema_rule *rule)
{
    static const char *const unknown[] = {"pattern", "anyOf", "oneOf",
                                          "allOf",   "not",   "$ref"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        if (json_object_get(schema, unknown[i]))
            return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                    "'%s' of a text is not supported in tags",
                                    unknown[i]);
    }
    const char *format = json_string_value(json_object_get(schema, "format"));
    if (json_object_get(schema, "const"))
        return write_const(w, json_object_get(schema, "const"), rule);
    if (json_object_get(schema, "enum"))
        return write_texts(w, json_object_get(schema, "enum"), rule);
    if (format)
        return write_format(w, format, rule);
    if (json_object_get(schema, "minLength") || json_object_get(schema, "maxLength"))
        return write_length(w, schema, rule);
    return write_text(w, rule);
}

/* ---- parameters ---- */

static bool is_text(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type && strcmp(type, "string") == 0;
}

static bool is_required(const json_t *parameters, const char *name)
{
    const json_t *names = json_object_get(parameters, "required");
    bool found = false;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *one = json_string_value(json_array_get(names, i));
        found |= one && strcmp(one, name) == 0;
    }
    return found;
}

static jt_status check_parameters(jt_schema_writer *w, const json_t *parameters)
{
    static const char *const unknown[] = {
        "$ref", "anyOf", "oneOf",         "allOf",         "not",
        "if",   "enum",  "minProperties", "maxProperties", "patternProperties"};
    const json_t *names = json_object_get(parameters, "required");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        if (json_object_get(parameters, unknown[i]))
            return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                    "'%s' of parameters is not supported in tags",
                                    unknown[i]);
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name || !json_object_get(json_object_get(parameters, "properties"), name))
            return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                    "a required parameter is none of 'properties'");
    }
    return JT_OK;
}

static jt_status check_name(jt_schema_writer *w, const char *name)
{
    return *name && !strpbrk(name, "<>\n")
               ? JT_OK
               : jt_schema_refuse(w, JT_E_UNSUPPORTED, "'%.64s' cannot stand in a tag",
                                  name);
}

static jt_status write_parameter(jt_schema_writer *w, const char *name,
                                 const json_t *schema, jt_schema_rule *rule)
{
    jt_schema_rule value;
    JT_TRY(check_name(w, name));
    JT_TRY(is_text(schema) ? write_string(w, schema, &value)
                           : jt_schema_write(w, schema, &value));
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"<parameter=", rule->name);
    write_plain(w->out, name);
    fprintf(w->out, ">\\n\" %s \"\\n%s\\n\"\n", value.name, mark);
    return JT_OK;
}

/* Those of `rules` [n] that are required, and others, in their order. */
static jt_status write_parameters(jt_schema_writer *w, const json_t *parameters,
                                  jt_schema_rule *rules, jt_schema_rule *rule)
{
    json_t *properties = json_object_get(parameters, "properties"), *schema;
    const char *name;
    size_t n = 0;
    json_object_foreach(properties, name, schema)
    {
        JT_TRY(write_parameter(w, name, schema, &rules[n++]));
    }
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"\"", rule->name);
    n = 0;
    json_object_foreach(properties, name, schema)
    {
        fprintf(w->out, " %s%s", rules[n++].name,
                is_required(parameters, name) ? "" : "?");
    }
    fputc('\n', w->out);
    return JT_OK;
}

/* ---- functions ---- */

static jt_status write_function(jt_schema_writer *w, const json_t *function,
                                jt_schema_rule *rule)
{
    const char *name = json_string_value(json_object_get(function, "name"));
    const json_t *parameters = json_object_get(function, "parameters");
    size_t n = json_object_size(json_object_get(parameters, "properties"));
    jt_schema_rule inside;
    JT_TRY(check_name(w, name ? name : ""));
    JT_TRY(check_parameters(w, parameters));
    jt_schema_rule *rules = jt_alloc(n, sizeof *rules);
    jt_status status = rules ? write_parameters(w, parameters, rules, &inside)
                             : jt_fail_memory(w->err, "reading a JSON schema");
    free(rules);
    if (status != JT_OK)
        return status;
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"<function=", rule->name);
    write_plain(w->out, name);
    fprintf(w->out, ">\\n\" %s \"</function>\"\n", inside.name);
    return JT_OK;
}

static jt_status write_functions(jt_schema_writer *w, const json_t *root,
                                 jt_schema_rule *rule)
{
    const json_t *functions = json_object_get(root, "functions");
    size_t n = json_array_size(functions);
    jt_schema_rule *rules = jt_alloc(n, sizeof *rules);
    jt_status status = rules ? JT_OK : jt_fail_memory(w->err, "reading a JSON schema");
    for (size_t i = 0; i < n && status == JT_OK; i++)
        status = write_function(w, json_array_get(functions, i), &rules[i]);
    if (status == JT_OK)
        status = jt_schema_choice(w, rules, n, rule);
    free(rules);
    return status;
}

jt_status jt_tags_to_gbnf(char **out, const json_t *root, jt_err *err)
{
    return jt_schema_grammar(out, root, write_functions, err);
}
