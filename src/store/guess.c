#include "store/guess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A guesser is trusted from the start, and judged by about its last 64 guesses of a
 * rank. One that is not followed is tried only now and then, as looking costs a product
 * per layer. */
static const double worth_at_start = 0.6, worth_rate = 1.0 / 64.0;
enum { LOOK_EVERY = 8, LAST_RANK = JT_GUESS_RANKS - 1 };

static int experts_of(const jt_experts_map *map, int layer)
{
    return map->first[layer + 1] - map->first[layer];
}

static int most_experts(const jt_experts_map *map)
{
    int most = 1;
    for (int l = 0; l < map->n_layers; l++)
        most = experts_of(map, l) > most ? experts_of(map, l) : most;
    return most;
}

/* How many experts of a layer are guessed: for one token more than it will use, as
 * those that are nearly chosen are often the ones that the cache does not have. Not
 * where the router decides early: then it is no guess. */
static int reach(const jt_guesses *g, int layer, int tokens)
{
    int k = g->map.k[layer], n = experts_of(&g->map, layer);
    int most = 2 * k < LAST_RANK || k >= LAST_RANK ? 2 * k : LAST_RANK;
    most = tokens > 1 || g->layers[layer].router->ahead ? k : most;
    return most < n ? most : n;
}

static jt_status choose(jt_guesses *g, const char *prefetch, jt_err *err)
{
    bool automatic = !prefetch || !strcmp(prefetch, "auto");
    bool off = prefetch && !strcmp(prefetch, "off");
    g->used[JT_GUESS_ROUTER] = automatic || !strcmp(prefetch, "router");
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

size_t jt_guesses_bytes(const jt_guesses *g)
{
    return count_paths(g, NULL) * sizeof *g->paths;
}

static jt_status allocate(jt_guesses *g, jt_err *err)
{
    int n = g->map.n_layers;
    size_t most = (size_t)most_experts(&g->map);
    g->path = jt_calloc((size_t)n, sizeof *g->path);
    g->votes = jt_alloc(most, sizeof *g->votes);
    bool all = true;
    for (int i = 0; i < 2 * JT_GUESSERS; i++) {
        jt_guess *guess = &g->last[i / 2][i % 2];
        guess->layer = -1;
        guess->expert = jt_alloc(most, sizeof *guess->expert);
        guess->rank = jt_alloc(most, sizeof *guess->rank);
        all = all && guess->expert && guess->rank;
    }
    g->paths = jt_calloc(count_paths(g, g->path), sizeof *g->paths);
    if (!g->path || !g->votes || !g->paths || !all)
        return jt_fail_memory(err, "starting a cache");
    return JT_OK;
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
    free(g->before);
    for (int i = 0; i < 2 * JT_GUESSERS; i++) {
        free(g->last[i / 2][i % 2].expert);
        free(g->last[i / 2][i % 2].rank);
    }
    *g = (jt_guesses){0};
}

/* The experts with the most votes, among those that are not in the cache: some of all,
 * or, when several tokens voted, as many as got a vote. */
static void note(jt_guesses *g, jt_guesser by, int layer, int tokens, const int *where)
{
    jt_guess *guess = &g->last[by][layer % 2];
    int n = experts_of(&g->map, layer);
    int most = tokens > 1 ? n : reach(g, layer, tokens);
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
        if (where[g->map.first[layer] + best] >= 0)
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

/* What following a guesser gains: how far its guesses are better than they must be. */
static double gain(const jt_guesses *g, jt_guesser by)
{
    double sum = 0.0;
    for (int i = 0; i < JT_GUESS_RANKS; i++)
        sum += fmax(0.0, g->worth[by][i] - g->least);
    return sum;
}

/* ---- by the next layer's router ---- */

static bool wants_look(const jt_guesses *g)
{
    return g->used[JT_GUESS_ROUTER] &&
           (g->forced || gain(g, JT_GUESS_ROUTER) > 0.0 || g->passes % LOOK_EVERY == 0);
}

void jt_guesses_look(jt_guesses *g, jt_context *ctx, const jt_hooks *hooks,
                     const jt_route_site *site, int layer, const jt_tensor *h,
                     const int *where)
{
    static const jt_hooks nobody;
    int next = layer + 1;
    g->last[JT_GUESS_ROUTER][next % 2].layer = -1;
    g->passes += layer == 0;
    if (next >= g->map.n_layers || !wants_look(g) || jt_failed(ctx))
        return;
    hooks = hooks->n_parts ? &nobody
                           : hooks; /* several hands: their rows are not told apart */
    const jt_router *r = g->layers[next].router;
    jt_route_site there = *site;
    there.layer = g->layers[next].layer;
    there.guess = true;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_input x = jt_input_of(jt_norm_forward(ctx, g->layers[next].norm, h));
    int tokens = (int)jt_rows(h);
    jt_tensor logits = {0};
    jt_router_score(ctx, r, &there, &x, &logits);
    jt_route route = jt_route_new(ctx, tokens, r->n_experts, reach(g, next, tokens));
    jt_tensor scores = jt_new(ctx, (size_t)tokens, (size_t)jt_router_rows(r));
    if (!jt_failed(ctx))
        jt_hooks_logits(hooks, &there, &logits);
    jt_router_select(ctx, r, hooks, &there, &logits, &scores, &route);
    clear_votes(g, next);
    for (int i = 0; !jt_failed(ctx) && i < tokens * route.k; i++) {
        if (route.expert[i] >= 0 && route.expert[i] < r->n_experts)
            g->votes[route.expert[i]] += 1.0f + route.weight[i];
    }
    note(g, JT_GUESS_ROUTER, next, tokens, where);
    jt_arena_rewind(&ctx->scratch, mark);
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
    jt_guess *guess = &g->last[by][layer % 2];
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

void jt_guesses_learn(jt_guesses *g, int layer, const jt_route *route, const int *where)
{
    bool paths = g->used[JT_GUESS_PATHS];
    const jt_guess *followed = jt_guesses_best(g, layer);
    for (int by = 0; by < JT_GUESSERS; by++)
        judge(g, (jt_guesser)by, layer, route, followed == &g->last[by][layer % 2]);
    if (!paths)
        return;
    if (layer > 0 && g->before_layer == layer - 1 &&
        g->before_tokens == route->n_tokens)
        count_steps(g, layer, route);
    remember(g, layer, route);
    if (layer + 1 < g->map.n_layers) {
        vote_by_paths(g, layer, route);
        note(g, JT_GUESS_PATHS, layer + 1, route->n_tokens, where);
    }
}

static int best(const jt_guesses *g)
{
    int found = -1;
    double most = 0.0;
    for (int i = 0; i < JT_GUESSERS; i++) {
        double gained = g->used[i] ? gain(g, (jt_guesser)i) : 0.0;
        if (gained > most || (g->used[i] && g->forced && found < 0)) {
            found = i;
            most = gained;
        }
    }
    return found;
}

bool jt_guesses_follow(const jt_guesses *g, const jt_guess *guess, int i)
{
    jt_guesser by = guess == &g->last[JT_GUESS_ROUTER][guess->layer & 1]
                        ? JT_GUESS_ROUTER
                        : JT_GUESS_PATHS;
    return (g->forced && guess->rank[i] < g->map.k[guess->layer]) ||
           g->worth[by][guess->rank[i]] >= g->least;
}

const jt_guess *jt_guesses_best(const jt_guesses *g, int layer)
{
    int by = best(g);
    const jt_guess *guess = by >= 0 ? &g->last[by][layer & 1] : NULL;
    return guess && guess->layer == layer ? guess : NULL;
}

const char *jt_guesses_name(const jt_guesses *g)
{
    static const char *const names[] = {"router", "paths"};
    int by = best(g);
    return by < 0 ? "off" : names[by];
}
