#include "learn/tuning_domains.h"

#include <stdlib.h>

#include "base/memory.h"
#include "model/model.h"

float jt_domains_gate_width(const jt_config *config, const jt_model *model)
{
    int width = config->adapter.head_width;
    return (float)(width ? width : model->params.d_model);
}

jt_status jt_domains_join(jt_tuning *t, const jt_model *model, jt_err *err)
{
    const jt_config *config = t->config;
    const jt_config_adapter *c = &config->adapter;
    jt_status status = JT_OK;
    jt_adapter **parts = jt_calloc(c->n_parts, sizeof *parts);
    if (!parts)
        return jt_fail_memory(err, "reading adapters");
    for (size_t i = 0; i < c->n_parts && status == JT_OK; i++)
        status = jt_adapter_open(&parts[i], c->part[i].path, model, err);
    if (status == JT_OK)
        status =
            jt_mixda_join(&t->adapter, (const jt_adapter *const *)parts, c->n_parts,
                          (size_t)c->rank, (size_t)jt_domains_gate_width(config, model),
                          (uint64_t)config->train.seed, err);
    for (size_t i = 0; i < c->n_parts; i++)
        jt_adapter_free(parts[i]);
    free(parts);
    return status;
}

void jt_domains_batch(jt_tuning *t, jt_batch *batch, float scale)
{
    const jt_config_adapter *c = &t->config->adapter;
    size_t tokens = batch->n_seqs * batch->seq_len;
    if (!t->kept)
        return;
    t->keeping = (jt_mixda_keeping){
        .kept = t->kept, .slots = t->adapter->count, .scale = scale * (float)c->keep};
    for (size_t i = 0; i < tokens && scale > 0.0f; i++) {
        t->kept[i] = batch->domains[i] >= c->keep_from;
        t->keeping.tokens += t->kept[i];
        if (t->kept[i])
            batch->targets[i] = -1;
    }
}

jt_status jt_domains_keep(jt_tuning *t, jt_err *err)
{
    const jt_config *c = t->config;
    if (t->adapter->kind != &jt_adapter_mixda || !c->adapter.keep_from)
        return JT_OK;
    t->kept =
        jt_calloc((size_t)c->train.batch * (size_t)c->data.seq_len, sizeof *t->kept);
    for (size_t i = 0; i < t->adapter->count; i++)
        t->adapter->slot[i].keeping = &t->keeping;
    return t->kept ? JT_OK : jt_fail_memory(err, "starting an adapter");
}
