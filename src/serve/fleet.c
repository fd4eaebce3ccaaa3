#include "serve/fleet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "serve/answer.h"
#include "serve/ask.h"
#include "serve/models.h"

typedef struct ship {
    jt_server_offer offer;
    jt_server *server; /* NULL: not loaded */
    jt_model *model;
    jt_chat *chat;
    bool moving; /* being loaded, or taken down */
    size_t users, onlookers;
    double used; /* clock: when the last user left */
} ship;

struct jt_fleet {
    jt_server *front;
    jt_server_keep keep;
    ship *list;
    size_t n;
    pthread_mutex_t lock; /* guards all ships */
    pthread_cond_t news;
    pthread_t warden;
    bool has_warden, stop;
};

/* ---- with the lock held, but for what takes long ---- */

static void wait_a_moment(jt_fleet *f)
{
    const struct timespec until = jt_a_moment_later();
    pthread_cond_timedwait(&f->news, &f->lock, &until);
}

static void free_server(jt_server *server)
{
    server->clients = NULL; /* are not its own */
    jt_server_free(server);
}

static void take_down(jt_fleet *f, ship *s)
{
    s->moving = true;
    atomic_store(&s->server->state, JT_SERVER_DRAINING);
    while (s->onlookers)
        wait_a_moment(f);
    jt_counters_merge(&f->front->metrics, &s->server->metrics, false);
    jt_server *server = s->server;
    s->server = NULL;
    pthread_mutex_unlock(&f->lock);
    free_server(server);
    s->offer.unload(s->offer.user, s->model, s->chat);
    jt_log_line(&f->front->options.log, JT_LOG_INFO, "unloaded model=%s",
                s->offer.name);
    pthread_mutex_lock(&f->lock);
    s->moving = false;
    pthread_cond_broadcast(&f->news);
}

static bool is_idle(const ship *s)
{
    return s->server && !s->moving && s->users == 0;
}

/* The model that has not been used for longest; NULL: all are in use. */
static ship *find_oldest(jt_fleet *f)
{
    ship *oldest = NULL;
    for (size_t i = 0; i < f->n; i++) {
        if (is_idle(&f->list[i]) && (!oldest || f->list[i].used < oldest->used))
            oldest = &f->list[i];
    }
    return oldest;
}

static bool is_full(const jt_fleet *f)
{
    size_t loaded = 0;
    for (size_t i = 0; i < f->n; i++)
        loaded += f->list[i].server || f->list[i].moving;
    return f->keep.most > 0 && loaded >= (size_t)f->keep.most;
}

static jt_status open_server(const jt_fleet *f, ship *s, jt_server **out, jt_err *err)
{
    jt_server *server = jt_calloc(1, sizeof *server);
    if (!server)
        return jt_fail_memory(err, "loading a model");
    server->options = f->front->options;
    server->options.name = s->offer.name;
    server->created = f->front->created;
    server->clients = f->front->clients;
    jt_counters_open(&server->metrics);
    jt_status status = s->offer.load(s->offer.user, &s->model, &s->chat, err);
    if (status == JT_OK) {
        status = jt_server_open(server, s->model, s->chat, err);
        if (status != JT_OK)
            s->offer.unload(s->offer.user, s->model, s->chat);
    }
    if (status == JT_OK)
        *out = server;
    else
        free_server(server);
    return status;
}

static bool load(jt_fleet *f, ship *s, jt_problem *p)
{
    jt_server *server = NULL;
    jt_err err = {0};
    double start = jt_seconds();
    s->moving = true;
    pthread_mutex_unlock(&f->lock);
    jt_status status = open_server(f, s, &server, &err);
    if (status == JT_OK)
        jt_log_line(&f->front->options.log, JT_LOG_INFO, "loaded model=%s seconds=%.2f",
                    s->offer.name, jt_seconds() - start);
    else
        jt_log_line(&f->front->options.log, JT_LOG_WARN, "failed model=%s error=%s",
                    s->offer.name, err.msg);
    pthread_mutex_lock(&f->lock);
    s->server = server;
    s->moving = false;
    pthread_cond_broadcast(&f->news);
    return status == JT_OK ||
           jt_refuse(p, 500, "model", "model_not_loaded",
                     "the model '%s' cannot be loaded", s->offer.name);
}

