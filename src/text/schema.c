#include "text/schema.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar.h"

enum { DEPTH = 64, WORK = 1 << 18, SCHEMA_BYTES = 1 << 20 };

/* JSON itself (RFC 8259). Numbers and white space end somewhere, so that a model that
 * is lost in them ends, too; what an escape spells is a character. */
static const char usual_rules[] =
    "value ::= object | array | string | number | boolean | null\n"
    "object ::= \"{\" ws (member (\",\" ws member)*)? ws \"}\"\n"
    "member ::= string \":\" gap value\n"
    "array ::= \"[\" ws (value (\",\" ws value)*)? ws \"]\"\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "char ::= [^\"\\\\\\x00-\\x1f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" code)\n"
    "code ::= [0-9a-cA-CefEF] hex{3} | [dD] [0-7] hex{2} |"
    " [dD] [89abAB] hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2}\n"
    "hex ::= [0-9a-fA-F]\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"
    "number ::= integer fraction? ([eE] [+-]? [0-9]{1,3})?\n"
    "fraction ::= \".\" [0-9]{1,16}\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "ws ::= (\" \" | \"\\n\" [ ]{0,16})?\n"
    "gap ::= \" \"?\n";

jt_status jt_schema_refuse(jt_schema_writer *w, jt_status status, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return jt_fail(w->err, status, "JSON schema: %s", text);
}

static jt_status no_memory(jt_schema_writer *w)
{
    return jt_fail_memory(w->err, "reading a JSON schema");
}

static jt_status too_large(jt_schema_writer *w)
{
    return jt_schema_refuse(w, JT_E_LIMIT, "it is too large");
}

static jt_status number_rule(jt_schema_writer *w, size_t *number)
{
    if (w->n_rules == JT_GRAMMAR_RULES)
        return too_large(w);
    *number = w->n_rules++;
    return JT_OK;
}

static jt_schema_rule rule_of(size_t number)
{
    jt_schema_rule rule;
    snprintf(rule.name, sizeof rule.name, "r%zu", number);
    return rule;
}

static jt_schema_rule usual_rule(const char *name)
{
    jt_schema_rule rule;
    snprintf(rule.name, sizeof rule.name, "%s", name);
    return rule;
}

jt_status jt_schema_name(jt_schema_writer *w, jt_schema_rule *rule)
{
    size_t number = 0;
    JT_TRY(number_rule(w, &number));
    *rule = rule_of(number);
    return JT_OK;
}

jt_status jt_schema_count(jt_schema_writer *w, const json_t *schema, const char *name,
                          json_int_t usual, json_int_t *out)
{
    const json_t *value = json_object_get(schema, name);
    *out = value ? json_integer_value(value) : usual;
    if (!value || (json_is_integer(value) && *out >= 0 && *out <= JT_GRAMMAR_TIMES))
        return JT_OK;
    return jt_schema_refuse(w, JT_E_LIMIT, "'%s' must be a whole number up to %d", name,
                            (int)JT_GRAMMAR_TIMES);
}

void jt_schema_times(jt_schema_writer *w, json_int_t least, json_int_t most)
{
    if (most < 0)
        fprintf(w->out, "{%lld,}", (long long)least);
    else
        fprintf(w->out, "{%lld,%lld}", (long long)least, (long long)most);
}

jt_status jt_schema_literal(jt_schema_writer *w, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return no_memory(w);
    fputc('"', w->out);
    for (const char *c = text; *c; c++)
        fprintf(w->out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    fputc('"', w->out);
    free(text);
    return JT_OK;
}

/* ---- parts that are written elsewhere ---- */

/* The schema at a JSON pointer (RFC 6901) within the root; NULL: there is none. */
static const json_t *follow(const json_t *at, const char *pointer)
{
    while (*pointer == '/' && at) {
        char name[256];
        size_t n = 0;
        for (pointer++; *pointer && *pointer != '/' && n + 1 < sizeof name; pointer++) {
            bool escape = *pointer == '~' && (pointer[1] == '0' || pointer[1] == '1');
            pointer += escape;
            name[n++] = escape ? (*pointer == '0' ? '~' : '/') : *pointer;
        }
        name[n] = '\0';
        at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10))
                               : json_object_get(at, name);
    }
    return *pointer ? NULL : at;
}

