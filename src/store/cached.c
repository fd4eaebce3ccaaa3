#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/cached_impl.h"

/* ---- sizes ---- */

size_t jt_stored_part_bytes(const jt_stored_layer *layer, int expert, int part)
{
    const jt_tensor *stack = &layer->bank->part[part];
    if (!jt_has(stack))
        return 0;
    jt_tensor t = jt_slice(stack, (size_t)expert);
    return jt_rows(&t) * jt_dtype_row_bytes(t.dtype, jt_cols(&t));
}

/* Room for whole blocks, whatever the remainder that the bytes begin at. */
size_t jt_cached_room(size_t bytes)
{
    size_t mask = JT_READ_ALIGN - 1;
    return bytes ? ((bytes + mask) & ~mask) + JT_READ_ALIGN : 0;
}

/* Room for the largest of the experts that lie in one piece. */
static size_t whole_room(const jt_cached *c)
{
    size_t most = 0;
    for (int l = 0; l < c->stored.n_layers; l++) {
        const jt_stored_layer *layer = &c->stored.layers[l];
        for (int e = 0; layer->whole && e < layer->bank->n_experts; e++)
            most = layer->whole[e].bytes > most ? layer->whole[e].bytes : most;
    }
    return most;
}

/* Where the parts begin in a slot, and its bytes. */
static void divide_slot(jt_cached *c)
{
    size_t whole = whole_room(c);
    c->slot_bytes = 0;
    for (int p = 0; p < JT_PARTS; p++) {
        size_t most = 0;
        for (int l = 0; l < c->stored.n_layers; l++) {
            size_t room = jt_cached_part_room(c, &c->stored.layers[l], p);
            most = room > most ? room : most;
        }
        c->area[p] = c->slot_bytes;
        c->slot_bytes += most;
    }
    c->slot_bytes = whole > c->slot_bytes ? whole : c->slot_bytes;
}

size_t jt_cached_slot_bytes(const jt_cached *c)
{
    return c->slot_bytes;
}

int jt_stored_experts(const jt_stored *stored)
{
    int n = 0;
    for (int l = 0; l < stored->n_layers; l++)
        n += stored->layers[l].bank->n_experts;
    return n;
}

/* What a token uses of a layer, and as much again that may come meanwhile. */
int jt_stored_least_slots(const jt_stored *stored)
{
    int most = 1, experts = jt_stored_experts(stored);
    for (int l = 0; l < stored->n_layers; l++) {
        int k = stored->layers[l].router->k;
        most = k > most ? k : most;
    }
    return 2 * most < experts ? 2 * most : experts;
}

/* ---- beginning and end ---- */

static jt_status make_map(jt_cached *c, jt_err *err)
{
    int n = c->stored.n_layers;
    c->first = jt_calloc((size_t)n + 1, sizeof *c->first);
    c->k = jt_calloc((size_t)n, sizeof *c->k);
    c->guess_layers = jt_calloc((size_t)n, sizeof *c->guess_layers);
    if (!c->first || !c->k || !c->guess_layers)
        return jt_fail_memory(err, "starting a cache");
    int most = 0;
    for (int l = 0; l < n; l++) {
        const jt_stored_layer *layer = &c->stored.layers[l];
        int experts = layer->bank->n_experts;
        c->first[l + 1] = c->first[l] + experts;
        c->k[l] = layer->router->k;
        c->guess_layers[l] =
            (jt_guess_layer){layer->bank->layer, layer->router, layer->norm};
        most = experts > most ? experts : most;
    }
    c->map = (jt_experts_map){n, c->first, c->k};
    c->scores = jt_alloc((size_t)most, sizeof *c->scores);
    c->wanted = jt_alloc((size_t)most, sizeof *c->wanted);
    c->coming = jt_alloc((size_t)most, sizeof *c->coming);
    c->wave = jt_alloc((size_t)most, sizeof *c->wave);
    if (!c->scores || !c->wanted || !c->coming || !c->wave)
        return jt_fail_memory(err, "starting a cache");
    return JT_OK;
}

