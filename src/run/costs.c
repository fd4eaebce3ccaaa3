/* What tokens cost, and how fast that is. */
#include "junto/simulate.h"
#include "run/session.h"

static double reading(const jt_costs *c)
{
    return c->disk_speed > 0.0 ? c->read_bytes / c->disk_speed : 0.0;
}

double jt_costs_seconds(const jt_costs *c)
{
    double read = reading(c);
    return c->rest + (read > c->experts ? read : c->experts);
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
        else if (i != JT_STAGE_DISPATCH) /* the store's: reading, and waiting for it */
            out->rest += seconds;
    }
    out->read_bytes = (double)stats.read_bytes / n;
    out->disk_speed = stats.disk_speed;
}
