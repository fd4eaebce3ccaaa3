#include "store/guess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "moe/gate.h"

/* A guesser is trusted from the start, and judged by about its last 64 guesses of a
 * rank. One that is not followed is tried only now and then, as looking costs a product
 * per layer. */
static const double worth_at_start = 0.6, worth_rate = 1.0 / 64.0;
enum { LOOK_EVERY = 8, LAST_RANK = JT_GUESS_RANKS - 1 };

static int experts_of(const jt_experts_map *map, int layer)
{
    return map->first[layer + 1] - map->first[layer];
}

/* Experts, and null experts, of the layer that has most. */
static int most_rows(const jt_guesses *g)
{
    int most = 1;
    for (int l = 0; l < g->map.n_layers; l++) {
        int rows = jt_router_rows(g->layers[l].router);
        most = rows > most ? rows : most;
    }
    return most;
}

static jt_guess *guess_of(const jt_guesses *g, jt_guesser by, int layer)
{
    return (jt_guess *)&g->last[by][layer % JT_GUESSES_KEPT];
}

/* Where a router decides a layer early it knows, and does not guess. */
static bool knows(const jt_guesses *g, jt_guesser by, int layer)
{
    return by == JT_GUESS_ROUTER && g->layers[layer].router->ahead;
}

/* How many experts of a layer are guessed: for one token more than it will use, as
 * those that are nearly chosen are often the ones that the cache does not have. */
static int reach(const jt_guesses *g, jt_guesser by, int layer, int tokens)
{
    int k = g->map.k[layer], n = experts_of(&g->map, layer);
    int most = 2 * k < LAST_RANK || k >= LAST_RANK ? 2 * k : LAST_RANK;
    most = tokens > 1 || knows(g, by, layer) ? k : most;
    return most < n ? most : n;
}

static jt_status choose(jt_guesses *g, const char *prefetch, jt_err *err)
{
    bool automatic = !prefetch || !strcmp(prefetch, "auto");
    bool off = prefetch && !strcmp(prefetch, "off");
    g->used[JT_GUESS_ROUTER] = automatic || !strcmp(prefetch, "router");
    g->used[JT_GUESS_FAR] = g->used[JT_GUESS_ROUTER];
    g->used[JT_GUESS_PATHS] = automatic || !strcmp(prefetch, "paths");
    g->forced = !automatic;
    if (!off && !g->used[JT_GUESS_ROUTER] && !g->used[JT_GUESS_PATHS])
        return jt_fail(err, JT_E_ARG, "no prefetch '%s' (auto, router, paths, off)",
                       prefetch);
    return JT_OK;
}

/* Pairs of experts of neighbouring layers; where those of a layer begin goes to
 * `path` (or NULL). */
static size_t count_paths(const jt_guesses *g, size_t *path)
{
    size_t paths = 0;
    for (int l = 0; g->used[JT_GUESS_PATHS] && l + 1 < g->map.n_layers; l++) {
        if (path)
            path[l] = paths;
        paths += (size_t)experts_of(&g->map, l) * (size_t)experts_of(&g->map, l + 1);
    }
    return paths;
}

/* Of the guesser that looks `far` layers ahead, layer `layer` has a lens. */
static bool has_lens(const jt_guesses *g, int far, int layer)
{
    return g->used[JT_GUESS_ROUTER] && layer >= far && far >= 1;
}

size_t jt_guesses_bytes(const jt_guesses *g)
{
    size_t bytes = count_paths(g, NULL) * sizeof *g->paths;
    for (int i = 0; i < JT_GUESS_AHEAD * g->map.n_layers; i++) {
        int far = i % JT_GUESS_AHEAD + 1, l = i / JT_GUESS_AHEAD;
        size_t rows = (size_t)jt_router_rows(g->layers[l].router);
        bytes += has_lens(g, far, l) ? jt_lens_bytes(rows) : 0;
    }
    return bytes;
}

static jt_status allocate_lenses(jt_guesses *g, jt_err *err)
{
    int n = g->map.n_layers;
    for (int far = 1; far <= JT_GUESS_AHEAD; far++) {
        jt_lens **lens = &g->lens[far - 1];
        *lens = jt_calloc((size_t)n, sizeof **lens);
        if (!*lens)
            return jt_fail_memory(err, "starting a cache");
        for (int l = 0; l < n; l++) {
            size_t rows = (size_t)jt_router_rows(g->layers[l].router);
            if (has_lens(g, far, l))
                JT_TRY(jt_lens_init(&(*lens)[l], rows, err));
        }
    }
    return JT_OK;
}

