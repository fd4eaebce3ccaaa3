/* Objects and arrays of JSON schemas. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/schema.h"

/* ---- names that are taken ---- */

/* Names of members in order, of which other members have none. */
typedef struct taken {
    const char **names;
    size_t count;
} taken;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The next character of a name at `at`, as GBNF writes it; 0 bytes at its end. */
static size_t next_character(const char *name, size_t at, uint32_t *c)
{
    utf8proc_int32_t code = 0;
    size_t len = strlen(name + at);
    if (len)
        utf8proc_iterate((const utf8proc_uint8_t *)name + at, (utf8proc_ssize_t)len,
                         &code);
    *c = (uint32_t)code;
    return jt_utf8_char(name + at, len);
}

/* The rest of a name, `at` bytes having been read that names[0..n] share, which are in
 * order and no two the same: nothing, if that is not one of them, or what leads away
 * from all of them. No escapes: they would be another way of writing a name. */
static jt_status write_untaken(jt_schema_writer *w, const char **names, size_t n,
                               size_t at, jt_schema_rule *rule)
{
    enum { LONGEST = 256 };
    jt_schema_rule *rests = jt_alloc(n, sizeof *rests);
    uint32_t *first = jt_alloc(n, sizeof *first), c;
    jt_status status = rests && first ? jt_schema_name(w, rule)
                                      : jt_fail_memory(w->err, "reading a JSON schema");
    size_t kinds = 0;
    if (status == JT_OK && at > LONGEST)
        status = jt_schema_refuse(w, JT_E_LIMIT, "a name is too long");
    bool is_taken = n && names[0][at] == '\0';
    for (size_t i = is_taken; i < n && status == JT_OK;) {
        size_t end = i, bytes = next_character(names[i], at, &first[kinds]);
        while (end < n && next_character(names[end], at, &c) && c == first[kinds])
            end++;
        status = write_untaken(w, names + i, end - i, at + bytes, &rests[kinds++]);
        i = end;
    }
    if (status == JT_OK) {
        fprintf(w->out, "%s ::= (", rule->name);
        for (size_t i = 0; i < kinds; i++)
            fprintf(w->out, "[\\U%08x] %s | ", first[i], rests[i].name);
        fputs("[^\"\\\\\\x00-\\x1f", w->out);
        for (size_t i = 0; i < kinds; i++)
            fprintf(w->out, "\\U%08x", first[i]);
        fprintf(w->out, "] [^\"\\\\\\x00-\\x1f]*)%s\n", is_taken ? "" : "?");
    }
    free(rests);
    free(first);
    return status;
}

/* ---- objects ---- */

typedef struct member {
    const char *name;
    jt_schema_rule rule; /* of name and value */
    bool required;
} member;

typedef struct object {
    member *members;
    size_t count;
    const json_t *more;     /* the schema of other members; NULL: none may be there */
    jt_schema_rule another; /* one of those */
} object;

static bool is_required(const json_t *schema, const char *name)
{
    const json_t *list = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        if (item && strcmp(item, name) == 0)
            return true;
    }
    return false;
}

static bool has_member(const object *o, const char *name)
{
    for (size_t i = 0; i < o->count; i++) {
        if (strcmp(o->members[i].name, name) == 0)
            return true;
    }
    return false;
}

static jt_status add_member(jt_schema_writer *w, object *o, const json_t *schema,
                            const char *name, const json_t *value)
{
    member *m = &o->members[o->count++];
    jt_schema_rule of_value;
    *m = (member){.name = name, .required = is_required(schema, name)};
    JT_TRY(jt_schema_write(w, value, &of_value));
    JT_TRY(jt_schema_name(w, &m->rule));
    fprintf(w->out, "%s ::= ", m->rule.name);
    json_t *text = json_string(name);
    jt_status status = text ? jt_schema_literal(w, text)
                            : jt_fail_memory(w->err, "reading a JSON schema");
    json_decref(text);
    fprintf(w->out, " \":\" gap %s\n", of_value.name);
    return status;
}

