#include <math.h>

#include "steer/modes.h"

/* The first i at which the largest j skips enough; n when there is none. */
static jt_status first_row(const jt_frontier *f, double target, size_t *first,
                           jt_err *err)
{
    size_t low = 0, high = f->n;
    double skipped, cost;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        JT_TRY(f->measure(f->user, middle, f->m - 1, &skipped, &cost, err));
        if (skipped >= target)
            high = middle;
        else
            low = middle + 1;
    }
    *first = low;
    return JT_OK;
}

jt_status jt_frontier_search(const jt_frontier *f, double target, size_t *i, size_t *j,
                             bool *found, jt_err *err)
{
    size_t row, left = f->m; /* columns that may skip enough: those below `left` */
    double best = INFINITY;
    *found = false;
    JT_TRY(first_row(f, target, &row, err));
    for (; row < f->n && left > 0; row++) {
        double skipped = INFINITY, cost = INFINITY, at = INFINITY;
        for (; left > 0; left--, at = cost) {
            double now;
            JT_TRY(f->measure(f->user, row, left - 1, &skipped, &now, err));
            if (skipped < target)
                break;
            cost = now;
        }
        /* without a smaller column, the row before was as good and cheaper */
        if (at < best) {
            best = at;
            *i = row;
            *j = left;
            *found = true;
        }
    }
    return JT_OK;
}
