#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "junto/learn.h"
#include "learn/config_impl.h"

/* ---- JSON ---- */

static json_t *field_json(const jt_config_key *key, const void *field)
{
    switch (key->kind) {
    case JT_CONFIG_BOOL:
        return json_boolean(*(const bool *)field);
    case JT_CONFIG_INT:
        return json_integer(*(const int *)field);
    case JT_CONFIG_LONG:
        return json_integer(*(const int64_t *)field);
    case JT_CONFIG_REAL:
        return json_real(*(const double *)field);
    default:
        return json_string(*(const char *const *)field);
    }
}

/* The keys of a struct; texts that are not given are left out. */
static json_t *table_json(const jt_config_section *section, const char *base)
{
    json_t *table = json_object();
    for (const jt_config_key *key = section->keys; table && key->name; key++) {
        const void *field = base + key->offset;
        if (!key->initial && !*(const char *const *)field)
            continue;
        if (json_object_set_new(table, key->name, field_json(key, field)) != 0) {
            json_decref(table);
            table = NULL;
        }
    }
    return table;
}

static json_t *list_json(const jt_config *config, const jt_config_section *list)
{
    const char *items;
    size_t count;
    memcpy(&items, (const char *)config + list->offset, sizeof items);
    memcpy(&count, (const char *)config + list->count_offset, sizeof count);
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++) {
        if (json_array_append_new(
                array, table_json(list, items + i * list->item_bytes)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

/* Put a section into the tree: "data", or "source" into what "data" made. */
static bool add_section(json_t *root, const jt_config *config,
                        const jt_config_section *s)
{
    if (!s->item_bytes)
        return json_object_set_new(
                   root, s->name, table_json(s, (const char *)config + s->offset)) == 0;
    const char *dot = strchr(s->name, '.');
    json_t *parent = json_object_getn(root, s->name, (size_t)(dot - s->name));
    return json_object_set_new(parent, dot + 1, list_json(config, s)) == 0;
}

char *jt_config_json(const jt_config *config)
{
    json_t *root = json_object();
    bool good = root;
    for (const jt_config_section *s = jt_config_sections; good && s->name; s++)
        good = add_section(root, config, s);
    char *text =
        good ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    return text;
}

/* ---- the table for people ---- */

/* The default as TOML; "" when there is none. */
static void show_initial(const jt_config_key *key, char *text, size_t size)
{
    bool quoted = key->kind == JT_CONFIG_TEXT || key->kind == JT_CONFIG_PATH ||
                  key->kind == JT_CONFIG_CHOICE;
    const char *quote = quoted ? "\"" : "";
    snprintf(text, size, "%s%s%s", quote, key->initial ? key->initial : "", quote);
    if (!key->initial)
        text[0] = '\0';
}

static void print_markdown(FILE *out, const jt_config_section *s)
{
    const char *open = s->item_bytes ? "[[" : "[", *close = s->item_bytes ? "]]" : "]";
    fprintf(out,
            "%s### `%s%s%s`\n\n%c%s.\n\n| key | default | values | meaning |\n"
            "| --- | --- | --- | --- |\n",
            s == jt_config_sections ? "" : "\n", open, s->name, close,
            toupper((unsigned char)s->help[0]), s->help + 1);
    for (const jt_config_key *key = s->keys; key->name; key++) {
        char initial[80], values[240];
        show_initial(key, initial, sizeof initial);
        jt_config_describe(key, values, sizeof values);
        const char *tick = *initial ? "`" : "";
        fprintf(out, "| `%s` | %s%s%s | %s | %s |\n", key->name, tick, initial, tick,
                values, key->help);
    }
}

/* What is not needed is a comment: the whole is a configuration to begin with. */
static void print_toml(FILE *out, const jt_config_section *s)
{
    const char *open = s->item_bytes ? "[[" : "[", *close = s->item_bytes ? "]]" : "]";
    const char *off = s->item_bytes && !s->needed ? "# " : "";
    fprintf(out, "%s%s%s%s%s  # %s\n", s == jt_config_sections ? "" : "\n", off, open,
            s->name, close, s->help);
    for (const jt_config_key *key = s->keys; key->name; key++) {
        char initial[80], values[240];
        show_initial(key, initial, sizeof initial);
        jt_config_describe(key, values, sizeof values);
        fprintf(out, "%s%s = %s  # %s (%s)\n", *initial ? off : "# ", key->name,
                *initial ? initial : "...", key->help, values);
    }
}

char *jt_train_keys(bool markdown)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    for (const jt_config_section *s = jt_config_sections; s->name; s++) {
        if (markdown)
            print_markdown(out, s);
        else
            print_toml(out, s);
    }
    bool failed = ferror(out);
    if (fclose(out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}
