#include "learn/observe.h"

#include <math.h>

#include "learn/journal.h"

enum { SHUFFLES_SEED = 1 };

jt_status jt_observer_init(jt_observer *o, const jt_trainer *t, jt_err *err)
{
    *o = (jt_observer){0};
    JT_TRY(jt_usage_new(&o->usage, t->model, err));
    JT_TRY(jt_special_new(&o->special, t->model, (int)jt_data_sources(t->data), err));
    JT_TRY(jt_congestion_new(&o->congestion, t->model, err));
    o->hooks.watcher[o->hooks.n_watchers++] = jt_usage_watcher(o->usage);
    o->hooks.watcher[o->hooks.n_watchers++] = jt_special_watcher(o->special);
    return jt_congestion_attach(o->congestion, &o->hooks, err);
}

void jt_observer_free(jt_observer *o)
{
    jt_usage_free(o->usage);
    jt_special_free(o->special);
    jt_congestion_free(o->congestion);
    *o = (jt_observer){0};
}

void jt_observer_reset(jt_observer *o)
{
    jt_usage_reset(o->usage);
    jt_special_reset(o->special);
    jt_congestion_reset(o->congestion);
}

static void see_batch(void *user, const jt_batch *batch)
{
    jt_special_domains(((jt_observer *)user)->special, batch->domains);
}

jt_evaluation_options jt_observer_options(jt_observer *o)
{
    return (jt_evaluation_options){
        .hooks = &o->hooks, .on_batch = see_batch, .user = o};
}

/* Share of the picks that each expert got. */
static json_t *loads(const jt_layer_usage *u)
{
    json_t *list = json_array();
    double picks = 0.0;
    for (int e = 0; e < u->n_experts; e++)
        picks += (double)u->counts[e];
    for (int e = 0; e < u->n_experts; e++)
        json_array_append_new(list, jt_journal_number((double)u->counts[e] / picks));
    return list;
}

/* The layers that usage, special and congestion list are the same, in order. */
static json_t *layer_json(jt_observer *o, size_t i)
{
    jt_layer_usage usage;
    jt_usage_layer(o->usage, i, &usage);
    jt_special_report special = jt_special_of_layer(o->special, i, SHUFFLES_SEED);
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "layer", usage.layer, "load",
                     loads(&usage), "entropy", jt_journal_number(usage.entropy),
                     "information", jt_journal_number(special.information), "shuffled",
                     jt_journal_number(special.shuffled));
}

/* null where a layer cannot be fitted. */
static json_t *congestion_json(jt_observer *o)
{
    json_t *list = json_array();
    for (size_t i = 0; i < jt_congestion_layers(o->congestion); i++) {
        jt_congestion_fit fit;
        bool good = jt_congestion_fit_layer(o->congestion, i, JT_QUALITY_LOGIT, &fit);
        json_array_append_new(list, jt_journal_number(good ? fit.gamma : (double)NAN));
    }
    return list;
}

json_t *jt_observer_json(jt_observer *o)
{
    size_t layers = jt_usage_layers(o->usage);
    if (layers == 0)
        return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < layers; i++)
        json_array_append_new(list, layer_json(o, i));
    jt_special_report special = jt_special_mean(o->special, SHUFFLES_SEED);
    return json_pack("{s:o, s:o, s:o, s:o}", "information",
                     jt_journal_number(special.information), "shuffled",
                     jt_journal_number(special.shuffled), "congestion",
                     congestion_json(o), "layers", list);
}
