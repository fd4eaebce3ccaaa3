#include "serve/counters.h"

#include <stdio.h>
#include <string.h>

void jt_counters_open(jt_counters *m)
{
    *m = (jt_counters){0};
    pthread_mutex_init(&m->lock, NULL);
}

void jt_counters_close(jt_counters *m)
{
    pthread_mutex_destroy(&m->lock);
}

void jt_counters_add(jt_counters *m, jt_counter metric, double value)
{
    pthread_mutex_lock(&m->lock);
    m->value[metric] += value;
    pthread_mutex_unlock(&m->lock);
}

void jt_counters_set(jt_counters *m, jt_counter metric, double value)
{
    pthread_mutex_lock(&m->lock);
    m->value[metric] = value;
    pthread_mutex_unlock(&m->lock);
}

void jt_counters_store(jt_counters *m, const jt_store_stats *s)
{
    const struct {
        jt_counter metric;
        double value;
    } figures[] = {
        {JT_COUNTER_store_hits_total, (double)s->hits},
        {JT_COUNTER_store_hits_ahead_total, (double)s->hits_ahead},
        {JT_COUNTER_store_misses_total, (double)s->misses},
        {JT_COUNTER_store_read_bytes_total, (double)s->read_bytes},
        {JT_COUNTER_store_stall_seconds_total, s->stall_seconds},
        {JT_COUNTER_store_ahead_total, (double)s->ahead},
        {JT_COUNTER_store_ahead_used_total, (double)s->ahead_used},
        {JT_COUNTER_store_slots, s->budget.slots},
        {JT_COUNTER_store_bytes, (double)s->budget.slots * (double)s->budget.slot}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        jt_counters_set(m, figures[i].metric, figures[i].value);
}

void jt_counters_merge(jt_counters *to, jt_counters *from, bool gauges)
{
    static const char *const kind[] = {
#define X(name, kind, help) kind,
        JT_COUNTERS(X)
#undef X
    };
    jt_counters copy;
    pthread_mutex_lock(&from->lock);
    memcpy(copy.value, from->value, sizeof copy.value);
    pthread_mutex_unlock(&from->lock);
    for (size_t i = 0; i < JT_COUNTER_COUNT; i++) {
        if (gauges || strcmp(kind[i], "counter") == 0)
            jt_counters_add(to, (jt_counter)i, copy.value[i]);
    }
}

bool jt_counters_write(jt_counters *m, jt_buffer *out)
{
    static const struct {
        const char *name, *kind, *help;
    } about[] = {
#define X(name, kind, help) {#name, kind, help},
        JT_COUNTERS(X)
#undef X
    };
    double value[JT_COUNTER_COUNT];
    char text[512];
    bool fits = true;
    pthread_mutex_lock(&m->lock);
    memcpy(value, m->value, sizeof value);
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < JT_COUNTER_COUNT; i++) {
        int len = snprintf(text, sizeof text,
                           "# HELP junto_%s %s.\n# TYPE junto_%s %s\njunto_%s %.15g\n",
                           about[i].name, about[i].help, about[i].name, about[i].kind,
                           about[i].name, value[i]);
        fits &= jt_buffer_add(out, text, (size_t)len);
    }
    return fits;
}