static jt_status find_ref(jt_schema_writer *w, const json_t *schema, const json_t **out)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    if (!ref || ref[0] != '#')
        return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                "a '$ref' can only name a part of the schema, '#/..'");
    *out = follow(w->root, ref + 1);
    return *out ? JT_OK : jt_schema_refuse(w, JT_E_FORMAT, "there is no '%.100s'", ref);
}

/* What $ref names has one rule, which it may call itself. */
static jt_status write_ref(jt_schema_writer *w, const json_t *schema,
                           jt_schema_rule *rule)
{
    const json_t *target;
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    JT_TRY(find_ref(w, schema, &target));
    const json_t *known = json_object_get(w->known, ref);
    if (known) {
        *rule = rule_of((size_t)json_integer_value(known));
        return JT_OK;
    }
    size_t number = 0;
    jt_schema_rule body;
    JT_TRY(number_rule(w, &number));
    *rule = rule_of(number);
    if (json_object_set_new(w->known, ref, json_integer((json_int_t)number)))
        return no_memory(w);
    JT_TRY(jt_schema_write(w, target, &body));
    fprintf(w->out, "%s ::= %s\n", rule->name, body.name);
    return JT_OK;
}

/* ---- which keywords there are ---- */

static bool is_in(const char *const *names, const char *name)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names;
}

/* Nothing depends on them. */
static bool is_remark(const char *name)
{
    static const char *const remarks[] = {
        "title", "description", "default",     "examples",  "example",  "$schema",
        "$id",   "$defs",       "definitions", "$comment",  "readOnly", "deprecated",
        "name",  "strict",      "$anchor",     "writeOnly", NULL};
    return is_in(remarks, name);
}

static jt_status check_keywords(jt_schema_writer *w, const json_t *schema)
{
    static const char *const unknown[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "uniqueItems",
                                          "multipleOf",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "dependentRequired",
                                          "dependencies",
                                          "dependentSchemas",
                                          "patternProperties",
                                          "propertyNames",
                                          "unevaluatedItems",
                                          "contentEncoding",
                                          NULL};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)schema, name, value)
    {
        if (is_in(unknown, name) && !json_is_false(value))
            return jt_schema_refuse(w, JT_E_UNSUPPORTED, "'%s' is not supported", name);
    }
    return JT_OK;
}

/* A copy without one keyword and without remarks; NULL: no memory. */
static json_t *without(const json_t *schema, const char *keyword)
{
    json_t *rest = json_object(), *value;
    const char *name;
    bool fits = rest;
    json_object_foreach((json_t *)schema, name, value)
    {
        if (fits && strcmp(name, keyword) != 0 && !is_remark(name))
            fits = json_object_set(rest, name, value) == 0;
    }
    if (fits)
        return rest;
    json_decref(rest);
    return NULL;
}

/* ---- both at once ---- */

static jt_status merge_into(jt_schema_writer *w, json_t *a, const json_t *b);

static int add_required(json_t *a, const json_t *b)
{
    json_t *all = json_copy(json_object_get(a, "required"));
    int failed = !all || json_array_extend(all, (json_t *)b);
    return failed ? (json_decref(all), -1) : json_object_set_new(a, "required", all);
}

static int add_properties(json_t *a, const json_t *b)
{
    json_t *all = json_copy(json_object_get(a, "properties")), *value;
    const char *name;
    int failed = !all;
    json_object_foreach((json_t *)b, name, value)
    {
        json_t *known = json_object_get(all, name);
        json_t *both =
            known ? json_pack("{s[OO]}", "allOf", known, value) : json_incref(value);
        failed |= json_object_set_new(all, name, both);
    }
    return failed ? (json_decref(all), -1) : json_object_set_new(a, "properties", all);
}

/* The stricter of two bounds. */
static const json_t *stricter(const char *name, const json_t *a, const json_t *b)
{
    bool least = strncmp(name, "min", 3) == 0 || strcmp(name, "exclusiveMinimum") == 0;
    bool a_is_larger = json_number_value(a) > json_number_value(b);
    return a_is_larger == least ? a : b;
}

static bool is_bound(const char *name)
{
    static const char *const bounds[] = {
        "minimum",          "maximum",   "exclusiveMinimum",
        "exclusiveMaximum", "minLength", "maxLength",
        "minItems",         "maxItems",  "minProperties",
        "maxProperties",    NULL};
    return is_in(bounds, name);
}

