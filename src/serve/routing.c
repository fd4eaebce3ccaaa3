#include "serve/routing.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

struct jt_routing {
    jt_usage *usage; /* of the engine's thread */
    jt_routing_layer *layers;
    size_t n_layers, n_counts;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t news;
    jt_routing_view latest;
};

static jt_status list_layers(jt_routing *r, jt_err *err)
{
    r->n_layers = jt_usage_layers(r->usage);
    r->layers = jt_calloc(r->n_layers + 1, sizeof *r->layers);
    if (!r->layers)
        return jt_fail_memory(err, "watching the routing");
    for (size_t i = 0; i < r->n_layers; i++) {
        jt_layer_usage usage;
        jt_usage_layer(r->usage, i, &usage);
        r->layers[i] = (jt_routing_layer){usage.layer, usage.n_experts, r->n_counts};
        r->n_counts += (size_t)usage.n_experts;
    }
    return jt_routing_view_new(r, &r->latest)
               ? JT_OK
               : jt_fail_memory(err, "watching the routing");
}

jt_status jt_routing_new(jt_routing **out, const jt_model *model, jt_err *err)
{
    jt_routing *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "watching the routing");
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&r->news, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&r->lock, NULL);
    jt_status status = jt_usage_new(&r->usage, model, err);
    if (status == JT_OK)
        status = list_layers(r, err);
    if (status == JT_OK)
        *out = r;
    else
        jt_routing_free(r);
    return status;
}

void jt_routing_free(jt_routing *r)
{
    if (!r)
        return;
    jt_usage_free(r->usage);
    free(r->layers);
    free(r->latest.counts);
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

jt_watcher jt_routing_watcher(jt_routing *r)
{
    return jt_usage_watcher(r->usage);
}

void jt_routing_tell(jt_routing *r, size_t tokens, const jt_routing_state *state)
{
    pthread_mutex_lock(&r->lock);
    uint64_t passes = r->latest.state.passes + 1;
    uint64_t sum = r->latest.state.tokens + tokens;
    r->latest.state = *state;
    r->latest.state.passes = passes;
    r->latest.state.tokens = sum;
    for (size_t i = 0; i < r->n_layers; i++) {
        const jt_routing_layer *layer = &r->layers[i];
        jt_layer_usage usage;
        jt_usage_layer(r->usage, i, &usage);
        memcpy(r->latest.counts + layer->first, usage.counts,
               (size_t)layer->n_experts * sizeof *usage.counts);
    }
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
}

const jt_routing_layer *jt_routing_layers(const jt_routing *r, size_t *n)
{
    *n = r->n_layers;
    return r->layers;
}

bool jt_routing_view_new(const jt_routing *r, jt_routing_view *view)
{
    *view =
        (jt_routing_view){.counts = jt_calloc(r->n_counts + 1, sizeof *view->counts)};
    return view->counts != NULL;
}

void jt_routing_look(jt_routing *r, jt_routing_view *view)
{
    pthread_mutex_lock(&r->lock);
    view->state = r->latest.state;
    memcpy(view->counts, r->latest.counts, r->n_counts * sizeof *view->counts);
    pthread_mutex_unlock(&r->lock);
}

void jt_routing_wait(jt_routing *r, uint64_t passes)
{
    const struct timespec until = jt_a_moment_later();
    int late = 0;
    pthread_mutex_lock(&r->lock);
    while (!late && r->latest.state.passes <= passes)
        late = pthread_cond_timedwait(&r->news, &r->lock, &until);
    pthread_mutex_unlock(&r->lock);
}
