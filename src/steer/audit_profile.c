/* Which experts a text uses more than the other, and how few they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "steer/audit_impl.h"
#include "watch/concentration.h"

enum { DEALS = 16 }; /* of windows to texts, for what comes by chance */

const double jt_audit_top[JT_AUDIT_TOPS] = {0.01, 0.05, 0.1, 0.2};

/* ---- running ---- */

static jt_status run_side(jt_auditing *a, jt_audit_side *side, double *loss,
                          jt_err *err)
{
    double nll = 0;
    size_t scored = 0;
    for (size_t i = 0; i < side->count; i++) {
        a->rate = side->rate + i * a->n;
        a->mass = side->mass + i * a->n;
        a->seen = 0;
        JT_TRY(jt_audit_window(a, side, i, jt_audit_profiles(i) ? NULL : &nll, &scored,
                               err));
        for (size_t e = 0; e < a->n; e++) {
            a->rate[e] /= (double)a->seen;
            a->mass[e] /= (double)a->seen;
        }
    }
    a->rate = a->mass = NULL;
    *loss = nll / (double)scored;
    return JT_OK;
}

/* ---- means over windows ---- */

/* Rows of windows: every `step`th of a side from `first` on. */
static void mean_rows(double *mean, const double *rows, const jt_audit_side *side,
                      size_t n, size_t first, size_t step)
{
    double count = 0;
    memset(mean, 0, n * sizeof *mean);
    for (size_t i = first; i < side->count; i += step, count++) {
        for (size_t e = 0; e < n; e++)
            mean[e] += rows[i * n + e];
    }
    for (size_t e = 0; e < n; e++)
        mean[e] /= count;
}

/* The disparity by every `step`th window from `first` on; `room` [n]. */
static void disparity(double *d, double *room, const jt_auditing *a, size_t first,
                      size_t step)
{
    mean_rows(d, a->side[0].rate, &a->side[0], a->n, first, step);
    mean_rows(room, a->side[1].rate, &a->side[1], a->n, first, step);
    for (size_t e = 0; e < a->n; e++)
        d[e] -= room[e];
}

/* ---- experts ---- */

static int falling(const void *a, const void *b)
{
    const jt_audit_expert *x = a, *y = b;
    if (x->disparity != y->disparity)
        return x->disparity < y->disparity ? 1 : -1;
    if (x->layer != y->layer)
        return x->layer - y->layer;
    return x->expert - y->expert;
}

/* What the windows of the profile have of expert `e`; how many. */
static size_t column(double *out, const jt_audit_side *side, size_t n, size_t e)
{
    size_t count = 0;
    for (size_t i = 0; i < side->count; i += 2)
        out[count++] = side->rate[i * n + e];
    return count;
}

/* Fill the experts in the order of the model; room: 4 n + all windows numbers. */
static void describe(const jt_auditing *a, jt_audit *out, double *room, size_t *order)
{
    size_t n = a->n, at = 0;
    double *mean[4], *z = room + 4 * n, *x = z + 2 * n;
    for (int i = 0; i < 4; i++) {
        const jt_audit_side *side = &a->side[i % 2];
        mean[i] = room + (size_t)i * n;
        mean_rows(mean[i], i < 2 ? side->rate : side->mass, side, n, 0, 2);
    }
    for (size_t l = 0; l < out->n_layers; l++) {
        for (int e = 0; e < out->layers[l].n_experts; e++, at++) {
            size_t n_a = column(x, &a->side[0], n, at);
            size_t n_b = column(x + n_a, &a->side[1], n, at);
            z[at] = jt_welch(x, n_a, x + n_a, n_b);
            out->experts[at] = (jt_audit_expert){.layer = out->layers[l].layer,
                                                 .expert = e,
                                                 .rate_a = mean[0][at],
                                                 .rate_b = mean[1][at],
                                                 .mass_a = mean[2][at],
                                                 .mass_b = mean[3][at],
                                                 .disparity = mean[0][at] - mean[1][at],
                                                 .z = z[at]};
        }
    }
    jt_discoveries(z, z + n, order, n);
    for (size_t e = 0; e < n; e++) {
        out->experts[e].q = z[n + e];
        out->significant += z[n + e] < 0.05;
    }
}

/* ---- what the ranking says ---- */

static double sum_above(const double *d, size_t n)
{
    double sum = 0;
    for (size_t e = 0; e < n; e++)
        sum += fmax(0.0, d[e]);
    return sum;
}

static void share_layers(jt_audit *out, const double *d)
{
    double all = sum_above(d, out->n_experts);
    for (size_t l = 0; l < out->n_layers; l++) {
        for (int e = 0; e < out->layers[l].n_experts; e++)
            out->layers[l].share += all > 0 ? fmax(0.0, *d++) / all : 0;
    }
}

/* Mean score, and sum above 0, when the windows of the profile are dealt anew;
 * room: 3 n. */
