/* The policy that learns what comes: the expert whose expected use is smallest leaves.
 *
 * Of each expert it estimates V, the uses that are to come, where one that is i tokens
 * away counts (1 - g) g^(i-1). g is 0.5 for a cache of nothing and 1 for one of all
 * experts: the larger a cache, the longer an expert that nobody uses stays. V is linear
 * in what the routers have shown:
 *
 *     V_e = a . own_e + w_e . seen
 *
 * own_e holds r of e, and how often it was used lately and for long; seen holds r of
 * all experts of the layer, their recent means, and 1. r = sqrt(n score) - 1 for n
 * experts. Lately is a mean that halves after 4 tokens, long one after 256. There is
 * one a for all experts, and a w of each.
 *
 * a tells how much recent use and score mean, w which experts follow which: the scores
 * of a token tell what it is about. Both are learnt while the tokens pass, by temporal
 * differences with normalised steps (TD(0), Sutton 1988):
 *
 *     d = (1 - g) used now + g V now - V before;  w_e += rate d seen / |seen|^2
 *
 * Layers that have just worked come again last, so their experts leave a little sooner.
 *
 * Measured with `junto simulate` against lfru and score: docs/store.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/policy_impl.h"

enum { OWN_SCORE, OWN_LATELY, OWN_LONG, OWN };

static const float first_guess[OWN] = {0.1f, 0.2f, 0.8f};
static const double rate = 0.06, own_rate = 0.04;
/* 2^(-1/4), 2^(-1/256) */
static const float fade_lately = 0.8409f, fade_long = 0.997296f;
/* What V counts of layers that come again in half a token or later. */
static const double far = 0.75;

/* A layer with n experts; `before` is as it was when the layer routed last. */
typedef struct layer {
    int first, n;
    int passes;
    bool late;                   /* it has worked less than half a token ago */
    float *weight;               /* [n, seen_count(n)] */
    float *seen, *seen_before;   /* [seen_count(n)] */
    float *own, *own_before;     /* [n, OWN] */
    float *value, *value_before; /* [n] */
    float *used;                 /* [n] 1 in this pass */
} layer;

typedef struct learner {
    int n_layers;
    layer *layers;
    int *layer_of;   /* [experts] */
    double discount; /* g */
    float a[OWN];
    float *room; /* all arrays of the layers */
} learner;

static size_t seen_count(size_t n)
{
    return 2 * n + 1;
}

static size_t layer_floats(size_t n)
{
    return n * seen_count(n) + 2 * seen_count(n) + 2 * n * OWN + 3 * n;
}

static size_t all_floats(const jt_experts_map *map)
{
    size_t floats = 0;
    for (int l = 0; l < map->n_layers; l++)
        floats += layer_floats((size_t)(map->first[l + 1] - map->first[l]));
    return floats;
}

size_t jt_learned_bytes(const jt_experts_map *map)
{
    return all_floats(map) * sizeof(float);
}

/* ---- beginning and end ---- */

static float *take(float **room, size_t count)
{
    float *taken = *room;
    *room += count;
    return taken;
}

static void open_layer(layer *y, int first, int n, int k, float **room)
{
    size_t experts = (size_t)n, seen = seen_count(experts);
    *y = (layer){.first = first,
                 .n = n,
                 .weight = take(room, experts * seen),
                 .seen = take(room, seen),
                 .seen_before = take(room, seen),
                 .own = take(room, experts * OWN),
                 .own_before = take(room, experts * OWN),
                 .value = take(room, experts),
                 .value_before = take(room, experts),
                 .used = take(room, experts)};
    for (int e = 0; e < n; e++) {
        y->own[e * OWN + OWN_LATELY] = (float)k / (float)n;
        y->own[e * OWN + OWN_LONG] = (float)k / (float)n;
    }
}

void jt_learned_stop(jt_ranking *r)
{
    learner *me = r->more;
    if (!me)
        return;
    free(me->layers);
    free(me->layer_of);
    free(me->room);
    free(me);
}

