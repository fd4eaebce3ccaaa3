/* What is left of a behaviour when experts are masked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "steer/audit_impl.h"
#include "steer/policy.h"

/* How many of a layer's experts may be out: tokens still get as many as they use. */
static size_t most_out(const jt_auditing *a, const jt_audit_layer *layer)
{
    int k = a->how.zero ? 1 : jt_scope_router(a->model, layer->layer)->k;
    return layer->n_experts > k ? (size_t)(layer->n_experts - k) : 0;
}

/* Losses as the mask now stands. */
static jt_status measure(jt_auditing *a, const jt_audit *out, jt_audit_loss *loss,
                         jt_err *err)
{
    double mean[2];
    for (int s = 0; s < 2; s++) {
        double nll = 0;
        size_t scored = 0;
        for (size_t i = 1; i < a->side[s].count; i += 2)
            JT_TRY(jt_audit_window(a, &a->side[s], i, &nll, &scored, err));
        mean[s] = nll / (double)scored;
    }
    *loss = (jt_audit_loss){mean[0], mean[1], 0};
    loss->kept = exp(-((loss->a - out->whole.a) - (loss->b - out->whole.b)));
    return JT_OK;
}

/* Mask up to `count` of the first experts of the ranking; in_layer [layers] gets how
 * many of each layer there are. Returns how many in all. */
static size_t mask_top(jt_auditing *a, const jt_audit *out, size_t count,
                       size_t *in_layer)
{
    size_t done = 0;
    memset(a->is_out, 0, a->n * sizeof *a->is_out);
    memset(in_layer, 0, out->n_layers * sizeof *in_layer);
    for (size_t i = 0; i < out->n_experts && done < count; i++) {
        const jt_audit_expert *e = &out->experts[i];
        size_t l = 0;
        while (out->layers[l].layer != e->layer)
            l++;
        if (in_layer[l] == most_out(a, &out->layers[l]))
            continue;
        a->is_out[a->offset[e->layer] + (size_t)e->expert] = true;
        in_layer[l]++;
        done++;
    }
    return done;
}

/* Mask as many experts of each layer as in_layer says: those that `order` [experts] has
 * the largest values of. */
static void mask_largest(jt_auditing *a, const jt_audit *out, const double *order,
                         const size_t *in_layer)
{
    memset(a->is_out, 0, a->n * sizeof *a->is_out);
    for (size_t l = 0; l < out->n_layers; l++) {
        size_t first = a->offset[out->layers[l].layer];
        size_t end = first + (size_t)out->layers[l].n_experts;
        for (size_t i = 0; i < in_layer[l]; i++) {
            size_t best = end;
            for (size_t e = first; e < end; e++) {
                if (!a->is_out[e] && (best == end || order[e] > order[best]))
                    best = e;
            }
            a->is_out[best] = true;
        }
    }
}

/* Means over random masks. `order` [experts] is overwritten. */
static jt_status draw(jt_auditing *a, const jt_audit *out, const size_t *in_layer,
                      jt_rng *rng, double *order, jt_audit_point *point, jt_err *err)
{
    double n = a->how.draws, squares = 0;
    jt_audit_loss sum = {0};
    for (int i = 0; i < a->how.draws; i++) {
        jt_audit_loss one;
        for (size_t e = 0; e < a->n; e++)
            order[e] = jt_rng_double(rng);
        mask_largest(a, out, order, in_layer);
        JT_TRY(measure(a, out, &one, err));
        sum.a += one.a;
        sum.b += one.b;
        sum.kept += one.kept;
        squares += one.kept * one.kept;
    }
    point->random = (jt_audit_loss){sum.a / n, sum.b / n, sum.kept / n};
    double mean = point->random.kept;
    point->random_sd = sqrt(fmax(0.0, squares / n - mean * mean) * n / (n - 1));
    return JT_OK;
}

static jt_status measure_point(jt_auditing *a, const jt_audit *out, size_t i,
                               size_t *in_layer, double *order, jt_err *err)
{
    jt_audit_point *point = &out->points[i];
    jt_rng rng = {.seed = a->how.seed, .stream = i + 1};
    point->share = a->how.shares[i];
    size_t wanted = (size_t)lround((double)point->share * (double)a->n);
    point->masked = mask_top(a, out, wanted ? wanted : 1, in_layer);
    JT_TRY(measure(a, out, &point->top, err));
    for (size_t e = 0; e < a->n; e++) {
        const jt_audit_expert *x = &out->experts[e];
        order[a->offset[x->layer] + (size_t)x->expert] = x->rate_a + x->rate_b;
    }
    mask_largest(a, out, order, in_layer);
    JT_TRY(measure(a, out, &point->busy, err));
    JT_TRY(draw(a, out, in_layer, &rng, order, point, err));
    point->apart = point->top.kept < point->random.kept - 2 * point->random_sd;
    double by_chance = fmax(1 - point->random.kept, point->random_sd);
    point->fragility = (1 - point->top.kept) / by_chance;
    return JT_OK;
}

jt_status jt_audit_curve(jt_auditing *a, jt_audit *out, jt_err *err)
{
    size_t *in_layer = jt_alloc(out->n_layers, sizeof *in_layer);
    double *order = jt_alloc(a->n, sizeof *order);
    jt_status status =
        in_layer && order ? JT_OK : jt_fail_memory(err, "auditing a model");
    for (size_t i = 0; i < out->n_points && status == JT_OK; i++)
        status = measure_point(a, out, i, in_layer, order, err);
    free(in_layer);
    free(order);
    return status;
}
