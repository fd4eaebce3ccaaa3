/* Probes of foretelling: which experts come next, and what knowing it is worth. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/predictor.h"
#include "learn/probe_impl.h"

/* ---- statistics of paths (EdgeMoE) ---- */

/* How often an expert of layer l was used: alone, after one of layer l - 1, and after a
 * pair of layers l - 2 and l - 1. */
typedef struct paths {
    int n_layers, n_experts, k;
    float *alone, *after,
        *after_two; /* [layers, E], [layers, E, E], [layers, E E, E] */
} paths;

static void free_paths(paths *p)
{
    free(p->alone);
    free(p->after);
    free(p->after_two);
    *p = (paths){0};
}

static float *row_after(const paths *p, int layer, int before)
{
    size_t n = (size_t)p->n_experts;
    return p->after + ((size_t)layer * n + (size_t)before) * n;
}

static float *row_after_two(const paths *p, int layer, int first, int second)
{
    size_t n = (size_t)p->n_experts;
    return p->after_two +
           (((size_t)layer * n + (size_t)first) * n + (size_t)second) * n;
}

static void count_layer(paths *p, const jt_routes *r, size_t t, int layer, int expert)
{
    p->alone[layer * p->n_experts + expert]++;
    for (int i = 0; layer > 0 && i < r->k; i++) {
        int second = jt_routes_row(r, t, layer - 1)[i];
        if (second < 0)
            continue;
        row_after(p, layer, second)[expert]++;
        for (int j = 0; layer > 1 && j < r->k; j++) {
            int first = jt_routes_row(r, t, layer - 2)[j];
            if (first >= 0)
                row_after_two(p, layer, first, second)[expert]++;
        }
    }
}

static jt_status count_paths(paths *p, const jt_routes *r, jt_err *err)
{
    size_t layers = (size_t)r->n_layers, n = (size_t)r->n_experts;
    *p = (paths){.n_layers = r->n_layers, .n_experts = r->n_experts, .k = r->k};
    p->alone = jt_calloc(layers * n, sizeof *p->alone);
    p->after = jt_calloc(layers * n * n, sizeof *p->after);
    p->after_two = jt_calloc(layers * n * n * n, sizeof *p->after_two);
    if (!p->alone || !p->after || !p->after_two) {
        free_paths(p);
        return jt_fail_memory(err, "probing a model");
    }
    for (size_t t = 0; t < r->n_tokens; t++)
        for (int l = 0; l < r->n_layers; l++)
            for (int j = 0; j < r->k; j++)
                if (jt_routes_row(r, t, l)[j] >= 0)
                    count_layer(p, r, t, l, jt_routes_row(r, t, l)[j]);
    return JT_OK;
}

/* Add a row of counts as shares; false: nothing was ever seen there. */
static bool add_shares(float *votes, const float *counts, int n)
{
    float sum = 0.0f;
    for (int e = 0; e < n; e++)
        sum += counts[e];
    for (int e = 0; e < n && sum > 0.0f; e++)
        votes[e] += counts[e] / sum;
    return sum > 0.0f;
}

/* What paths of an order say of a layer, falling back to shorter ones. */
static void vote(const paths *p, const jt_routes *r, size_t t, int layer, int order,
                 float *votes)
{
    bool seen = false;
    order = order < layer ? order : layer;
    memset(votes, 0, (size_t)p->n_experts * sizeof *votes);
    for (int i = 0; order == 2 && i < r->k * r->k; i++) {
        int first = jt_routes_row(r, t, layer - 2)[i / r->k];
        int second = jt_routes_row(r, t, layer - 1)[i % r->k];
        seen |= first >= 0 && second >= 0 &&
                add_shares(votes, row_after_two(p, layer, first, second), p->n_experts);
    }
    for (int i = 0; order >= 1 && !seen && i < r->k; i++) {
        int before = jt_routes_row(r, t, layer - 1)[i];
        if (before >= 0)
            add_shares(votes, row_after(p, layer, before), p->n_experts);
        seen |= before >= 0 && i + 1 == r->k;
    }
    if (!seen)
        add_shares(votes, p->alone + layer * p->n_experts, p->n_experts);
}

