#include "learn/config.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "junto/text.h"
#include "learn/config_impl.h"
#include "learn/toml.h"

enum { MAX_FILE = 1 << 20, LABEL = 160 };

/* Where values come from and go to. */
typedef struct reader {
    jt_config *config;
    const jt_toml *toml; /* of the file, for line numbers; NULL: other */
    const char *folder;  /* before relative paths, with its slash */
    size_t folder_len;
    jt_err *err;
} reader;

/* ---- values ---- */

/* "a|b" as "a, b" */
static void list_words(const char *words, char *text, size_t size)
{
    size_t used = 0;
    for (; *words && used + 3 < size; words++) {
        text[used++] = *words == '|' ? ',' : *words;
        if (*words == '|')
            text[used++] = ' ';
    }
    text[used] = '\0';
}

void jt_config_describe(const jt_config_key *key, char *text, size_t size)
{
    switch (key->kind) {
    case JT_CONFIG_BOOL:
        snprintf(text, size, "true, false");
        break;
    case JT_CONFIG_TEXT:
    case JT_CONFIG_PATH:
        snprintf(text, size, key->kind == JT_CONFIG_TEXT ? "text" : "path");
        break;
    case JT_CONFIG_CHOICE:
        list_words(key->choices, text, size);
        break;
    default:
        if (key->max >= 0x1p62)
            snprintf(text, size, "%.10g or more", key->min);
        else
            snprintf(text, size, "%.10g to %.10g", key->min, key->max);
    }
}

/* A value as an error shows it. */
static void show_value(const json_t *value, char *text, size_t size)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        snprintf(text, size, "'%.60s'", json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(text, size, "%.10g", json_real_value(value));
        break;
    case JSON_ARRAY:
        snprintf(text, size, "a list");
        break;
    case JSON_OBJECT:
        snprintf(text, size, "a table");
        break;
    default:
        snprintf(text, size, "%s",
                 json_is_true(value)    ? "true"
                 : json_is_false(value) ? "false"
                                        : "null");
    }
}

static jt_status fail_value(const reader *r, const jt_config_key *key,
                            const json_t *value, const char *label)
{
    static const char *const expected[] = {[JT_CONFIG_BOOL] = "one of ",
                                           [JT_CONFIG_INT] = "a whole number, ",
                                           [JT_CONFIG_LONG] = "a whole number, ",
                                           [JT_CONFIG_REAL] = "a number, ",
                                           [JT_CONFIG_TEXT] = "a ",
                                           [JT_CONFIG_PATH] = "a ",
                                           [JT_CONFIG_CHOICE] = "one of "};
    char found[80], range[240];
    show_value(value, found, sizeof found);
    jt_config_describe(key, range, sizeof range);
    return jt_fail(r->err, JT_E_ARG, "%s: expected %s%s, not %s", label,
                   expected[key->kind], range, found);
}

static bool is_choice(const jt_config_key *key, const char *text)
{
    size_t len = strlen(text);
    for (const char *word = key->choices; word;) {
        size_t word_len = strcspn(word, "|");
        if (word_len == len && memcmp(word, text, len) == 0)
            return true;
        word = word[word_len] ? word + word_len + 1 : NULL;
    }
    return strcmp(text, key->initial) == 0; /* "" where that means none */
}

static jt_status store_text(const reader *r, const jt_config_key *key,
                            const char **field, const char *text)
{
    bool relative = key->kind == JT_CONFIG_PATH && text[0] && text[0] != '/';
    size_t before = relative ? r->folder_len : 0, len = strlen(text);
    char *copy = jt_arena_alloc(r->config->memory, before + len + 1, 1);
    if (!copy)
        return jt_fail_memory(r->err, "reading the configuration");
    if (before)
        memcpy(copy, r->folder, before);
    memcpy(copy + before, text, len + 1);
    *field = copy;
    return JT_OK;
}