/* Members that the schema names, then those that are only required, each once. */
static jt_status add_members(jt_schema_writer *w, object *o, const json_t *schema)
{
    json_t *properties = json_object_get(schema, "properties"), *value;
    const json_t *required = json_object_get(schema, "required");
    const char *name;
    if (properties && !json_is_object(properties))
        return jt_schema_refuse(w, JT_E_FORMAT, "'properties' is no object");
    o->members = jt_calloc(json_object_size(properties) + json_array_size(required),
                           sizeof *o->members);
    if (!o->members)
        return jt_fail_memory(w->err, "reading a JSON schema");
    json_object_foreach(properties, name, value)
    {
        JT_TRY(add_member(w, o, schema, name, value));
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        name = json_string_value(json_array_get(required, i));
        if (!name)
            return jt_schema_refuse(w, JT_E_FORMAT, "'required' has what is no name");
        if (has_member(o, name))
            continue;
        if (!o->more && json_object_get(schema, "additionalProperties"))
            return jt_schema_refuse(w, JT_E_FORMAT,
                                    "'%.64s' is required, and cannot be", name);
        json_t *any = json_true();
        JT_TRY(add_member(w, o, schema, name, o->more ? o->more : any));
    }
    return JT_OK;
}

/* What else may be there: nothing, if names are given and nothing is said. */
static void find_more(object *o, const json_t *schema)
{
    const json_t *more = json_object_get(schema, "additionalProperties");
    if (!more)
        more = json_object_get(schema, "unevaluatedProperties");
    if (!more && json_object_size(json_object_get(schema, "properties")) == 0)
        more = json_true();
    o->more = json_is_false(more) ? NULL : more;
}

static jt_status write_another(jt_schema_writer *w, object *o)
{
    jt_schema_rule value, name = {"name"};
    const char **names = jt_alloc(o->count, sizeof *names);
    if (!names)
        return jt_fail_memory(w->err, "reading a JSON schema");
    for (size_t i = 0; i < o->count; i++)
        names[i] = o->members[i].name;
    qsort(names, o->count, sizeof *names, by_name);
    jt_status status = write_untaken(w, names, o->count, 0, &name);
    free(names);
    JT_TRY(status);
    JT_TRY(jt_schema_write(w, o->more, &value));
    JT_TRY(jt_schema_name(w, &o->another));
    fprintf(w->out, "%s ::= \"\\\"\" %s \"\\\"\" \":\" gap %s\n", o->another.name,
            name.name, value.name);
    return JT_OK;
}

/* Members in order: rule "..-a3" goes on with the fourth when there is none yet,
 * "..-b3" when there is, and a comma is needed. */
static void write_members(jt_schema_writer *w, const object *o, const char *name)
{
    for (size_t i = 0; i < o->count; i++) {
        const member *m = &o->members[i];
        fprintf(w->out, "%s-a%zu ::= %s %s-b%zu", name, i, m->rule.name, name, i + 1);
        if (!m->required)
            fprintf(w->out, " | %s-a%zu", name, i + 1);
        fprintf(w->out, "\n%s-b%zu ::= \",\" ws %s %s-b%zu", name, i, m->rule.name,
                name, i + 1);
        if (!m->required)
            fprintf(w->out, " | %s-b%zu", name, i + 1);
        fputc('\n', w->out);
    }
    if (o->more) {
        const char *another = o->another.name;
        fprintf(w->out, "%s-a%zu ::= (%s (\",\" ws %s)*)?\n", name, o->count, another,
                another);
        fprintf(w->out, "%s-b%zu ::= (\",\" ws %s)*\n", name, o->count, another);
    } else {
        fprintf(w->out, "%s-a%zu ::= \"\"\n%s-b%zu ::= \"\"\n", name, o->count, name,
                o->count);
    }
}

/* An object without names, of which the number of members may be bounded. */
static void write_map(jt_schema_writer *w, const object *o, const char *name,
                      json_int_t least, json_int_t most)
{
    fprintf(w->out, "%s-a0 ::= ", name);
    if (most == 0) {
        fputs("\"\"\n", w->out);
        return;
    }
    fprintf(w->out, "(%s (\",\" ws %s)", o->another.name, o->another.name);
    jt_schema_times(w, least > 1 ? least - 1 : 0, most > 0 ? most - 1 : -1);
    fputs(least > 0 ? ")\n" : ")?\n", w->out);
}

