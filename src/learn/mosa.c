#include "learn/mosa.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

/* Streams of random numbers: which part an entry falls to, which one is drawn. */
#define PARTS_STREAM (UINT64_C(6) << 32)
#define DRAWS_STREAM (UINT64_C(7) << 32)

/* One matrix U. */
typedef struct split {
    size_t source, values;
    uint8_t *part;             /* [values] which expert an entry belongs to */
    float *value, *grad;       /* [values] of the expert that was drawn */
    float *whole, *whole_grad; /* while that one is at work: those of the adapter */
    size_t drawn;
} split;

struct jt_mosa {
    jt_adapter *adapter;
    split *list;
    size_t count, experts;
    uint64_t seed;
    bool begun;
};

/* ---- splitting ---- */

/* Experts in turn, then shuffled. */
static void deal(uint8_t *part, size_t n, size_t experts, jt_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        part[i] = (uint8_t)(i * experts / n);
    for (size_t i = n; i-- > 1;) {
        size_t j = jt_rng_below(rng, (uint32_t)i + 1);
        uint8_t kept = part[i];
        part[i] = part[j];
        part[j] = kept;
    }
}

static jt_status make_split(jt_mosa *m, size_t source, jt_err *err)
{
    const jt_tensor *t = &m->adapter->source[source].t;
    split *s = &m->list[m->count++];
    jt_rng rng = {m->seed, PARTS_STREAM + source, 0};
    s->source = source;
    s->values = jt_rows(t) * jt_cols(t);
    s->part = jt_alloc(s->values, sizeof *s->part);
    s->value = jt_alloc(s->values, sizeof *s->value);
    s->grad = jt_alloc(s->values, sizeof *s->grad);
    if (!s->part || !s->value || !s->grad)
        return jt_fail_memory(err, "splitting an adapter");
    deal(s->part, s->values, m->experts, &rng);
    return JT_OK;
}

static jt_status make_splits(jt_mosa *m, jt_err *err)
{
    const jt_adapter *a = m->adapter;
    m->list = jt_calloc(a->n_places, sizeof *m->list);
    if (!m->list)
        return jt_fail_memory(err, "splitting an adapter");
    for (size_t i = 0; i < a->n_sources; i++) {
        jt_str target;
        if (jt_adapter_source_of(a, i, "up", &target))
            JT_TRY(make_split(m, i, err));
    }
    return JT_OK;
}

jt_status jt_mosa_new(jt_mosa **out, jt_adapter *adapter, size_t experts, uint64_t seed,
                      jt_err *err)
{
    if (adapter->kind != &jt_adapter_bottleneck || experts < 1 || experts > 256)
        return jt_fail(err, JT_E_ARG, "adapter.kind: a '%s' adapter in %zu parts",
                       adapter->kind->name, experts);
    jt_mosa *m = jt_calloc(1, sizeof *m);
    if (!m)
        return jt_fail_memory(err, "splitting an adapter");
    *m = (jt_mosa){.adapter = adapter, .experts = experts, .seed = seed};
    jt_status status = make_splits(m, err);
    if (status == JT_OK)
        *out = m;
    else
        jt_mosa_free(m);
    return status;
}

void jt_mosa_free(jt_mosa *m)
{
    if (!m)
        return;
    jt_mosa_end(m);
    for (size_t i = 0; i < m->count; i++) {
        free(m->list[i].part);
        free(m->list[i].value);
        free(m->list[i].grad);
    }
    free(m->list);
    free(m);
}

size_t jt_mosa_values(const jt_mosa *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->count; i++)
        n += m->list[i].values;
    return n;
}

/* ---- drawing ---- */

void jt_mosa_begin(jt_mosa *m, uint64_t draw)
{
    for (size_t i = 0; i < m->count; i++) {
        split *s = &m->list[i];
        jt_tensor *t = &m->adapter->source[s->source].t;
        jt_rng rng = {m->seed, DRAWS_STREAM + s->source, draw};
        s->drawn = jt_rng_below(&rng, (uint32_t)m->experts);
        s->whole = t->data;
        s->whole_grad = t->grad;
        for (size_t j = 0; j < s->values; j++)
            s->value[j] = s->part[j] == s->drawn ? s->whole[j] : 0.0f;
        memset(s->grad, 0, s->values * sizeof *s->grad);
        t->data = s->value;
        t->grad = s->whole_grad ? s->grad : NULL;
    }
    m->begun = true;
}

void jt_mosa_end(jt_mosa *m)
{
    for (size_t i = 0; i < m->count && m->begun; i++) {
        split *s = &m->list[i];
        jt_tensor *t = &m->adapter->source[s->source].t;
        t->data = s->whole;
        t->grad = s->whole_grad;
        for (size_t j = 0; t->grad && j < s->values; j++)
            t->grad[j] += s->part[j] == s->drawn ? s->grad[j] : 0.0f;
    }
    m->begun = false;
}

/* ---- agreeing ---- */

typedef struct agreeing {
    const jt_kernels *kernels;
    const jt_tensor *logits;
    float *p;       /* [rows, vocab] */
    const float *q; /* the same */
    const int32_t *targets;
    float factor;
} agreeing;

static void softmax_row(void *arg, size_t t)
{
    const agreeing *w = arg;
    size_t n = jt_cols(w->logits);
    w->kernels->softmax(w->p + t * n, jt_row(w->logits, t), n);
}

void jt_mosa_probabilities(jt_context *ctx, const jt_tensor *logits, float *p)
{
    size_t rows = jt_rows(logits);
    agreeing w = {.kernels = ctx->kernels, .logits = logits, .p = p};
    jt_for_rows(ctx, rows, 8 * rows * jt_cols(logits), softmax_row, &w);
}

/* The gradient of KL(q || p) is p - q; KL(p || q) with p constant has none here. */
static void agree_row(void *arg, size_t t)
{
    const agreeing *w = arg;
    size_t n = jt_cols(w->logits);
    float *grad = jt_grad_row(w->logits, t);
    if (w->targets[t] < 0)
        return;
    w->kernels->axpy(grad, w->factor, w->p + t * n, n);
    w->kernels->axpy(grad, -w->factor, w->q + t * n, n);
}

void jt_mosa_agree(jt_context *ctx, const jt_tensor *logits, const float *q,
                   const int32_t *targets, float factor)
{
    size_t rows = jt_rows(logits), n = jt_cols(logits), count = 0;
    for (size_t t = 0; t < rows; t++)
        count += targets[t] >= 0;
    agreeing w = {.kernels = ctx->kernels,
                  .logits = logits,
                  .p = jt_scratch(ctx, rows * n, sizeof(float)),
                  .q = q,
                  .targets = targets};
    if (!w.p || jt_failed(ctx) || !count)
        return;
    w.factor = factor / 2.0f / (float)count;
    jt_mosa_probabilities(ctx, logits, w.p);
    jt_for_rows(ctx, rows, 8 * rows * n, agree_row, &w);
}