/* The number at hand, also when a whole one is written as 1e6; false for others. */
static bool get_whole(const json_t *value, int64_t *out)
{
    double real = json_real_value(value);
    if (json_is_real(value) && fabs(real) < 0x1p53 && real == floor(real))
        *out = (int64_t)real;
    else if (json_is_integer(value))
        *out = json_integer_value(value);
    else
        return false;
    return true;
}

static jt_status store_number(const reader *r, const jt_config_key *key, void *field,
                              const json_t *value, const char *label)
{
    int64_t whole = 0;
    bool fits =
        key->kind == JT_CONFIG_REAL ? json_is_number(value) : get_whole(value, &whole);
    double number = json_is_number(value) ? json_number_value(value) : 0.0;
    if (!fits || number < key->min || number > key->max)
        return fail_value(r, key, value, label);
    if (key->kind == JT_CONFIG_REAL)
        *(double *)field = number;
    else if (key->kind == JT_CONFIG_LONG)
        *(int64_t *)field = whole;
    else
        *(int *)field = (int)whole;
    return JT_OK;
}

/* `value` into the field of `key` in the struct at `base`; `label` names it. */
static jt_status store(const reader *r, const jt_config_key *key, void *base,
                       const json_t *value, const char *label)
{
    void *field = (char *)base + key->offset;
    const char *text = json_string_value(value);
    switch (key->kind) {
    case JT_CONFIG_BOOL:
        if (!json_is_boolean(value))
            break;
        *(bool *)field = json_is_true(value);
        return JT_OK;
    case JT_CONFIG_INT:
    case JT_CONFIG_LONG:
    case JT_CONFIG_REAL:
        return store_number(r, key, field, value, label);
    case JT_CONFIG_CHOICE:
        if (text && !is_choice(key, text))
            break;
        /* fall through */
    case JT_CONFIG_TEXT:
    case JT_CONFIG_PATH:
        if (text)
            return store_text(r, key, field, text);
    }
    return fail_value(r, key, value, label);
}

/* The same for a value as written after "--set key=". */
static jt_status store_written(const reader *r, const jt_config_key *key, void *base,
                               const char *text, const char *label)
{
    bool is_text = key->kind == JT_CONFIG_TEXT || key->kind == JT_CONFIG_PATH ||
                   key->kind == JT_CONFIG_CHOICE;
    bool quoted = text[0] == '"' || text[0] == '\'';
    json_t *value = NULL;
    jt_err why = {0};
    jt_status status = JT_OK;
    if (!is_text || quoted)
        status = jt_toml_parse_value(&value, text, strlen(text), &why);
    if (status != JT_OK && quoted)
        return jt_fail(r->err, status, "%s: %s", label, why.msg);
    if (!value)
        value = json_string(text);
    if (!value)
        return jt_fail(r->err, JT_E_ARG, "%s: the value is not UTF-8", label);
    status = store(r, key, base, value, label);
    json_decref(value);
    return status;
}

/* ---- sections ---- */