static jt_status allocate(jt_guesses *g, jt_err *err)
{
    int n = g->map.n_layers;
    size_t most = (size_t)most_rows(g);
    g->path = jt_calloc((size_t)n, sizeof *g->path);
    g->votes = jt_alloc(most, sizeof *g->votes);
    g->truth = jt_alloc(most, sizeof *g->truth);
    bool all = true;
    for (int i = 0; i < JT_GUESSES_KEPT * JT_GUESSERS; i++) {
        jt_guess *guess = &g->last[i / JT_GUESSES_KEPT][i % JT_GUESSES_KEPT];
        guess->layer = -1;
        guess->expert = jt_alloc(most, sizeof *guess->expert);
        guess->rank = jt_alloc(most, sizeof *guess->rank);
        guess->said = jt_alloc(most, sizeof *guess->said);
        all = all && guess->expert && guess->rank && guess->said;
    }
    g->paths = jt_calloc(count_paths(g, g->path), sizeof *g->paths);
    if (!g->path || !g->votes || !g->truth || !g->paths || !all)
        return jt_fail_memory(err, "starting a cache");
    return allocate_lenses(g, err);
}

jt_status jt_guesses_init(jt_guesses *out, const jt_experts_map *map,
                          const jt_guess_layer *layers, const char *prefetch,
                          jt_err *err)
{
    jt_guesses g = {.map = *map, .layers = layers, .before_layer = -1};
    JT_TRY(choose(&g, prefetch, err));
    g.least = 0.5;
    for (int i = 0; i < JT_GUESSERS * JT_GUESS_RANKS; i++)
        g.worth[i / JT_GUESS_RANKS][i % JT_GUESS_RANKS] =
            i % JT_GUESS_RANKS < g.map.k[0] || i % JT_GUESS_RANKS == LAST_RANK
                ? worth_at_start
                : 0.0;
    jt_status status = allocate(&g, err);
    if (status != JT_OK)
        jt_guesses_free(&g);
    else
        *out = g;
    return status;
}

void jt_guesses_free(jt_guesses *g)
{
    free(g->path);
    free(g->paths);
    free(g->votes);
    free(g->truth);
    free(g->before);
    for (int i = 0; i < JT_GUESSES_KEPT * JT_GUESSERS; i++) {
        jt_guess *guess = &g->last[i / JT_GUESSES_KEPT][i % JT_GUESSES_KEPT];
        free(guess->expert);
        free(guess->rank);
        free(guess->said);
    }
    for (int far = 0; far < JT_GUESS_AHEAD; far++) {
        for (int l = 0; g->lens[far] && l < g->map.n_layers; l++)
            jt_lens_free(&g->lens[far][l]);
        free(g->lens[far]);
    }
    *g = (jt_guesses){0};
}

/* An expert that another guess has brought is as good as not there: so each guess is
 * judged by itself. */
static bool lacks(const jt_slots *slots, int expert)
{
    int slot = slots->where[expert];
    return slot < 0 || slots->slot[slot].held;
}

/* The experts with the most votes, among those that the cache lacks: some of all,
 * or, when several tokens voted, as many as got a vote. */
static void note(jt_guesses *g, jt_guesser by, int layer, int tokens,
                 const jt_slots *slots)
{
    jt_guess *guess = guess_of(g, by, layer);
    int n = experts_of(&g->map, layer);
    int most = tokens > 1 ? n : reach(g, by, layer, tokens);
    guess->layer = layer;
    guess->count = 0;
    for (int i = 0; i < most; i++) {
        int best = -1;
        for (int e = 0; e < n; e++) {
            if (g->votes[e] > 0.0f && (best < 0 || g->votes[e] > g->votes[best]))
                best = e;
        }
        if (best < 0)
            break;
        g->votes[best] = 0.0f;
        if (!lacks(slots, g->map.first[layer] + best))
            continue;
        guess->rank[guess->count] =
            (uint8_t)(tokens > 1 || i > LAST_RANK ? LAST_RANK : i);
        guess->expert[guess->count++] = best;
    }
}

static void clear_votes(jt_guesses *g, int layer)
{
    memset(g->votes, 0, (size_t)experts_of(&g->map, layer) * sizeof *g->votes);
}

/* What guesses must be worth. Those of a layer further on must be worth more, as better
 * ones will come in time. */
static double least_of(const jt_guesses *g, jt_guesser by)
{
    return by == JT_GUESS_FAR ? fmin(1.0, 1.5 * g->least) : g->least;
}

/* What following a guesser gains: how far its guesses are better than they must be. */
static double gain(const jt_guesses *g, jt_guesser by)
{
    double sum = 0.0;
    for (int i = 0; i < JT_GUESS_RANKS; i++)
        sum += fmax(0.0, g->worth[by][i] - least_of(g, by));
    return sum;
}

