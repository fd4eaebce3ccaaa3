/* Recipe files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "learn/probe.h"
#include "learn/recipe_impl.h"
#include "learn/toml.h"

enum { MAX_FILE = 1 << 20, MAX_SEEDS = 1000 };

typedef struct reader {
    jt_recipe *recipe;
    jt_err *err;
    const char *where; /* the table at hand, for messages */
} reader;

static void *room(reader *r, size_t count, size_t size)
{
    void *p = jt_arena_alloc(&r->recipe->memory, count, size);
    if (p)
        memset(p, 0, count * size);
    else
        jt_fail_memory(r->err, "reading a recipe");
    return p;
}

/* ---- values of a table ---- */

/* Refuse keys that are none of `known` (NULL after the last). */
static jt_status check_keys(reader *r, json_t *table, const char *const *known)
{
    const char *key;
    json_t *value;
    if (!json_is_object(table))
        return jt_fail(r->err, JT_E_ARG, "%s is no table", r->where);
    json_object_foreach(table, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return jt_fail(r->err, JT_E_ARG, "%s: unknown key '%s'", r->where, key);
    }
    return JT_OK;
}

static jt_status read_text(reader *r, json_t *table, const char *key, bool needed,
                           const char **out)
{
    json_t *value = json_object_get(table, key);
    *out = json_string_value(value);
    if (*out || (!value && !needed))
        return JT_OK;
    return jt_fail(r->err, JT_E_ARG, "%s: '%s' %s", r->where, key,
                   value ? "is no text" : "is missing");
}

static jt_status read_int(reader *r, json_t *table, const char *key, int low, int high,
                          int *out)
{
    json_t *value = json_object_get(table, key);
    json_int_t n = value ? json_integer_value(value) : *out;
    if ((value && !json_is_integer(value)) || n < low || n > high)
        return jt_fail(r->err, JT_E_ARG, "%s: '%s' is no whole number from %d to %d",
                       r->where, key, low, high);
    *out = (int)n;
    return JT_OK;
}

/* A list of texts with NULL after the last. */
static jt_status read_texts(reader *r, json_t *table, const char *key,
                            const char ***out, size_t *count)
{
    json_t *list = json_object_get(table, key);
    *count = json_array_size(list);
    *out = room(r, *count + 1, sizeof **out);
    if (!*out)
        return JT_E_MEMORY;
    if (list && !json_is_array(list))
        return jt_fail(r->err, JT_E_ARG, "%s: '%s' is no list", r->where, key);
    for (size_t i = 0; i < *count; i++) {
        (*out)[i] = json_string_value(json_array_get(list, i));
        if (!(*out)[i])
            return jt_fail(r->err, JT_E_ARG, "%s: '%s' lists what is no text", r->where,
                           key);
    }
    return JT_OK;
}

/* ---- parts ---- */

static jt_status read_data(reader *r, json_t *table)
{
    static const char *const known[] = {"domains",   "vocab",  "classes", "common",
                                        "documents", "length", "seed",    NULL};
    int domains = 4, vocab = 256, classes = 16, common = 0;
    int documents = 100, length = 256, seed = 1;
    r->where = "[data]";
    if (table)
        JT_TRY(check_keys(r, table, known));
    JT_TRY(read_int(r, table, "domains", 1, 1000, &domains));
    JT_TRY(read_int(r, table, "vocab", 16, 1 << 16, &vocab));
    JT_TRY(read_int(r, table, "classes", 1, vocab, &classes));
    JT_TRY(read_int(r, table, "common", 0, 100, &common));
    JT_TRY(read_int(r, table, "documents", 2, 1 << 24, &documents));
    JT_TRY(read_int(r, table, "length", 8, 1 << 20, &length));
    JT_TRY(read_int(r, table, "seed", 0, 1 << 30, &seed));
    r->recipe->data = (jt_synthetic_options){.n_domains = domains,
                                             .n_vocab = vocab,
                                             .n_classes = classes,
                                             .common = common / 100.0,
                                             .documents = documents,
                                             .length = length,
                                             .seed = (uint64_t)seed};
    return JT_OK;
}

