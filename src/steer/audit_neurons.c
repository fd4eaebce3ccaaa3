/* Neurons: which inner values of the experts that a text prefers tell it from the
 * other, and what is left of the behaviour when they are silent. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/session.h"
#include "steer/audit_impl.h"

enum { LEAST_TOKENS = 8 }; /* of a text that an expert must have got */

size_t jt_audit_count_targets(const jt_auditing *a)
{
    size_t count = (size_t)lround((double)a->how.targets * (double)a->n);
    return a->how.targets < 0.0f ? 0 : count ? count : 1;
}

/* ---- what reaches the down products of the targets ---- */

static const jt_audit_target *find(const jt_auditing *a, const jt_product *p)
{
    const jt_audit_neurons *in = &a->neurons;
    for (size_t i = 0; i < in->n_targets && p->w.weight; i++) {
        const jt_audit_target *t = &in->target[i];
        const jt_tensor *down =
            &a->model->layers[t->layer].mixture.experts.part[JT_PART_DOWN];
        if (p->w.weight == down->weight &&
            p->w.first_row == (size_t)t->expert * down->shape[1])
            return t;
    }
    return NULL;
}

/* Welford's sums of the sizes of a row of neurons, the n-th. */
static void add_row(double *mean, double *m2, const float *x, size_t width, double n)
{
    for (size_t i = 0; i < width; i++) {
        double size = fabs((double)x[i]), step = size - mean[i];
        mean[i] += step / n;
        m2[i] += step * (size - mean[i]);
    }
}

/* Counts, and silences. Nothing else reads these rows. */
static void see(void *self, jt_context *ctx, const jt_product *products, size_t count)
{
    jt_auditing *a = self;
    jt_audit_neurons *in = &a->neurons;
    (void)ctx;
    for (size_t i = 0; i < count; i++) {
        const jt_product *p = &products[i];
        const jt_audit_target *found = find(a, p);
        if (!found)
            continue;
        jt_audit_target *t = &in->target[found - in->target];
        for (size_t r = 0; r < p->tokens; r++) {
            float *x = jt_row(&p->x->x, p->first + r);
            if (in->side >= 0)
                add_row(in->mean[in->side] + t->first, in->m2[in->side] + t->first, x,
                        t->width, ++t->tokens[in->side]);
            for (size_t n = 0; n < t->width; n++)
                x[n] = in->is_out[t->first + n] ? 0.0f : x[n];
        }
    }
}

/* ---- the profile ---- */

static int by_place(const void *a, const void *b)
{
    const jt_audit_target *x = a, *y = b;
    return x->layer != y->layer ? x->layer - y->layer : x->expert - y->expert;
}

/* The first of the ranking. */
static jt_status choose(jt_auditing *a, const jt_audit *out, jt_err *err)
{
    jt_audit_neurons *in = &a->neurons;
    in->n_targets = jt_audit_count_targets(a);
    in->target = jt_calloc(in->n_targets, sizeof *in->target);
    if (!in->target)
        return jt_fail_memory(err, "auditing neurons");
    for (size_t i = 0; i < in->n_targets; i++)
        in->target[i] = (jt_audit_target){.layer = out->experts[i].layer,
                                          .expert = out->experts[i].expert};
    qsort(in->target, in->n_targets, sizeof *in->target, by_place);
    for (size_t i = 0; i < in->n_targets; i++) {
        jt_audit_target *t = &in->target[i];
        t->first = in->n;
        t->width = a->model->layers[t->layer].mixture.experts.width;
        in->n += t->width;
    }
    for (int s = 0; s < 2; s++) {
        in->mean[s] = jt_calloc(in->n, sizeof *in->mean[s]);
        in->m2[s] = jt_calloc(in->n, sizeof *in->m2[s]);
    }
    in->is_out = jt_calloc(in->n, sizeof *in->is_out);
    return in->mean[0] && in->mean[1] && in->m2[0] && in->m2[1] && in->is_out
               ? JT_OK
               : jt_fail_memory(err, "auditing neurons");
}

static jt_status gather(jt_auditing *a, jt_err *err)
{
    for (int s = 0; s < 2; s++) {
        a->neurons.side = s;
        for (size_t i = 0; i < a->side[s].count; i += 2)
            JT_TRY(jt_audit_window(a, &a->side[s], i, NULL, NULL, err));
    }
    a->neurons.side = -1;
    return JT_OK;
}

