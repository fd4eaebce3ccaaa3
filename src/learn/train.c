/* A whole run: steps, evaluations, checkpoints, the log. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "learn/curves.h"
#include "learn/journal.h"
#include "learn/observe.h"
#include "learn/train.h"
#include "learn/train_trace.h"

typedef struct run {
    jt_trainer *t;
    jt_observer observer;
    jt_train_trace trace;
    jt_journal *journal;
    double rate;                /* tokens per second, smoothed */
    double saved_at;            /* seconds */
    bool stop;                  /* asked for by the caller */
    double best;                /* held-out loss so far */
    int waited;                 /* evaluations since then */
    char *log, *curves, *model; /* paths */
} run;

enum { SAVE_SECONDS = 300 }; /* a checkpoint at least so often */

/* Tell the log and the caller. `extra` (may be NULL) is taken over. */
static jt_status tell(run *r, jt_train_event *event, json_t *extra, jt_err *err)
{
    jt_trainer *t = r->t;
    jt_store_stats stats;
    event->step = t->made.step;
    event->steps = t->config->train.steps;
    event->tokens = t->made.tokens;
    if (t->cached) {
        jt_cached_stats(t->cached, &stats);
        stats.budget = t->budget;
        event->store = &stats;
    }
    jt_status status = jt_journal_write(r->journal, event, extra, err);
    json_decref(extra);
    if (t->options->on_event && t->options->on_event(t->options->user, event))
        r->stop = true;
    event->store = NULL; /* they end here */
    return status;
}

/* ---- parts of a run ---- */

static jt_status save(run *r, jt_err *err)
{
    JT_TRY(jt_trainer_save(r->t, err));
    r->saved_at = jt_seconds();
    jt_train_event event = {.kind = JT_TRAIN_SAVE, .path = r->t->checkpoint};
    return tell(r, &event, NULL, err);
}

static jt_status export_model(run *r, jt_err *err)
{
    JT_TRY(jt_trainer_export(r->t, err));
    jt_train_event event = {.kind = JT_TRAIN_SAVE, .path = r->model};
    return tell(r, &event, NULL, err);
}

static jt_status step(run *r, jt_err *err)
{
    jt_trainer *t = r->t;
    jt_step_report report;
    uint64_t before = t->made.tokens;
    double start = jt_seconds();
    JT_TRY(jt_trainer_step(t, &report, err));
    double rate = (double)(t->made.tokens - before) / (jt_seconds() - start);
    r->rate = r->rate > 0.0 ? 0.9 * r->rate + 0.1 * rate : rate;
    jt_balance_report balance = jt_balance_last(t->balance);
    double per_step = (double)(t->made.tokens - before);
    double left = (double)(t->config->train.steps - t->made.step);
    jt_train_event event = {.kind = JT_TRAIN_STEP,
                            .loss = report.loss,
                            .lr = report.lr,
                            .grad_norm = report.grad_norm,
                            .tokens_per_second = rate,
                            .seconds_left = left * per_step / r->rate,
                            .balance_loss = balance.loss,
                            .z_loss = balance.z_loss,
                            .max_violation = balance.max_violation,
                            .worst_violation = balance.worst_violation,
                            .experts_used = balance.experts_used,
                            .dropped = balance.dropped};
    return tell(r, &event, NULL, err);
}

/* With patience what is kept in the end is what had the best loss. */
static jt_status keep_best(run *r, double loss, jt_err *err)
{
    r->waited++;
    if (r->best > 0.0 && loss >= r->best)
        return JT_OK;
    r->best = loss;
    r->waited = 0;
    return export_model(r, err);
}

static jt_status evaluate(run *r, jt_err *err)
{
    jt_trainer *t = r->t;
    jt_evaluation e;
    jt_evaluation_options options = jt_observer_options(&r->observer);
    jt_observer_reset(&r->observer);
    JT_TRY(jt_trainer_evaluate(t, &options, &e, err));
    const char **domain = jt_calloc(e.n_domains, sizeof *domain);
    jt_status status = domain ? JT_OK : jt_fail_memory(err, "evaluating");
    for (size_t i = 0; domain && i < e.n_domains; i++)
        domain[i] = jt_data_domain(t->data, i);
    jt_train_event event = {.kind = JT_TRAIN_EVAL,
                            .loss = e.loss,
                            .n_domains = e.n_domains,
                            .domain = domain,
                            .domain_loss = e.domain_loss};
    if (status == JT_OK)
        status = tell(r, &event, jt_observer_json(&r->observer), err);
    if (status == JT_OK)
        status = jt_curves_write(r->log, r->curves, err);
    if (status == JT_OK && t->config->eval.patience)
        status = keep_best(r, e.loss, err);
    free(domain);
    jt_evaluation_free(&e);
    return status;
}

