#include "serve/wardrobe.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A name. */
typedef struct hook {
    char *name, *path;
    jt_garment_source source; /* its path is this one */
    bool offered;
    jt_garment *garment; /* NULL: not in memory */
    uint64_t used;       /* the larger, the later */
} hook;

struct jt_wardrobe {
    jt_wardrobe_options options;
    jt_context ctx;         /* to make adapters ready, with `making` held */
    pthread_mutex_t lock;   /* guards what follows */
    pthread_mutex_t making; /* one adapter is read at a time; taken before `lock` */
    hook **hooks;
    size_t n, room;
    uint64_t bytes, clock, serial;
};

/* ---- names, with the lock held ---- */

static hook *find(const jt_wardrobe *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++) {
        if (strcmp(w->hooks[i]->name, name) == 0)
            return w->hooks[i];
    }
    return NULL;
}

static hook *find_offered(const jt_wardrobe *w, const char *name)
{
    hook *h = find(w, name);
    return h && h->offered ? h : NULL;
}

static void free_hook(hook *h)
{
    free(h->name);
    free(h->path);
    free(h);
}

static jt_status add_hook(jt_wardrobe *w, const jt_adapter_offer *o, hook **out,
                          jt_err *err)
{
    hook *h = jt_calloc(1, sizeof *h);
    if (!h)
        return jt_fail_memory(err, "offering an adapter");
    *h = (hook){.name = strdup(o->name), .path = strdup(o->path), .offered = true};
    h->source = (jt_garment_source){h->path, o->scale, o->has_task, o->task};
    if (!h->name || !h->path ||
        !jt_grow((void **)&w->hooks, &w->room, w->n + 1, sizeof(hook *))) {
        free_hook(h);
        return jt_fail_memory(err, "offering an adapter");
    }
    *out = w->hooks[w->n++] = h;
    return JT_OK;
}

/* ---- garments ---- */

static void note(const jt_wardrobe *w)
{
    size_t loaded = 0;
    for (size_t i = 0; i < w->n; i++)
        loaded += w->hooks[i]->garment != NULL;
    jt_counters_set(w->options.metrics, JT_COUNTER_adapters, (double)loaded);
    jt_counters_set(w->options.metrics, JT_COUNTER_adapter_bytes, (double)w->bytes);
}

/* With the lock held: it leaves the memory now, or with its last user. */
static void put_away(jt_wardrobe *w, hook *h)
{
    jt_garment *g = h->garment;
    h->garment = NULL;
    if (!g)
        return;
    g->orphan = true;
    if (g->users == 0) {
        w->bytes -= g->bytes;
        jt_garment_free(g);
    }
    note(w);
}

/* With the lock held: let `bytes` more be in memory, if need be in place of what was
 * not used for longest. */
static bool make_room(jt_wardrobe *w, uint64_t bytes)
{
    uint64_t most = w->options.bytes;
    while (most && w->bytes + bytes > most) {
        hook *oldest = NULL;
        for (size_t i = 0; i < w->n; i++) {
            hook *h = w->hooks[i];
            if (h->garment && !h->garment->users && (!oldest || h->used < oldest->used))
                oldest = h;
        }
        if (!oldest)
            return false;
        put_away(w, oldest);
    }
    return true;
}

/* ---- making, with `making` held ---- */

static bool refuse_crowd(const jt_wardrobe *w, const char *name, uint64_t bytes,
                         jt_problem *p)
{
    bool ever = bytes <= w->options.bytes;
    return jt_refuse(p, ever ? 503 : 500, "adapter", "adapter_memory",
                     ever ? "the memory for adapters is full of those in use: there is "
                            "no room for '%.200s'"
                          : "'%.200s' is larger than the memory for adapters",
                     name);
}

