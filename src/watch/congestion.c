/* What the congestion watcher gathers from routers. */
#include "watch/congestion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Sums over the batches of one half, each [n]. */
typedef struct half {
    double *picks, *logit, *probability, *chosen;
    double tokens;
} half;

typedef struct watched {
    int layer;
    size_t n;      /* rows of the router */
    double *sums;  /* the arrays of both halves */
    half half[2];  /* into `sums` */
    double *room;  /* [5, n] of a fit, [n] of a pass */
    uint64_t seen; /* batches */
} watched;

struct jt_congestion {
    watched *watched; /* [n_watched] */
    size_t n_watched;
    int *index; /* of each layer in `watched`; -1 for a dense one */
};

enum { SUMS = 8 }; /* arrays of both halves */

static bool watch_layer(jt_congestion *c, int layer, size_t n)
{
    watched *w = &c->watched[c->n_watched];
    *w = (watched){.layer = layer,
                   .n = n,
                   .sums = jt_calloc(SUMS * n, sizeof *w->sums),
                   .room = jt_calloc(5 * n, sizeof *w->room)};
    c->index[layer] = (int)c->n_watched++;
    for (size_t h = 0; w->sums && h < 2; h++) {
        double *at = w->sums + h * (SUMS / 2) * n;
        w->half[h] = (half){at, at + n, at + 2 * n, at + 3 * n, 0.0};
    }
    return w->sums && w->room;
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
        w->half[0].tokens = w->half[1].tokens = 0.0;
        w->seen = 0;
    }
}

/* ---- gathering ---- */

/* Logits and probabilities of a token. An expert that a policy took out (-infinity)
 * adds nothing to its logit. */
static void add_token(half *h, double *p, const float *logits, size_t n)
{
    double best = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        best = fmax(best, (double)logits[i]);
    if (!isfinite(best))
        return;
    for (size_t i = 0; i < n; i++) {
        p[i] = exp((double)logits[i] - best);
        sum += p[i];
    }
    for (size_t i = 0; i < n; i++) {
        h->probability[i] += p[i] / sum;
        h->logit[i] += isfinite(logits[i]) ? (double)logits[i] : 0.0;
    }
    h->tokens++;
}

/* The picks before null experts and the capacity: where tokens wanted to go. */
static void look(void *self, jt_context *ctx, const jt_route_site *site,
                 const jt_router *router, const jt_tensor *logits,
                 const jt_tensor *scores, const jt_route *route)
{
    jt_congestion *c = self;
    (void)router;
    (void)scores;
    if (jt_failed(ctx) || site->replay)
        return;
    watched *w = &c->watched[c->index[site->layer]];
    half *h = &w->half[w->seen++ % 2];
    size_t k = (size_t)route->k;
    for (size_t t = 0; t < (size_t)route->n_tokens; t++) {
        const float *row = jt_row(logits, t);
        add_token(h, w->room, row, w->n);
        for (size_t j = 0; j < k; j++) {
            int32_t expert = route->picked[t * k + j];
            if (expert < 0)
                continue;
            h->picks[expert]++;
            h->chosen[expert] += (double)row[expert];
        }
    }
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

/* Qualities and loads of a half; false when it has none. */
static bool measure(const half *h, size_t n, jt_quality quality, double *q, double *m)
{
    double picks = 0.0;
    for (size_t i = 0; i < n; i++)
        picks += h->picks[i];
    if (!(picks > 0.0 && h->tokens > 0.0))
        return false;
    for (size_t i = 0; i < n; i++) {
        m[i] = h->picks[i] / picks;
        q[i] = h->logit[i] / h->tokens;
        if (quality == JT_QUALITY_CHOSEN && h->picks[i] > 0.0)
            q[i] = h->chosen[i] / h->picks[i];
        if (quality == JT_QUALITY_PROBABILITY)
            q[i] = log(fmax(h->probability[i] / h->tokens, 1e-300));
    }
    return true;
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
