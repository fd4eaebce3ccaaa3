/* What the congestion watcher gathers from routers. */
#include "watch/congestion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { TYPES = JT_CONGESTION_TYPES };

/* Sums over the batches of one half, each [TYPES, n]. */
typedef struct half {
    double *picks, *logit, *probability, *chosen;
    double tokens[TYPES];
} half;

typedef struct watched {
    int layer;
    size_t n;       /* rows of the router */
    double *sums;   /* the arrays of both halves */
    half half[2];   /* into `sums` */
    double *room;   /* [ROOM, n] of a fit */
    double *centre; /* [TYPES, n] of the types of tokens */
    size_t types;   /* 0: not known yet */
    uint64_t seen;  /* batches */
} watched;

struct jt_congestion {
    watched *watched; /* [n_watched] */
    size_t n_watched;
    int *index; /* of each layer in `watched`; -1 for a dense one */
};

enum { SUMS = 8 * TYPES, ROOM = 2 * TYPES + 7 }; /* [n] of both halves, of a fit */

static bool watch_layer(jt_congestion *c, int layer, size_t n)
{
    watched *w = &c->watched[c->n_watched];
    *w = (watched){.layer = layer,
                   .n = n,
                   .sums = jt_calloc(SUMS * n, sizeof *w->sums),
                   .room = jt_calloc(ROOM * n, sizeof *w->room),
                   .centre = jt_calloc(TYPES * n, sizeof *w->centre)};
    c->index[layer] = (int)c->n_watched++;
    for (size_t h = 0; w->sums && h < 2; h++) {
        size_t each = TYPES * n;
        double *at = w->sums + h * 4 * each;
        w->half[h] = (half){at, at + each, at + 2 * each, at + 3 * each, {0.0}};
    }
    return w->sums && w->room && w->centre;
}

jt_status jt_congestion_new(jt_congestion **out, const jt_model *model, jt_err *err)
{
    int layers = model->params.n_layers;
    jt_congestion *c = jt_calloc(1, sizeof *c);
    if (!c)
        return jt_fail_memory(err, "watching congestion");
    c->watched = jt_calloc((size_t)layers, sizeof *c->watched);
    c->index = jt_calloc((size_t)layers, sizeof *c->index);
    bool good = c->watched && c->index;
    for (int i = 0; i < layers && good; i++) {
        const jt_layer *layer = &model->layers[i];
        c->index[i] = -1;
        if (layer->is_mixture)
            good = watch_layer(c, i, (size_t)jt_router_rows(&layer->mixture.router));
    }
    if (!good) {
        jt_congestion_free(c);
        return jt_fail_memory(err, "watching congestion");
    }
    *out = c;
    return JT_OK;
}

void jt_congestion_free(jt_congestion *c)
{
    if (!c)
        return;
    for (size_t i = 0; c->watched && i < c->n_watched; i++) {
        free(c->watched[i].sums);
        free(c->watched[i].room);
        free(c->watched[i].centre);
    }
    free(c->watched);
    free(c->index);
    free(c);
}

void jt_congestion_reset(jt_congestion *c)
{
    for (size_t i = 0; i < c->n_watched; i++) {
        watched *w = &c->watched[i];
        memset(w->sums, 0, SUMS * w->n * sizeof *w->sums);
        memset(w->half[0].tokens, 0, sizeof w->half[0].tokens);
        memset(w->half[1].tokens, 0, sizeof w->half[1].tokens);
        w->seen = w->types = 0;
    }
}

/* ---- gathering ---- */

/* softmax(logits); zeros where a policy took all experts out. */
static void probabilities(double *p, const float *logits, size_t n)
{
    double best = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        best = fmax(best, (double)logits[i]);
    for (size_t i = 0; i < n; i++) {
        p[i] = isfinite(best) ? exp((double)logits[i] - best) : 0.0;
        sum += p[i];
    }
    for (size_t i = 0; i < n && sum > 0.0; i++)
        p[i] /= sum;
}

/* Centres of the types, from some of the tokens of a pass, which are `step` apart. */
static void find_types(watched *w, jt_context *ctx, const double *p, size_t tokens)
{
    enum { SAMPLE = 1024 };
    size_t step = (tokens + SAMPLE - 1) / SAMPLE, rows = (tokens + step - 1) / step;
    double *x = jt_scratch(ctx, rows * w->n, sizeof *x);
    double *room = jt_scratch(ctx, TYPES * (w->n + 1), sizeof *room);
    if (jt_failed(ctx))
        return;
    for (size_t r = 0; r < rows; r++)
        memcpy(x + r * w->n, p + r * step * w->n, w->n * sizeof *x);
    w->types = jt_congestion_centres(w->centre, TYPES, x, rows, w->n, room);
}