static jt_status write_object(jt_schema_writer *w, object *o, const json_t *schema,
                              jt_schema_rule *rule)
{
    json_int_t least, most;
    JT_TRY(jt_schema_count(w, schema, "minProperties", 0, &least));
    JT_TRY(jt_schema_count(w, schema, "maxProperties", -1, &most));
    find_more(o, schema);
    JT_TRY(add_members(w, o, schema));
    if (o->count && (least > 0 || most >= 0))
        return jt_schema_refuse(w, JT_E_UNSUPPORTED,
                                "a number of properties beside their names");
    if ((most >= 0 && most < least) || (least > 0 && !o->more))
        return jt_schema_refuse(w, JT_E_FORMAT, "no object has so many properties");
    if (o->more)
        JT_TRY(write_another(w, o));
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"{\" ws %s-a0 ws \"}\"\n", rule->name, rule->name);
    if (o->count == 0 && o->more)
        write_map(w, o, rule->name, least, most);
    else
        write_members(w, o, rule->name);
    return JT_OK;
}

jt_status jt_schema_object(jt_schema_writer *w, const json_t *schema,
                           jt_schema_rule *rule)
{
    object o = {0};
    jt_status status = write_object(w, &o, schema, rule);
    free(o.members);
    return status;
}

/* ---- arrays ---- */

/* Items that all are of one rule; `comma`: others stand before them. */
static void write_items(jt_schema_writer *w, const char *item, json_int_t least,
                        json_int_t most, bool comma)
{
    if (most == 0)
        return;
    if (comma) {
        fprintf(w->out, " (\",\" ws %s)", item);
        jt_schema_times(w, least, most);
        return;
    }
    fprintf(w->out, " (%s (\",\" ws %s)", item, item);
    jt_schema_times(w, least > 1 ? least - 1 : 0, most > 0 ? most - 1 : -1);
    fputs(least > 0 ? ")" : ")?", w->out);
}

/* The rules of the first items, and of the others; *item empty: there are none. */
static jt_status write_item_rules(jt_schema_writer *w, const json_t *schema,
                                  jt_schema_rule **first, size_t *n,
                                  jt_schema_rule *item)
{
    const json_t *prefix = json_object_get(schema, "prefixItems");
    const json_t *items = json_object_get(schema, "items");
    if (json_is_array(items)) { /* before 2020-12 */
        prefix = items;
        items = json_object_get(schema, "additionalItems");
    }
    *n = json_array_size(prefix);
    *first = jt_alloc(*n, sizeof **first);
    if (!*first)
        return jt_fail_memory(w->err, "reading a JSON schema");
    for (size_t i = 0; i < *n; i++)
        JT_TRY(jt_schema_write(w, json_array_get(prefix, i), &(*first)[i]));
    *item = (jt_schema_rule){0};
    if (json_is_false(items) || (!items && *n > 0))
        return JT_OK;
    return jt_schema_write(w, items ? items : json_true(), item);
}

static jt_status write_array(jt_schema_writer *w, const json_t *schema,
                             jt_schema_rule **first, jt_schema_rule *rule)
{
    json_int_t least, most;
    jt_schema_rule item;
    size_t n;
    JT_TRY(jt_schema_count(w, schema, "minItems", 0, &least));
    JT_TRY(jt_schema_count(w, schema, "maxItems", -1, &most));
    JT_TRY(write_item_rules(w, schema, first, &n, &item));
    json_int_t before = (json_int_t)n;
    if (most >= 0 && (most < least || most < before))
        return jt_schema_refuse(w, JT_E_FORMAT, "'maxItems' is too small");
    if (!item.name[0] && least > before)
        return jt_schema_refuse(w, JT_E_FORMAT, "'minItems' is too large");
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= \"[\" ws", rule->name);
    for (size_t i = 0; i < n; i++)
        fprintf(w->out, "%s %s", i ? " \",\" ws" : "", (*first)[i].name);
    if (item.name[0])
        write_items(w, item.name, least > before ? least - before : 0,
                    most >= 0 ? most - before : -1, n > 0);
    fputs(" ws \"]\"\n", w->out);
    return JT_OK;
}

jt_status jt_schema_array(jt_schema_writer *w, const json_t *schema,
                          jt_schema_rule *rule)
{
    jt_schema_rule *first = NULL;
    jt_status status = write_array(w, schema, &first, rule);
    free(first);
    return status;
}