static jt_status copy_uses(jt_cached *c, const jt_store_options *o, jt_err *err)
{
    size_t experts = (size_t)c->first[c->stored.n_layers];
    if (!o->uses)
        return JT_OK;
    if (o->n_uses != experts)
        return jt_fail(err, JT_E_ARG, "uses of %zu experts, the model has %zu",
                       o->n_uses, experts);
    c->uses = jt_alloc(experts, sizeof *c->uses);
    if (!c->uses)
        return jt_fail_memory(err, "starting a cache");
    memcpy(c->uses, o->uses, experts * sizeof *c->uses);
    return JT_OK;
}

static jt_status start(jt_cached *c, const jt_store_options *o, jt_err *err)
{
    const char *name = o->policy ? o->policy : JT_CACHE_POLICY_USUAL;
    c->policy = jt_cache_policy_find(name);
    if (!c->policy)
        return jt_fail(err, JT_E_ARG, "no cache policy '%s'", name);
    if (o->io && strcmp(o->io, "direct") != 0 && strcmp(o->io, "buffered") != 0)
        return jt_fail(err, JT_E_ARG, "no way to read '%s' (direct, buffered)", o->io);
    JT_TRY(jt_cached_choose_bits(c, err));
    divide_slot(c);
    JT_TRY(make_map(c, err));
    JT_TRY(copy_uses(c, o, err));
    const char *prefetch = o->prefetch;
    if (prefetch && strcmp(prefetch, JT_PREFETCH_ORDER) == 0) {
        JT_TRY(jt_sweep_init(&c->sweep, &c->map, err));
        prefetch = "off";
    }
    return jt_guesses_init(&c->guesses, &c->map, c->guess_layers, prefetch, err);
}

jt_status jt_cached_new(jt_cached **out, const jt_stored *stored,
                        const jt_store_options *options, jt_err *err)
{
    jt_cached *c = jt_calloc(1, sizeof *c);
    if (!c)
        return jt_fail_memory(err, "starting a cache");
    c->stored = *stored;
    c->options = *options;
    c->layer = c->failed = -1;
    c->store = (jt_store){.name = "cached",
                          .self = c,
                          .acquire = jt_cached_acquire,
                          .advance = jt_cached_advance,
                          .release = jt_cached_release,
                          .foresee = jt_cached_foresee,
                          .learn = jt_cached_learn};
    jt_status status = start(c, options, err);
    if (status != JT_OK)
        jt_cached_free(c);
    else
        *out = c;
    return status;
}

jt_status jt_cached_open(jt_cached *c, int n_slots, jt_pool *pool, jt_err *err)
{
    c->pool = pool;
    int experts = c->first[c->stored.n_layers];
    size_t slots = (size_t)n_slots, bytes;
    jt_foreknowledge known = {.uses = c->uses};
    JT_TRY(jt_slots_init(&c->slots, n_slots, experts, err));
    JT_TRY(jt_ranking_start(&c->ranking, c->policy, &c->map, n_slots, &known, err));
    c->reads = jt_calloc(slots * JT_SLOT_READS, sizeof *c->reads);
    c->under = jt_calloc(slots, sizeof *c->under);
    c->error = jt_calloc(slots, sizeof *c->error);
    c->slab = jt_mul(slots, c->slot_bytes, &bytes) ? jt_alloc_large(bytes) : NULL;
    if (!c->reads || !c->under || !c->error || !c->slab)
        return jt_fail(err, JT_E_MEMORY, "out of memory for %d experts of %zu bytes",
                       n_slots, c->slot_bytes);
    JT_TRY(jt_cached_open_bits(c, n_slots, err));
    JT_TRY(jt_cached_open_checks(c, n_slots, err));
    return jt_cached_choose_io(c, err);
}

void jt_cached_free(jt_cached *c)
{
    if (!c)
        return;
    jt_reader_free(c->reader); /* nothing writes into the slab after this */
    jt_ranking_stop(&c->ranking);
    jt_slots_free(&c->slots);
    jt_guesses_free(&c->guesses);
    jt_sweep_free(&c->sweep);
    free(c->slab);
    free(c->reads);
    free(c->under);
    free(c->error);
    free(c->planes);
    free(c->woven);
    free(c->earned);
    free(c->strip);
    free(c->unchecked);
    free(c->sums);
    free(c->first);
    free(c->k);
    free(c->guess_layers);
    free(c->scores);
    free(c->wanted);
    free(c->coming);
    free(c->wave);
    free(c->uses);
    free(c);
}

