#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "watch/report_impl.h"

/* Bytes of the routes of a sample, however many tokens were asked for. */
#define MOST_BYTES ((size_t)1 << 28)

jt_status jt_report_sample_new(report_sample *s, uint64_t tokens, size_t n_slots,
                               size_t wanted, jt_err *err)
{
    size_t room = MOST_BYTES / (n_slots * sizeof *s->expert);
    *s = (report_sample){.tokens = tokens, .n_slots = n_slots};
    wanted = wanted < room ? wanted : room;
    if (tokens <= wanted) {
        s->n = s->stretch = (size_t)tokens;
        s->n_stretches = 1;
    } else {
        s->stretch = wanted < REPORT_STRETCH ? wanted : REPORT_STRETCH;
        s->n_stretches = wanted / s->stretch;
        s->n = s->n_stretches * s->stretch;
    }
    s->expert = jt_alloc(s->n * n_slots, sizeof *s->expert);
    s->begins = jt_calloc(s->n, 1);
    s->order = jt_alloc(s->n, sizeof *s->order);
    if (!s->expert || !s->begins || !s->order)
        return jt_fail_memory(err, "sampling a trace");
    jt_rng rng = {.seed = 1};
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t other = jt_rng_below(&rng, i + 1);
        s->order[i] = s->order[other];
        s->order[other] = i;
    }
    return JT_OK;
}

void jt_report_sample_free(report_sample *s)
{
    free(s->expert);
    free(s->begins);
    free(s->order);
    *s = (report_sample){0};
}

int32_t jt_report_sample_place(report_sample *s, uint64_t row)
{
    uint64_t start = 0;
    for (; s->at < s->n_stretches; s->at++) {
        start = (uint64_t)((double)s->tokens * (double)s->at / (double)s->n_stretches);
        if (row < start + s->stretch)
            break;
    }
    if (s->at == s->n_stretches || row < start)
        return -1;
    size_t place = s->at * s->stretch + (size_t)(row - start);
    if (row == start)
        s->begins[place] = 1;
    return (int32_t)place;
}

jt_uses jt_report_sample_uses(const report_sample *s, const jt_trace_layer *layer,
                              bool shuffled)
{
    return (jt_uses){.n_tokens = s->n,
                     .k = (size_t)layer->k,
                     .stride = s->n_slots,
                     .expert = s->expert + layer->slot,
                     .begins = s->begins,
                     .order = shuffled ? s->order : NULL,
                     .n_experts = layer->n_experts};
}

/* ---- sums ---- */

bool jt_locality_sums_new(locality_sums *s, size_t n_sizes)
{
    s->n_sizes = n_sizes;
    s->rates = jt_calloc(JT_CACHES * n_sizes, sizeof *s->rates);
    bool good = s->rates;
    for (int c = 0; c < JT_CACHES; c++) {
        s->hits[c] = jt_calloc(n_sizes, sizeof *s->hits[c]);
        good = good && s->hits[c];
    }
    return good;
}

void jt_locality_sums_free(locality_sums *s)
{
    for (int c = 0; c < JT_CACHES; c++)
        free(s->hits[c]);
    free(s->rates);
}

void jt_locality_sums_take(locality_sums *s, jt_locality *locality)
{
    uint64_t *to = s->counts;
    for (int i = 0; i < JT_SPANS; i++) {
        size_t n = (size_t)jt_segment[i] + 1;
        memcpy(to, jt_locality_counts(locality, i), n * sizeof *to);
        to += n;
    }
    s->uses = jt_locality_uses(locality);
    jt_locality_hits(locality, s->hits[JT_CACHE_LRU]);
    memcpy(s->gaps, jt_locality_gaps(locality), sizeof s->gaps);
}

void jt_locality_sums_add(locality_sums *s, const locality_sums *layer)
{
    s->uses += layer->uses;
    s->uses_sample += layer->uses_sample;
    for (size_t i = 0; i < SPAN_COUNTS; i++)
        s->counts[i] += layer->counts[i];
    for (size_t i = 0; i < JT_GAPS; i++)
        s->gaps[i] += layer->gaps[i];
    for (int c = 0; c < JT_CACHES; c++) {
        for (size_t i = 0; i < s->n_sizes; i++) {
            size_t size = i < layer->n_sizes ? i : layer->n_sizes - 1;
            s->hits[c][i] += layer->hits[c][size];
        }
    }
}

void jt_locality_sums_settle(jt_locality_report *out, locality_sums *s)
{
    const uint64_t *counts = s->counts;
    *out = (jt_locality_report){.uses = s->uses, .n_sizes = s->n_sizes};
    for (int i = 0; i < JT_SPANS; i++) {
        out->srp[i] = jt_srp_find(counts, i);
        counts += jt_segment[i] + 1;
    }
    for (int c = 0; c < JT_CACHES; c++) {
        uint64_t uses = c == JT_CACHE_LRU ? s->uses : s->uses_sample;
        double *rates = s->rates + (size_t)c * s->n_sizes;
        for (size_t i = 0; i < s->n_sizes; i++)
            rates[i] = uses ? (double)s->hits[c][i] / (double)uses : 0.0;
        out->hits[c] = rates;
    }
    uint64_t all = 0;
    for (int i = 0; i < JT_GAPS; i++)
        all += s->gaps[i];
    for (int i = 0; i < JT_GAPS; i++)
        out->gaps[i] = all ? (double)s->gaps[i] / (double)all : 0.0;
}