static jt_status read_corpus(reader *r, json_t *table)
{
    static const char *const known[] = {"vocab", NULL};
    int vocab = 1024;
    r->where = "[corpus]";
    JT_TRY(check_keys(r, table, known));
    JT_TRY(read_int(r, table, "vocab", 300, 1 << 16, &vocab));
    r->recipe->info.corpus = true;
    r->recipe->vocab = vocab;
    return JT_OK;
}

/* Names are parts of file names and of conditions. */
static bool good_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && len < 32 && !name[len];
}

/* [tasks.mixed]: documents of several tasks, by name. */
static jt_status read_mixes(reader *r, json_t *table, jt_suite_options *s)
{
    const char *name;
    json_t *value;
    jt_suite_mix *mix = room(r, json_object_size(table) + 1, sizeof *mix);
    if (!mix)
        return JT_E_MEMORY;
    s->mix = mix;
    r->where = "[tasks.mixed]";
    if (table && !json_is_object(table))
        return jt_fail(r->err, JT_E_ARG, "%s is no table", r->where);
    json_object_foreach(table, name, value)
    {
        const char **task;
        if (!good_name(name))
            return jt_fail(r->err, JT_E_ARG, "%s: '%.40s' is no name", r->where, name);
        JT_TRY(read_texts(r, table, name, &task, &mix->n_tasks));
        mix->name = name;
        mix->task = task;
        mix++;
        s->n_mixes++;
    }
    return JT_OK;
}

static jt_status read_tasks(reader *r, json_t *table)
{
    static const char *const known[] = {
        "list", "mixed",   "documents", "length",         "segments",
        "seed", "symbols", "apart",     "mixed_segments", NULL};
    jt_suite_options *s = &r->recipe->suite;
    const char **list;
    int seed = 1;
    *s = (jt_suite_options){
        .documents = 1000, .length = 8, .segments = 1, .symbols = 16};
    r->where = "[tasks]";
    JT_TRY(check_keys(r, table, known));
    JT_TRY(read_texts(r, table, "list", &list, &s->n_tasks));
    JT_TRY(read_int(r, table, "documents", 2, 1 << 24, &s->documents));
    JT_TRY(read_int(r, table, "length", 1, 64, &s->length));
    JT_TRY(read_int(r, table, "segments", 1, 64, &s->segments));
    JT_TRY(read_int(r, table, "mixed_segments", 0, 64, &s->mixed_segments));
    JT_TRY(read_int(r, table, "seed", 0, 1 << 30, &seed));
    JT_TRY(read_int(r, table, "symbols", 2, 16, &s->symbols));
    JT_TRY(read_int(r, table, "apart", 0, 8, &s->apart));
    for (size_t i = 0; i < s->n_tasks; i++)
        JT_TRY(jt_suite_check(list[i], r->err));
    if (!s->n_tasks)
        return jt_fail(r->err, JT_E_ARG, "[tasks]: 'list' is missing");
    s->task = list;
    s->seed = (uint64_t)seed;
    return read_mixes(r, json_object_get(table, "mixed"), s);
}

/* Synthetic text, that of a corpus, or tasks. */
static jt_status read_text_table(reader *r, json_t *data, json_t *corpus, json_t *tasks)
{
    if ((data != NULL) + (corpus != NULL) + (tasks != NULL) > 1)
        return jt_fail(r->err, JT_E_ARG,
                       "[data] is synthetic text, [corpus] real text, [tasks] small "
                       "tasks: give one");
    if (tasks)
        return read_tasks(r, tasks);
    return corpus ? read_corpus(r, corpus) : read_data(r, data);
}

static jt_status read_base(reader *r, json_t *base)
{
    jt_config config;
    jt_recipe_data data = jt_recipe_data_foreseen(r->recipe);
    jt_recipe_variant plain = {.name = "base"};
    if (!json_is_object(base))
        return jt_fail(r->err, JT_E_ARG, "[base] is missing");
    r->recipe->base = base;
    jt_status status =
        jt_recipe_config(&config, r->recipe, &plain, &data, NULL, 0, r->err);
    if (status != JT_OK)
        return jt_fail_within(r->err, status, "[base]");
    r->recipe->info.steps = config.train.steps;
    jt_config_free(&config);
    return JT_OK;
}

