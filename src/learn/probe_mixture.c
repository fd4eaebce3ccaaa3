/* Probes of mixtures of adapters, and of what is learnt from each source. */
#include <stdlib.h>

#include "base/memory.h"
#include "learn/probe_impl.h"

static const jt_hooks none;

jt_status jt_probe_sources(const jt_probe_call *call)
{
    jt_evaluation e;
    jt_evaluation_options how = {.hooks = &none};
    JT_TRY(jt_trainer_evaluate(call->trainer, &how, &e, call->err));
    jt_status status = JT_OK;
    for (size_t i = 0; i < e.n_domains && status == JT_OK; i++) {
        const char *name = jt_data_domain(call->trainer->data, i);
        status =
            jt_metrics_set(call->metrics, call->err, e.domain_loss[i], "loss@%s", name);
        if (status == JT_OK)
            status = jt_metrics_set(call->metrics, call->err, e.domain_accuracy[i],
                                    "accuracy@%s", name);
    }
    jt_evaluation_free(&e);
    return status;
}

/* What gates have hit, source by source: batches are of one. */
typedef struct by_source {
    const jt_gate_loss *loss;
    double *hits, *labelled; /* [sources] */
    double hits_before, labelled_before;
    int32_t source; /* of the batch before; -1: none */
} by_source;

static void next_batch(void *self, const jt_batch *batch)
{
    by_source *s = self;
    if (s->source >= 0) {
        s->hits[s->source] += s->loss->hits - s->hits_before;
        s->labelled[s->source] += s->loss->labelled - s->labelled_before;
    }
    s->hits_before = s->loss->hits;
    s->labelled_before = s->loss->labelled;
    s->source = batch ? batch->domains[0] : -1;
}

static jt_status evaluate_gates(const jt_probe_call *call, by_source *s)
{
    jt_trainer *t = call->trainer;
    jt_evaluation_options how = {.hooks = &none, .on_batch = next_batch, .user = s};
    jt_evaluation e;
    JT_TRY(jt_trainer_evaluate(t, &how, &e, call->err));
    jt_evaluation_free(&e);
    next_batch(s, NULL);
    for (size_t i = 0; i < jt_data_sources(t->data); i++) {
        if (s->labelled[i] > 0.0)
            JT_TRY(jt_metrics_set(call->metrics, call->err, s->hits[i] / s->labelled[i],
                                  "gate_hits@%s", jt_data_domain(t->data, i)));
    }
    return JT_OK;
}

static jt_status see_gates(const jt_probe_call *call)
{
    size_t n = jt_data_sources(call->trainer->data);
    by_source s = {.loss = &call->trainer->tuning->loss,
                   .hits = jt_calloc(n, sizeof *s.hits),
                   .labelled = jt_calloc(n, sizeof *s.labelled),
                   .source = -1};
    jt_status status = s.hits && s.labelled ? evaluate_gates(call, &s)
                                            : jt_fail_memory(call->err, "evaluating");
    free(s.hits);
    free(s.labelled);
    return status;
}

jt_status jt_probe_gates(const jt_probe_call *call)
{
    jt_tuning *tuning = call->trainer->tuning;
    if (!tuning || !tuning->adapter->blend)
        return jt_fail(call->err, JT_E_ARG, "there is no mixture of adapters");
    jt_gate_loss *l = &tuning->loss;
    jt_gate_loss_reset(l);
    JT_TRY(see_gates(call));
    if (l->tokens <= 0.0)
        return jt_fail(call->err, JT_E_ARG, "nothing was decided by gates");
    double most = 0.0, all = 0.0;
    for (int i = 0; i < l->n; i++) {
        most = l->picks[i] > most ? l->picks[i] : most;
        all += l->picks[i];
    }
    if (l->labelled > 0.0)
        JT_TRY(jt_metrics_set(call->metrics, call->err, l->hits / l->labelled,
                              "gate_hits"));
    JT_TRY(jt_metrics_set(call->metrics, call->err, l->entropy / l->tokens,
                          "gate_entropy"));
    return jt_metrics_set(call->metrics, call->err, most * l->n / all, "gate_peak");
}
