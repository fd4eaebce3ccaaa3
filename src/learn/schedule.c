#include "learn/schedule.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const kind_names[] = {
    [JT_SCHEDULE_CONSTANT] = "constant",
    [JT_SCHEDULE_LINEAR] = "linear",
    [JT_SCHEDULE_COSINE] = "cosine",
    [JT_SCHEDULE_WSD] = "wsd",
};

bool jt_schedule_kind_named(const char *name, jt_schedule_kind *kind)
{
    for (size_t i = 0; i < sizeof kind_names / sizeof *kind_names; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *kind = (jt_schedule_kind)i;
            return true;
        }
    }
    return false;
}

/* How much of the way from lr to final_lr is done: 0 up to `first`, 1 from `last`. */
static double way_done(int64_t step, int64_t first, int64_t last)
{
    if (step <= first)
        return 0.0;
    if (step >= last)
        return 1.0;
    return (double)(step - first) / (double)(last - first);
}

float jt_schedule_lr(const jt_schedule *s, int64_t step)
{
    const double pi = 3.14159265358979323846;
    int64_t first = s->warmup_steps, last = s->steps - 1;
    double done = 0.0;
    if (step < s->warmup_steps)
        return (float)(s->lr * (double)(step + 1) / (double)s->warmup_steps);
    switch (s->kind) {
    case JT_SCHEDULE_CONSTANT:
        break;
    case JT_SCHEDULE_LINEAR:
        done = way_done(step, first, last);
        break;
    case JT_SCHEDULE_COSINE:
        done = 0.5 - 0.5 * cos(pi * way_done(step, first, last));
        break;
    case JT_SCHEDULE_WSD:
        if (last - s->decay_steps > first)
            first = last - s->decay_steps;
        done = way_done(step, first, last);
        break;
    }
    return (float)(s->lr + done * ((double)s->final_lr - s->lr));
}