static jt_status merge_keyword(jt_schema_writer *w, json_t *a, const char *name,
                               json_t *value)
{
    json_t *known = json_object_get(a, name);
    int failed = 0;
    w->work += 1 + json_object_size(known) + json_array_size(known);
    if (w->work > WORK)
        return too_large(w);
    if (!known)
        failed = json_object_set(a, name, value);
    else if (strcmp(name, "required") == 0)
        failed = add_required(a, value);
    else if (strcmp(name, "properties") == 0)
        failed = add_properties(a, value);
    else if (is_bound(name) && json_is_number(known) && json_is_number(value))
        failed = json_object_set(a, name, (json_t *)stricter(name, known, value));
    else if (!json_equal(known, value))
        return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                "two different '%s' that must both hold", name);
    return failed ? no_memory(w) : JT_OK;
}

/* Let `a` say what `b` says, too. */
static jt_status merge_into(jt_schema_writer *w, json_t *a, const json_t *b)
{
    const char *name;
    json_t *value;
    const json_t *target;
    if (json_is_true(b))
        return JT_OK;
    if (!json_is_object(b))
        return jt_schema_refuse(w, JT_E_FORMAT, "a part is no schema");
    if (++w->depth > DEPTH)
        return jt_schema_refuse(w, JT_E_LIMIT, "it is too deep");
    json_object_foreach((json_t *)b, name, value)
    {
        if (strcmp(name, "$ref") == 0) {
            JT_TRY(find_ref(w, b, &target));
            JT_TRY(merge_into(w, a, target));
        } else if (!is_remark(name)) {
            JT_TRY(merge_keyword(w, a, name, value));
        }
    }
    w->depth--;
    return JT_OK;
}

static jt_status write_all(jt_schema_writer *w, const json_t *schema,
                           jt_schema_rule *rule)
{
    const json_t *parts = json_object_get(schema, "allOf");
    json_t *all = without(schema, "allOf");
    jt_status status = all ? JT_OK : no_memory(w);
    if (status == JT_OK && json_array_size(parts) == 0)
        status = jt_schema_refuse(w, JT_E_FORMAT, "'allOf' is no list");
    if (status == JT_OK && json_array_size(parts) == 1 && json_object_size(all) == 0)
        status = jt_schema_write(w, json_array_get(parts, 0), rule);
    else {
        for (size_t i = 0; i < json_array_size(parts) && status == JT_OK; i++)
            status = merge_into(w, all, json_array_get(parts, i));
        if (status == JT_OK)
            status = jt_schema_write(w, all, rule);
    }
    json_decref(all);
    return status;
}

/* ---- one of several ---- */

jt_status jt_schema_choice(jt_schema_writer *w, const jt_schema_rule *of, size_t n,
                           jt_schema_rule *rule)
{
    if (n == 1) {
        *rule = of[0];
        return JT_OK;
    }
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::=", rule->name);
    for (size_t i = 0; i < n; i++)
        fprintf(w->out, "%s %s", i ? " |" : "", of[i].name);
    fputc('\n', w->out);
    return JT_OK;
}

/* An alternative, and what is said beside it. */
static jt_status write_alternative(jt_schema_writer *w, const json_t *beside,
                                   const json_t *schema, jt_schema_rule *rule)
{
    if (json_object_size(beside) == 0)
        return jt_schema_write(w, schema, rule);
    json_t *both = json_copy((json_t *)beside);
    jt_status status = both ? merge_into(w, both, schema) : no_memory(w);
    if (status == JT_OK)
        status = jt_schema_write(w, both, rule);
    json_decref(both);
    return status;
}

static jt_status write_any(jt_schema_writer *w, const json_t *schema,
                           const char *keyword, jt_schema_rule *rule)
{
    const json_t *parts = json_object_get(schema, keyword);
    size_t n = json_array_size(parts);
    if (n == 0)
        return jt_schema_refuse(w, JT_E_FORMAT, "'%s' has no alternatives", keyword);
    json_t *beside = without(schema, keyword);
    jt_schema_rule *rules = jt_alloc(n, sizeof *rules);
    jt_status status = beside && rules ? JT_OK : no_memory(w);
    for (size_t i = 0; i < n && status == JT_OK; i++)
        status = write_alternative(w, beside, json_array_get(parts, i), &rules[i]);
    if (status == JT_OK)
        status = jt_schema_choice(w, rules, n, rule);
    free(rules);
    json_decref(beside);
    return status;
}