static bool due(int64_t every, int64_t step)
{
    return every > 0 && step % every == 0;
}

static bool out_of_patience(const run *r)
{
    int patience = r->t->config->eval.patience;
    return patience && r->waited >= patience;
}

/* Steps until the end, or until somebody asks to stop. */
static jt_status run_steps(run *r, jt_err *err)
{
    jt_trainer *t = r->t;
    const jt_config *c = t->config;
    while (t->made.step < c->train.steps && !r->stop && !out_of_patience(r)) {
        JT_TRY(step(r, err));
        bool last = t->made.step == c->train.steps;
        if (last || due(c->eval.every, t->made.step))
            JT_TRY(evaluate(r, err));
        if (last || due(c->output.save_every, t->made.step) ||
            jt_seconds() - r->saved_at > SAVE_SECONDS)
            JT_TRY(save(r, err));
    }
    if (out_of_patience(r))
        return save(r, err);
    if (t->made.step < c->train.steps)
        return jt_fail(err, JT_E_INTERRUPTED, "interrupted after step %lld of %lld",
                       (long long)t->made.step, (long long)c->train.steps);
    return c->eval.patience ? JT_OK : export_model(r, err);
}

/* An interrupted run keeps what it has. */
static jt_status run_and_keep(run *r, jt_err *err)
{
    jt_status status = run_steps(r, err);
    if (status != JT_E_INTERRUPTED)
        return status;
    jt_err failed = {0};
    if (jt_trainer_save(r->t, &failed) != JT_OK)
        return jt_fail(err, failed.code, "%s", failed.msg);
    return status;
}

/* ---- the whole ---- */

static jt_status write_config(const jt_trainer *t, jt_err *err)
{
    jt_output out;
    char *path = jt_trainer_path(t, "config.json"), *text = jt_config_json(t->config);
    jt_status status = path && text ? jt_output_open(&out, path, err)
                                    : jt_fail_memory(err, "starting a training");
    if (status == JT_OK) {
        status = jt_output_write(&out, text, strlen(text), err);
        if (status == JT_OK)
            status = jt_output_commit(&out, err);
        else
            jt_output_abort(&out);
    }
    free(path);
    free(text);
    return status;
}

static jt_status start(run *r, jt_err *err)
{
    jt_trainer *t = r->t;
    r->log = jt_trainer_path(t, "log.jsonl");
    r->curves = jt_trainer_path(t, "curves.svg");
    r->model = jt_trainer_path(t, jt_trainer_product(t));
    if (!r->log || !r->curves || !r->model)
        return jt_fail_memory(err, "starting a training");
    r->saved_at = jt_seconds();
    JT_TRY(write_config(t, err));
    JT_TRY(jt_observer_init(&r->observer, t, err));
    JT_TRY(jt_train_trace_begin(&r->trace, t, err));
    return jt_journal_open(&r->journal, r->log, t->options->resume ? t->made.step : -1,
                           err);
}

static jt_status train(const jt_config *config, const jt_train_options *options,
                       jt_err *err)
{
    run r = {0};
    JT_TRY(jt_trainer_new(&r.t, config, options, err));
    jt_status status = start(&r, err);
    if (status == JT_OK)
        status = run_and_keep(&r, err);
    status = jt_train_trace_end(&r.trace, status, err);
    jt_journal_close(r.journal);
    jt_observer_free(&r.observer);
    jt_trainer_free(r.t);
    free(r.log);
    free(r.curves);
    free(r.model);
    return status;
}

jt_status jt_train(const jt_train_options *options, jt_err *err)
{
    jt_config config;
    JT_TRY(jt_config_open(&config, options->config, options->json, options->settings,
                          options->n_settings, err));
    jt_status status = train(&config, options, err);
    jt_config_free(&config);
    return status;
}
