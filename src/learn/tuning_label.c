/* Which adapter of a mixture a token of training belongs to. */
#include <string.h>

#include "base/memory.h"
#include "learn/tuning.h"

/* The source whose tokens are those of an adapter; none, past the last, where that is
 * not there and nothing is learnt from it. */
static jt_status find_source(const jt_tuning *t, const jt_data *data, size_t adapter,
                             size_t *source, jt_err *err)
{
    const jt_config_adapter *c = &t->config->adapter;
    const char *name = adapter < c->n_parts ? c->part[adapter].source : "";
    *source = adapter;
    if (!*name)
        return JT_OK;
    for (*source = 0; *source < jt_data_sources(data); ++*source) {
        if (strcmp(jt_data_domain(data, *source), name) == 0)
            return JT_OK;
    }
    if (t->loss.beta == 0.0f)
        return JT_OK;
    return jt_fail(err, JT_E_ARG, "adapter.part.%zu.source: there is no '%.60s'",
                   adapter, name);
}

jt_status jt_tuning_label(jt_tuning *t, const jt_data *data, jt_err *err)
{
    const jt_blend *b = t->adapter->blend;
    const jt_config *c = t->config;
    size_t n = jt_data_sources(data), source;
    if (!b)
        return JT_OK;
    t->owner = jt_alloc(n, sizeof *t->owner);
    t->label =
        jt_alloc((size_t)c->train.batch * (size_t)c->data.seq_len, sizeof *t->label);
    if (!t->owner || !t->label)
        return jt_fail_memory(err, "starting an adapter");
    memset(t->owner, -1, n * sizeof *t->owner);
    for (size_t i = 0; i < b->n; i++) {
        JT_TRY(find_source(t, data, i, &source, err));
        if (source < n)
            t->owner[source] = (int32_t)i;
    }
    return JT_OK;
}

/* Is anything learnt from the fragment that begins at token i? Not from padding. */
static bool has_targets(const jt_batch *batch, int32_t i)
{
    int32_t n = (int32_t)(batch->n_seqs * batch->seq_len);
    for (int32_t at = i; at < n && batch->first[at] == i; at++) {
        if (batch->targets[at] >= 0)
            return true;
    }
    return false;
}

void jt_tuning_label_batch(jt_tuning *t, const jt_batch *batch)
{
    const jt_blend *b = t->adapter->blend;
    int32_t n = (int32_t)(batch->n_seqs * batch->seq_len), label = -1;
    bool counts = false;
    for (int32_t i = 0; i < n; i++) {
        int32_t owner = t->owner[batch->domains[i]];
        if (batch->first[i] == i) {
            counts = has_targets(batch, i);
            label = counts ? owner : -1;
        }
        if (owner < 0 && counts) {
            int marked = jt_blend_marker_at(b, batch->tokens + i, (size_t)(n - i));
            label = marked < 0 ? label : marked;
        }
        t->label[i] = label;
    }
    t->loss.label = t->label;
}
