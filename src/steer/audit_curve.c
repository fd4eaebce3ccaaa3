/* What is left of a behaviour when experts, or neurons, are masked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "steer/audit_impl.h"
#include "steer/policy.h"

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

/* Of what random masks take: less is nothing. */
static const double LEAST = 1e-3;

static size_t group_of(const jt_audit_units *u, size_t unit)
{
    size_t g = 0;
    while (u->first[g + 1] <= unit)
        g++;
    return g;
}

/* Mask up to `count` of the first units of a ranking; in_group [groups] gets how many
 * of each group they are. Returns how many in all. */
static size_t mask_first(const jt_audit_units *u, const size_t *ranking, size_t count,
                         size_t *in_group)
{
    size_t done = 0;
    memset(u->is_out, 0, u->n * sizeof *u->is_out);
    memset(in_group, 0, u->n_groups * sizeof *in_group);
    for (size_t i = 0; i < u->n && done < count; i++) {
        size_t g = group_of(u, ranking[i]);
        if (in_group[g] == u->most[g])
            continue;
        u->is_out[ranking[i]] = true;
        in_group[g]++;
        done++;
    }
    return done;
}

/* Mask as many units of each group as in_group says: those that `order` [units] has
 * the largest values of. */
static void mask_largest(const jt_audit_units *u, const double *order,
                         const size_t *in_group)
{
    memset(u->is_out, 0, u->n * sizeof *u->is_out);
    for (size_t g = 0; g < u->n_groups; g++) {
        for (size_t i = 0; i < in_group[g]; i++) {
            size_t best = u->first[g + 1];
            for (size_t e = u->first[g]; e < u->first[g + 1]; e++) {
                if (!u->is_out[e] &&
                    (best == u->first[g + 1] || order[e] > order[best]))
                    best = e;
            }
            u->is_out[best] = true;
        }
    }
}

/* Means over random masks. `order` [units] is overwritten. */
static jt_status draw(jt_auditing *a, const jt_audit *out, const jt_audit_units *u,
                      const size_t *in_group, jt_rng *rng, double *order,
                      jt_audit_point *point, jt_err *err)
{
    double n = a->how.draws, squares = 0;
    jt_audit_loss sum = {0};
    for (int i = 0; i < a->how.draws; i++) {
        jt_audit_loss one;
        for (size_t e = 0; e < u->n; e++)
            order[e] = jt_rng_double(rng);
        mask_largest(u, order, in_group);
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

static jt_status measure_point(jt_auditing *a, const jt_audit *out,
                               const jt_audit_units *u, jt_audit_point *point,
                               jt_rng *rng, size_t *in_group, double *order,
                               jt_err *err)
{
    size_t wanted = (size_t)lround((double)point->share * (double)u->n);
    wanted = wanted ? wanted : 1;
    if (u->related) {
        mask_first(u, u->related, wanted, in_group);
        JT_TRY(measure(a, out, &point->related, err));
    }
    point->masked = mask_first(u, u->ranking, wanted, in_group);
    JT_TRY(measure(a, out, &point->top, err));
    mask_largest(u, u->use, in_group);
    JT_TRY(measure(a, out, &point->busy, err));
    JT_TRY(draw(a, out, u, in_group, rng, order, point, err));
    point->apart = point->top.kept < point->random.kept - 2 * point->random_sd;
    double by_chance = fmax(1 - point->random.kept, fmax(point->random_sd, LEAST));
    point->fragility = (1 - point->top.kept) / by_chance;
    return JT_OK;
}

jt_status jt_audit_curve(jt_auditing *a, const jt_audit *out, const jt_audit_units *u,
                         jt_audit_point *points, jt_err *err)
{
    size_t *in_group = jt_alloc(u->n_groups, sizeof *in_group);
    double *order = jt_alloc(u->n, sizeof *order);
    jt_status status =
        in_group && order ? JT_OK : jt_fail_memory(err, "auditing a model");
    for (size_t i = 0; i < out->n_points && status == JT_OK; i++) {
        jt_rng rng = {.seed = a->how.seed, .stream = i + 1};
        points[i].share = a->how.shares[i];
        status = measure_point(a, out, u, &points[i], &rng, in_group, order, err);
    }
    memset(u->is_out, 0, u->n * sizeof *u->is_out);
    free(in_group);
    free(order);
    return status;
}

/* ---- experts ---- */

/* How many of a layer's experts may be out: tokens still get as many as they use. */
static size_t most_out(const jt_auditing *a, const jt_audit_layer *layer)
{
    int k = a->how.zero ? 1 : jt_scope_router(a->model, layer->layer)->k;
    return layer->n_experts > k ? (size_t)(layer->n_experts - k) : 0;
}

static void rank(const jt_auditing *a, const jt_audit *of, size_t *ranking)
{
    for (size_t i = 0; i < of->n_experts; i++)
        ranking[i] = a->offset[of->experts[i].layer] + (size_t)of->experts[i].expert;
}

/* `room`: 2 n + 2 layers + 1 numbers. */
static jt_status curve_of_experts(jt_auditing *a, jt_audit *out, size_t *room,
                                  double *use, jt_err *err)
{
    size_t *ranking = room, *related = room + a->n, *first = room + 2 * a->n;
    size_t *most = first + out->n_layers + 1;
    rank(a, out, ranking);
    if (a->how.related)
        rank(a, a->how.related, related);
    first[0] = 0;
    for (size_t l = 0; l < out->n_layers; l++) {
        first[l + 1] = first[l] + (size_t)out->layers[l].n_experts;
        most[l] = most_out(a, &out->layers[l]);
    }
    for (size_t i = 0; i < a->n; i++)
        use[ranking[i]] = out->experts[i].rate_a + out->experts[i].rate_b;
    jt_audit_units units = {.n = a->n,
                            .n_groups = out->n_layers,
                            .first = first,
                            .most = most,
                            .ranking = ranking,
                            .related = a->how.related ? related : NULL,
                            .use = use,
                            .is_out = a->is_out};
    return jt_audit_curve(a, out, &units, out->points, err);
}

jt_status jt_audit_experts(jt_auditing *a, jt_audit *out, jt_err *err)
{
    size_t *room = jt_alloc(2 * a->n + 2 * out->n_layers + 1, sizeof *room);
    double *use = jt_alloc(a->n, sizeof *use);
    jt_status status = room && use ? curve_of_experts(a, out, room, use, err)
                                   : jt_fail_memory(err, "auditing a model");
    free(room);
    free(use);
    return status;
}