/* ---- recall ---- */

/* How many of the k experts with the most votes the token used. */
static int right_of(const jt_routes *r, size_t t, int layer, const float *votes)
{
    const int32_t *row = jt_routes_row(r, t, layer);
    int right = 0;
    for (int j = 0; j < r->k; j++) {
        int better = 0;
        for (int e = 0; row[j] >= 0 && e < r->n_experts; e++)
            better +=
                votes[e] > votes[row[j]] || (votes[e] == votes[row[j]] && e < row[j]);
        right += row[j] >= 0 && better < r->k;
    }
    return right;
}

/* The share of the experts used that the votes of `order`, or of the predictor (order
 * -1), put among the first k, over layers from .. to. */
static double recall(const paths *p, const jt_routes *r, const float *foretold,
                     int order, int from, int to, float *votes)
{
    double right = 0.0;
    for (size_t t = 0; t < r->n_tokens; t++)
        for (int l = from; l < to; l++) {
            const float *row = votes;
            if (order < 0)
                row = foretold +
                      (t * (size_t)r->n_layers + (size_t)l) * (size_t)r->n_experts;
            else
                vote(p, r, t, l, order, votes);
            right += right_of(r, t, l, row);
        }
    return right / ((double)r->n_tokens * (to - from) * r->k);
}

/* ---- caches that are told (ExpertFlow) ---- */

/* A cache of experts whose contents are chosen by what is foretold. */
typedef struct told {
    const jt_routes *r;
    const float *foretold; /* NULL: nothing is, and the least recently used leaves */
    bool *here;            /* [experts of all layers] */
    bool ahead;            /* what is foretold is brought in before its turn */
    double *recent;        /* [the same] step of the last use */
    double step;
    size_t t, room, held;
    double uses, late, loaded;
} told;

/* What keeps an expert: how likely this token still needs it, then how lately it was
 * used. */
static double worth(const told *c, int expert, int layer)
{
    double lately = c->recent[expert] / (c->step + 1.0);
    bool to_come = expert / c->r->n_experts >= layer;
    if (!c->foretold || !to_come)
        return lately;
    size_t all = (size_t)c->r->n_layers * (size_t)c->r->n_experts;
    return lately + 2.0 * (double)c->foretold[c->t * all + (size_t)expert];
}

/* Bring an expert in, unless (`only` not NULL) all that could leave are worth more. */
static void bring(told *c, int expert, int layer, const double *only)
{
    int all = c->r->n_layers * c->r->n_experts, leaves = -1;
    for (int e = 0; c->held == c->room && e < all; e++) {
        if (c->here[e] && e != expert &&
            (leaves < 0 || worth(c, e, layer) < worth(c, leaves, layer)))
            leaves = e;
    }
    if (only && leaves >= 0 && worth(c, leaves, layer) >= *only)
        return;
    if (leaves >= 0)
        c->here[leaves] = false;
    c->held += leaves < 0;
    c->here[expert] = true;
    c->loaded++;
}

/* The experts that are foretold for a layer, ahead of it. */
static void bring_foretold(told *c, int layer)
{
    const jt_routes *r = c->r;
    const float *row = c->foretold + (c->t * (size_t)r->n_layers + (size_t)layer) *
                                         (size_t)r->n_experts;
    for (int e = 0; e < r->n_experts; e++) {
        int better = 0;
        for (int other = 0; other < r->n_experts; other++)
            better += row[other] > row[e];
        int expert = layer * r->n_experts + e;
        double own = worth(c, expert, layer);
        if (better < r->k && row[e] > 0.5f / (float)r->k && !c->here[expert])
            bring(c, expert, layer, &own);
    }
}

static void run_token(told *c)
{
    const jt_routes *r = c->r;
    for (int l = 0; l < r->n_layers; l++, c->step++) {
        if (c->ahead && l == 0)
            bring_foretold(c, 0);
        if (c->ahead && l + 1 < r->n_layers)
            bring_foretold(c, l + 1);
        for (int j = 0; j < r->k; j++) {
            int local = jt_routes_row(r, c->t, l)[j];
            int expert = l * r->n_experts + local;
            if (local < 0)
                continue;
            c->uses++;
            c->recent[expert] = c->step + 1.0;
            if (c->here[expert])
                continue;
            c->late++;
            bring(c, expert, l, NULL);
        }
    }
}