const jt_store *jt_cached_store(const jt_cached *c)
{
    return &c->store;
}

/* ---- what it learns from ---- */

/* The layer of the model among those that are stored; -1: none of them. */
static int stored_layer(const jt_cached *c, int layer)
{
    for (int l = 0; l < c->stored.n_layers; l++) {
        if (c->stored.layers[l].bank->layer == layer)
            return l;
    }
    return -1;
}

jt_residency jt_cached_residency(const jt_cached *c, int layer, int expert)
{
    int l = stored_layer(c, layer);
    int slot = l < 0 ? -1 : c->slots.where[c->first[l] + expert];
    if (l >= 0 && slot < 0)
        return JT_RESIDENCY_AWAY;
    return l >= 0 && c->slots.slot[slot].state == JT_SLOT_COMING ? JT_RESIDENCY_COMING
                                                                 : JT_RESIDENCY_HERE;
}

/* The mean over tokens of what the router gave each expert, in parts of one. */
static void mean_scores(jt_cached *c, int l, const jt_route *route)
{
    int n = c->first[l + 1] - c->first[l];
    memset(c->scores, 0, (size_t)n * sizeof *c->scores);
    for (int t = 0; t < route->n_tokens; t++) {
        const float *scores = route->scores + (size_t)t * (size_t)route->n_rows;
        float sum = 0.0f;
        for (int e = 0; e < route->n_rows; e++)
            sum += scores[e];
        for (int e = 0; e < n && sum > 0.0f; e++)
            c->scores[e] += scores[e] / (sum * (float)route->n_tokens);
    }
}

void jt_cached_learn(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_cached *c = self;
    int l = stored_layer(c, site->layer);
    if (l < 0)
        return;
    c->tokens += l == 0 ? (uint64_t)route->n_tokens : 0;
    if (c->policy->score && route->scores) {
        mean_scores(c, l, route);
        jt_ranking_score(&c->ranking, l, c->scores);
    }
    jt_guesses_learn(&c->guesses, l, route, c->slots.where);
}

static void tend(void *self)
{
    jt_cached_tend(self);
}

jt_tender jt_cached_tender(jt_cached *c)
{
    return (jt_tender){c, tend};
}

void jt_cached_foresee(void *self, jt_context *ctx, const jt_hooks *hooks,
                       const jt_route_site *site, const jt_tensor *h)
{
    jt_cached *c = self;
    int l = stored_layer(c, site->layer);
    jt_cached_tend(c);
    if (l >= 0)
        jt_guesses_look(&c->guesses, ctx, hooks, site, l, h, c->slots.where);
}

size_t jt_cached_learning_bytes(const jt_cached *c)
{
    size_t policy = c->policy->bytes ? c->policy->bytes(&c->map) : 0;
    return policy + jt_guesses_bytes(&c->guesses);
}

void jt_cached_stats(const jt_cached *c, jt_store_stats *out)
{
    *out = (jt_store_stats){
        .policy = c->policy->name,
        .engine = jt_reader_engine(c->reader),
        .prefetch = c->sweep.used ? JT_PREFETCH_ORDER : jt_guesses_name(&c->guesses),
        .direct = jt_reader_is_direct(c->reader),
        .disk_speed = c->disk_speed,
        .tokens = c->tokens,
        .hits = c->hits,
        .hits_ahead = c->hits_ahead,
        .misses = c->misses,
        .read_bytes = jt_reader_bytes(c->reader) - c->sampled,
        .stall_seconds = c->stall_seconds,
        .guesses = c->guesses.made,
        .right_guesses = c->guesses.right,
        .ahead = c->ahead,
        .ahead_used = c->ahead_used,
        .bits_low = c->low ? c->low : 0,
        .bits_high = c->high ? c->high : 0,
        .bits = c->bit_uses ? (double)c->bit_sum / (double)c->bit_uses : 0.0,
    };
    memcpy(out->lacking, c->lacking, sizeof out->lacking);
}

const char *jt_cache_policy_name(size_t i)
{
    const jt_cache_policy *policy = jt_cache_policy_at(i);
    return policy ? policy->name : NULL;
}

const char *jt_cache_policy_help(size_t i)
{
    const jt_cache_policy *policy = jt_cache_policy_at(i);
    return policy ? policy->help : NULL;
}