/* Logits, probabilities and picks of a token. An expert that a policy took out
 * (-infinity) adds nothing to its logit. */
static void add_token(watched *w, half *h, const double *p, const float *logits,
                      const int32_t *picked, size_t k)
{
    size_t n = w->n, type = jt_congestion_type(w->centre, w->types, p, n),
           at = type * n;
    bool some = false;
    for (size_t i = 0; i < n; i++) {
        h->probability[at + i] += p[i];
        h->logit[at + i] += isfinite(logits[i]) ? (double)logits[i] : 0.0;
        some = some || p[i] > 0.0;
    }
    h->tokens[type] += some;
    for (size_t j = 0; j < k; j++) {
        if (picked[j] < 0)
            continue;
        h->picks[at + (size_t)picked[j]]++;
        h->chosen[at + (size_t)picked[j]] += (double)logits[picked[j]];
    }
}

/* The picks before null experts and the capacity: where tokens wanted to go. */
static void look(void *self, jt_context *ctx, const jt_route_site *site,
                 const jt_router *router, const jt_tensor *logits,
                 const jt_tensor *scores, const jt_route *route)
{
    jt_congestion *c = self;
    (void)router;
    (void)scores;
    if (jt_failed(ctx) || site->replay || route->n_tokens == 0)
        return;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    watched *w = &c->watched[c->index[site->layer]];
    half *h = &w->half[w->seen++ % 2];
    size_t k = (size_t)route->k, tokens = (size_t)route->n_tokens;
    double *p = jt_scratch(ctx, tokens * w->n, sizeof *p);
    for (size_t t = 0; p && t < tokens; t++)
        probabilities(p + t * w->n, jt_row(logits, t), w->n);
    if (p && !w->types)
        find_types(w, ctx, p, tokens);
    for (size_t t = 0; p && !jt_failed(ctx) && t < tokens; t++)
        add_token(w, h, p + t * w->n, jt_row(logits, t), route->picked + t * k, k);
    jt_arena_rewind(&ctx->scratch, mark);
}

jt_status jt_congestion_attach(jt_congestion *c, jt_hooks *hooks, jt_err *err)
{
    if (hooks->n_terms == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_LIMIT, "no more than %d hooks of a kind",
                       JT_MAX_HOOKS);
    hooks->term[hooks->n_terms++] = (jt_route_term){c, look};
    return JT_OK;
}

/* ---- fitting ---- */

/* Of expert i, all types together. */
static double of_all(const double *x, size_t n, size_t i)
{
    double sum = 0.0;
    for (size_t j = 0; j < TYPES; j++)
        sum += x[j * n + i];
    return sum;
}

static double quality_of(jt_quality quality, double picks, double logit,
                         double probability, double chosen, double tokens)
{
    if (quality == JT_QUALITY_CHOSEN && picks > 0.0)
        return chosen / picks;
    return quality == JT_QUALITY_PROBABILITY ? log(fmax(probability / tokens, 1e-300))
                                             : logit / tokens;
}

/* Qualities and loads of a half; false when it has none. */
static bool measure(const half *h, size_t n, jt_quality quality, double *q, double *m)
{
    double picks = 0.0, tokens = of_all(h->tokens, 1, 0);
    for (size_t i = 0; i < n; i++) {
        m[i] = of_all(h->picks, n, i);
        picks += m[i];
    }
    if (!(picks > 0.0 && tokens > 0.0))
        return false;
    for (size_t i = 0; i < n; i++) {
        q[i] =
            quality_of(quality, m[i], of_all(h->logit, n, i),
                       of_all(h->probability, n, i), of_all(h->chosen, n, i), tokens);
        m[i] /= picks;
    }
    return true;
}

/* Qualities [TYPES, n] of each type, and its share of the tokens. */
static void measure_types(const half *h, size_t n, jt_quality quality, double *q,
                          double *share)
{
    double tokens = of_all(h->tokens, 1, 0);
    for (size_t j = 0; j < TYPES; j++) {
        share[j] = h->tokens[j] / tokens;
        for (size_t at = j * n; share[j] > 0.0 && at < (j + 1) * n; at++)
            q[at] = quality_of(quality, h->picks[at], h->logit[at], h->probability[at],
                               h->chosen[at], h->tokens[j]);
    }
}

