/* Two audits: does what was found in one model hold in a related one, and which is the
 * more brittle? */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "junto/audit.h"

static const jt_audit_expert *find(const jt_audit *of, const jt_audit_expert *like)
{
    for (size_t i = 0; i < of->n_experts; i++) {
        const jt_audit_expert *e = &of->experts[i];
        if (e->layer == like->layer && e->expert == like->expert)
            return e;
    }
    return NULL;
}

static jt_status check(const jt_audit *before, const jt_audit *after, jt_err *err)
{
    bool same = before->n_layers == after->n_layers &&
                before->n_experts == after->n_experts &&
                before->n_points == after->n_points;
    for (size_t i = 0; same && i < before->n_experts; i++)
        same = find(after, &before->experts[i]) != NULL;
    return same ? JT_OK
                : jt_fail(err, JT_E_ARG,
                          "the audits are of models with other layers or experts");
}

static double correlation(const jt_audit *before, const jt_audit *after)
{
    double n = (double)before->n_experts, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < before->n_experts; i++) {
        double p = before->experts[i].disparity;
        double q = find(after, &before->experts[i])->disparity;
        x += p / n;
        y += q / n;
        xx += p * p / n;
        yy += q * q / n;
        xy += p * q / n;
    }
    double scale = sqrt((xx - x * x) * (yy - y * y));
    return scale > 0 ? (xy - x * y) / scale : 0;
}

static double overlap(const jt_audit *before, const jt_audit *after)
{
    size_t first = before->n_experts / 10 ? before->n_experts / 10 : 1, both = 0;
    for (size_t i = 0; i < first; i++)
        both += find(after, &before->experts[i]) < after->experts + first;
    return (double)both / (double)(2 * first - both);
}

static double lost(const jt_audit *a, const jt_audit_point *points)
{
    double sum = 0;
    for (size_t i = 0; points && i < a->n_points; i++)
        sum += 1 - points[i].top.kept;
    return sum / (double)a->n_points;
}

static double fragility(const jt_audit *a)
{
    double sum = 0;
    for (size_t i = 0; i < a->n_points; i++)
        sum += a->points[i].fragility;
    return sum / (double)a->n_points;
}

jt_status jt_audit_compare(jt_audit_change *out, const jt_audit *before,
                           const jt_audit *after, double margin, jt_err *err)
{
    JT_TRY(check(before, after, err));
    *out = (jt_audit_change){
        .correlation = correlation(before, after),
        .overlap = overlap(before, after),
        .loss_a = after->whole.a - before->whole.a,
        .loss_b = after->whole.b - before->whole.b,
        .gini = after->gini - before->gini,
        .concentration = after->concentration - before->concentration,
        .lost = lost(after, after->points) - lost(before, before->points),
        .lost_neurons =
            lost(after, after->neuron_points) - lost(before, before->neuron_points),
        .fragility = fragility(after) - fragility(before)};
    out->harder = out->fragility < 0 && out->gini < 0 && out->lost < -margin &&
                  out->loss_a <= margin && out->loss_b <= margin;
    return JT_OK;
}