static bool is_of_type(const json_t *value, const json_t *types)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "object",   [JSON_ARRAY] = "array", [JSON_STRING] = "string",
        [JSON_INTEGER] = "integer", [JSON_REAL] = "number", [JSON_TRUE] = "boolean",
        [JSON_FALSE] = "boolean",   [JSON_NULL] = "null"};
    const char *type = json_string_value(types), *own = names[json_typeof(value)];
    if (json_is_array(types)) {
        bool any = false;
        for (size_t i = 0; i < json_array_size(types); i++)
            any |= is_of_type(value, json_array_get(types, i));
        return any;
    }
    return !type || strcmp(type, own) == 0 ||
           (strcmp(type, "number") == 0 && json_is_integer(value));
}

static jt_status write_values(jt_schema_writer *w, const json_t *schema,
                              const json_t *values, jt_schema_rule *rule)
{
    size_t written = 0;
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::=", rule->name);
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *value = json_array_get(values, i);
        if (!is_of_type(value, json_object_get(schema, "type")))
            continue;
        fputs(written++ ? " | " : " ", w->out);
        JT_TRY(jt_schema_literal(w, value));
    }
    fputc('\n', w->out);
    return written ? JT_OK
                   : jt_schema_refuse(w, JT_E_FORMAT, "'enum' has nothing that fits");
}

static jt_status write_const(jt_schema_writer *w, const json_t *schema,
                             jt_schema_rule *rule)
{
    json_t *one = json_pack("[O]", json_object_get(schema, "const"));
    jt_status status = one ? write_values(w, schema, one, rule) : no_memory(w);
    json_decref(one);
    return status;
}

/* ---- types ---- */

static jt_status write_string(jt_schema_writer *w, const json_t *schema,
                              jt_schema_rule *rule)
{
    const json_t *given = json_object_get(schema, "pattern");
    const char *format = json_string_value(json_object_get(schema, "format"));
    const char *pattern = json_string_value(given);
    json_int_t least, most;
    JT_TRY(jt_schema_count(w, schema, "minLength", 0, &least));
    JT_TRY(jt_schema_count(w, schema, "maxLength", -1, &most));
    if (given && !pattern)
        return jt_schema_refuse(w, JT_E_FORMAT, "'pattern' is no string");
    if (format && pattern)
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "'pattern' beside 'format'");
    if (format && !(pattern = jt_schema_format(format)))
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "the format '%.64s'", format);
    if (pattern && (least > 0 || most >= 0))
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "'%s' beside a length",
                                format ? "format" : "pattern");
    if (most >= 0 && most < least)
        return jt_schema_refuse(w, JT_E_FORMAT, "'maxLength' is below 'minLength'");
    if (!pattern && least == 0 && most < 0) {
        *rule = usual_rule("string");
        return JT_OK;
    }
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"\\\"\" ", rule->name);
    if (pattern) {
        JT_TRY(jt_schema_pattern(w, pattern));
    } else {
        fputs("char", w->out);
        jt_schema_times(w, least, most);
    }
    fputs(" \"\\\"\"\n", w->out);
    return JT_OK;
}

static jt_status write_type(jt_schema_writer *w, const json_t *schema, const char *type,
                            jt_schema_rule *rule)
{
    if (strcmp(type, "object") == 0)
        return jt_schema_object(w, schema, rule);
    if (strcmp(type, "array") == 0)
        return jt_schema_array(w, schema, rule);
    if (strcmp(type, "string") == 0)
        return write_string(w, schema, rule);
    if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
        return jt_schema_number(w, schema, type[0] == 'n', rule);
    if (strcmp(type, "boolean") != 0 && strcmp(type, "null") != 0)
        return jt_schema_refuse(w, JT_E_FORMAT, "there is no type '%.64s'", type);
    *rule = usual_rule(type);
    return JT_OK;
}

/* What a schema without a type is about. */
static const char *guess_type(const json_t *schema)
{
    static const struct {
        const char *keyword, *type;
    } signs[] = {{"properties", "object"},
                 {"required", "object"},
                 {"additionalProperties", "object"},
                 {"minProperties", "object"},
                 {"maxProperties", "object"},
                 {"items", "array"},
                 {"prefixItems", "array"},
                 {"minItems", "array"},
                 {"maxItems", "array"},
                 {"pattern", "string"},
                 {"format", "string"},
                 {"minLength", "string"},
                 {"maxLength", "string"},
                 {"minimum", "number"},
                 {"maximum", "number"},
                 {"exclusiveMinimum", "number"},
                 {"exclusiveMaximum", "number"}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (json_object_get(schema, signs[i].keyword))
            return signs[i].type;
    }
    return NULL;
}