/* 0 where one text gave the expert too little to tell. */
static double cohen(const jt_audit_neurons *in, const jt_audit_target *t, size_t n)
{
    double a = t->tokens[0], b = t->tokens[1];
    if (a < LEAST_TOKENS || b < LEAST_TOKENS)
        return 0;
    double variance = (in->m2[0][n] + in->m2[1][n]) / (a + b - 2);
    return variance > 0 ? (in->mean[0][n] - in->mean[1][n]) / sqrt(variance) : 0;
}

static int falling(const void *a, const void *b)
{
    const jt_audit_neuron *x = a, *y = b;
    if (x->d != y->d)
        return x->d < y->d ? 1 : -1;
    if (x->layer != y->layer)
        return x->layer - y->layer;
    return x->expert != y->expert ? x->expert - y->expert : x->neuron - y->neuron;
}

static void describe(const jt_audit_neurons *in, jt_audit *out)
{
    for (size_t i = 0; i < in->n_targets; i++) {
        const jt_audit_target *t = &in->target[i];
        for (size_t n = t->first; n < t->first + t->width; n++)
            out->neurons[n] = (jt_audit_neuron){.layer = t->layer,
                                                .expert = t->expert,
                                                .neuron = (int)(n - t->first),
                                                .mean_a = in->mean[0][n],
                                                .mean_b = in->mean[1][n],
                                                .d = cohen(in, t, n)};
    }
    qsort(out->neurons, out->n_neurons, sizeof *out->neurons, falling);
}

/* ---- the curve ---- */

static size_t place_of(const jt_audit_neurons *in, const jt_audit_neuron *neuron)
{
    jt_audit_target key = {.layer = neuron->layer, .expert = neuron->expert};
    const jt_audit_target *t =
        bsearch(&key, in->target, in->n_targets, sizeof key, by_place);
    return t->first + (size_t)neuron->neuron;
}

/* `room`: n + 2 targets + 1 numbers. */
static jt_status curve(jt_auditing *a, jt_audit *out, size_t *room, double *use,
                       jt_err *err)
{
    jt_audit_neurons *in = &a->neurons;
    size_t *ranking = room, *first = room + in->n, *most = first + in->n_targets + 1;
    for (size_t i = 0; i < in->n_targets; i++) {
        const jt_audit_target *t = &in->target[i];
        first[i] = t->first;
        most[i] = t->width;
        for (size_t n = t->first; n < t->first + t->width; n++)
            use[n] = t->tokens[0] * in->mean[0][n] + t->tokens[1] * in->mean[1][n];
    }
    first[in->n_targets] = in->n;
    for (size_t i = 0; i < in->n; i++)
        ranking[i] = place_of(in, &out->neurons[i]);
    jt_audit_units units = {.n = in->n,
                            .n_groups = in->n_targets,
                            .first = first,
                            .most = most,
                            .ranking = ranking,
                            .use = use,
                            .is_out = in->is_out};
    return jt_audit_curve(a, out, &units, out->neuron_points, err);
}

static jt_status look(jt_auditing *a, jt_audit *out, jt_err *err)
{
    jt_audit_neurons *in = &a->neurons;
    JT_TRY(gather(a, err));
    out->n_targets = in->n_targets;
    out->n_neurons = in->n;
    out->neurons = jt_calloc(in->n, sizeof *out->neurons);
    out->neuron_points = jt_calloc(out->n_points, sizeof *out->neuron_points);
    size_t *room = jt_alloc(in->n + 2 * in->n_targets + 1, sizeof *room);
    double *use = jt_alloc(in->n, sizeof *use);
    jt_status status = out->neurons && out->neuron_points && room && use
                           ? JT_OK
                           : jt_fail_memory(err, "auditing neurons");
    if (status == JT_OK) {
        describe(in, out);
        status = curve(a, out, room, use, err);
    }
    free(room);
    free(use);
    return status;
}

jt_status jt_audit_look_inside(jt_auditing *a, jt_audit *out, jt_err *err)
{
    if (jt_audit_count_targets(a) == 0)
        return JT_OK;
    JT_TRY(choose(a, out, err));
    a->session->ctx->watch = (jt_product_watch){a, see};
    jt_status status = look(a, out, err);
    a->session->ctx->watch = (jt_product_watch){0};
    return status;
}

void jt_audit_neurons_free(jt_audit_neurons *in)
{
    free(in->target);
    for (int s = 0; s < 2; s++) {
        free(in->mean[s]);
        free(in->m2[s]);
    }
    free(in->is_out);
    *in = (jt_audit_neurons){0};
}