static const jt_config_key *find_key(const jt_config_section *section, const char *name)
{
    for (const jt_config_key *key = section->keys; key->name; key++) {
        if (strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

static const jt_config_section *find_section(const char *name, bool list)
{
    for (const jt_config_section *s = jt_config_sections; s->name; s++) {
        if (strcmp(s->name, name) == 0 && (s->item_bytes != 0) == list)
            return s;
    }
    return NULL;
}

static jt_status set_defaults(const reader *r, const jt_config_section *section,
                              void *base)
{
    for (const jt_config_key *key = section->keys; key->name; key++) {
        if (key->initial)
            JT_TRY(store_written(r, key, base, key->initial, key->name));
    }
    return JT_OK;
}

/* The first item of a list, and where its count stands. Pointers to different structs
 * may not be read through one another, hence the copies. */
static char *get_items(const reader *r, const jt_config_section *list, size_t **count)
{
    char *items;
    memcpy(&items, (char *)r->config + list->offset, sizeof items);
    *count = (size_t *)(void *)((char *)r->config + list->count_offset);
    return items;
}

/* Append an item with its defaults. */
static jt_status add_item(const reader *r, const jt_config_section *list)
{
    size_t *count;
    char *items = get_items(r, list, &count);
    if (*count == list->most)
        return jt_fail(r->err, JT_E_ARG, "%s: at most %zu", list->name, list->most);
    if ((*count & (*count - 1)) == 0) { /* a power of two: full */
        size_t room = *count ? 2 * *count : 1;
        char *larger = jt_arena_alloc(r->config->memory, room, list->item_bytes);
        if (!larger)
            return jt_fail_memory(r->err, "reading the configuration");
        if (*count)
            memcpy(larger, items, *count * list->item_bytes);
        memcpy((char *)r->config + list->offset, &larger, sizeof larger);
        items = larger;
    }
    char *item = items + *count * list->item_bytes;
    memset(item, 0, list->item_bytes);
    ++*count;
    return set_defaults(r, list, item);
}

/* ---- unknown keys ---- */

/* `label` without the indices of items. */
static void drop_indices(char *out, const char *label)
{
    while (*label) {
        if (*label == '.' && isdigit((unsigned char)label[1]))
            label += 1 + strspn(label + 1, "0123456789");
        else
            *out++ = *label++;
    }
    *out = '\0';
}

typedef struct nearest {
    char wanted[LABEL], found[LABEL];
    int distance;
} nearest;

static void consider(nearest *n, const jt_config_section *section, const char *key)
{
    char known[LABEL];
    const char *dot = strrchr(n->wanted, '.');
    snprintf(known, sizeof known, "%s%s%s", section->name, *key ? "." : "", key);
    int distance = jt_text_distance(n->wanted, strlen(n->wanted), known, strlen(known));
    if (strcmp(dot ? dot + 1 : n->wanted, key) == 0)
        distance = 0; /* the right name in another section */
    if (distance >= n->distance)
        return;
    n->distance = distance;
    snprintf(n->found, sizeof n->found, "%s%s%s%s", section->name,
             *key && section->item_bytes ? ".0" : "", *key ? "." : "", key);
}

static jt_status fail_unknown(const reader *r, const char *label)
{
    nearest n = {.found = ""};
    drop_indices(n.wanted, label);
    size_t len = strlen(n.wanted);
    n.distance = len > 9 ? 4 : 1 + (int)len / 3;
    for (const jt_config_section *s = jt_config_sections; s->name; s++) {
        consider(&n, s, "");
        for (const jt_config_key *key = s->keys; key->name; key++)
            consider(&n, s, key->name);
    }
    if (n.found[0] && strcmp(n.found, label) != 0)
        return jt_fail(r->err, JT_E_ARG, "unknown key '%s' (did you mean '%s'?)", label,
                       n.found);
    return jt_fail(r->err, JT_E_ARG, "unknown key '%s' (see 'junto train --help-keys')",
                   label);
}

/* ---- the tree of a file ---- */

/* Put the line of `key` before an error. */
static jt_status located(const reader *r, const char *key, jt_status status)
{
    size_t line = status != JT_OK && r->toml ? jt_toml_line(r->toml, key) : 0;
    return line ? jt_fail_within(r->err, status, "line %zu", line) : status;
}

static jt_status read_key(const reader *r, const jt_config_section *section, void *base,
                          const char *name, const json_t *value, const char *label)
{
    const jt_config_key *key = find_key(section, name);
    return key ? store(r, key, base, value, label) : fail_unknown(r, label);
}

/* The keys of a new item of a list. */
static jt_status read_item(const reader *r, const jt_config_section *list, size_t i,
                           json_t *table)
{
    JT_TRY(add_item(r, list));
    size_t *count;
    void *item = get_items(r, list, &count) + i * list->item_bytes;
    const char *name;
    json_t *value;
    json_object_foreach(table, name, value)
    {
        char label[LABEL];
        snprintf(label, sizeof label, "%s.%zu.%.80s", list->name, i, name);
        JT_TRY(located(r, name, read_key(r, list, item, name, value, label)));
    }
    return JT_OK;
}

/* `name` is the key of the list, for its line. */
static jt_status read_list(const reader *r, const jt_config_section *list,
                           const char *name, const json_t *value)
{
    bool tables = json_is_array(value);
    for (size_t i = 0; i < json_array_size(value); i++)
        tables = tables && json_is_object(json_array_get(value, i));
    if (!tables)
        return located(r, name,
                       jt_fail(r->err, JT_E_ARG,
                               "%s: expected a list of tables: [[%s]]", list->name,
                               list->name));
    for (size_t i = 0; i < json_array_size(value); i++)
        JT_TRY(read_item(r, list, i, json_array_get(value, i)));
    return JT_OK;
}

static jt_status read_section(const reader *r, const jt_config_section *section,
                              json_t *table)
{
    void *base = (char *)r->config + section->offset;
    const char *name;
    json_t *value;
    json_object_foreach(table, name, value)
    {
        char label[LABEL];
        snprintf(label, sizeof label, "%s.%.80s", section->name, name);
        const jt_config_section *list = find_section(label, true);
        if (list)
            JT_TRY(read_list(r, list, name, value));
        else
            JT_TRY(located(r, name, read_key(r, section, base, name, value, label)));
    }
    return JT_OK;
}

static jt_status read_tree(const reader *r, json_t *root)
{
    if (!json_is_object(root))
        return jt_fail(r->err, JT_E_ARG, "expected an object of sections");
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        const jt_config_section *section = find_section(name, false);
        char label[LABEL];
        snprintf(label, sizeof label, "%.80s", name);
        if (!section)
            return located(r, name, fail_unknown(r, label));
        if (!json_is_object(value))
            return located(
                r, name,
                jt_fail(r->err, JT_E_ARG, "%s: expected a table: [%s]", name, name));
        JT_TRY(read_section(r, section, value));
    }
    return JT_OK;
}

/* ---- settings ---- */

/* The item that "0.weight" begins with, and *rest "weight"; one after the last is
 * appended. NULL in *item when that is no index. */
static jt_status find_item(const reader *r, const jt_config_section *list,
                           const char **rest, void **item)
{
    size_t digits = strspn(*rest, "0123456789"), *count;
    *item = NULL;
    if (digits == 0 || (*rest)[digits] != '.')
        return JT_OK;
    get_items(r, list, &count);
    unsigned long i = digits < 6 ? strtoul(*rest, NULL, 10) : list->most;
    if (i > *count)
        return jt_fail(r->err, JT_E_ARG, "%s.%.*s: there are %zu, counted from 0",
                       list->name, (int)digits, *rest, *count);
    if (i == *count)
        JT_TRY(add_item(r, list));
    *item = get_items(r, list, &count) + i * list->item_bytes;
    *rest += digits + 1;
    return JT_OK;
}

static jt_status apply(const reader *r, const char *label, const char *text)
{
    for (const jt_config_section *s = jt_config_sections; s->name; s++) {
        size_t len = strlen(s->name);
        if (strncmp(label, s->name, len) != 0 || label[len] != '.')
            continue;
        const char *rest = label + len + 1;
        void *item = (char *)r->config + s->offset;
        bool found = true;
        if (s->item_bytes) {
            JT_TRY(find_item(r, s, &rest, &item));
            found = item != NULL;
        }
        const jt_config_key *key = found ? find_key(s, rest) : NULL;
        if (key)
            return store_written(r, key, item, text, label);
    }
    return fail_unknown(r, label);
}

static jt_status apply_setting(const reader *r, const char *setting)
{
    char label[LABEL];
    const char *equals = strchr(setting, '=');
    size_t len = equals ? (size_t)(equals - setting) : 0;
    if (len == 0 || len >= sizeof label)
        return jt_fail(r->err, JT_E_ARG, "setting '%.60s' is not of the form key=value",
                       setting);
    memcpy(label, setting, len);
    label[len] = '\0';
    return apply(r, label, equals + 1);
}

/* ---- from outside ---- */

static jt_status fill(const reader *r, json_t *root, const char *const *settings,
                      size_t n_settings, const char *path)
{
    for (const jt_config_section *s = jt_config_sections; s->name; s++) {
        if (!s->item_bytes)
            JT_TRY(set_defaults(r, s, (char *)r->config + s->offset));
    }
    jt_status status = read_tree(r, root);
    if (status != JT_OK)
        return jt_fail_within(r->err, status, "'%s'", path);
    reader plain = {.config = r->config, .err = r->err};
    for (size_t i = 0; i < n_settings; i++)
        JT_TRY(apply_setting(&plain, settings[i]));
    status = jt_config_settle(r->config, r->err);
    return status == JT_OK ? JT_OK : jt_fail_within(r->err, status, "'%s'", path);
}

/* Make a configuration of a tree. `toml` may be NULL, `path` names the file. */
static jt_status build(jt_config *out, json_t *root, const jt_toml *toml,
                       const char *folder, size_t folder_len,
                       const char *const *settings, size_t n_settings, const char *path,
                       jt_err *err)
{
    jt_config config = {.memory = jt_calloc(1, sizeof(jt_arena))};
    if (!config.memory)
        return jt_fail_memory(err, "reading the configuration");
    reader r = {&config, toml, folder, folder_len, err};
    jt_status status = fill(&r, root, settings, n_settings, path);
    if (status == JT_OK)
        *out = config;
    else
        jt_config_free(&config);
    return status;
}

static jt_status parse_json(json_t **root, const char *text, size_t len, jt_err *err)
{
    json_error_t why;
    *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (*root)
        return JT_OK;
    if (json_error_code(&why) == json_error_out_of_memory)
        return jt_fail_memory(err, "parsing JSON");
    return jt_fail(err, JT_E_FORMAT, "line %d: %s", why.line, why.text);
}

jt_status jt_config_read(jt_config *out, const char *path, const char *const *settings,
                         size_t n_settings, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(jt_read_file(&text, &len, path, MAX_FILE, err));
    size_t path_len = strlen(path);
    bool json = path_len >= 5 && strcmp(path + path_len - 5, ".json") == 0;
    jt_toml toml = {0};
    jt_status status = json ? parse_json(&toml.root, text, len, err)
                            : jt_toml_parse(&toml, text, len, err);
    free(text);
    if (status != JT_OK)
        return jt_fail_within(err, status, "'%s'", path);
    const char *slash = strrchr(path, '/');
    status =
        build(out, toml.root, json ? NULL : &toml, path,
              slash ? (size_t)(slash - path) + 1 : 0, settings, n_settings, path, err);
    jt_toml_free(&toml);
    return status;
}

jt_status jt_config_parse(jt_config *out, const char *json, const char *const *settings,
                          size_t n_settings, jt_err *err)
{
    json_t *root;
    JT_TRY(parse_json(&root, json, strlen(json), err));
    jt_status status =
        build(out, root, NULL, NULL, 0, settings, n_settings, "configuration", err);
    json_decref(root);
    return status;
}

void jt_config_free(jt_config *config)
{
    if (config->memory)
        jt_arena_free(config->memory);
    free(config->memory);
    *config = (jt_config){0};
}

jt_status jt_config_open(jt_config *out, const char *path, const char *json,
                         const char *const *settings, size_t n_settings, jt_err *err)
{
    return path ? jt_config_read(out, path, settings, n_settings, err)
                : jt_config_parse(out, json, settings, n_settings, err);
}
