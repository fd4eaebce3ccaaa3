#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/curves_impl.h"
#include "learn/journal.h"

#define LARGEST   1e30 /* beyond it a value is a gap: sums must stay finite */
#define LAST_STEP 1e15
enum { WINDOWS = 50, WIDEST = 401 }; /* of the mean: share of the series, points */

/* ---- reading ---- */

const jt_series *jt_series_find(const jt_series_set *set, jt_series_kind kind)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->item[i].kind == kind)
            return &set->item[i];
    }
    return NULL;
}

/* The series of that kind and name, made when there is none; NULL without memory. */
static jt_series *get_series(jt_series_set *set, jt_series_kind kind, const char *name)
{
    char cut[sizeof set->item->name];
    snprintf(cut, sizeof cut, "%s", name);
    for (size_t i = 0; i < set->n; i++) {
        if (set->item[i].kind == kind && strcmp(set->item[i].name, cut) == 0)
            return &set->item[i];
    }
    if (!jt_grow((void **)&set->item, &set->capacity, set->n + 1, sizeof *set->item))
        return NULL;
    jt_series *series = &set->item[set->n++];
    *series = (jt_series){.kind = kind};
    memcpy(series->name, cut, sizeof cut);
    return series;
}

/* Where the next values go. */
typedef struct collector {
    jt_series_set *set;
    double step;
    jt_err *err;
} collector;

/* Append `value` (null is a gap, absent is nothing) to a series. */
static jt_status add(const collector *c, jt_series_kind kind, const char *name,
                     const json_t *value)
{
    if (!value)
        return JT_OK;
    jt_series *s = get_series(c->set, kind, name);
    if (!s || !jt_grow((void **)&s->point, &s->capacity, s->n + 1, sizeof *s->point))
        return jt_fail_memory(c->err, "drawing the curves");
    double y = json_is_number(value) ? json_number_value(value) : NAN;
    if (fabs(y) > LARGEST)
        y = NAN;
    s->point[s->n++] = (jt_point){c->step, y};
    return JT_OK;
}

static jt_status add_step(const collector *c, const json_t *line)
{
    JT_TRY(add(c, JT_SERIES_LOSS, "", json_object_get(line, "loss")));
    JT_TRY(add(c, JT_SERIES_VIOLATION, "", json_object_get(line, "max_violation")));
    JT_TRY(add(c, JT_SERIES_WORST, "", json_object_get(line, "worst_violation")));
    return add(c, JT_SERIES_RATE, "", json_object_get(line, "lr"));
}

/* "congestion" has a number for each of "layers". */
static jt_status add_congestion(const collector *c, const json_t *line)
{
    const json_t *layers = json_object_get(line, "layers");
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(line, "congestion"), i, value)
    {
        const json_t *layer = json_object_get(json_array_get(layers, i), "layer");
        char name[32];
        snprintf(name, sizeof name, "layer %lld",
                 layer ? (long long)json_integer_value(layer) : (long long)i);
        JT_TRY(add(c, JT_SERIES_CONGESTION, name, value));
    }
    return JT_OK;
}

static jt_status add_eval(const collector *c, const json_t *line)
{
    JT_TRY(add(c, JT_SERIES_HELD_OUT, "", json_object_get(line, "loss")));
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(line, "domains"), name, value)
    {
        JT_TRY(add(c, JT_SERIES_DOMAIN, name, value));
    }
    JT_TRY(add(c, JT_SERIES_INFORMATION, "", json_object_get(line, "information")));
    JT_TRY(add(c, JT_SERIES_CHANCE, "", json_object_get(line, "shuffled")));
    return add_congestion(c, line);
}

static jt_status collect(void *user, const json_t *line, jt_err *err)
{
    collector c = {user, json_number_value(json_object_get(line, "step")), err};
    if (!(c.step >= 0.0 && c.step <= LAST_STEP))
        return JT_OK; /* no line of ours */
    const char *kind = json_string_value(json_object_get(line, "kind"));
    if (kind && strcmp(kind, "step") == 0)
        return add_step(&c, line);
    return kind && strcmp(kind, "eval") == 0 ? add_eval(&c, line) : JT_OK;
}

jt_status jt_series_read(jt_series_set *set, const char *log_path, jt_err *err)
{
    return jt_journal_read(log_path, collect, set, err);
}

void jt_series_free(jt_series_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->item[i].point);
    free(set->item);
    *set = (jt_series_set){0};
}

/* ---- what is drawn ---- */

void jt_series_smooth(const jt_series *in, jt_point *out)
{
    size_t half = in->n / WINDOWS / 2;
    if (half > WIDEST / 2)
        half = WIDEST / 2;
    for (size_t i = 0; i < in->n; i++) {
        size_t first = i > half ? i - half : 0;
        size_t end = i + half < in->n ? i + half + 1 : in->n, count = 0;
        double sum = 0.0;
        for (size_t j = first; j < end; j++) {
            if (isfinite(in->point[j].y)) {
                sum += in->point[j].y;
                count++;
            }
        }
        out[i] = (jt_point){in->point[i].x, count ? sum / (double)count : NAN};
    }
}

/* The lowest and the highest of some points, in order, to `out`; gaps only when there
 * is nothing else. Gives how many. */
static size_t keep_extremes(const jt_point *point, size_t n, jt_point *out)
{
    size_t low = n, high = n;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(point[i].y))
            continue;
        if (low == n || point[i].y < point[low].y)
            low = i;
        if (high == n || point[i].y > point[high].y)
            high = i;
    }
    if (low == n)
        low = high = 0;
    jt_point first = point[low < high ? low : high];
    jt_point second = point[low < high ? high : low];
    out[0] = first;
    if (low != high)
        out[1] = second;
    return low == high ? 1 : 2;
}

size_t jt_series_thin(jt_point *point, size_t n, size_t columns)
{
    if (n <= 2 * columns)
        return n;
    double left = point[0].x, width = (point[n - 1].x - left) / (double)columns;
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        double column = floor((point[i].x - left) / width);
        while (end < n && floor((point[end].x - left) / width) == column)
            end++;
        kept += keep_extremes(point + i, end - i, point + kept);
        i = end;
    }
    return kept;
}
