#include "serve/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "fetch/download.h"
#include "serve/fleet.h"
#include "serve/keys.h"
#include "serve/routes.h"

/* A field that is not given has its usual value. */
static void fill(int *value, int usual)
{
    if (*value == 0)
        *value = usual;
}

static void fill_options(jt_server_options *o)
{
    fill(&o->slots, 4);
    fill(&o->queue, 64);
    fill(&o->connections, 128);
    fill(&o->idle_seconds, 60);
    fill(&o->reply_seconds, 3600);
    if (!o->host)
        o->host = "127.0.0.1";
    if (!o->prefill)
        o->prefill = "chunked";
    if (o->body_bytes == 0)
        o->body_bytes = (size_t)8 << 20;
}

static jt_status check_options(const jt_server_options *o, jt_err *err)
{
    const struct {
        const char *name;
        int value, least, most;
    } ranges[] = {{"port", o->port, 0, 65535},
                  {"slots", o->slots, 1, 1024},
                  {"queue", o->queue, 1, 1 << 20},
                  {"connections", o->connections, 1, 1 << 16},
                  {"per_client", o->per_client, 0, 1 << 20},
                  {"per_client_tokens", o->per_client_tokens, 0, 1 << 30},
                  {"idle_seconds", o->idle_seconds, 1, 1 << 20},
                  {"reply_seconds", o->reply_seconds, 1, 1 << 30},
                  {"max_tokens", o->max_tokens, 0, 1 << 30}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (ranges[i].value < ranges[i].least || ranges[i].value > ranges[i].most)
            return jt_fail(err, JT_E_ARG, "%s is %d (%d to %d can be)", ranges[i].name,
                           ranges[i].value, ranges[i].least, ranges[i].most);
    }
    if (!jt_prefill_find(o->prefill))
        return jt_fail(err, JT_E_ARG, "unknown way '%s' of running prompts",
                       o->prefill);
    if (o->api_key && jt_keys_count(o->api_key) == 0)
        return jt_fail(err, JT_E_ARG, "the API key is empty");
    return JT_OK;
}

jt_status jt_server_new(jt_server **out, const jt_server_options *options, jt_err *err)
{
    jt_server *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "starting a server");
    s->options = *options;
    s->created = (long long)time(NULL);
    jt_counters_open(&s->metrics);
    fill_options(&s->options);
    jt_http_options http = {.host = s->options.host,
                            .port = s->options.port,
                            .connections = s->options.connections,
                            .idle_seconds = s->options.idle_seconds,
                            .body_bytes = s->options.body_bytes,
                            .user = s,
                            .admit = jt_route_admit,
                            .answer = jt_route_answer,
                            .too_large = jt_route_too_large,
                            .done = jt_route_done};
    jt_status status = check_options(&s->options, err);
    const jt_client_limits limits = {(size_t)s->options.per_client,
                                     (size_t)s->options.per_client_tokens};
    if (status == JT_OK)
        status = jt_clients_new(&s->clients, &limits, err);
    if (status == JT_OK)
        status = jt_http_open(&s->http, &http, err);
    if (status != JT_OK) {
        jt_server_free(s);
        return status;
    }
    *out = s;
    return JT_OK;
}

/* What answers call the model: as the operator says, or as its file does. */
static void choose_name(jt_server *s, const jt_model *model)
{
    const char *given = s->options.name;
    jt_model_info info;
    jt_model_describe(model, &info);
    jt_str name = given ? (jt_str){given, strlen(given)} : info.name;
    if (name.len == 0)
        name = (jt_str){"junto", 5};
    snprintf(s->name, sizeof s->name, "%.*s",
             (int)(name.len < sizeof s->name ? jt_utf8_valid(name.data, name.len) : 0),
             name.data);
}

static jt_status open_wardrobe(jt_server *s, const jt_model *model, jt_err *err)
{
    const jt_server_options *o = &s->options;
    const jt_wardrobe_options options = {.model = model,
                                         .offers = o->adapters,
                                         .n_offers = o->n_adapters,
                                         .lazy = !s->http, /* one of a fleet */
                                         .folder = o->adapter_folder,
                                         .bytes = o->adapter_bytes,
                                         .cpu = o->session.cpu,
                                         .adapter_type = o->session.adapter_type,
                                         .log = o->log,
                                         .metrics = &s->metrics};
    return jt_wardrobe_new(&s->wardrobe, &options, err);
}