static jt_status read_checkpoints(reader *r, json_t *list)
{
    jt_recipe *recipe = r->recipe;
    recipe->n_checkpoints = json_array_size(list);
    recipe->checkpoint = room(r, recipe->n_checkpoints, sizeof *recipe->checkpoint);
    if (!recipe->checkpoint)
        return JT_E_MEMORY;
    for (size_t i = 0; i < recipe->n_checkpoints; i++) {
        json_int_t percent = json_integer_value(json_array_get(list, i));
        if (percent < 1 || percent > 100)
            return jt_fail(r->err, JT_E_ARG,
                           "'checkpoints' are whole percents of a run, 1 to 100");
        recipe->checkpoint[i] = (int)percent;
    }
    return JT_OK;
}

/* ---- variants ---- */

/* {"model.experts": 8} as "model.experts=8": a JSON scalar is TOML too. */
static jt_status read_settings(reader *r, json_t *set, jt_recipe_variant *v)
{
    const char *key;
    json_t *value;
    v->setting = room(r, json_object_size(set), sizeof *v->setting);
    if (!v->setting)
        return JT_E_MEMORY;
    if (set && !json_is_object(set))
        return jt_fail(r->err, JT_E_ARG, "%s: 'set' is no table", r->where);
    json_object_foreach(set, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        size_t bytes = text ? strlen(key) + strlen(text) + 2 : 0;
        char *setting = text ? room(r, bytes, 1) : NULL;
        if (setting)
            snprintf(setting, bytes, "%s=%s", key, text);
        free(text);
        if (!setting)
            return jt_fail_memory(r->err, "reading a recipe");
        v->setting[v->n_settings++] = setting;
    }
    return JT_OK;
}

static jt_status find_variant(const jt_recipe *recipe, size_t count, const char *name,
                              size_t len, size_t *out, jt_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *known = recipe->variant[i].name;
        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            *out = i;
            return JT_OK;
        }
    }
    return jt_fail(err, JT_E_ARG, "there is no variant '%.*s'", (int)len, name);
}

static jt_status check_variant(reader *r, const jt_recipe_variant *v)
{
    jt_config config;
    jt_recipe_data data = jt_recipe_data_foreseen(r->recipe);
    jt_status status = jt_recipe_config(&config, r->recipe, v, &data, NULL, 0, r->err);
    if (status != JT_OK)
        return jt_fail_within(r->err, status, "%s", r->where);
    jt_config_free(&config);
    for (size_t i = 0; i < v->n_probes; i++) {
        status = jt_probe_check(v->probe[i], r->err);
        if (status != JT_OK)
            return jt_fail_within(r->err, status, "%s", r->where);
    }
    return JT_OK;
}

static bool has_source(const jt_suite_options *s, const char *name)
{
    for (size_t i = 0; i < s->n_tasks; i++) {
        if (strcmp(s->task[i], name) == 0)
            return true;
    }
    for (size_t i = 0; i < s->n_mixes; i++) {
        if (strcmp(s->mix[i].name, name) == 0)
            return true;
    }
    return false;
}

static jt_status read_sources(reader *r, json_t *table, jt_recipe_variant *v)
{
    JT_TRY(read_texts(r, table, "sources", &v->source, &v->n_sources));
    for (size_t i = 0; i < v->n_sources; i++) {
        if (!has_source(&r->recipe->suite, v->source[i]))
            return jt_fail(r->err, JT_E_ARG, "%s: there is no task '%.40s'", r->where,
                           v->source[i]);
    }
    return JT_OK;
}

static jt_status read_adapters(reader *r, json_t *table, size_t i, jt_recipe_variant *v)
{
    const char **names;
    JT_TRY(read_texts(r, table, "adapters", &names, &v->n_adapters));
    v->adapter = room(r, v->n_adapters, sizeof *v->adapter);
    if (!v->adapter)
        return JT_E_MEMORY;
    for (size_t j = 0; j < v->n_adapters; j++)
        JT_TRY(find_variant(r->recipe, i, names[j], strlen(names[j]), &v->adapter[j],
                            r->err));
    return JT_OK;
}

