/* Watching the routing. */
#ifndef JUNTO_WATCH_H
#define JUNTO_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/moe.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counts which experts worked: per layer and expert the number of tokens and the sum of
 * weights. */
typedef struct jt_usage jt_usage;

JT_API jt_status jt_usage_new(jt_usage **out, const jt_model *model, jt_err *err);
JT_API void jt_usage_free(jt_usage *usage);  /* NULL is fine */
JT_API void jt_usage_reset(jt_usage *usage); /* all counts are 0 again */
/* A watcher to add to a session; valid as long as `usage`. */
JT_API jt_watcher jt_usage_watcher(jt_usage *usage);

typedef struct jt_layer_usage {
    int layer, n_experts;
    uint64_t tokens;        /* tokens routed */
    const uint64_t *counts; /* [experts] tokens that each expert got */
    const double *weights;  /* [experts] sum of weights */
    double entropy;         /* of the load shares, 0 .. 1 (1: perfectly even) */
} jt_layer_usage;

/* Layers that have experts, in order. */
JT_API size_t jt_usage_layers(const jt_usage *usage);
JT_API void jt_usage_layer(const jt_usage *usage, size_t i, jt_layer_usage *out);

/* A picture for a terminal: a line per layer, a cell per expert (several experts share
 * a cell when there are more than `width` columns), darker for more use, and the
 * busiest expert's share. `color` uses 24-bit escapes, otherwise block characters only.
 * The caller frees *text. JT_E_MEMORY. */
JT_API jt_status jt_usage_draw(const jt_usage *usage, int width, bool color,
                               char **text, jt_err *err);
/* The same of any `n` layers; only layer, n_experts and counts are looked at. */
JT_API jt_status jt_loads_draw(const jt_layer_usage *layers, size_t n, int width,
                               bool color, char **text, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