static jt_status deal(const jt_auditing *a, double *room, double *score, double *sum,
                      jt_err *err)
{
    size_t n = a->n, n_a = (a->side[0].count + 1) / 2, n_b = (a->side[1].count + 1) / 2;
    jt_rng rng = {.seed = a->how.seed};
    size_t *order = jt_alloc(n_a + n_b, sizeof *order);
    if (!order)
        return jt_fail_memory(err, "auditing a model");
    for (size_t i = 0; i < n_a + n_b; i++)
        order[i] = i;
    *score = *sum = 0;
    for (int round = 0; round < DEALS; round++) {
        memset(room, 0, n * sizeof *room);
        for (size_t i = n_a + n_b; i-- > 0;) {
            size_t other = jt_rng_below(&rng, (uint32_t)i + 1), row = order[other];
            order[other] = order[i];
            order[i] = row;
            const double *rate = row < n_a ? a->side[0].rate + 2 * row * n
                                           : a->side[1].rate + 2 * (row - n_a) * n;
            double weight = i < n_a ? 1.0 / (double)n_a : -1.0 / (double)n_b;
            for (size_t e = 0; e < n; e++)
                room[e] += weight * rate[e];
        }
        *score += jt_concentration_of(room, n, room + n).score / DEALS;
        *sum += sum_above(room, n) / DEALS;
    }
    free(order);
    return JT_OK;
}

/* The first tenth by one half of the profile's windows and by the other. */
static double stability(const jt_auditing *a, double *room, double *sorted)
{
    size_t n = a->n, first = n / 10 ? n / 10 : 1, both = 0;
    double least[2], *d[2] = {room, room + n};
    for (size_t half = 0; half < 2; half++) {
        disparity(d[half], sorted, a, 2 * half, 4);
        least[half] = jt_largest(d[half], n, first, sorted);
    }
    for (size_t e = 0; e < n; e++)
        both += d[0][e] >= least[0] && d[1][e] >= least[1];
    both = both < first ? both : first;
    return (double)both / (double)(2 * first - both);
}

/* Windows of the losses, scored by the log ratio of the rates of the profile (naive
 * Bayes): how often is one of A above one of B? room: 3 n and all windows. */
static double area(const jt_auditing *a, double *room)
{
    size_t n = a->n, count[2] = {0, 0};
    double *weight = room, *other = room + n, *scores[2] = {room + 2 * n, NULL};
    mean_rows(weight, a->side[0].rate, &a->side[0], n, 0, 2);
    mean_rows(other, a->side[1].rate, &a->side[1], n, 0, 2);
    size_t windows = (a->side[0].count + 1) / 2;
    double seen = (double)a->how.window * (double)windows;
    for (size_t e = 0; e < n; e++)
        weight[e] = log((weight[e] + 0.5 / seen) / (other[e] + 0.5 / seen));
    for (int s = 0; s < 2; s++) {
        const jt_audit_side *side = &a->side[s];
        scores[s] = s ? scores[0] + count[0] : scores[0];
        for (size_t i = 1; i < side->count; i += 2) {
            double sum = 0;
            for (size_t e = 0; e < n; e++)
                sum += weight[e] * side->rate[i * n + e];
            scores[s][count[s]++] = sum;
        }
    }
    return jt_area(scores[0], count[0], scores[1], count[1]);
}

static jt_status sum_up(const jt_auditing *a, jt_audit *out, double *room, jt_err *err)
{
    size_t n = a->n;
    double *d = room, *rest = room + n;
    disparity(d, rest, a, 0, 2);
    share_layers(out, d);
    jt_concentration c = jt_concentration_of(d, n, rest);
    out->gini = c.gini;
    out->effective = c.effective;
    out->concentration = c.score;
    double used = 0;
    for (size_t e = 0; e < n; e++)
        used += out->experts[e].rate_a;
    out->shift = sum_above(d, n) / used;
    JT_TRY(deal(a, room, &out->concentration_chance, &out->shift_chance, err));
    out->shift_chance /= used;
    out->stability = stability(a, room, room + 2 * n);
    out->auc = area(a, room);
    qsort(out->experts, n, sizeof *out->experts, falling);
    for (size_t e = 0; e < n; e++)
        d[e] = out->experts[e].disparity;
    for (int i = 0; i < JT_AUDIT_TOPS; i++) {
        size_t count = (size_t)lround(jt_audit_top[i] * (double)n);
        out->top[i] = jt_top_share(d, n, count ? count : 1);
    }
    return JT_OK;
}

jt_status jt_audit_profile(jt_auditing *a, jt_audit *out, jt_err *err)
{
    JT_TRY(run_side(a, &a->side[0], &out->whole.a, err));
    JT_TRY(run_side(a, &a->side[1], &out->whole.b, err));
    out->whole.kept = 1;
    size_t windows = a->side[0].count + a->side[1].count;
    double *room = jt_alloc(6 * a->n + windows, sizeof *room);
    size_t *order = jt_alloc(a->n, sizeof *order);
    jt_status status = room && order ? JT_OK : jt_fail_memory(err, "auditing a model");
    if (status == JT_OK) {
        describe(a, out, room, order);
        status = sum_up(a, out, room, err);
    }
    free(room);
    free(order);
    return status;
}
