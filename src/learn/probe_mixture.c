/* Probes of mixtures of adapters, and of what is learnt from each source. */
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

jt_status jt_probe_gates(const jt_probe_call *call)
{
    jt_evaluation e;
    jt_evaluation_options how = {.hooks = &none};
    jt_tuning *tuning = call->trainer->tuning;
    if (!tuning || !tuning->adapter->blend)
        return jt_fail(call->err, JT_E_ARG, "there is no mixture of adapters");
    jt_gate_loss *l = &tuning->loss;
    jt_gate_loss_reset(l);
    JT_TRY(jt_trainer_evaluate(call->trainer, &how, &e, call->err));
    jt_evaluation_free(&e);
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
