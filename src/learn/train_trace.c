#include "learn/train_trace.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* ---- while it trains ---- */

static void on_batch(void *user, const jt_batch *batch)
{
    jt_train_trace *r = user;
    int every = r->trainer->options->trace_every;
    r->on = every < 2 || r->trainer->made.step % every == 0;
    if (!r->on)
        return;
    size_t n = batch->n_seqs * batch->seq_len;
    for (size_t i = 0; i < n; i++)
        r->label[i] = r->number[batch->domains[i]];
    jt_trace_label_tokens(r->writer, r->label, n);
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    const jt_train_trace *r = self;
    if (r->on)
        r->watcher.on_route(r->watcher.self, site, route);
}

static void on_outputs(void *self, const jt_route_site *site, const jt_plan *plan,
                       const float *outputs, size_t d)
{
    const jt_train_trace *r = self;
    if (r->on)
        r->watcher.on_outputs(r->watcher.self, site, plan, outputs, d);
}

/* ---- beginning and end ---- */

/* Sources may share a domain, so names are numbered as the writer hears of them. */
static jt_status name_domains(jt_train_trace *r, jt_err *err)
{
    const jt_data *data = r->trainer->data;
    int32_t names = 0;
    for (size_t i = 0; i < jt_data_sources(data); i++) {
        size_t same = 0;
        while (strcmp(jt_data_domain(data, same), jt_data_domain(data, i)) != 0)
            same++;
        r->number[i] = same < i ? r->number[same] : names++;
        JT_TRY(jt_trace_label(r->writer, jt_data_domain(data, i), err));
    }
    return JT_OK;
}

static jt_status begin(jt_train_trace *r, jt_trainer *t, jt_err *err)
{
    const jt_train_options *o = t->options;
    if (o->resume && access(o->trace, F_OK) == 0)
        return jt_fail(err, JT_E_ARG,
                       "'%s' is there: a run that goes on writes a trace of its own, "
                       "under another name",
                       o->trace);
    r->number = jt_calloc(jt_data_sources(t->data), sizeof *r->number);
    r->label = jt_calloc(t->batch.n_seqs * t->batch.seq_len, sizeof *r->label);
    if (!r->number || !r->label)
        return jt_fail_memory(err, "beginning a trace");
    if (t->hooks.n_watchers == JT_MAX_HOOKS)
        return jt_fail(err, JT_E_LIMIT, "more than %d watchers", JT_MAX_HOOKS);
    JT_TRY(jt_trace_writer_new(&r->writer, o->trace, t->model, &o->trace_options, err));
    r->watcher = jt_trace_watcher(r->writer);
    JT_TRY(name_domains(r, err));
    t->hooks.watcher[t->hooks.n_watchers++] =
        (jt_watcher){.name = "trace",
                     .self = r,
                     .on_route = on_route,
                     .on_outputs = r->watcher.on_outputs ? on_outputs : NULL};
    t->on_batch = on_batch;
    t->user = r;
    return JT_OK;
}

jt_status jt_train_trace_begin(jt_train_trace *r, jt_trainer *t, jt_err *err)
{
    *r = (jt_train_trace){.trainer = t};
    if (!t->options->trace)
        return JT_OK;
    jt_status status = begin(r, t, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "the trace");
}

jt_status jt_train_trace_end(jt_train_trace *r, jt_status status, jt_err *err)
{
    jt_err failed = {0};
    jt_trace_finish(r->writer, &failed);
    free(r->number);
    free(r->label);
    *r = (jt_train_trace){0};
    return status == JT_OK && failed.code != JT_OK
               ? jt_fail(err, failed.code, "%s", failed.msg)
               : status;
}
