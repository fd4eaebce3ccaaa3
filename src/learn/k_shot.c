#include "learn/k_shot.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/choose.h"

typedef struct choosing {
    const jt_config *config;
    const jt_model *model;
    jt_samples *samples;
    jt_adapter **adapter;    /* [n] */
    jt_samples_score *score; /* [n] */
    double *alike;           /* [n, n] */
    size_t n;
    jt_err *err;
} choosing;

static jt_status open_samples(choosing *c)
{
    const jt_config_data *d = &c->config->data;
    const jt_config_source *s = &d->source[0];
    const jt_data_source source = {.path = s->path, .separator = s->separator};
    const jt_data_options options = {.held_out = d->held_out,
                                     .most = (size_t)d->most,
                                     .chat = jt_chat_format_named(d->chat)};
    return jt_samples_open_source(&c->samples, &source, c->model, &options, c->err);
}

/* What adapter `i` makes of the samples. */
static jt_status score_one(choosing *c, size_t i)
{
    const char *path = c->config->adapter.part[i].path;
    jt_session_options options = {.threads = c->config->train.threads};
    jt_session *session;
    JT_TRY(jt_adapter_open(&c->adapter[i], path, c->model, c->err));
    JT_TRY(jt_session_new(&session, c->model, &options, c->err));
    jt_status status = jt_session_add_adapter(session, c->adapter[i], 1.0f, c->err);
    if (status == JT_OK)
        status = jt_samples_score_session(&c->score[i], c->samples, session, c->err);
    jt_session_free(session);
    return status == JT_OK ? JT_OK : jt_fail_within(c->err, status, "'%s'", path);
}

static jt_status choose(choosing *c, size_t *chosen)
{
    const jt_config_adapter *a = &c->config->adapter;
    jt_group_options how = {
        .size = (size_t)a->choose, .shortlist = (size_t)a->shortlist, .most = 1};
    jt_adapter_group best;
    size_t found;
    JT_TRY(open_samples(c));
    for (size_t i = 0; i < c->n; i++)
        JT_TRY(score_one(c, i));
    JT_TRY(jt_adapter_similarity(c->alike, c->adapter, c->n, c->err));
    JT_TRY(jt_adapter_groups(&best, &found, c->score, c->alike, c->n, &how, c->err));
    if (!found)
        return jt_fail(c->err, JT_E_ARG,
                       "adapter.choose: no %d of these adapters can "
                       "be compared",
                       a->choose);
    memcpy(chosen, best.member, how.size * sizeof *chosen);
    return JT_OK;
}

jt_status jt_k_shot_choose(size_t *chosen, const jt_config *config,
                           const jt_model *model, jt_err *err)
{
    size_t n = config->adapter.n_parts;
    choosing c = {.config = config,
                  .model = model,
                  .adapter = jt_calloc(n, sizeof *c.adapter),
                  .score = jt_calloc(n, sizeof *c.score),
                  .alike = jt_calloc(n * n, sizeof *c.alike),
                  .n = n,
                  .err = err};
    jt_status status = c.adapter && c.score && c.alike
                           ? choose(&c, chosen)
                           : jt_fail_memory(err, "choosing adapters");
    for (size_t i = 0; i < n && c.adapter; i++)
        jt_adapter_free(c.adapter[i]);
    jt_samples_free(c.samples);
    free(c.adapter);
    free(c.score);
    free(c.alike);
    return status;
}
