#include "watch/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/information.h"

typedef struct watched {
    int layer, n_experts;
    uint64_t *counts; /* [experts, domains] */
} watched;

struct jt_special {
    watched *watched; /* [n_watched] */
    size_t n_watched;
    int *index; /* of each layer in `watched`; -1 for a dense one */
    int n_layers, n_domains;
    uint64_t *room; /* of a shuffle (information.h) */
    size_t room_size;
    const int32_t *domains; /* of the tokens of a pass */
};

static bool watch_layer(jt_special *s, int layer, int n_experts)
{
    size_t cells = (size_t)n_experts * (size_t)s->n_domains;
    watched *w = &s->watched[s->n_watched];
    *w = (watched){.layer = layer,
                   .n_experts = n_experts,
                   .counts = jt_calloc(cells, sizeof *w->counts)};
    s->index[layer] = (int)s->n_watched++;
    return w->counts && jt_grow((void **)&s->room, &s->room_size,
                                2 * cells + (size_t)s->n_domains, sizeof *s->room);
}

jt_status jt_special_new(jt_special **out, const jt_model *model, int n_domains,
                         jt_err *err)
{
    if (n_domains < 1)
        return jt_fail(err, JT_E_ARG, "specialisation needs domains to tell apart");
    jt_special *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "watching domains");
    s->n_layers = model->params.n_layers;
    s->n_domains = n_domains;
    s->watched = jt_calloc((size_t)s->n_layers, sizeof *s->watched);
    s->index = jt_calloc((size_t)s->n_layers, sizeof *s->index);
    bool good = s->watched && s->index;
    for (int i = 0; i < s->n_layers && good; i++) {
        const jt_layer *layer = &model->layers[i];
        s->index[i] = -1;
        if (layer->is_mixture)
            good = watch_layer(s, i, layer->mixture.router.n_experts);
    }
    if (!good) {
        jt_special_free(s);
        return jt_fail_memory(err, "watching domains");
    }
    *out = s;
    return JT_OK;
}

void jt_special_free(jt_special *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->watched && i < s->n_watched; i++)
        free(s->watched[i].counts);
    free(s->watched);
    free(s->index);
    free(s->room);
    free(s);
}

void jt_special_domains(jt_special *s, const int32_t *domain_of_token)
{
    s->domains = domain_of_token;
}

void jt_special_reset(jt_special *s)
{
    for (size_t i = 0; i < s->n_watched; i++) {
        watched *w = &s->watched[i];
        memset(w->counts, 0,
               (size_t)w->n_experts * (size_t)s->n_domains * sizeof *w->counts);
    }
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_special *s = self;
    int place = site->layer < s->n_layers ? s->index[site->layer] : -1;
    if (place < 0 || !s->domains)
        return;
    watched *w = &s->watched[place];
    for (int slot = 0; slot < route->n_tokens * route->k; slot++) {
        int32_t expert = route->expert[slot], domain = s->domains[slot / route->k];
        bool counts = expert >= 0 && expert < w->n_experts && domain >= 0 &&
                      domain < s->n_domains;
        if (counts)
            w->counts[expert * s->n_domains + domain]++;
    }
}

jt_watcher jt_special_watcher(jt_special *s)
{
    return (jt_watcher){.name = "special", .self = s, .on_route = on_route};
}

/* ---- the report ---- */

size_t jt_special_layers(const jt_special *s)
{
    return s->n_watched;
}

int jt_special_layer(const jt_special *s, size_t i)
{
    return s->watched[i].layer;
}

jt_special_report jt_special_of_layer(jt_special *s, size_t i, uint64_t seed)
{
    const watched *w = &s->watched[i];
    size_t experts = (size_t)w->n_experts, domains = (size_t)s->n_domains;
    jt_rng rng = {.seed = seed, .stream = i};
    return (jt_special_report){
        .information = jt_information(w->counts, experts, domains),
        .shuffled =
            jt_information_shuffled(w->counts, experts, domains, &rng, s->room)};
}

jt_special_report jt_special_mean(jt_special *s, uint64_t seed)
{
    jt_special_report mean = {0};
    for (size_t i = 0; i < s->n_watched; i++) {
        jt_special_report r = jt_special_of_layer(s, i, seed);
        mean.information += r.information / (double)s->n_watched;
        mean.shuffled += r.shuffled / (double)s->n_watched;
    }
    return mean;
}
