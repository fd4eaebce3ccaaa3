/* Inside a report: how it is gathered (report.c), what is measured over a sample of the
 * trace (report_sample.c, report_pairs.c), groups of tokens (report_groups.c). */
#ifndef JT_WATCH_REPORT_IMPL_H
#define JT_WATCH_REPORT_IMPL_H

#include "base/pool.h"
#include "watch/locality.h"

enum {
    REPORT_MAX_EXPERTS = 1 << 18, /* of all layers */
    REPORT_MAX_PAIRS = 2048,      /* experts of a layer whose pairs are counted */
    REPORT_STRETCH = 4096,        /* tokens in a row of a sample */
    REPORT_ENTROPIES = 1000,      /* classes of entropies */
    SPAN_COUNTS = 4 + 16 + 64 + 256 + JT_SPANS
};

/* ---- locality, as numbers that can be added ---- */

typedef struct locality_sums {
    uint64_t uses, uses_sample;
    uint64_t counts[SPAN_COUNTS]; /* jt_locality_counts, span after span */
    uint64_t gaps[JT_GAPS];
    size_t n_sizes;
    uint64_t *hits[JT_CACHES]; /* [n_sizes] */
    double *rates;             /* [caches, n_sizes], of the report */
} locality_sums;

bool jt_locality_sums_new(locality_sums *sums, size_t n_sizes);
void jt_locality_sums_free(locality_sums *sums);
/* What a jt_locality has seen; its LRU hits, too. */
void jt_locality_sums_take(locality_sums *sums, jt_locality *locality);
/* `layer` may have fewer experts: larger caches then hold all of them. */
void jt_locality_sums_add(locality_sums *sums, const locality_sums *layer);
/* Rates and SRP; `out` borrows from `sums`. */
void jt_locality_sums_settle(jt_locality_report *out, locality_sums *sums);

/* ---- groups ---- */

typedef struct report_groups {
    const char *names[JT_REPORT_GROUPS];
    size_t n;
    uint64_t tokens[JT_REPORT_GROUPS];
    uint8_t *of_id; /* [n_ids] group of a label or token */
    size_t n_ids;
} report_groups;

/* Labels of the trace, those from the 64th on as one group. JT_E_MEMORY. */
jt_status jt_report_label_groups(report_groups *out, const jt_trace *trace,
                                 jt_err *err);
/* Classes of the tokens of a vocabulary. JT_E_MEMORY. */
jt_status jt_report_class_groups(report_groups *out, const jt_tokenizer *tokenizer,
                                 jt_err *err);
/* Group of an id; -1 for one that is not there. */
static inline int jt_report_group(const report_groups *groups, int32_t id)
{
    return id >= 0 && (size_t)id < groups->n_ids ? groups->of_id[id] : -1;
}

/* ---- the sample ---- */

/* Stretches of the trace, evenly spread, or all of it. */
typedef struct report_sample {
    size_t n, stretch, n_stretches;
    uint64_t tokens; /* of the trace */
    size_t at;       /* stretch that the row asked for last is in or before */
    size_t n_slots;
    uint16_t *expert; /* [n, n_slots], of each layer used ones first */
    uint8_t *begins;  /* [n] a text, or a stretch */
    uint32_t *order;  /* [n] a shuffle */
} report_sample;

jt_status jt_report_sample_new(report_sample *out, uint64_t tokens, size_t n_slots,
                               size_t wanted, jt_err *err);
void jt_report_sample_free(report_sample *sample);
/* Place of row `row` of the trace in the sample, or -1. Rows are asked for in order. */
int32_t jt_report_sample_place(report_sample *sample, uint64_t row);
/* The routes of a layer; `shuffled` in the order of the shuffle. */
jt_uses jt_report_sample_uses(const report_sample *sample, const jt_trace_layer *layer,
                              bool shuffled);

/* Pairs of experts of a layer, and of this layer (a) and the next (b). Without memory
 * false. */
bool jt_report_pairs_together(jt_report_pairs *out, const jt_uses *uses,
                              const jt_uses *shuffled);
bool jt_report_pairs_next(jt_report_pairs *out, const jt_uses *a, const jt_uses *b,
                          const jt_uses *b_shuffled);

/* ---- the whole ---- */

/* What one half of the blocks says of a layer's scores. */
typedef struct score_sums {
    double *load, *score; /* [experts] picks; sums of scores that sum to 1 */
    double tokens;
} score_sums;

typedef struct layer_sums {
    const jt_trace_layer *site;
    jt_locality *locality;
    locality_sums real, shuffled;
    uint64_t *load;      /* [experts] */
    uint64_t *counts[2]; /* [experts, groups] of labels and of classes */
    uint16_t *row;       /* [k] the experts of the token at hand */
    uint8_t *marked;     /* [experts] of these */
    uint64_t entropies[REPORT_ENTROPIES];
    double entropy;
    score_sums half[2];
    bool failed; /* no memory */
} layer_sums;

struct jt_report {
    jt_trace *trace;
    jt_report_info info;
    jt_report_layer *layers; /* [n_layers] */
    layer_sums *sums;        /* [n_layers] */
    report_groups groups[2]; /* labels, classes */
    locality_sums real, shuffled;
    report_sample sample;
    jt_pool *pool;
};

#endif