static jt_status write_types(jt_schema_writer *w, const json_t *schema,
                             jt_schema_rule *rule)
{
    const json_t *types = json_object_get(schema, "type");
    const char *type = types ? json_string_value(types) : guess_type(schema);
    jt_schema_rule rules[8];
    size_t n = json_array_size(types);
    if (type)
        return write_type(w, schema, type, rule);
    if (!types) {
        *rule = usual_rule("value");
        return JT_OK;
    }
    if (n == 0 || n > sizeof rules / sizeof *rules)
        return jt_schema_refuse(w, JT_E_FORMAT, "'type' is no type");
    for (size_t i = 0; i < n; i++) {
        type = json_string_value(json_array_get(types, i));
        JT_TRY(write_type(w, schema, type ? type : "", &rules[i]));
    }
    return jt_schema_choice(w, rules, n, rule);
}

/* ---- the whole ---- */

static jt_status write_schema(jt_schema_writer *w, const json_t *schema,
                              jt_schema_rule *rule)
{
    static const char *const combined[] = {"anyOf", "oneOf"};
    JT_TRY(check_keywords(w, schema));
    if (json_object_get(schema, "allOf"))
        return write_all(w, schema, rule);
    for (size_t i = 0; i < 2; i++) {
        if (json_object_get(schema, combined[i]))
            return write_any(w, schema, combined[i], rule);
    }
    if (json_object_get(schema, "const"))
        return write_const(w, schema, rule);
    if (json_object_get(schema, "enum"))
        return write_values(w, schema, json_object_get(schema, "enum"), rule);
    return write_types(w, schema, rule);
}

/* $ref, and what else is said beside it. */
static jt_status write_beside_ref(jt_schema_writer *w, const json_t *schema,
                                  jt_schema_rule *rule)
{
    const json_t *target = NULL;
    json_t *beside = without(schema, "$ref");
    if (json_object_size(beside) == 0) {
        json_decref(beside);
        return beside ? write_ref(w, schema, rule) : no_memory(w);
    }
    jt_status status = find_ref(w, schema, &target);
    if (status == JT_OK)
        status = merge_into(w, beside, target);
    if (status == JT_OK)
        status = jt_schema_write(w, beside, rule);
    json_decref(beside);
    return status;
}

jt_status jt_schema_write(jt_schema_writer *w, const json_t *schema,
                          jt_schema_rule *rule)
{
    if (json_is_true(schema)) {
        *rule = usual_rule("value");
        return JT_OK;
    }
    if (!json_is_object(schema))
        return jt_schema_refuse(w, JT_E_FORMAT, "a part is no schema, or fits nothing");
    if (++w->depth > DEPTH)
        return jt_schema_refuse(w, JT_E_LIMIT, "it is too deep");
    if (++w->work > WORK)
        return too_large(w);
    JT_TRY(json_object_get(schema, "$ref") ? write_beside_ref(w, schema, rule)
                                           : write_schema(w, schema, rule));
    w->depth--;
    return JT_OK;
}

jt_status jt_schema_grammar(char **out, const json_t *root,
                            jt_status (*write)(jt_schema_writer *w, const json_t *root,
                                               jt_schema_rule *rule),
                            jt_err *err)
{
    size_t bytes;
    jt_schema_rule rule;
    jt_schema_writer w = {.root = root, .err = err, .known = json_object()};
    *out = NULL;
    w.out = open_memstream(out, &bytes);
    if (!w.out || !w.known) {
        json_decref(w.known);
        return no_memory(&w);
    }
    jt_status status = write(&w, root, &rule);
    if (status == JT_OK)
        fprintf(w.out, "root ::= %s\n%s", rule.name, usual_rules);
    bool failed = ferror(w.out);
    if ((fclose(w.out) || failed) && status == JT_OK)
        status = no_memory(&w);
    json_decref(w.known);
    if (status != JT_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

jt_status jt_schema_to_gbnf(char **out, const char *schema, size_t len, jt_err *err)
{
    json_error_t why;
    if (len > SCHEMA_BYTES)
        return jt_fail(err, JT_E_LIMIT, "JSON schema: it is too large");
    json_t *root =
        json_loadb(schema, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return jt_fail(err, JT_E_FORMAT, "JSON schema: no JSON: %s", why.text);
    jt_status status = jt_schema_grammar(out, root, jt_schema_write, err);
    json_decref(root);
    return status;
}
