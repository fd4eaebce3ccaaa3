/* Two adapters side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "base/memory.h"

/* Sums over rows of both changes. */
static void sum_rows(const jt_adapter *a, const jt_adapter_slot *x, const jt_adapter *b,
                     const jt_adapter_slot *y, float *row, double sum[3])
{
    float *other = row + x->cols;
    for (size_t r = 0; r < x->count * x->rows; r++) {
        memset(row, 0, 2 * x->cols * sizeof *row);
        a->kind->merge_row(x, x->scale, r, row);
        if (y)
            b->kind->merge_row(y, y->scale, r, other);
        for (size_t c = 0; c < x->cols; c++) {
            sum[0] += (double)row[c] * (double)row[c];
            sum[1] += (double)other[c] * (double)other[c];
            sum[2] += (double)row[c] * (double)other[c];
        }
    }
}

jt_status jt_adapter_compare(const jt_adapter *a, const jt_adapter *b, size_t i,
                             jt_adapter_difference *out, jt_err *err)
{
    if (a->blend || b->blend)
        return jt_fail(err, JT_E_ARG, "mixtures of adapters cannot be compared");
    const jt_adapter_slot *x = &a->slot[i];
    const jt_adapter_slot *y =
        jt_adapter_find(b, (jt_str){x->target, strlen(x->target)});
    double sum[3] = {0};
    if (a->kind->magnitude || b->kind->magnitude || a->kind->by_token ||
        b->kind->by_token)
        return jt_fail(err, JT_E_ARG,
                       "what a '%s' adapter changes depends on more than its values: "
                       "it cannot be compared",
                       a->kind->magnitude || a->kind->by_token ? a->kind->name
                                                               : b->kind->name);
    if (y && (y->count != x->count || y->rows != x->rows || y->cols != x->cols))
        return jt_fail(err, JT_E_ARG, "'%s' has different shapes", x->target);
    float *row = jt_alloc(2 * x->cols, sizeof *row);
    if (!row)
        return jt_fail_memory(err, "comparing adapters");
    sum_rows(a, x, b, y, row, sum);
    free(row);
    double both = sqrt(sum[0] * sum[1]), apart = sum[0] + sum[1] - 2.0 * sum[2];
    *out = (jt_adapter_difference){.name = x->target,
                                   .a = sqrt(sum[0]),
                                   .b = sqrt(sum[1]),
                                   .difference = sqrt(apart > 0.0 ? apart : 0.0),
                                   .cosine = both > 0.0 ? sum[2] / both : 0.0};
    return JT_OK;
}
