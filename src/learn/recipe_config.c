/* From a recipe to the configuration of one training. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/recipe_impl.h"

static int add_source(json_t *list, const char *folder, const char *name)
{
    json_t *path = json_sprintf("%s/%s", folder, name);
    return path ? json_array_append_new(list, json_pack("{s:o}", "path", path)) : -1;
}

/* [[data.source]]: a file for each domain, or that of all of them. */
static json_t *make_sources(const jt_recipe *recipe, const jt_recipe_variant *variant,
                            const char *folder)
{
    json_t *list = json_array();
    int failed = list ? 0 : -1;
    if (variant->mixed)
        failed |= add_source(list, folder, JT_SYNTHETIC_MIXED);
    for (int i = 0; i < recipe->data.n_domains && !variant->mixed; i++) {
        char name[JT_SYNTHETIC_NAME];
        jt_synthetic_name(name, i);
        failed |= add_source(list, folder, name);
    }
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

/* The base with its sources, as text. */
static char *base_text(const jt_recipe *recipe, const jt_recipe_variant *variant,
                       const char *folder)
{
    json_t *base = json_copy(recipe->base), *given = json_object_get(base, "data");
    json_t *data = given ? json_copy(given) : json_object();
    json_t *sources = make_sources(recipe, variant, folder);
    bool failed = json_object_set_new(data, "source", sources) != 0;
    failed |= json_object_set_new(base, "data", data) != 0;
    char *text = failed ? NULL : json_dumps(base, JSON_COMPACT);
    json_decref(base);
    return text;
}

jt_status jt_recipe_config(jt_config *out, const jt_recipe *recipe,
                           const jt_recipe_variant *variant, const char *data,
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