/* ---- entering and leaving ---- */

static bool enter(jt_fleet *f, ship *s, int socket, bool looks_on, jt_problem *p)
{
    bool fine = true;
    pthread_mutex_lock(&f->lock);
    while (fine && (s->moving || !s->server)) {
        ship *oldest = find_oldest(f);
        bool stops = atomic_load(&f->front->state) != JT_SERVER_READY;
        if (f->stop || (looks_on && (stops || jt_http_gone(socket))))
            fine = jt_refuse(p, 503, NULL, "stopping", "the server stops");
        else if (looks_on || s->moving || (is_full(f) && !oldest))
            wait_a_moment(f);
        else if (is_full(f))
            take_down(f, oldest);
        else
            fine = load(f, s, p);
    }
    s->users += fine && !looks_on;
    s->onlookers += fine && looks_on;
    pthread_mutex_unlock(&f->lock);
    return fine;
}

static void leave(jt_fleet *f, ship *s, bool looks_on)
{
    pthread_mutex_lock(&f->lock);
    s->users -= !looks_on;
    s->onlookers -= looks_on;
    if (!looks_on)
        s->used = jt_seconds();
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

/* An answer that is read piece by piece: whoever reads it stays that long. */
typedef struct stay {
    jt_http_answer inner;
    jt_fleet *fleet;
    ship *ship;
    bool looks_on;
} stay;

static ssize_t read_stay(void *self, char *out, size_t most)
{
    stay *s = self;
    return s->inner.read(s->inner.self, out, most);
}

static void close_stay(void *self)
{
    stay *s = self;
    s->inner.close(s->inner.self);
    leave(s->fleet, s->ship, s->looks_on);
    free(s);
}

/* ---- requests ---- */

/* The model that is meant; NULL: the problem is told. */
static ship *choose(jt_fleet *f, const jt_http_call *call, jt_problem *p)
{
    json_t *root = call->len ? json_loadb(call->body, call->len, 0, NULL) : NULL;
    const char *name = call->len ? json_string_value(json_object_get(root, "model"))
                                 : jt_http_query(call, "model");
    ship *found = name ? NULL : &f->list[0]; /* who asks wrongly is told by it */
    for (size_t i = 0; i < f->n && name && !found; i++) {
        if (strcmp(f->list[i].offer.name, name) == 0)
            found = &f->list[i];
    }
    for (size_t i = 0; i < f->n && name && !found; i++) { /* "NAME:ADAPTER" */
        size_t len = strlen(f->list[i].offer.name);
        if (strncmp(f->list[i].offer.name, name, len) == 0 && name[len] == ':')
            found = &f->list[i];
    }
    if (!found)
        jt_refuse(p, 404, "model", "model_not_found", "there is no model '%.200s'",
                  name);
    json_decref(root);
    return found;
}

void jt_fleet_answer(jt_fleet *f, const jt_http_call *call, jt_http_answer *answer,
                     void (*handler)(jt_server *server, const jt_http_call *call,
                                     jt_http_answer *answer))
{
    jt_problem problem;
    bool looks_on = strcmp(call->method, "GET") == 0;
    stay *s = jt_calloc(1, sizeof *s);
    ship *of = choose(f, call, &problem);
    if (!s)
        jt_refuse(&problem, 500, NULL, NULL, "out of memory");
    if (!s || !of || !enter(f, of, call->socket, looks_on, &problem)) {
        free(s);
        jt_answer_problem(answer, &problem);
        return;
    }
    handler(of->server, call, answer);
    if (!answer->read) {
        free(s);
        leave(f, of, looks_on);
        return;
    }
    *s = (stay){*answer, f, of, looks_on};
    answer->read = read_stay;
    answer->close = close_stay;
    answer->self = s;
}

json_t *jt_fleet_json(jt_fleet *f)
{
    json_t *list = json_array();
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        const ship *s = &f->list[i];
        const char *state = s->moving ? "moving" : s->server ? "loaded" : "absent";
        double idle = s->server && !s->users ? jt_seconds() - s->used : 0.0;
        json_t *own = json_pack("{ss si sI}", "state", state, "running", (int)s->users,
                                "idle_seconds", (json_int_t)idle);
        json_t *model = jt_models_one(s->offer.name, f->front->created,
                                      s->server && !s->moving ? s->server : NULL, own);
        if (json_array_append_new(list, model)) {
            json_decref(list);
            list = NULL;
        }
        if (s->server && !s->moving)
            jt_models_add_adapters(list, s->offer.name, s->server);
    }
    pthread_mutex_unlock(&f->lock);
    return list;
}

