/* From a recipe to the configuration of one training. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/recipe_impl.h"

static int add_tokens(json_t *list, const char *folder, const char *name)
{
    json_t *path = json_sprintf("%s/%s", folder, name);
    return path ? json_array_append_new(list, json_pack("{s:o}", "path", path)) : -1;
}

/* Each domain gives as much, however long its text is. */
static int add_text(json_t *list, const char *path)
{
    json_t *source = json_pack("{s:s, s:s, s:i}", "path", path, "separator",
                               JT_CORPUS_SEPARATOR, "weight", 1);
    return json_array_append_new(list, source);
}

static int add_task(json_t *list, const char *folder, const char *name)
{
    json_t *path = json_sprintf("%s/%s.jsonl", folder, name);
    json_t *source =
        json_pack("{s:o, s:s, s:i}", "path", path, "domain", name, "weight", 1);
    return json_array_append_new(list, source);
}

static int add_sources(json_t *list, const jt_recipe *recipe,
                       const jt_recipe_variant *variant, const jt_recipe_data *data)
{
    int failed = 0;
    size_t tasks = variant->n_sources ? variant->n_sources : recipe->suite.n_tasks;
    if (recipe->suite.n_tasks) {
        for (size_t i = 0; i < tasks; i++)
            failed |= add_task(list, data->dir,
                               variant->n_sources ? variant->source[i]
                                                  : recipe->suite.task[i]);
    } else if (data->corpus) {
        for (size_t i = 0; i < data->corpus->count; i++)
            failed |= add_text(list, data->corpus->path[i]);
    } else if (variant->mixed) {
        failed = add_tokens(list, data->dir, JT_SYNTHETIC_MIXED);
    } else {
        for (int i = 0; i < recipe->data.n_domains; i++) {
            char name[JT_SYNTHETIC_NAME];
            jt_synthetic_name(name, i);
            failed |= add_tokens(list, data->dir, name);
        }
    }
    return failed;
}

jt_recipe_data jt_recipe_data_foreseen(const jt_recipe *recipe)
{
    static char *const path[] = {"text.txt"};
    static const jt_corpus some = {.path = (char **)path, .count = 1};
    return (jt_recipe_data){".", recipe->info.corpus ? &some : NULL};
}

static int set_tokenizer(json_t *table, const jt_recipe *recipe,
                         const jt_recipe_data *data)
{
    bool tasks = recipe->suite.n_tasks > 0;
    if (!data->corpus && !tasks)
        return 0;
    json_t *path = json_sprintf("%s/%s", data->dir, JT_RECIPE_VOCABULARY);
    if (tasks && json_object_set_new(table, "chat", json_string("plain")))
        return -1;
    return json_object_set_new(table, "tokenizer", path);
}

/* The adapters that a variant mixes, each with the task that it learnt from and its
 * letter; where they lie comes later. */
static int set_parts(json_t *base, const jt_recipe *recipe,
                     const jt_recipe_variant *variant)
{
    json_t *list = json_array(), *adapter = json_object_get(base, "adapter");
    for (size_t i = 0; i < variant->n_adapters; i++) {
        const jt_recipe_variant *from = &recipe->variant[variant->adapter[i]];
        const char *source = from->n_sources ? from->source[0] : "";
        char letter[2] = "";
        for (size_t j = 0; j < recipe->suite.n_tasks; j++) {
            if (strcmp(recipe->suite.task[j], source) == 0)
                *letter = jt_suite_letter(j);
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "path",
                                              "adapter.safetensors", "source", source,
                                              "marker", letter));
    }
    adapter = adapter ? json_copy(adapter) : json_object();
    return json_object_set_new(adapter, "part", list) |
           json_object_set_new(base, "adapter", adapter);
}

/* The base with its sources, as text. */
static char *base_text(const jt_recipe *recipe, const jt_recipe_variant *variant,
                       const jt_recipe_data *data)
{
    json_t *base = json_copy(recipe->base), *given = json_object_get(base, "data");
    json_t *table = given ? json_copy(given) : json_object(), *sources = json_array();
    int failed = add_sources(sources, recipe, variant, data);
    failed |= json_object_set_new(table, "source", sources);
    failed |= set_tokenizer(table, recipe, data);
    failed |= json_object_set_new(base, "data", table);
    if (variant->n_adapters)
        failed |= set_parts(base, recipe, variant);
    if (variant->goes_on) { /* until it is known where that lies */
        json_t *model = json_object_get(base, "model");
        model = model ? json_copy(model) : json_object();
        failed |= json_object_set_new(model, "init", json_string("model.gguf"));
        failed |= json_object_set_new(base, "model", model);
    }
    if (variant->begins != (size_t)(variant - recipe->variant)) {
        json_t *adapter = json_object_get(base, "adapter");
        adapter = adapter ? json_copy(adapter) : json_object();
        failed |= json_object_set_new(adapter, "init", json_string("a.safetensors"));
        failed |= json_object_set_new(base, "adapter", adapter);
    }
    char *text = failed ? NULL : json_dumps(base, JSON_COMPACT);
    json_decref(base);
    return text;
}

jt_status jt_recipe_config(jt_config *out, const jt_recipe *recipe,
                           const jt_recipe_variant *variant, const jt_recipe_data *data,
                           const char *const *more, size_t n_more, jt_err *err)
{
    size_t n = variant->n_settings;
    char *text = base_text(recipe, variant, data);
    const char **settings = jt_alloc(n + n_more, sizeof *settings);
    jt_status status = JT_E_MEMORY;
    if (text && settings) {
        for (size_t i = 0; i < n + n_more; i++)
            settings[i] = i < n ? variant->setting[i] : more[i - n];
        status = jt_config_parse(out, text, settings, n + n_more, err);
    } else {
        jt_fail_memory(err, "reading a recipe");
    }
    free(settings);
    free(text);
    return status;
}