/* What a memory budget leaves to connections and adapters. */
static uint64_t aside_bytes(const jt_server_options *o)
{
    enum { CONNECTION = 64 << 10 }; /* its stack, a request of a usual length */
    return (uint64_t)o->connections * CONNECTION + o->adapter_bytes;
}

jt_status jt_server_open(jt_server *s, const jt_model *model, const jt_chat *chat,
                         jt_err *err)
{
    if (!jt_model_tokenizer(model))
        return jt_fail(err, JT_E_UNSUPPORTED, "the model has no vocabulary");
    jt_engine_options engine = {.model = model,
                                .session = &s->options.session,
                                .watcher = s->watcher.name ? &s->watcher : NULL,
                                .prefill = jt_prefill_find(s->options.prefill),
                                .slots = (size_t)s->options.slots,
                                .queue = (size_t)s->options.queue,
                                .kept_bytes = s->options.kept_bytes,
                                .aside = aside_bytes(&s->options),
                                .lodger = !s->http, /* one of a fleet */
                                .reply_seconds = s->options.reply_seconds,
                                .metrics = &s->metrics};
    JT_TRY(jt_routing_new(&s->routing, model, err));
    engine.routing = s->routing;
    s->sampling = jt_sampling_default();
    jt_sampling_from_file(&s->sampling, jt_model_file(model));
    JT_TRY(jt_token_tree_new(&s->tree, jt_model_tokenizer(model), err));
    JT_TRY(open_wardrobe(s, model, err));
    JT_TRY(jt_engine_new(&s->engine, &engine, err));
    s->replier = (jt_replier){.model = model,
                              .chat = chat,
                              .tree = s->tree,
                              .wardrobe = s->wardrobe,
                              .calls = jt_call_style_find(jt_chat_source(chat)),
                              .n_ctx = jt_engine_context(s->engine),
                              .max_tokens = s->options.max_tokens};
    choose_name(s, model);
    atomic_store(&s->state, JT_SERVER_READY);
    return JT_OK;
}

void jt_server_watch(jt_server *s, const jt_watcher *watcher)
{
    s->watcher = *watcher;
}

jt_status jt_server_offer_all(jt_server *s, const jt_server_offer *offers, size_t n,
                              const jt_server_keep *keep, jt_err *err)
{
    static const jt_server_keep usual = {.seconds = 300};
    if (n == 0)
        return jt_fail(err, JT_E_ARG, "there are no models to offer");
    JT_TRY(jt_fleet_new(&s->fleet, s, offers, n, keep ? keep : &usual, err));
    atomic_store(&s->state, JT_SERVER_READY);
    return JT_OK;
}

jt_status jt_server_look(char **json, const char *url, const char *api_key, jt_err *err)
{
    enum { LIMIT = 16 << 20 };
    char *path = NULL;
    size_t bytes, len = strlen(url);
    while (len && url[len - 1] == '/')
        len--;
    if (asprintf(&path, "%.*s/v1/models", (int)len, url) < 0)
        return jt_fail_memory(err, "asking a server");
    jt_status status = jt_download_text(json, &bytes, path, api_key, LIMIT, err);
    free(path);
    return status;
}

int jt_server_port(const jt_server *s)
{
    return jt_http_port(s->http);
}

void jt_server_drain(jt_server *s)
{
    atomic_store(&s->state, JT_SERVER_DRAINING);
    jt_http_quiesce(s->http);
    if (s->fleet)
        jt_fleet_drain(s->fleet);
}

bool jt_server_busy(jt_server *s)
{
    return atomic_load(&s->busy) > 0;
}

void jt_server_free(jt_server *s)
{
    if (!s)
        return;
    atomic_store(&s->state, JT_SERVER_DRAINING);
    if (s->engine)
        jt_engine_stop(s->engine);
    if (s->fleet)
        jt_fleet_stop(s->fleet);
    if (s->http)
        jt_http_close(s->http);
    jt_fleet_free(s->fleet);
    if (s->engine)
        jt_engine_free(s->engine);
    jt_wardrobe_free(s->wardrobe);
    jt_token_tree_free(s->tree);
    jt_routing_free(s->routing);
    jt_clients_free(s->clients);
    jt_counters_close(&s->metrics);
    free(s);
}
