#include "serve_models.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct serve_model {
    char *name, *path;
    const cli_template_args *how;
    const jt_store_options *store;
    cli_model model;
    cli_template template;
};

/* ---- for the server ---- */

static void unload(void *user, jt_model *model, jt_chat *chat)
{
    serve_model *m = user;
    (void)model;
    (void)chat;
    cli_template_close(&m->template);
    cli_unload(&m->model);
}

static jt_status load(void *user, jt_model **model, jt_chat **chat, jt_err *err)
{
    serve_model *m = user;
    JT_TRY(cli_load_stored(&m->model, m->path, true, m->store, err));
    jt_status status = cli_template_open(
        &m->template, m->how, jt_model_file(m->model.model), m->model.tokenizer, err);
    if (status != JT_OK) {
        unload(m, NULL, NULL);
        return status;
    }
    *model = m->model.model;
    *chat = m->template.chat;
    return JT_OK;
}

/* ---- names ---- */

/* The last part of a path, without .gguf. */
static char *name_of(const char *path)
{
    static const char end[] = ".gguf";
    size_t len = strlen(path), tail = sizeof end - 1;
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start && path[start - 1] != '/')
        start--;
    if (len - start > tail && strncasecmp(path + len - tail, end, tail) == 0)
        len -= tail;
    return strndup(path + start, len - start);
}

static jt_status add(serve_models *all, char *name, char *path, jt_err *err)
{
    if (!name || !path) {
        free(name);
        free(path);
        return jt_fail(err, JT_E_MEMORY, "out of memory for a model");
    }
    all->list[all->count++] = (serve_model){.name = name, .path = path};
    return JT_OK;
}

static jt_status add_given(serve_models *all, const char *item, jt_err *err)
{
    const char *equals = access(item, F_OK) == 0 ? NULL : strchr(item, '=');
    const char *place = equals ? equals + 1 : item;
    char *path = NULL;
    if (access(place, F_OK) == 0)
        path = strdup(place);
    else
        JT_TRY(jt_shelf_find(&path, place, err));
    if (!path)
        return jt_fail(err, JT_E_IO, "there is no model '%s'", place);
    return add(all, equals ? strndup(item, (size_t)(equals - item)) : name_of(place),
               path, err);
}

static jt_status add_shelf(serve_models *all, const jt_shelf_model *models, size_t n,
                           jt_err *err)
{
    for (size_t i = 0; i < n; i++)
        JT_TRY(add(all, strdup(models[i].name), strdup(models[i].path), err));
    return n ? JT_OK
             : jt_fail(err, JT_E_ARG,
                       "no MODEL is given, and the shelf is empty (see 'junto help "
                       "pull')");
}

static jt_status make_room(serve_models *all, size_t n, jt_err *err)
{
    all->list = calloc(n + 1, sizeof *all->list);
    all->offers = calloc(n + 1, sizeof *all->offers);
    return all->list && all->offers
               ? JT_OK
               : jt_fail(err, JT_E_MEMORY, "out of memory for models");
}

static jt_status open_shelf(serve_models *out, jt_err *err)
{
    jt_shelf_model *models;
    size_t n;
    JT_TRY(jt_shelf_list(&models, &n, err));
    jt_status status = make_room(out, n, err);
    if (status == JT_OK)
        status = add_shelf(out, models, n, err);
    jt_shelf_free(models, n);
    return status;
}

static jt_status open_given(serve_models *out, const cli_list *given, jt_err *err)
{
    JT_TRY(make_room(out, given->count, err));
    for (size_t i = 0; i < given->count; i++)
        JT_TRY(add_given(out, given->items[i], err));
    return JT_OK;
}

jt_status serve_models_open(serve_models *out, const cli_list *given,
                            const cli_template_args *template,
                            const jt_store_options *store, jt_err *err)
{
    JT_TRY(given->count ? open_given(out, given, err) : open_shelf(out, err));
    for (size_t i = 0; i < out->count; i++) {
        out->list[i].how = template;
        out->list[i].store = store;
        out->offers[i] = (jt_server_offer){.name = out->list[i].name,
                                           .load = load,
                                           .unload = unload,
                                           .user = &out->list[i]};
    }
    return JT_OK;
}

void serve_models_close(serve_models *models)
{
    for (size_t i = 0; i < models->count; i++) {
        free(models->list[i].name);
        free(models->list[i].path);
    }
    free(models->list);
    free(models->offers);
    *models = (serve_models){0};
}