static jt_status read_variant(reader *r, json_t *table, size_t i)
{
    static const char *const known[] = {"name",    "text",  "from",    "mixed",
                                        "set",     "probe", "sources", "adapters",
                                        "adapter", NULL};
    jt_recipe_variant *v = &r->recipe->variant[i];
    const char *from, *begins;
    char where[64] = "[[variant]]";
    r->where = where;
    JT_TRY(check_keys(r, table, known));
    JT_TRY(read_text(r, table, "name", true, &v->name));
    if (!good_name(v->name))
        return jt_fail(r->err, JT_E_ARG,
                       "variant '%.40s': a name has 1 to 31 letters (small), digits "
                       "and _",
                       v->name);
    snprintf(where, sizeof where, "variant '%s'", v->name);
    size_t same;
    if (find_variant(r->recipe, i, v->name, strlen(v->name), &same, NULL) == JT_OK)
        return jt_fail(r->err, JT_E_ARG, "%s comes twice", where);
    JT_TRY(read_text(r, table, "text", false, &v->text));
    JT_TRY(read_text(r, table, "from", false, &from));
    v->from = i;
    if (from && find_variant(r->recipe, i, from, strlen(from), &v->from, NULL) != JT_OK)
        return jt_fail(r->err, JT_E_ARG, "%s: there is no '%.40s' before it", where,
                       from);
    v->goes_on = v->from != i;
    JT_TRY(read_text(r, table, "adapter", false, &begins));
    v->begins = i;
    if (begins)
        JT_TRY(find_variant(r->recipe, i, begins, strlen(begins), &v->begins, r->err));
    JT_TRY(read_sources(r, table, v));
    JT_TRY(read_adapters(r, table, i, v));
    v->mixed = json_is_true(json_object_get(table, "mixed"));
    if (v->mixed && r->recipe->info.corpus)
        return jt_fail(r->err, JT_E_ARG, "%s: 'mixed' is for synthetic text", where);
    JT_TRY(read_settings(r, json_object_get(table, "set"), v));
    JT_TRY(read_texts(r, table, "probe", &v->probe, &v->n_probes));
    return check_variant(r, v);
}

static jt_status read_variants(reader *r, json_t *list)
{
    jt_recipe_info *info = &r->recipe->info;
    info->n_variants = json_array_size(list);
    if (!info->n_variants)
        return jt_fail(r->err, JT_E_ARG, "there is no [[variant]]");
    r->recipe->variant = room(r, info->n_variants, sizeof *r->recipe->variant);
    const char **names = room(r, info->n_variants, sizeof *names);
    const char **texts = room(r, info->n_variants, sizeof *texts);
    if (!r->recipe->variant || !names || !texts)
        return JT_E_MEMORY;
    for (size_t i = 0; i < info->n_variants; i++) {
        JT_TRY(read_variant(r, json_array_get(list, i), i));
        names[i] = r->recipe->variant[i].name;
        texts[i] = r->recipe->variant[i].text;
    }
    info->variant = names;
    info->variant_text = texts;
    return JT_OK;
}

/* ---- claims ---- */

/* Whether the variants are there; values come later. */
static jt_status look_up(void *user, const char *variant, size_t variant_len,
                         const char *metric, size_t metric_len, double *value,
                         jt_err *err)
{
    const jt_recipe *recipe = user;
    size_t i;
    (void)metric, (void)metric_len;
    *value = 1.0;
    return find_variant(recipe, recipe->info.n_variants, variant, variant_len, &i, err);
}

static jt_status read_claims(reader *r, json_t *list)
{
    static const char *const known[] = {"text", "holds", NULL};
    jt_recipe_info *info = &r->recipe->info;
    info->n_claims = json_array_size(list);
    const char **texts = room(r, info->n_claims, sizeof *texts);
    const char **conditions = room(r, info->n_claims, sizeof *conditions);
    if (!texts || !conditions)
        return JT_E_MEMORY;
    r->where = "[[claim]]";
    for (size_t i = 0; i < info->n_claims; i++) {
        json_t *table = json_array_get(list, i);
        double margin;
        JT_TRY(check_keys(r, table, known));
        JT_TRY(read_text(r, table, "text", true, &texts[i]));
        JT_TRY(read_text(r, table, "holds", true, &conditions[i]));
        JT_TRY(jt_claim_margin(conditions[i], look_up, r->recipe, &margin, r->err));
    }
    info->claim = texts;
    info->condition = conditions;
    return JT_OK;
}

