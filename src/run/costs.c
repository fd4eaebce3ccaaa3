/* What tokens cost, and how fast that is. */
#include <math.h>

#include "junto/simulate.h"
#include "run/session.h"

static double reading(const jt_costs *c)
{
    return c->disk_speed > 0.0 ? c->read_bytes / c->disk_speed : 0.0;
}

/* The share of the time of everything but experts in which a disk has nothing to do, as
 * nothing is known yet that could be read: between two tokens, and before a router.
 * MEASURED at most of the budgets and routes in bench/README.md. */
static const double idle = 0.75;

double jt_costs_seconds(const jt_costs *c)
{
    double seconds = c->rest + c->experts + c->handling;
    if (c->layers > 0.0 && c->uses > 0.0 && c->disk_speed > 0.0) {
        double layer = c->experts / c->layers, one = c->experts / c->uses;
        for (int i = 1; i <= JT_LACKING_MOST; i++) {
            double end = c->latency + i * c->expert_bytes / c->disk_speed + one;
            seconds += end > layer ? c->lacking[i] * (end - layer) : 0.0;
        }
    }
    double read = reading(c);
    read += read > 0.0 ? idle * c->rest : 0.0;
    return read > seconds ? read : seconds;
}

const char *jt_costs_limit(const jt_costs *c)
{
    double read = reading(c);
    return read > c->experts && 2.0 * read > jt_costs_seconds(c) ? "disk" : "processor";
}

void jt_session_costs(const jt_session *s, jt_costs *out)
{
    jt_store_stats stats;
    *out = (jt_costs){0};
    if (!jt_session_store_stats(s, &stats) || !stats.tokens)
        return;
    double n = (double)stats.tokens;
    for (int i = 0; i < JT_STAGE_COUNT; i++) {
        double seconds = s->ctx->times[i] / n;
        out->measured += seconds;
        if (i == JT_STAGE_APPLY)
            out->experts = seconds;
        else if (i != JT_STAGE_DISPATCH)
            out->rest += seconds;
        else
            out->handling = fmax(0.0, seconds - stats.stall_seconds / n);
    }
    for (int i = 0; i <= JT_LACKING_MOST; i++) {
        out->lacking[i] = (double)stats.lacking[i] / n;
        out->layers += out->lacking[i];
    }
    out->uses = (double)(stats.hits + stats.hits_ahead + stats.misses) / n;
    out->expert_bytes = (double)stats.budget.expert;
    out->read_bytes = (double)stats.read_bytes / n;
    out->disk_speed = stats.disk_speed;
}
