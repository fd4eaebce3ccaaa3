/* The probe "audit": how much of the text of one source hangs on few experts, and on
 * few of their neurons. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/audit.h"
#include "learn/probe_impl.h"

enum { SEQUENCES = 48 }; /* of the first source, and of all others together */

typedef struct texts {
    int32_t *tokens[2];
    size_t count[2];
} texts;

/* Sequences of source `source` after those that are there, up to `most` tokens. */
static jt_status add_source(const jt_probe_call *call, texts *t, int side,
                            size_t source, size_t most)
{
    jt_trainer *trainer = call->trainer;
    size_t filled, length = trainer->batch.seq_len;
    size_t all = jt_data_eval_count(trainer->data, source);
    for (size_t first = 0; first < all && t->count[side] < most; first += filled) {
        JT_TRY(jt_data_eval_batch(trainer->data, source, first, &trainer->batch,
                                  &filled, call->err));
        size_t fit = (most - t->count[side]) / length;
        size_t n = (filled < fit ? filled : fit) * length;
        memcpy(t->tokens[side] + t->count[side], trainer->batch.tokens,
               n * sizeof(int32_t));
        t->count[side] += n;
    }
    return JT_OK;
}

/* The behaviour is to go on in the first source; the others are what is like it. */
static jt_status gather(const jt_probe_call *call, texts *t)
{
    const jt_trainer *trainer = call->trainer;
    size_t most = SEQUENCES * trainer->batch.seq_len;
    size_t sources = jt_data_sources(trainer->data);
    for (int side = 0; side < 2; side++) {
        t->tokens[side] = jt_alloc(most, sizeof(int32_t));
        if (!t->tokens[side])
            return jt_fail_memory(call->err, "probing a model");
    }
    if (sources < 2)
        return jt_fail(call->err, JT_E_ARG, "one source alone");
    JT_TRY(add_source(call, t, 0, 0, most));
    for (size_t i = 1; i < sources; i++)
        JT_TRY(add_source(call, t, 1, i, most * i / (sources - 1)));
    return JT_OK;
}

static jt_status set(const jt_probe_call *call, const char *name, double value)
{
    return jt_metrics_set(call->metrics, call->err, value, "%s@audit=%s", name,
                          call->text);
}

static jt_status report(const jt_probe_call *call, const jt_audit *a)
{
    const jt_audit_point *experts = &a->points[0], *neurons = &a->neuron_points[0];
    JT_TRY(set(call, "auc", a->auc));
    JT_TRY(set(call, "gini", a->gini));
    JT_TRY(set(call, "kept", experts->top.kept));
    JT_TRY(set(call, "kept_random", experts->random.kept));
    JT_TRY(set(call, "fragility", experts->fragility));
    JT_TRY(set(call, "kept_neurons", neurons->top.kept));
    return set(call, "kept_neurons_random", neurons->random.kept);
}

static jt_status audit(const jt_probe_call *call, const jt_model *model, const texts *t,
                       const jt_audit *related, jt_audit *out)
{
    float share = (float)call->value;
    jt_audit_texts both = {t->tokens[0], t->count[0], t->tokens[1], t->count[1]};
    jt_audit_options how = {
        .window = (int)call->trainer->batch.seq_len,
        .windows = SEQUENCES,
        .shares = &share,
        .n_shares = 1,
        .targets = 0.25f,
        .related = related,
        .seed = 1,
        .session = {.threads = call->trainer->config->train.threads, .kv_type = "f32"}};
    return jt_audit_run(out, model, &both, &how, call->err);
}

/* Does what was found in the model that this one began as hold in it? */
static jt_status audit_since(const jt_probe_call *call, const texts *t)
{
    const char *path = call->trainer->config->model.init;
    jt_model *before = NULL;
    jt_audit first = {0}, now = {0};
    jt_audit_change change;
    bool alone = !path || !*path;
    jt_status status = alone ? JT_OK : jt_model_load(&before, path, call->err);
    if (status == JT_OK && !alone)
        status = audit(call, before, t, NULL, &first);
    if (status == JT_OK)
        status = audit(call, call->trainer->model, t, alone ? NULL : &first, &now);
    if (status == JT_OK)
        status = report(call, &now);
    if (status == JT_OK && !alone)
        status = jt_audit_compare(&change, &first, &now, 0.05, call->err);
    if (status == JT_OK && !alone)
        status = set(call, "transfer", change.correlation);
    if (status == JT_OK && !alone)
        status = set(call, "kept_related", now.points[0].related.kept);
    jt_audit_free(&first);
    jt_audit_free(&now);
    jt_model_free(before);
    return status;
}

jt_status jt_probe_audit(const jt_probe_call *call)
{
    texts t = {0};
    if (call->value >= 1.0)
        return jt_fail(call->err, JT_E_ARG, "a share of %s experts", call->text);
    jt_status status = gather(call, &t);
    if (status == JT_OK)
        status = audit_since(call, &t);
    free(t.tokens[0]);
    free(t.tokens[1]);
    return status;
}
