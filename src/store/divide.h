/* A memory budget, divided between the experts and all else. */
#ifndef JT_STORE_DIVIDE_H
#define JT_STORE_DIVIDE_H

#include "store/cached.h"

/* What is taken beside process, context and scratch of a budget. */
typedef struct jt_budget_needs {
    uint64_t aside; /* by whom the budget does not name */
    uint64_t spare; /* welcome, but no more of it than a quarter of what there is room
                       for */
    int least_slots;
} jt_budget_needs;

/* Fill in the rest of `b`, of which process, context and scratch are known, for the
 * options of a store that has no slots yet; what there is of `spare`. */
uint64_t jt_budget_divide(jt_store_budget *b, const jt_cached *c,
                          const jt_budget_needs *needs);

#endif
