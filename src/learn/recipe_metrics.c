#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/recipe_impl.h"

static jt_metric *find(const jt_metrics *metrics, const char *name, size_t len)
{
    for (size_t i = 0; i < metrics->count; i++) {
        jt_metric *m = &metrics->list[i];
        if (strlen(m->name) == len && memcmp(m->name, name, len) == 0)
            return m;
    }
    return NULL;
}

jt_status jt_metrics_set(jt_metrics *metrics, jt_err *err, double value,
                         const char *name, ...)
{
    jt_metric new = {.value = value};
    va_list args;
    va_start(args, name);
    vsnprintf(new.name, sizeof new.name, name, args);
    va_end(args);
    jt_metric *old = find(metrics, new.name, strlen(new.name));
    if (old) {
        old->value = value;
        return JT_OK;
    }
    if (!jt_grow((void **)&metrics->list, &metrics->capacity, metrics->count + 1,
                 sizeof new))
        return jt_fail_memory(err, "noting what was measured");
    metrics->list[metrics->count++] = new;
    return JT_OK;
}

double jt_metrics_get(const jt_metrics *metrics, const char *name, size_t len)
{
    const jt_metric *m = find(metrics, name, len);
    return m ? m->value : (double)NAN;
}

void jt_metrics_free(jt_metrics *metrics)
{
    free(metrics->list);
    *metrics = (jt_metrics){0};
}

void jt_spread(const double *value, size_t n, double *mean, double *sd)
{
    double sum = 0.0, squares = 0.0;
    size_t known = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(value[i])) {
            sum += value[i];
            known++;
        }
    }
    *mean = known ? sum / (double)known : (double)NAN;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(value[i]))
            squares += (value[i] - *mean) * (value[i] - *mean);
    }
    *sd = known > 1 ? sqrt(squares / (double)(known - 1)) : (double)NAN;
}

/* Student's t that one in twenty exceeds, by degrees of freedom; beyond the table the
 * expansion around the normal quantile, right to 0.001. */
static double t_of_one_in_twenty(int freedom)
{
    static const double t[] = {6.314, 2.920, 2.353, 2.132, 2.015,
                               1.943, 1.895, 1.860, 1.833, 1.812};
    if (freedom <= (int)(sizeof t / sizeof *t))
        return t[freedom - 1];
    return 1.6449 + (1.5239 + 1.4205 / freedom) / freedom;
}

jt_verdict jt_verdict_of(double mean, double sd, int n)
{
    if (isnan(mean) || isnan(sd) || n < 2)
        return JT_VERDICT_OPEN;
    double bound = t_of_one_in_twenty(n - 1) * sd / sqrt(n);
    if (mean > bound)
        return JT_VERDICT_SHOWN;
    return -mean > bound ? JT_VERDICT_REVERSED : JT_VERDICT_NOT_SHOWN;
}