/* Hang up what was read. */
static bool hang(jt_wardrobe *w, hook *h, jt_garment *g, jt_problem *p)
{
    pthread_mutex_lock(&w->lock);
    bool fits = make_room(w, g->bytes);
    if (fits) {
        g->serial = ++w->serial;
        w->bytes += g->bytes;
        h->garment = g;
        note(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (!fits) {
        uint64_t bytes = g->bytes;
        jt_garment_free(g);
        return refuse_crowd(w, h->name, bytes, p);
    }
    jt_counters_add(w->options.metrics, JT_COUNTER_adapter_loads_total, 1);
    jt_log_line(&w->options.log, JT_LOG_INFO, "adapter name=%s bytes=%llu", h->name,
                (unsigned long long)g->bytes);
    return true;
}

static bool refuse_load(const char *name, const jt_err *err, jt_problem *p)
{
    jt_refuse_err(p, "adapter", err);
    p->code = "adapter_not_loaded";
    jt_err why = p->err;
    jt_fail(&p->err, why.code, "the adapter '%.100s' cannot be loaded: %.350s", name,
            why.msg);
    return false;
}

/* ---- taking ---- */

/* With the lock held: hold it, if it is there and ready. */
static bool hold(jt_wardrobe *w, hook *h, float scale, jt_held *out)
{
    jt_fitting *f = h->garment ? jt_garment_fitting(h->garment, scale) : NULL;
    if (!f)
        return false;
    h->garment->users++;
    h->used = ++w->clock;
    *out = (jt_held){h->garment, &f->at, scale, h->garment->serial};
    return true;
}

/* Another fitting of what is there, which waits in a list that only grows. */
static bool refit(jt_wardrobe *w, hook *h, float scale, jt_problem *p)
{
    jt_fitting *f = NULL;
    jt_err err = {0};
    jt_garment *g = h->garment;
    if (jt_garment_fit(&f, &w->ctx, w->options.model, g, scale, &err) != JT_OK)
        return refuse_load(h->name, &err, p);
    uint64_t bytes = jt_attachment_bytes(&f->at);
    pthread_mutex_lock(&w->lock);
    g->users++; /* it must not make room for itself */
    bool fits = make_room(w, bytes);
    g->users--;
    if (fits) {
        jt_garment_add(g, f);
        w->bytes += bytes;
        note(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (!fits) {
        jt_fitting_free(f);
        return refuse_crowd(w, h->name, bytes, p);
    }
    return true;
}

/* With `making` held, so that nobody else puts anything here. */
static bool make(jt_wardrobe *w, hook *h, float scale, jt_problem *p)
{
    jt_garment *g = NULL;
    jt_err err = {0};
    if (!h->garment) {
        if (jt_garment_read(&g, &w->ctx, w->options.model, &h->source, &err) != JT_OK)
            return refuse_load(h->name, &err, p);
        if (!hang(w, h, g, p))
            return false;
    }
    return jt_garment_fitting(h->garment, scale) || refit(w, h, scale, p);
}

bool jt_wardrobe_has(jt_wardrobe *w, const char *name)
{
    pthread_mutex_lock(&w->lock);
    bool has = find_offered(w, name) != NULL;
    pthread_mutex_unlock(&w->lock);
    return has;
}

/* Look for it and hold it if it is ready; false with *found NULL: there is no such
 * name. */
static bool try_to_hold(jt_wardrobe *w, const char *name, float weight, hook **found,
                        jt_held *out)
{
    pthread_mutex_lock(&w->lock);
    *found = find_offered(w, name);
    bool held = *found && hold(w, *found, (*found)->source.scale * weight, out);
    pthread_mutex_unlock(&w->lock);
    return held;
}

bool jt_wardrobe_take(jt_wardrobe *w, const char *name, float weight, jt_held *out,
                      jt_problem *p)
{
    hook *h = NULL;
    if (try_to_hold(w, name, weight, &h, out))
        return true;
    if (h && !isfinite(h->source.scale * weight))
        return jt_refuse(p, 400, "adapter", "invalid_value",
                         "the weight of '%.200s' is out of range", name);
    pthread_mutex_lock(&w->making);
    bool held = try_to_hold(w, name, weight, &h, out), fine = true;
    while (fine && !held && h) {
        fine = make(w, h, h->source.scale * weight, p);
        held = fine && try_to_hold(w, name, weight, &h, out);
    }
    pthread_mutex_unlock(&w->making);
    if (fine && !held)
        return jt_refuse(p, 404, "adapter", "adapter_not_found",
                         "there is no adapter '%.200s'", name);
    return held;
}

void jt_wardrobe_drop(jt_wardrobe *w, jt_held *held)
{
    jt_garment *g = held->garment;
    if (!g)
        return;
    pthread_mutex_lock(&w->lock);
    if (--g->users == 0 && g->orphan) {
        w->bytes -= g->bytes;
        jt_garment_free(g);
        note(w);
    }
    pthread_mutex_unlock(&w->lock);
    *held = (jt_held){0};
}

/* ---- the list ---- */

/* Does the file name, without its ending, be that of the adapter? */
static bool is_called(const char *file, const char *name)
{
    static const char *const ends[] = {"", ".safetensors", ".gguf"};
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (strncmp(file, name, len) == 0 && strcmp(file + len, ends[i]) == 0)
            return true;
    }
    return false;
}

/* The entry of the folder that has the name; the caller frees. What a request says is
 * compared with names that are there, and never is a path. */
static char *find_file(const jt_wardrobe *w, const char *name)
{
    DIR *dir = w->options.folder && *name != '.' ? opendir(w->options.folder) : NULL;
    char *path = NULL;
    for (struct dirent *e; dir && !path && (e = readdir(dir));) {
        if (is_called(e->d_name, name) &&
            asprintf(&path, "%s/%s", w->options.folder, e->d_name) < 0)
            path = NULL;
    }
    if (dir)
        closedir(dir);
    return path;
}

static bool add_file(jt_wardrobe *w, const char *name, jt_problem *p)
{
    hook *made;
    jt_err err = {0};
    char *path = find_file(w, name);
    if (!path)
        return jt_refuse(p, 404, "name", "adapter_not_found",
                         "there is no adapter '%.200s'", name);
    jt_adapter_offer offer = {.name = name, .path = path, .scale = 1.0f};
    jt_status status = add_hook(w, &offer, &made, &err);
    free(path);
    return status == JT_OK || jt_refuse_err(p, "name", &err);
}

bool jt_wardrobe_offer(jt_wardrobe *w, const char *name, jt_problem *p)
{
    jt_held held = {0};
    pthread_mutex_lock(&w->lock);
    hook *h = find(w, name);
    bool known = h != NULL, offered = h && h->offered;
    bool fine = known || add_file(w, name, p);
    if (known)
        h->offered = true;
    pthread_mutex_unlock(&w->lock);
    if (!fine)
        return false;
    fine = jt_wardrobe_take(w, name, 1.0f, &held, p);
    if (fine)
        jt_wardrobe_drop(w, &held);
    pthread_mutex_lock(&w->lock);
    if (!fine && !offered)
        find(w, name)->offered = false;
    pthread_mutex_unlock(&w->lock);
    return fine;
}

bool jt_wardrobe_remove(jt_wardrobe *w, const char *name, jt_problem *p)
{
    pthread_mutex_lock(&w->making); /* it is not on its way in */
    pthread_mutex_lock(&w->lock);
    hook *h = find_offered(w, name);
    if (h) {
        h->offered = false;
        put_away(w, h);
    }
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&w->making);
    if (h)
        jt_log_line(&w->options.log, JT_LOG_INFO, "adapter_removed name=%s", h->name);
    return h || jt_refuse(p, 404, "name", "adapter_not_found",
                          "there is no adapter '%.200s'", name);
}

static json_t *hook_json(const hook *h)
{
    const jt_garment *g = h->garment;
    json_t *json = json_pack("{ss sf ss}", "name", h->name, "scale",
                             (double)h->source.scale, "state", g ? "loaded" : "absent");
    jt_adapter_info info;
    if (!g || !json)
        return json;
    jt_adapter_describe(g->adapter, &info);
    json_object_set_new(json, "kind",
                        json_string(info.method ? info.method : info.kind));
    json_object_set_new(json, "bytes", json_integer((json_int_t)g->bytes));
    json_object_set_new(json, "users", json_integer((json_int_t)g->users));
    return json;
}

json_t *jt_wardrobe_json(jt_wardrobe *w)
{
    json_t *list = json_array();
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n; i++) {
        if (w->hooks[i]->offered)
            json_array_append_new(list, hook_json(w->hooks[i]));
    }
    pthread_mutex_unlock(&w->lock);
    return list;
}

/* ---- the whole ---- */

/* A request could not do better: what cannot be loaded is known at the start. */
static jt_status add_offer(jt_wardrobe *w, const jt_adapter_offer *o, jt_err *err)
{
    hook *h;
    jt_held held = {0};
    jt_problem problem;
    if (find(w, o->name))
        return jt_fail(err, JT_E_ARG, "two adapters called '%s'", o->name);
    JT_TRY(add_hook(w, o, &h, err));
    if (w->options.lazy)
        return JT_OK;
    if (!jt_wardrobe_take(w, o->name, 1.0f, &held, &problem))
        return jt_fail(err, JT_E_FORMAT, "%s", problem.err.msg);
    jt_wardrobe_drop(w, &held);
    return JT_OK;
}

static jt_status check_folder(const char *folder, jt_err *err)
{
    DIR *dir = folder ? opendir(folder) : NULL;
    if (folder && !dir)
        return jt_fail(err, JT_E_IO, "cannot read the folder '%s'", folder);
    if (dir)
        closedir(dir);
    return JT_OK;
}

jt_status jt_wardrobe_new(jt_wardrobe **out, const jt_wardrobe_options *options,
                          jt_err *err)
{
    jt_wardrobe *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "offering adapters");
    w->options = *options;
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->making, NULL);
    jt_status status = jt_context_init(&w->ctx, 1, options->cpu, err);
    if (status == JT_OK)
        status = jt_factor_rule_named(&w->ctx.factors, options->adapter_type, err);
    if (status == JT_OK)
        status = check_folder(options->folder, err);
    for (size_t i = 0; i < options->n_offers && status == JT_OK; i++)
        status = add_offer(w, &options->offers[i], err);
    if (status != JT_OK) {
        jt_wardrobe_free(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

void jt_wardrobe_free(jt_wardrobe *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        put_away(w, w->hooks[i]);
    for (size_t i = 0; i < w->n; i++)
        free_hook(w->hooks[i]);
    free(w->hooks);
    jt_context_free(&w->ctx);
    pthread_mutex_destroy(&w->making);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