static double imbalance(const double *m, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, m[i]);
    return most * (double)n;
}

size_t jt_congestion_layers(const jt_congestion *c)
{
    return c->n_watched;
}

int jt_congestion_layer(const jt_congestion *c, size_t i)
{
    return c->watched[i].layer;
}

void jt_congestion_fit_halves(jt_congestion_fit *out, const double *const q[2],
                              const double *const seen[2], size_t n, double *room)
{
    double gamma = jt_congestion_fit_gamma(q[0], seen[0], n, room);
    double temperature = jt_congestion_fit_temperature(q[0], seen[0], n, room);
    *out = (jt_congestion_fit){.gamma = gamma, .temperature = temperature};
    out->imbalance = imbalance(seen[1], n);
    jt_congestion_rest(room, q[1], n, gamma);
    out->error = jt_congestion_distance(room, seen[1], n);
    jt_congestion_softmax(room, q[1], n, temperature);
    out->softmax_error = jt_congestion_distance(room, seen[1], n);
    jt_congestion_softmax(room, q[1], n, 1.0);
    out->free_imbalance = imbalance(room, n);
    for (size_t e = 0; e < n; e++)
        out->even_error += fabs(seen[1][e] - 1.0 / (double)n);
}

bool jt_congestion_fit_layer(jt_congestion *c, size_t i, jt_quality quality,
                             jt_congestion_fit *out)
{
    watched *w = &c->watched[i];
    size_t n = w->n;
    double *q[2] = {w->room, w->room + n}, *seen[2] = {q[1] + n, q[1] + 2 * n};
    *out = (jt_congestion_fit){0};
    for (int h = 0; h < 2; h++) {
        if (!measure(&w->half[h], n, quality, q[h], seen[h]))
            return false;
    }
    jt_congestion_fit_halves(out, (const double *const *)q, (const double *const *)seen,
                             n, seen[1] + n);
    return true;
}

static void add_share(jt_congestion_fit *sum, const jt_congestion_fit *one,
                      double share)
{
    sum->gamma += one->gamma * share;
    sum->temperature += one->temperature * share;
    sum->error += one->error * share;
    sum->softmax_error += one->softmax_error * share;
    sum->even_error += one->even_error * share;
    sum->free_imbalance += one->free_imbalance * share;
    sum->imbalance += one->imbalance * share;
}

bool jt_congestion_fit_mean(jt_congestion *c, jt_quality quality,
                            jt_congestion_fit *out)
{
    jt_congestion_fit sum = {0}, one;
    int fitted = 0;
    for (size_t i = 0; i < c->n_watched; i++) {
        if (jt_congestion_fit_layer(c, i, quality, &one)) {
            add_share(&sum, &one, 1.0);
            fitted++;
        }
    }
    *out = (jt_congestion_fit){0};
    if (fitted)
        add_share(out, &sum, 1.0 / fitted);
    return fitted > 0;
}

/* As jt_congestion_fit_layer. */
static bool fit_types(watched *w, jt_quality quality, double *gamma, double *error)
{
    size_t n = w->n;
    double *q[2] = {w->room, w->room + TYPES * n}, *room = q[1] + TYPES * n;
    double *seen[2] = {room, room + n}, share[2][TYPES];
    room += 2 * n;
    for (int h = 0; h < 2; h++) {
        if (!measure(&w->half[h], n, quality, room, seen[h]))
            return false;
        measure_types(&w->half[h], n, quality, q[h], share[h]);
    }
    jt_congestion_types one = {q[0], share[0], TYPES, n}, other = one;
    other.q = q[1];
    other.share = share[1];
    *gamma = jt_congestion_fit_gamma_types(&one, seen[0], room);
    jt_congestion_rest_types(room, &other, *gamma, room + n);
    *error = jt_congestion_distance(room, seen[1], n);
    return true;
}

bool jt_congestion_fit_types(jt_congestion *c, jt_quality quality, double *gamma,
                             double *error)
{
    int fitted = 0;
    *gamma = *error = 0.0;
    for (size_t i = 0; i < c->n_watched; i++) {
        double here, off;
        if (!fit_types(&c->watched[i], quality, &here, &off))
            continue;
        *gamma += here;
        *error += off;
        fitted++;
    }
    *gamma /= fitted ? fitted : 1;
    *error /= fitted ? fitted : 1;
    return fitted > 0;
}
