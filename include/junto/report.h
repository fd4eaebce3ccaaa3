/* Reports: what a trace says about a router.
 *
 *     jt_trace *t;
 *     jt_report *r;
 *     JT_TRY(jt_trace_open(&t, "run.trace", err));
 *     JT_TRY(jt_report_new(&r, t, NULL, err));
 *     const jt_report_layer *layer = jt_report_layers(r);  // [info->trace.n_layers]
 *     ... layer[0].load[e], layer[0].locality.srp[1].value ...
 *     JT_TRY(jt_report_write_html((const jt_report *[]){r}, 1, "report.html", err));
 *
 * docs/report.md explains each figure and how to read it. */
#ifndef JUNTO_REPORT_H
#define JUNTO_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/status.h"
#include "junto/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- locality (src/watch/locality.h has the definitions) ---- */

enum {
    JT_SPANS = 4,        /* lengths of segments, and how far SCH sees */
    JT_GAPS = 14,        /* classes of gaps: 1, 2, 3-4, 5-8, .. 4096, more tokens */
    JT_REPORT_PAIRS = 8, /* most pairs that a layer names */
    JT_REPORT_GROUPS = 64
};
JT_API extern const int jt_segment[JT_SPANS]; /* 4, 16, 64, 256 tokens */

#define JT_CACHE_LIST(X) \
    X(LRU, "LRU")        \
    X(LFU, "LFU")        \
    X(BELADY, "Belady")  \
    X(SCH, "SCH 4")      \
    X(SCH_16, "SCH 16")  \
    X(SCH_64, "SCH 64")  \
    X(SCH_256, "SCH 256")
typedef enum jt_caching {
#define X(name, text) JT_CACHE_##name,
    JT_CACHE_LIST(X)
#undef X
        JT_CACHES
} jt_caching;
JT_API const char *jt_cache_name(jt_caching cache); /* "SCH 16" */

/* Segment routing best performance. */
typedef struct jt_srp {
    bool segments; /* some text is as long as a segment; else all is 0 */
    double value;
    int threshold;     /* v*: kept are experts that so many tokens use */
    double activation; /* experts that a token uses, of all */
    double size;       /* experts kept for each that a token uses */
} jt_srp;

typedef struct jt_locality_report {
    uint64_t uses;
    jt_srp srp[JT_SPANS];
    /* Hit rates of a cache of i + 1 experts per layer at i. LRU is of all tokens, the
     * others of the sample. */
    size_t n_sizes;
    const double *hits[JT_CACHES]; /* [n_sizes] */
    double gaps[JT_GAPS];          /* shares of the uses that are no first ones */
} jt_locality_report;

/* ---- pairs of experts ---- */

typedef struct jt_report_pair {
    int a, b;     /* experts; b of the next layer for `next` */
    double share; /* of tokens that use both */
    double lift;  /* that share over the one if they had nothing to do with each other
                   */
} jt_report_pair;

/* Over the sample. */
typedef struct jt_report_pairs {
    bool measured; /* not for the last layer's `next`, nor beyond 2048 experts */
    double bits;   /* docs/report.md: how much one choice says about the other */
    double chance; /* the same with the tokens of one of them shuffled */
    size_t n_top;  /* pairs that stand out most, the strongest first */
    jt_report_pair top[JT_REPORT_PAIRS];
} jt_report_pairs;

/* ---- groups of tokens ---- */

/* Labels of the trace, or classes of tokens. */
typedef struct jt_report_groups {
    size_t n; /* 0: there are none */
    const char *const *names;
    const uint64_t *tokens; /* [n] */
} jt_report_groups;

/* How experts of a layer divide the groups among themselves. */
typedef struct jt_report_special {
    double information;     /* of the expert about the group, I / H: 0 .. 1 */
    double shuffled;        /* the same by chance */
    const uint64_t *counts; /* [experts, groups]; NULL without groups */
} jt_report_special;

/* ---- a layer ---- */

typedef struct jt_report_layer {
    int layer, n_experts, k;
    uint64_t picks;
    const uint64_t *load; /* [experts] picks */
    int dead, dominant;   /* experts never used; used over four times the mean */
    double busiest;       /* load of the busiest over the mean */
    double load_entropy;  /* of the loads, 0 .. 1: all alike */
    /* of the router, 0 .. 1: mean over tokens, and what 10% and 90% are below */
    double entropy, entropy_low, entropy_high;
    jt_report_special label, token_class;
    jt_report_pairs together; /* in this layer */
    jt_report_pairs next;     /* from this layer to the next one with experts */
    jt_locality_report locality, shuffled; /* as traced; tokens of the sample shuffled
                                            */
    bool congested; /* the trace has scores; else what follows is 0 */
    double gamma, temperature, game_error, softmax_error;
} jt_report_layer;

/* ---- the whole ---- */

typedef struct jt_report jt_report;

/* Zero means the default of each field. */
typedef struct jt_report_options {
    const jt_model *model; /* to tell classes of tokens; must be the trace's */
    int threads;           /* default: all processors */
    size_t sample;         /* tokens for what is costly; default 16384 */
    jt_progress progress;  /* tokens */
} jt_report_options;

typedef struct jt_report_info {
    jt_trace_info trace;
    uint64_t texts;
    uint64_t sample; /* tokens */
    jt_report_groups labels, classes;
    jt_locality_report locality, shuffled; /* all layers together */
} jt_report_info;

/* Read the whole trace, block by block. The trace must stay open as long as the report.
 * `options` may be NULL. Errors: those of jt_trace_read and jt_trace_check_model,
 * JT_E_UNSUPPORTED (a model without a tokenizer), JT_E_ARG (no tokens), JT_E_LIMIT
 * (over 262144 experts), JT_E_MEMORY, JT_E_INTERRUPTED. */
JT_API jt_status jt_report_new(jt_report **out, jt_trace *trace,
                               const jt_report_options *options, jt_err *err);
JT_API void jt_report_free(jt_report *report); /* NULL is fine */

/* Borrowed, valid as long as the report. */
JT_API const jt_report_info *jt_report_about(const jt_report *report);
JT_API const jt_report_layer *jt_report_layers(const jt_report *report);

/* JT_E_UNSUPPORTED unless all reports are of one model: the others' traces would stand
 * beside experts that they know nothing of. */
JT_API jt_status jt_report_check_same(const jt_report *const *reports, size_t n,
                                      jt_err *err);

/* A page for a browser, in one file, written beside and renamed; several reports stand
 * side by side. JT_E_UNSUPPORTED (jt_report_check_same), JT_E_ARG (none, or over 8),
 * JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_report_write_html(const jt_report *const *reports, size_t n,
                                      const char *path, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
