/* One training of a recipe, and what is measured of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "learn/journal.h"
#include "learn/observe.h"
#include "learn/probe.h"
#include "learn/recipe_impl.h"
#include "learn/train.h"

enum { OURS = 6, SETTING = 4300, FIRST_STEPS = 5 };

typedef struct training {
    const jt_recipe_job *job;
    jt_trainer *trainer;
    jt_observer observer;
    jt_journal *journal; /* of a training that is kept; else NULL */
    jt_metrics *metrics;
    double seconds;                                                 /* of steps */
    double violation, first_violation, sup_violation, experts_used; /* sums, largest */
    jt_err *err;
} training;

/* ---- configuration ---- */

/* Settings on top of those of the variant: what the job adds, then the caller's. */
typedef struct more {
    char (*text)[SETTING];
    const char **list;
    size_t n;
} more;

static void add_number(more *m, const char *key, int64_t value)
{
    snprintf(m->text[m->n], SETTING, "%s=%lld", key, (long long)value);
    m->list[m->n] = m->text[m->n];
    m->n++;
}

/* In quotes, in which nothing is special. */
static void add_path(more *m, const char *key, const char *path)
{
    snprintf(m->text[m->n], SETTING, "%s='%s'", key, path);
    m->list[m->n] = m->text[m->n];
    m->n++;
}

/* The file of an adapter that is mixed. */
static void add_part(more *m, const jt_recipe_job *job, size_t i)
{
    char key[48];
    snprintf(key, sizeof key, "adapter.part.%zu.path", i);
    add_path(m, key, job->adapter[i]);
}

static jt_status configure(const jt_recipe_job *job, int64_t steps, jt_config *out,
                           jt_err *err)
{
    const jt_recipe_options *o = job->options;
    size_t parts = job->adapter ? job->variant->n_adapters : 0, ours = OURS + parts;
    more own = {.text = jt_calloc(ours, sizeof *own.text),
                .list = jt_calloc(ours + o->n_settings, sizeof *own.list)};
    more *m = &own;
    if (!own.text || !own.list) {
        free(own.text);
        free(own.list);
        return jt_fail_memory(err, "starting a training");
    }
    for (size_t i = 0; i < parts; i++)
        add_part(m, job, i);
    add_number(m, "train.seed", job->seed);
    add_path(m, "output.dir", job->dir);
    if (steps)
        add_number(m, "train.steps", steps);
    if (job->begins)
        add_path(m, "adapter.init", job->begins);
    if (job->init)
        add_path(m, "model.init", job->init);
    if (o->threads)
        add_number(m, "train.threads", o->threads);
    for (size_t i = 0; i < o->n_settings; i++)
        m->list[m->n++] = o->settings[i];
    jt_status status =
        jt_recipe_config(out, job->recipe, job->variant, job->data, m->list, m->n, err);
    free(m->list);
    free(m->text);
    return status;
}

jt_status jt_recipe_steps(const jt_recipe_job *job, int64_t *steps, jt_err *err)
{
    jt_config config;
    JT_TRY(configure(job, 0, &config, err));
    *steps = config.train.steps;
    jt_config_free(&config);
    if (job->options->steps) {
        double factor = (double)job->options->steps / (double)job->recipe->info.steps;
        *steps = (int64_t)fmax(1.0, round((double)*steps * factor));
    }
    return JT_OK;
}

/* ---- measuring ---- */

static jt_status set(training *t, const char *name, const char *when, double value)
{
    return jt_metrics_set(t->metrics, t->err, value, "%s%s", name, when);
}

/* Experts that held-out tokens used, mean over layers. */
static double experts_used(const jt_usage *usage)
{
    double picks = 0.0, tokens = 0.0;
    for (size_t i = 0; i < jt_usage_layers(usage); i++) {
        jt_layer_usage layer;
        jt_usage_layer(usage, i, &layer);
        for (int e = 0; e < layer.n_experts; e++)
            picks += (double)layer.counts[e];
        tokens += (double)layer.tokens;
    }
    return picks / tokens;
}

static jt_status set_gamma(training *t, const char *name, const char *when,
                           jt_quality quality)
{
    jt_congestion_fit fit;
    jt_congestion_fit_mean(t->observer.congestion, quality, &fit);
    return set(t, name, when, fit.gamma);
}

static jt_status measure_routing(training *t, const char *when)
{
    jt_observer *o = &t->observer;
    jt_congestion_fit fit;
    if (jt_usage_layers(o->usage) == 0)
        return JT_OK;
    jt_special_report special = jt_special_mean(o->special, 1);
    JT_TRY(set(t, "experts_used", when, experts_used(o->usage)));
    JT_TRY(set(t, "information", when, special.information));
    JT_TRY(set(t, "shuffled", when, special.shuffled));
    if (!jt_congestion_fit_mean(o->congestion, JT_QUALITY_LOGIT, &fit))
        return JT_OK;
    JT_TRY(set(t, "gamma", when, fit.gamma));
    JT_TRY(set_gamma(t, "gamma_probability", when, JT_QUALITY_PROBABILITY));
    JT_TRY(set_gamma(t, "gamma_chosen", when, JT_QUALITY_CHOSEN));
    JT_TRY(set(t, "game_error", when, fit.error));
    JT_TRY(set(t, "softmax_error", when, fit.softmax_error));
    JT_TRY(set(t, "even_error", when, fit.even_error));
    JT_TRY(set(t, "free_imbalance", when, fit.free_imbalance));
    return set(t, "imbalance", when, fit.imbalance);
}