/* Shares of the uses that came late, and that were loaded. */
static jt_status run_told(const jt_probe_call *call, const jt_routes *r,
                          const float *foretold, bool ahead, double *late,
                          double *loaded)
{
    size_t all = (size_t)r->n_layers * (size_t)r->n_experts;
    told c = {.r = r, .foretold = foretold, .ahead = ahead, .room = all / 4};
    c.here = jt_calloc(all, sizeof *c.here);
    c.recent = jt_calloc(all, sizeof *c.recent);
    bool there = c.here && c.recent && c.room > 0;
    for (c.t = 0; there && c.t < r->n_tokens; c.t++)
        run_token(&c);
    free(c.here);
    free(c.recent);
    if (!there)
        return jt_fail_memory(call->err, "probing a model");
    *late = c.late / c.uses;
    *loaded = c.loaded / c.uses;
    return JT_OK;
}

/* ---- batches of sequences that go alike (ExpertFlow) ---- */

enum { BATCH = 4 };

/* Mean over tokens of a sequence: [layers, experts], of length 1. */
static void sum_paths(const jt_routes *r, const float *foretold, size_t s, float *out)
{
    size_t all = (size_t)r->n_layers * (size_t)r->n_experts;
    double length = 0.0;
    memset(out, 0, all * sizeof *out);
    for (size_t t = s * r->seq_len; t < (s + 1) * r->seq_len; t++)
        for (size_t i = 0; i < all; i++)
            out[i] += foretold[t * all + i];
    for (size_t i = 0; i < all; i++)
        length += (double)out[i] * (double)out[i];
    for (size_t i = 0; i < all; i++)
        out[i] /= (float)sqrt(length);
}

