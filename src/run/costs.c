/* What decoding a token costs, and how fast that is. */
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

static jt_status decode(jt_session *s, int tokens, jt_err *err)
{
    for (int i = 0; i < tokens; i++) {
        int32_t token =
            (int32_t)((i * 7919u + 17) % (unsigned)s->model->params.n_vocab);
        JT_TRY(jt_session_eval(s, &token, 1, NULL, err));
    }
    return JT_OK;
}

jt_status jt_measure_costs(jt_costs *out, jt_session *s, int tokens, jt_err *err)
{
    double before[JT_STAGE_COUNT], rest = 0.0;
    jt_store_stats first = {0}, last = {0};
    int length = s->length;
    for (int i = 0; i < JT_STAGE_COUNT; i++)
        before[i] = s->ctx->times[i];
    jt_session_store_stats(s, &first);
    jt_status status = decode(s, tokens, err);
    jt_session_store_stats(s, &last);
    jt_session_truncate(s, length);
    for (int i = 0; i < JT_STAGE_COUNT; i++) {
        if (i != JT_STAGE_APPLY && i != JT_STAGE_DISPATCH)
            rest += s->ctx->times[i] - before[i];
    }
    double n = tokens;
    *out = (jt_costs){
        .experts = (s->ctx->times[JT_STAGE_APPLY] - before[JT_STAGE_APPLY]) / n,
        .rest = rest / n,
        .read_bytes = (double)(last.read_bytes - first.read_bytes) / n,
        .disk_speed = last.disk_speed,
    };
    return status;
}