void jt_fleet_count(jt_fleet *f, jt_counters *sum)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        if (f->list[i].server)
            jt_counters_merge(sum, &f->list[i].server->metrics, true);
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- the whole ---- */

/* Takes down what nobody used for long. */
static void *watch(void *self)
{
    jt_fleet *f = self;
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        for (size_t i = 0; i < f->n && f->keep.seconds >= 0; i++) {
            ship *s = &f->list[i];
            if (is_idle(s) && jt_seconds() - s->used >= f->keep.seconds)
                take_down(f, s);
        }
        wait_a_moment(f);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static jt_status fill(jt_fleet *f, const jt_server_offer *offers, size_t n, jt_err *err)
{
    f->list = jt_calloc(n, sizeof *f->list);
    if (!f->list)
        return jt_fail_memory(err, "offering models");
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(offers[i].name, offers[j].name) == 0)
                return jt_fail(err, JT_E_ARG, "two models are called '%s'",
                               offers[i].name);
        }
        f->list[f->n++].offer = offers[i];
    }
    if (jt_thread_start(&f->warden, watch, f))
        return jt_fail(err, JT_E_MEMORY, "no thread can be had");
    f->has_warden = true;
    return JT_OK;
}

jt_status jt_fleet_new(jt_fleet **out, jt_server *front, const jt_server_offer *offers,
                       size_t n, const jt_server_keep *keep, jt_err *err)
{
    pthread_condattr_t clock;
    jt_fleet *f = jt_calloc(1, sizeof *f);
    if (!f)
        return jt_fail_memory(err, "offering models");
    f->front = front;
    f->keep = *keep;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&f->news, &clock);
    pthread_condattr_destroy(&clock);
    jt_status status = fill(f, offers, n, err);
    if (status == JT_OK)
        *out = f;
    else
        jt_fleet_free(f);
    return status;
}

void jt_fleet_drain(jt_fleet *f)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        if (f->list[i].server)
            atomic_store(&f->list[i].server->state, JT_SERVER_DRAINING);
    }
    pthread_mutex_unlock(&f->lock);
}

void jt_fleet_stop(jt_fleet *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
    if (f->has_warden)
        pthread_join(f->warden, NULL);
    f->has_warden = false;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        ship *s = &f->list[i];
        while (s->moving)
            wait_a_moment(f);
        if (s->server) {
            atomic_store(&s->server->state, JT_SERVER_DRAINING);
            jt_engine_stop(s->server->engine);
        }
    }
    pthread_mutex_unlock(&f->lock);
}

void jt_fleet_free(jt_fleet *f)
{
    if (!f)
        return;
    jt_fleet_stop(f);
    for (size_t i = 0; i < f->n; i++) {
        ship *s = &f->list[i];
        if (!s->server)
            continue;
        free_server(s->server);
        s->offer.unload(s->offer.user, s->model, s->chat);
    }
    free(f->list);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->lock);
    free(f);
}