/* ---- the whole ---- */

static jt_status read_tree(reader *r)
{
    static const char *const known[] = {
        "title",  "paper", "text",    "seeds", "table", "checkpoints", "data",
        "corpus", "base",  "variant", "claim", "tasks", NULL};
    jt_recipe_info *info = &r->recipe->info;
    json_t *root = r->recipe->root;
    const char **table;
    size_t shown;
    r->where = "the recipe";
    JT_TRY(check_keys(r, root, known));
    JT_TRY(read_text(r, root, "title", true, &info->title));
    JT_TRY(read_text(r, root, "paper", true, &info->paper));
    JT_TRY(read_text(r, root, "text", true, &info->text));
    info->seeds = 3;
    JT_TRY(read_int(r, root, "seeds", 1, MAX_SEEDS, &info->seeds));
    JT_TRY(read_texts(r, root, "table", &table, &shown));
    info->table = table;
    JT_TRY(read_text_table(r, json_object_get(root, "data"),
                           json_object_get(root, "corpus"),
                           json_object_get(root, "tasks")));
    JT_TRY(read_base(r, json_object_get(root, "base")));
    JT_TRY(read_checkpoints(r, json_object_get(root, "checkpoints")));
    JT_TRY(read_variants(r, json_object_get(root, "variant")));
    return read_claims(r, json_object_get(root, "claim"));
}

static jt_status parse(jt_recipe *recipe, const char *name, const char *text,
                       size_t len, jt_err *err)
{
    jt_toml toml = {0};
    reader r = {.recipe = recipe, .err = err};
    char *kept = room(&r, strlen(name) + 1, 1);
    if (!kept)
        return JT_E_MEMORY;
    memcpy(kept, name, strlen(name) + 1);
    recipe->info.name = kept;
    jt_status status = jt_toml_parse(&toml, text, len, err);
    if (status == JT_OK) {
        recipe->root = json_incref(toml.root);
        jt_toml_free(&toml);
        status = read_tree(&r);
    }
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", name);
}

static jt_status open_text(jt_recipe **out, const char *name, const char *text,
                           size_t len, jt_err *err)
{
    jt_recipe *recipe = jt_calloc(1, sizeof *recipe);
    if (!recipe)
        return jt_fail_memory(err, "reading a recipe");
    jt_status status = parse(recipe, name, text, len, err);
    if (status == JT_OK)
        *out = recipe;
    else
        jt_recipe_free(recipe);
    return status;
}

static jt_status open_file(jt_recipe **out, const char *path, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(jt_read_file(&text, &len, path, MAX_FILE, err));
    jt_status status = open_text(out, path, text, len, err);
    free(text);
    return status;
}

jt_status jt_recipe_open(jt_recipe **out, const char *name, jt_err *err)
{
    if (strpbrk(name, "/."))
        return open_file(out, name, err);
    for (const jt_recipe_file *file = jt_recipe_files; file->name; file++) {
        if (strcmp(file->name, name) == 0)
            return open_text(out, name, file->text, strlen(file->text), err);
    }
    return jt_fail(err, JT_E_ARG,
                   "there is no recipe '%.60s' ('junto recipe --list' lists them; a "
                   "file is given with its folder: ./%.60s)",
                   name, name);
}

void jt_recipe_free(jt_recipe *recipe)
{
    if (!recipe)
        return;
    json_decref(recipe->root);
    jt_arena_free(&recipe->memory);
    free(recipe);
}

const char *jt_recipe_name(size_t i)
{
    for (size_t j = 0; jt_recipe_files[j].name; j++) {
        if (j == i)
            return jt_recipe_files[j].name;
    }
    return NULL;
}

void jt_recipe_describe(const jt_recipe *recipe, jt_recipe_info *out)
{
    *out = recipe->info;
}