static float likeness(const float *a, const float *b, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Distinct experts of a layer that sequences member[0 .. BATCH) use at one step, mean
 * over steps and layers. */
static double distinct(const jt_routes *r, const uint32_t *member)
{
    size_t count = 0;
    for (size_t i = 0; i < r->seq_len; i++)
        for (int l = 0; l < r->n_layers; l++)
            for (int e = 0; e < r->n_experts; e++) {
                bool used = false;
                for (int b = 0; b < BATCH; b++) {
                    const int32_t *row =
                        jt_routes_row(r, member[b] * r->seq_len + i, l);
                    for (int j = 0; j < r->k; j++)
                        used = used || row[j] == e;
                }
                count += used;
            }
    return (double)count / (double)(r->seq_len * (size_t)r->n_layers);
}

/* From `at` on, put those that are most like the first into the rest of its batch. */
static void group(uint32_t *order, size_t at, size_t n, const float *of, size_t all)
{
    for (size_t b = at + 1; b < at + BATCH; b++) {
        size_t best = b;
        const float *own = of + order[at] * all;
        for (size_t i = b + 1; i < n; i++)
            if (likeness(own, of + order[i] * all, all) >
                likeness(own, of + order[best] * all, all))
                best = i;
        uint32_t kept = order[b];
        order[b] = order[best];
        order[best] = kept;
    }
}

/* Mean distinct experts of batches as sequences come, sources in turn, and regrouped.
 */
static jt_status schedule(const jt_probe_call *call, const jt_routes *r,
                          const float *foretold, double *as_come, double *grouped)
{
    size_t n = r->n_tokens / r->seq_len / BATCH * BATCH;
    size_t all = (size_t)r->n_layers * (size_t)r->n_experts;
    float *of = jt_alloc(n * all, sizeof *of);
    uint32_t *order = jt_alloc(n, sizeof *order);
    *as_come = *grouped = 0.0;
    for (size_t s = 0; of && order && s < n; s++) {
        sum_paths(r, foretold, s, of + s * all);
        order[s] = (uint32_t)(s % BATCH * (n / BATCH) + s / BATCH);
    }
    for (size_t at = 0; of && order && at < n; at += BATCH)
        *as_come += distinct(r, order + at) * BATCH / (double)n;
    for (size_t at = 0; of && order && at < n; at += BATCH) {
        group(order, at, n, of, all);
        *grouped += distinct(r, order + at) * BATCH / (double)n;
    }
    bool there = of && order;
    free(of);
    free(order);
    return there ? JT_OK : jt_fail_memory(call->err, "probing a model");
}

/* ---- the probe ---- */

static jt_status set(const jt_probe_call *call, const char *name, double value)
{
    return jt_metrics_set(call->metrics, call->err, value, "%s@paths", name);
}

static jt_status measure_recall(const jt_probe_call *call, const paths *p,
                                const jt_routes *r, const float *foretold)
{
    static const char *const names[] = {"alone", "order1", "order2"};
    float *votes = jt_alloc((size_t)r->n_experts, sizeof *votes);
    jt_status status = votes ? JT_OK : jt_fail_memory(call->err, "probing a model");
    for (int order = 0; order < 3 && status == JT_OK; order++)
        status =
            set(call, names[order], recall(p, r, NULL, order, 0, r->n_layers, votes));
    if (status == JT_OK)
        status =
            set(call, "foretold", recall(p, r, foretold, -1, 0, r->n_layers, votes));
    if (status == JT_OK)
        status = set(call, "alone_first", recall(p, r, NULL, 0, 0, 1, votes));
    if (status == JT_OK)
        status = set(call, "foretold_first", recall(p, r, foretold, -1, 0, 1, votes));
    free(votes);
    return status;
}

static jt_status measure_use(const jt_probe_call *call, const jt_routes *r,
                             const float *foretold)
{
    double late, loaded, as_come, grouped;
    JT_TRY(run_told(call, r, NULL, false, &late, &loaded));
    JT_TRY(set(call, "late_lru", late));
    JT_TRY(run_told(call, r, foretold, false, &late, &loaded));
    JT_TRY(set(call, "late_told", late));
    JT_TRY(run_told(call, r, foretold, true, &late, &loaded));
    JT_TRY(set(call, "late", late));
    JT_TRY(set(call, "loaded", loaded));
    JT_TRY(schedule(call, r, foretold, &as_come, &grouped));
    JT_TRY(set(call, "distinct", as_come));
    return set(call, "distinct_grouped", grouped);
}

/* Learnt from text that the training has not seen, judged on what is held out. */
static jt_status probe(const jt_probe_call *call, const jt_routes *seen,
                       const jt_routes *held_out)
{
    enum { EPOCHS = 4 };
    jt_trainer *t = call->trainer;
    jt_predictor *predictor = NULL;
    paths p = {0};
    size_t values = held_out->n_tokens * (size_t)held_out->n_layers;
    float *foretold = jt_alloc(values * (size_t)held_out->n_experts, sizeof *foretold);
    jt_status status = foretold ? count_paths(&p, seen, call->err)
                                : jt_fail_memory(call->err, "probing a model");
    if (status == JT_OK)
        status = jt_predictor_train(&predictor, &t->ctx, seen, t->model->params.n_vocab,
                                    EPOCHS, call->err);
    if (status == JT_OK)
        status = jt_predictor_run(predictor, &t->ctx, held_out, foretold, call->err);
    if (status == JT_OK)
        status = measure_recall(call, &p, held_out, foretold);
    if (status == JT_OK)
        status = measure_use(call, held_out, foretold);
    if (status == JT_OK)
        status = set(call, "predictor_params", (double)jt_predictor_params(predictor));
    jt_predictor_free(predictor);
    free_paths(&p);
    free(foretold);
    return status;
}

jt_status jt_probe_paths(const jt_probe_call *call)
{
    enum { BATCHES = 24 };
    jt_routes seen = {0}, held_out = {0};
    jt_status status =
        jt_routes_take(&seen, call->trainer, JT_ROUTES_TRAINING, BATCHES, call->err);
    if (status == JT_OK)
        status =
            jt_routes_take(&held_out, call->trainer, JT_ROUTES_HELD_OUT, 0, call->err);
    if (status == JT_OK)
        status = probe(call, &seen, &held_out);
    jt_routes_free(&seen);
    jt_routes_free(&held_out);
    return status;
}