/* ---- by the routers of the next layers ---- */

static bool wants_look(const jt_guesses *g, jt_guesser by)
{
    return g->used[by] &&
           (g->forced || gain(g, by) > 0.0 || g->passes % LOOK_EVERY == 0);
}

/* Logits of one token become those that the layer should have in its turn. */
static void correct(jt_guesses *g, jt_guesser by, int layer, jt_tensor *logits)
{
    size_t n = jt_cols(logits);
    jt_guess *guess = guess_of(g, by, layer);
    float *x = logits->data;
    if (!jt_lens_centre(x, n))
        return;
    memcpy(guess->said, x, n * sizeof *x);
    guess->heard = true;
    jt_lens_look(&g->lens[by - JT_GUESS_ROUTER][layer], g->kernels, guess->said, x);
}

/* What the router of `layer` makes of h. */
static void look(jt_guesses *g, jt_context *ctx, const jt_hooks *hooks,
                 const jt_route_site *site, jt_guesser by, int layer,
                 const jt_tensor *h, const jt_slots *slots)
{
    const jt_router *r = g->layers[layer].router;
    jt_route_site there = *site;
    there.layer = g->layers[layer].layer;
    there.guess = true;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_input x = jt_input_of(jt_norm_forward(ctx, g->layers[layer].norm, h));
    int tokens = (int)jt_rows(h);
    jt_tensor logits = {0};
    jt_router_score(ctx, r, &there, &x, &logits);
    jt_route route =
        jt_route_new(ctx, tokens, r->n_experts, reach(g, by, layer, tokens));
    jt_tensor scores = jt_new(ctx, (size_t)tokens, (size_t)jt_router_rows(r));
    if (!jt_failed(ctx))
        jt_hooks_logits(hooks, &there, &logits);
    if (!jt_failed(ctx) && tokens == 1 && !knows(g, by, layer))
        correct(g, by, layer, &logits);
    jt_router_select(ctx, r, hooks, &there, &logits, &scores, &route);
    clear_votes(g, layer);
    for (int i = 0; !jt_failed(ctx) && i < tokens * route.k; i++) {
        if (route.expert[i] >= 0 && route.expert[i] < r->n_experts)
            g->votes[route.expert[i]] += 1.0f + route.weight[i];
    }
    note(g, by, layer, tokens, slots);
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_guesses_look(jt_guesses *g, jt_context *ctx, const jt_hooks *hooks,
                     const jt_route_site *site, int layer, const jt_tensor *h,
                     const jt_slots *slots)
{
    static const jt_hooks nobody;
    g->passes += layer == 0;
    g->kernels = ctx->kernels;
    if (hooks->n_parts) /* several hands: their rows are not told apart */
        hooks = &nobody;
    int most = jt_rows(h) > 1 ? 1 : JT_GUESS_AHEAD; /* long passes read nearly all */
    for (int far = 1; far <= JT_GUESS_AHEAD; far++) {
        jt_guesser by = (jt_guesser)(JT_GUESS_ROUTER + far - 1);
        int next = layer + far;
        jt_guess *guess = guess_of(g, by, next);
        guess->layer = -1;
        guess->heard = false;
        if (far <= most && next < g->map.n_layers && wants_look(g, by) &&
            !jt_failed(ctx))
            look(g, ctx, hooks, site, by, next, h, slots);
    }
}

/* A layer has routed: was what its router said early right? */
static void compare(jt_guesses *g, jt_guesser by, int layer, const jt_route *route)
{
    const jt_guess *guess = guess_of(g, by, layer);
    const jt_router *r = g->layers[layer].router;
    size_t n = (size_t)jt_router_rows(r);
    if (guess->layer != layer || !guess->heard || !route->scores ||
        route->n_tokens != 1 || (size_t)route->n_rows != n)
        return;
    jt_gate_inverse(r->gating, g->truth, route->scores, n);
    if (jt_lens_centre(g->truth, n))
        jt_lens_learn(&g->lens[by - JT_GUESS_ROUTER][layer], g->kernels, guess->said,
                      g->truth);
}

/* ---- by paths ---- */

static bool is_expert(const jt_route *route, int i)
{
    return route->expert[i] >= 0 && route->expert[i] < route->n_experts;
}

/* Count the steps from the layer before to this one. */
static void count_steps(jt_guesses *g, int layer, const jt_route *route)
{
    int k0 = g->before_k, k = route->k; /* a policy may change it */
    uint32_t *paths = g->paths + g->path[layer - 1];
    size_t n = (size_t)experts_of(&g->map, layer);
    for (int t = 0; t < route->n_tokens; t++) {
        for (int i = 0; i < k0; i++) {
            int32_t from = g->before[t * k0 + i];
            for (int j = 0; from >= 0 && j < k; j++) {
                if (is_expert(route, t * k + j))
                    paths[(size_t)from * n + (size_t)route->expert[t * k + j]]++;
            }
        }
    }
}

static void vote_by_paths(jt_guesses *g, int layer, const jt_route *route)
{
    size_t n = (size_t)experts_of(&g->map, layer + 1);
    clear_votes(g, layer + 1);
    for (int i = 0; i < route->n_tokens * route->k; i++) {
        if (!is_expert(route, i))
            continue;
        const uint32_t *steps =
            g->paths + g->path[layer] + (size_t)route->expert[i] * n;
        uint64_t sum = 0;
        for (size_t e = 0; e < n; e++)
            sum += steps[e];
        for (size_t e = 0; sum && e < n; e++)
            g->votes[e] += (float)steps[e] / (float)sum;
    }
}

/* What this layer chose, for the next one to learn from. No memory: nothing is learnt.
 */
static void remember(jt_guesses *g, int layer, const jt_route *route)
{
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    g->before_layer = -1;
    if (!jt_grow((void **)&g->before, &g->before_room, slots, sizeof *g->before))
        return;
    for (size_t i = 0; i < slots; i++)
        g->before[i] = is_expert(route, (int)i) ? route->expert[i] : -1;
    g->before_layer = layer;
    g->before_tokens = route->n_tokens;
    g->before_k = route->k;
}

/* ---- judging ---- */

static void judge(jt_guesses *g, jt_guesser by, int layer, const jt_route *route,
                  bool followed)
{
    jt_guess *guess = guess_of(g, by, layer);
    if (guess->layer != layer)
        return;
    clear_votes(g, layer);
    for (int i = 0; i < route->n_tokens * route->k; i++) {
        if (is_expert(route, i))
            g->votes[route->expert[i]] = 1.0f;
    }
    for (int i = 0; i < guess->count; i++) {
        bool came = g->votes[guess->expert[i]] > 0.0f;
        if (followed && jt_guesses_follow(g, guess, i)) {
            g->made++;
            g->right += came;
        }
        double *worth = &g->worth[by][guess->rank[i]];
        *worth += worth_rate * ((came ? 1.0 : 0.0) - *worth);
    }
    guess->layer = -1;
}

void jt_guesses_learn(jt_guesses *g, int layer, const jt_route *route,
                      const jt_slots *slots)
{
    bool paths = g->used[JT_GUESS_PATHS];
    const jt_guess *followed = jt_guesses_best(g, layer);
    compare(g, JT_GUESS_ROUTER, layer, route);
    compare(g, JT_GUESS_FAR, layer, route);
    for (int by = 0; by < JT_GUESSERS; by++)
        judge(g, (jt_guesser)by, layer, route,
              followed == guess_of(g, (jt_guesser)by, layer));
    if (!paths)
        return;
    if (layer > 0 && g->before_layer == layer - 1 &&
        g->before_tokens == route->n_tokens)
        count_steps(g, layer, route);
    remember(g, layer, route);
    if (layer + 1 < g->map.n_layers) {
        vote_by_paths(g, layer, route);
        note(g, JT_GUESS_PATHS, layer + 1, route->n_tokens, slots);
    }
}

/* The guesser that gains most, among those that have guessed `layer` (-1: among all);
 * -1: none gains. */
static int best(const jt_guesses *g, int layer)
{
    int found = -1;
    double most = 0.0;
    for (int i = 0; i < JT_GUESSERS; i++) {
        if (!g->used[i] ||
            (layer >= 0 && guess_of(g, (jt_guesser)i, layer)->layer != layer))
            continue;
        double gained = gain(g, (jt_guesser)i);
        if (gained > most || (g->forced && i != JT_GUESS_FAR && found < 0)) {
            found = i;
            most = gained;
        }
    }
    return found;
}

bool jt_guesses_follow(const jt_guesses *g, const jt_guess *guess, int i)
{
    int by = 0;
    while (guess != guess_of(g, (jt_guesser)by, guess->layer))
        by++;
    bool forced = g->forced && by != JT_GUESS_FAR;
    return (forced && guess->rank[i] < g->map.k[guess->layer]) ||
           g->worth[by][guess->rank[i]] >= least_of(g, (jt_guesser)by);
}

const jt_guess *jt_guesses_best(const jt_guesses *g, int layer)
{
    int by = best(g, layer);
    return by >= 0 ? guess_of(g, (jt_guesser)by, layer) : NULL;
}

const char *jt_guesses_name(const jt_guesses *g)
{
    static const char *const names[] = {"router", "router", "paths"};
    int by = best(g, -1);
    return by < 0 ? "off" : names[by];
}
