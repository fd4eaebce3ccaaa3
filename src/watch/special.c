#include "watch/special.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

typedef struct watched {
    int layer, n_experts;
    uint64_t *counts; /* [experts, domains] */
    uint64_t *room;   /* the same, of a shuffle */
} watched;

struct jt_special {
    watched *watched; /* [n_watched] */
    size_t n_watched;
    int *index; /* of each layer in `watched`; -1 for a dense one */
    int n_layers, n_domains;
    uint64_t *left;         /* [domains], of a shuffle */
    const int32_t *domains; /* of the tokens of a pass */
};

static bool watch_layer(jt_special *s, int layer, int n_experts)
{
    size_t cells = (size_t)n_experts * (size_t)s->n_domains;
    watched *w = &s->watched[s->n_watched];
    *w = (watched){.layer = layer,
                   .n_experts = n_experts,
                   .counts = jt_calloc(cells, sizeof *w->counts),
                   .room = jt_calloc(cells, sizeof *w->room)};
    s->index[layer] = (int)s->n_watched++;
    return w->counts && w->room;
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
    s->left = jt_calloc((size_t)n_domains, sizeof *s->left);
    bool good = s->watched && s->index && s->left;
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
    for (size_t i = 0; s->watched && i < s->n_watched; i++) {
        free(s->watched[i].counts);
        free(s->watched[i].room);
    }
    free(s->watched);
    free(s->index);
    free(s->left);
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

static double n_log_n(uint64_t n)
{
    return n ? (double)n * log((double)n) : 0.0;
}

/* I / H of counts [experts, domains]. With N picks, N I = sum n_ed log n_ed - sum n_e
 * log n_e - sum n_d log n_d + N log N, and N H = N log N - sum n_d log n_d. */
static double information(const uint64_t *counts, int n_experts, int n_domains)
{
    double joint = 0.0, experts = 0.0, domains = 0.0;
    uint64_t total = 0;
    for (int e = 0; e < n_experts; e++) {
        uint64_t of_expert = 0;
        for (int d = 0; d < n_domains; d++) {
            of_expert += counts[e * n_domains + d];
            joint += n_log_n(counts[e * n_domains + d]);
        }
        experts += n_log_n(of_expert);
        total += of_expert;
    }
    for (int d = 0; d < n_domains; d++) {
        uint64_t of_domain = 0;
        for (int e = 0; e < n_experts; e++)
            of_domain += counts[e * n_domains + d];
        domains += n_log_n(of_domain);
    }
    double entropy = n_log_n(total) - domains;
    if (entropy <= 1e-12 * n_log_n(total))
        return 0.0;
    return fmin(1.0, fmax(0.0, (joint - experts + entropy) / entropy));
}

/* Deal the domains of all picks to the experts anew: every expert keeps its number of
 * picks, every domain, too. */
static void shuffle(const jt_special *s, const watched *w, jt_rng *rng)
{
    int domains = s->n_domains;
    uint64_t total = 0;
    memset(s->left, 0, (size_t)domains * sizeof *s->left);
    for (int cell = 0; cell < w->n_experts * domains; cell++) {
        s->left[cell % domains] += w->counts[cell];
        total += w->counts[cell];
        w->room[cell] = 0;
    }
    for (int e = 0; e < w->n_experts; e++) {
        uint64_t picks = 0;
        for (int d = 0; d < domains; d++)
            picks += w->counts[e * domains + d];
        for (; picks; picks--, total--) {
            uint64_t ticket = (uint64_t)(jt_rng_double(rng) * (double)total);
            int d = 0;
            while (ticket >= s->left[d])
                ticket -= s->left[d++];
            s->left[d]--;
            w->room[e * domains + d]++;
        }
    }
}

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
    enum { SHUFFLES = 5 };
    const watched *w = &s->watched[i];
    jt_rng rng = {.seed = seed, .stream = i};
    jt_special_report r = {.information =
                               information(w->counts, w->n_experts, s->n_domains)};
    for (int n = 0; n < SHUFFLES; n++) {
        shuffle(s, w, &rng);
        r.shuffled += information(w->room, w->n_experts, s->n_domains) / SHUFFLES;
    }
    return r;
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