jt_status jt_learned_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err)
{
    (void)known;
    learner *me = r->more = jt_calloc(1, sizeof *me);
    if (!me)
        return jt_fail_memory(err, "starting a cache");
    me->n_layers = r->map.n_layers;
    me->discount = 0.5 + 0.5 * fmin(1.0, (double)r->n_slots / r->n_experts);
    me->layers = jt_calloc((size_t)me->n_layers, sizeof *me->layers);
    me->layer_of = jt_calloc((size_t)r->n_experts, sizeof *me->layer_of);
    me->room = jt_calloc(all_floats(&r->map), sizeof *me->room);
    if (!me->layers || !me->layer_of || !me->room)
        return jt_fail_memory(err, "starting a cache");
    float *room = me->room;
    for (int l = 0; l < me->n_layers; l++) {
        int first = r->map.first[l], n = r->map.first[l + 1] - first;
        open_layer(&me->layers[l], first, n, r->map.k[l], &room);
        for (int e = 0; e < n; e++)
            me->layer_of[first + e] = l;
    }
    memcpy(me->a, first_guess, sizeof me->a);
    return JT_OK;
}

/* ---- learning ---- */

static float dot(const float *restrict x, const float *restrict y, size_t n)
{
    float sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++)
            sum[j] += x[i + j] * y[i + j];
    }
    for (; i < n; i++)
        sum[0] += x[i] * y[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) +
           ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void add(float *restrict y, float a, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* From the values before the pass that ends now to those after it. */
static void learn(learner *me, layer *y)
{
    size_t seen = seen_count((size_t)y->n);
    double step = rate / (1e-3 + dot(y->seen_before, y->seen_before, seen));
    double gradient[OWN] = {0}, norm = 1e-3, g = me->discount;
    for (int e = 0; e < y->n; e++) {
        const float *own = y->own_before + e * OWN;
        double d = (1.0 - g) * y->used[e] + g * y->value[e] - y->value_before[e];
        add(y->weight + (size_t)e * seen, (float)(step * d), y->seen_before, seen);
        for (int j = 0; j < OWN; j++) {
            gradient[j] += d * own[j];
            norm += (double)own[j] * own[j];
        }
    }
    for (int j = 0; j < OWN; j++)
        me->a[j] += (float)(own_rate * gradient[j] / norm);
}

static void turn(float **now, float **before)
{
    float *t = *now;
    *now = *before;
    *before = t;
}

/* What the router shows in this pass; uses follow. */
static void look(layer *y, const float *scores)
{
    int n = y->n;
    for (int e = 0; e < n; e++) {
        const float *before = y->own_before + e * OWN;
        float *own = y->own + e * OWN;
        float s = fminf(fmaxf(scores[e], 0.0f), 1.0f), r = sqrtf((float)n * s) - 1.0f;
        y->seen[e] = own[OWN_SCORE] = r;
        y->seen[n + e] = r + fade_lately * (y->seen_before[n + e] - r);
        own[OWN_LATELY] = fade_lately * before[OWN_LATELY];
        own[OWN_LONG] = fade_long * before[OWN_LONG];
    }
    y->seen[2 * n] = 1.0f;
    memset(y->used, 0, (size_t)n * sizeof *y->used);
}

static void rank(jt_ranking *r, const layer *y, int e)
{
    double value = y->value[e], factor = y->late ? far : 1.0;
    r->value[y->first + e] = value > 0.0 ? factor * value : value / factor;
}

static void rank_layer(jt_ranking *r, layer *y, bool late)
{
    y->late = late;
    for (int e = 0; e < y->n; e++)
        rank(r, y, e);
}

void jt_learned_score(jt_ranking *r, int l, const float *scores)
{
    learner *me = r->more;
    layer *y = &me->layers[l];
    size_t seen = seen_count((size_t)y->n);
    if (y->passes >= 2)
        learn(me, y);
    y->passes += y->passes < 2;
    turn(&y->seen, &y->seen_before);
    turn(&y->own, &y->own_before);
    turn(&y->value, &y->value_before);
    look(y, scores);
    for (int e = 0; e < y->n; e++)
        y->value[e] = dot(me->a, y->own + e * OWN, OWN) +
                      dot(y->weight + (size_t)e * seen, y->seen, seen);
    rank_layer(r, y, true);
    rank_layer(r, &me->layers[(l + (me->n_layers + 1) / 2) % me->n_layers], false);
}

void jt_learned_use(jt_ranking *r, int expert)
{
    learner *me = r->more;
    layer *y = &me->layers[me->layer_of[expert]];
    int e = expert - y->first;
    y->used[e] = 1.0f;
    y->own[e * OWN + OWN_LATELY] += 1.0f - fade_lately;
    y->own[e * OWN + OWN_LONG] += 1.0f - fade_long;
    y->value[e] +=
        me->a[OWN_LATELY] * (1.0f - fade_lately) + me->a[OWN_LONG] * (1.0f - fade_long);
    rank(r, y, e);
}