/* Held-out loss, and what the routers do meanwhile; `when` comes after the names. */
static jt_status measure(training *t, const char *when)
{
    jt_evaluation e;
    jt_evaluation_options how = jt_observer_options(&t->observer);
    jt_observer_reset(&t->observer);
    JT_TRY(jt_trainer_evaluate(t->trainer, &how, &e, t->err));
    jt_status status = set(t, "loss", when, e.loss);
    if (status == JT_OK)
        status = set(t, "accuracy", when, e.accuracy);
    jt_evaluation_free(&e);
    return status == JT_OK ? measure_routing(t, when) : status;
}

/* Measure at the shares of the run that the recipe names; in a short run several of
 * them may be the same step. */
static jt_status measure_checkpoints(training *t)
{
    const jt_recipe *recipe = t->job->recipe;
    int64_t steps = t->trainer->config->train.steps;
    for (size_t i = 0; i < recipe->n_checkpoints; i++) {
        int percent = recipe->checkpoint[i];
        char when[16];
        if ((steps * percent + 99) / 100 != t->trainer->made.step)
            continue;
        snprintf(when, sizeof when, "@%d%%", percent);
        JT_TRY(measure(t, when));
    }
    return JT_OK;
}

static jt_status measure_training(training *t)
{
    const jt_trainer *trainer = t->trainer;
    double steps = (double)trainer->config->train.steps;
    jt_model_info info;
    jt_model_describe(trainer->model, &info);
    if (info.n_moe_layers || jt_tuning_mixtures(trainer->tuning)) {
        JT_TRY(set(t, "avg_violation", "", t->violation / steps));
        JT_TRY(set(t, "sup_violation", "", t->sup_violation));
        JT_TRY(set(t, "first_violation", "",
                   t->first_violation / fmin(steps, FIRST_STEPS)));
        JT_TRY(set(t, "experts_trained", "", t->experts_used / steps));
    }
    JT_TRY(set(t, "params", "", (double)info.n_params));
    JT_TRY(set(t, "trained_params", "", (double)trainer->variables.values));
    JT_TRY(set(t, "active_params", "", (double)info.n_active_params));
    return set(t, "tokens_per_second", "", (double)trainer->made.tokens / t->seconds);
}

/* ---- training ---- */

static jt_status write_step(training *t, const jt_step_report *report,
                            const jt_balance_report *balance, double seconds)
{
    const jt_trainer *trainer = t->trainer;
    double done = (double)trainer->made.step;
    jt_train_event event = {.kind = JT_TRAIN_STEP,
                            .step = trainer->made.step,
                            .steps = trainer->config->train.steps,
                            .tokens = trainer->made.tokens,
                            .loss = report->loss,
                            .lr = report->lr,
                            .grad_norm = report->grad_norm,
                            .tokens_per_second =
                                (double)trainer->made.tokens / done / seconds,
                            .balance_loss = balance->loss,
                            .z_loss = balance->z_loss,
                            .max_violation = balance->max_violation,
                            .worst_violation = balance->worst_violation,
                            .experts_used = balance->experts_used,
                            .dropped = balance->dropped};
    return t->journal ? jt_journal_write(t->journal, &event, NULL, t->err) : JT_OK;
}

static jt_status step(training *t)
{
    jt_trainer *trainer = t->trainer;
    jt_step_report report;
    double start = jt_seconds();
    JT_TRY(jt_trainer_step(trainer, &report, t->err));
    double seconds = jt_seconds() - start;
    jt_balance_report balance = jt_balance_last(trainer->balance);
    t->seconds += seconds;
    t->violation += balance.max_violation;
    t->sup_violation = fmax(t->sup_violation, balance.max_violation);
    if (trainer->made.step <= FIRST_STEPS)
        t->first_violation += balance.max_violation;
    t->experts_used += balance.experts_used;
    JT_TRY(write_step(t, &report, &balance, seconds));
    return measure_checkpoints(t);
}

static jt_status train(training *t)
{
    const jt_recipe_job *job = t->job;
    JT_TRY(jt_observer_init(&t->observer, t->trainer, t->err));
    if (job->options->keep) {
        char path[SETTING];
        snprintf(path, sizeof path, "%s/log.jsonl", job->dir);
        JT_TRY(jt_journal_open(&t->journal, path, -1, t->err));
    }
    for (int64_t i = 0; i < t->trainer->config->train.steps; i++) {
        JT_TRY(jt_progress_report(&job->progress, "step", (unsigned long long)i,
                                  (unsigned long long)t->trainer->config->train.steps,
                                  t->err));
        JT_TRY(step(t));
    }
    JT_TRY(measure(t, ""));
    JT_TRY(measure_training(t));
    for (size_t i = 0; i < job->variant->n_probes; i++)
        JT_TRY(jt_probe_run(job->variant->probe[i], t->trainer, t->metrics, t->err));
    if (job->options->keep)
        JT_TRY(jt_trainer_save(t->trainer, t->err));
    return job->export ? jt_trainer_export(t->trainer, t->err) : JT_OK;
}

jt_status jt_recipe_train(const jt_recipe_job *job, jt_metrics *metrics, jt_err *err)
{
    int64_t steps;
    jt_config config;
    jt_train_options options = {0};
    training t = {.job = job, .metrics = metrics, .err = err};
    JT_TRY(jt_recipe_steps(job, &steps, err));
    JT_TRY(configure(job, steps, &config, err));
    jt_status status = jt_trainer_new(&t.trainer, &config, &options, err);
    if (status == JT_OK)
        status = train(&t);
    jt_journal_close(t.journal);
    jt_observer_free(&t.observer);
    jt_trainer_free(t.trainer);
    jt_config_free(&config);
    return status;
}
