/* Blends of adapters that others made. */
#ifndef JT_ADAPT_BLEND_MAKE_H
#define JT_ADAPT_BLEND_MAKE_H

#include "adapt/blend.h"

/* The banks of `blend` from n = blend->n adapters: those weights that any of them
 * changes, where `pattern` (NULL: all) matches their names. Ranks are filled up with
 * zeros, and alpha / rank goes into B. JT_E_UNSUPPORTED (an adapter that is not
 * low-rank, has magnitudes, or changes a stack of experts), JT_E_ARG (no weight is
 * left), JT_E_MEMORY. */
jt_status jt_blend_take(jt_blend *blend, const jt_adapter *const *adapters,
                        const char *pattern, jt_err *err);

#endif
