#include "serve/onlooker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/answer.h"

typedef struct onlooker {
    jt_server *server;
    jt_routing *routing;
    int socket;
    double interval, told; /* seconds between events; clock of the last thing sent */
    bool begun;
    jt_routing_view before, now;
    jt_buffer out; /* of which `sent` bytes are gone */
    size_t sent;
} onlooker;

static void close_onlooker(void *self)
{
    onlooker *o = self;
    free(o->before.counts);
    free(o->now.counts);
    free(o->out.data);
    free(o);
}

/* ---- events ---- */

static bool add(json_t *list, json_t *item)
{
    return json_array_append_new(list, item) == 0;
}

static json_t *layers_json(const onlooker *o)
{
    size_t n;
    const jt_routing_layer *layers = jt_routing_layers(o->routing, &n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        (void)add(list, json_pack("{si si}", "layer", layers[i].layer, "experts",
                                  layers[i].n_experts));
    return list;
}

/* What a layer did since the last event: its counts, how even they are (0 .. 1), and
 * the load of its busiest expert, over that of an even router. */
static bool add_layer(const onlooker *o, const jt_routing_layer *layer, json_t *counts,
                      json_t *entropy, json_t *load)
{
    size_t n = (size_t)layer->n_experts;
    double total = 0.0, most = 0.0, even = 0.0;
    json_t *list = json_array();
    bool fits = add(counts, list);
    for (size_t e = 0; e < n; e++) {
        uint64_t count =
            o->now.counts[layer->first + e] - o->before.counts[layer->first + e];
        fits = add(list, json_integer((json_int_t)count)) && fits;
        total += (double)count;
        most = fmax(most, (double)count);
        even -= count ? (double)count * log((double)count) : 0.0;
    }
    bool any = total > 0.0 && n > 1;
    even = any ? (even / total + log(total)) / log((double)n) : 0.0;
    return add(entropy, json_real(round(even * 1e4) / 1e4)) &&
           add(load, json_real(any ? round(most * (double)n / total * 100.0) / 100.0
                                   : 0.0)) &&
           fits;
}

static bool set_layers(const onlooker *o, json_t *event)
{
    size_t n;
    const jt_routing_layer *layers = jt_routing_layers(o->routing, &n);
    json_t *counts = json_array(), *entropy = json_array(), *load = json_array();
    bool fits = json_object_set_new(event, "counts", counts) == 0;
    fits = json_object_set_new(event, "entropy", entropy) == 0 && fits;
    fits = json_object_set_new(event, "load", load) == 0 && fits;
    for (size_t i = 0; i < n && fits; i++)
        fits = add_layer(o, &layers[i], counts, entropy, load);
    return fits;
}

static bool set_store(const onlooker *o, json_t *event)
{
    const jt_routing_state *now = &o->now.state, *before = &o->before.state;
    return !now->has_store ||
           json_object_set_new(
               event, "store",
               json_pack("{sI sI}", "hits", (json_int_t)(now->hits - before->hits),
                         "misses", (json_int_t)(now->misses - before->misses))) == 0;
}

static json_t *event_json(const onlooker *o)
{
    const jt_routing_state *now = &o->now.state, *before = &o->before.state;
    json_t *event = json_pack("{ss sI sI si si}", "object", "junto.routing", "passes",
                              (json_int_t)(now->passes - before->passes), "tokens",
                              (json_int_t)(now->tokens - before->tokens), "running",
                              (int)now->running, "waiting", (int)now->waiting);
    if (event && set_layers(o, event) && set_store(o, event) &&
        (o->begun ||
         (json_object_set_new(event, "model", json_string(o->server->name)) == 0 &&
          json_object_set_new(event, "layers", layers_json(o)) == 0)))
        return event;
    json_decref(event);
    return NULL;
}

static bool add_news(onlooker *o)
{
    jt_routing_view before = o->before;
    jt_routing_look(o->routing, &o->now);
    bool fits = jt_answer_event(&o->out, event_json(o));
    o->before = o->now;
    o->now = before;
    o->begun = true;
    return fits;
}

/* ---- the stream ---- */

static bool is_over(const onlooker *o)
{
    return jt_http_gone(o->socket) || atomic_load(&o->server->state) != JT_SERVER_READY;
}

static void rest(double seconds)
{
    struct timespec left = {.tv_nsec = (long)(seconds * 1e9)};
    nanosleep(&left, NULL);
}

/* Let there be something to send: at first all counts so far, then those of the passes
 * since, or now and then a comment, by which a client that has left is noticed. */
static bool refill(onlooker *o)
{
    static const char comment[] = ": nothing new\n\n";
    const double silence = 15.0, tick = 0.2;
    o->out.len = o->sent = 0;
    for (;;) {
        double waited = jt_seconds() - o->told;
        if (is_over(o))
            return false;
        if (o->begun && waited < o->interval) {
            rest(fmin(o->interval - waited, tick));
            continue;
        }
        if (o->begun)
            jt_routing_wait(o->routing, o->before.state.passes);
        jt_routing_look(o->routing, &o->now);
        bool news = !o->begun || o->now.state.passes > o->before.state.passes;
        if (!news && waited < silence)
            continue;
        o->told = jt_seconds();
        return news ? add_news(o) : jt_buffer_add(&o->out, comment, sizeof comment - 1);
    }
}

static ssize_t read_stream(void *self, char *to, size_t most)
{
    onlooker *o = self;
    if (o->sent == o->out.len && !refill(o))
        return 0;
    size_t left = o->out.len - o->sent, n = left < most ? left : most;
    memcpy(to, o->out.data + o->sent, n);
    o->sent += n;
    return (ssize_t)n;
}

/* "interval": milliseconds between events. */
static bool read_interval(const jt_http_call *call, double *seconds, jt_problem *p)
{
    enum { USUAL = 200, LEAST = 20, MOST = 60000 };
    const char *text = jt_http_query(call, "interval");
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : USUAL;
    if (text && (end == text || *end || value < LEAST || value > MOST))
        return jt_refuse(p, 400, "interval", "invalid_value",
                         "'interval' must be %d to %d milliseconds", LEAST, MOST);
    *seconds = (double)value / 1000.0;
    return true;
}

void jt_onlooker_answer(jt_server *server, const jt_http_call *call,
                        jt_http_answer *answer)
{
    jt_problem problem;
    double interval = 0.0;
    if (!read_interval(call, &interval, &problem)) {
        jt_answer_problem(answer, &problem);
        return;
    }
    onlooker *o = jt_calloc(1, sizeof *o);
    if (o)
        *o = (onlooker){.server = server,
                        .routing = server->routing,
                        .socket = call->socket,
                        .interval = interval};
    if (!o || !jt_routing_view_new(o->routing, &o->before) ||
        !jt_routing_view_new(o->routing, &o->now)) {
        if (o)
            close_onlooker(o);
        jt_refuse(&problem, 500, NULL, NULL, "out of memory");
        jt_answer_problem(answer, &problem);
        return;
    }
    *answer = (jt_http_answer){.status = 200,
                               .type = "text/event-stream",
                               .read = read_stream,
                               .close = close_onlooker,
                               .self = o};
}
