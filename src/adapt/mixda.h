/* MixDA: what kind_mixda.c has beside its kind. */
#ifndef JT_ADAPT_MIXDA_H
#define JT_ADAPT_MIXDA_H

#include "adapt/adapter.h"

enum { JT_MIXDA_DOMAINS, JT_MIXDA_GATE_WIDTH, JT_MIXDA_TASK_RANK }; /* settings */
enum { JT_MIXDA_A_BIAS = 2, JT_MIXDA_B_BIAS, JT_MIXDA_GATE };       /* parts */
enum { JT_MIXDA_LAYERS = 4, JT_MIXDA_MOST = 64 };

/* The loss of stage one that keeps old behaviour (L_S of the paper): scale times the
 * mean square of y - W h over slots, kept tokens and values. The paper takes the
 * difference behind the norm of a layer, which here comes before the next one, and
 * belongs to it. */
typedef struct jt_mixda_keeping {
    const uint8_t *kept; /* [tokens] of the pass */
    size_t tokens;       /* that are kept */
    size_t slots;
    float scale;
} jt_mixda_keeping;

/* First values of a gate, as PyTorch's linear layers begin. */
void jt_mixda_start_gate(jt_adapter_slot *slot, uint64_t seed, uint64_t stream);

/* Stage two: the domain adapters of `parts` [n] together, frozen, with a task adapter
 * of `task_rank` beside them and a gate: that of the part if there is one, else a fresh
 * one of this width. JT_E_ARG naming the part (another kind, one with a task, other
 * weights), JT_E_MEMORY. */
jt_status jt_mixda_join(jt_adapter **out, const jt_adapter *const *parts, size_t n,
                        size_t task_rank, size_t width, uint64_t seed, jt_err *err);

#endif
