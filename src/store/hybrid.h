/* Two unequal workers share the experts of a pass (HybriMoE, section 4.1; the greedy
 * rule is that of its code, KExpertsCache.HSS): a slow one, for which all experts are
 * at hand, and a fast one, which has some and gets others through a link, one after the
 * other, while it works. */
#ifndef JT_STORE_HYBRID_H
#define JT_STORE_HYBRID_H

#include <stdbool.h>

/* Seconds, or any other unit. */
typedef struct jt_hybrid_costs {
    double slow_each, slow; /* of the slow worker: for an expert, and for each of its
                               tokens */
    double fast_each, fast; /* of the fast one */
    double move;            /* of an expert through the link */
} jt_hybrid_costs;

typedef struct jt_hybrid_expert {
    int tokens;
    bool here; /* the fast worker has it */
    bool fast; /* the fast worker does it: an answer */
} jt_hybrid_expert;

/* Bring experts into the order in which the fast worker takes them: those that are
 * here, then the others, each by falling tokens. For given sets this order is the best:
 * all moves take the same time (Johnson 1954). */
void jt_hybrid_order(jt_hybrid_expert *experts, int n);

/* The time until both have finished, with experts in that order. */
double jt_hybrid_makespan(const jt_hybrid_expert *experts, int n,
                          const jt_hybrid_costs *costs);

/* The greedy rule: the fast worker takes from the front, the slow one from the back,
 * whoever would finish the next one earlier. Sets `fast`, gives the time. Orders. */
double jt_hybrid_schedule(jt_hybrid_expert *experts, int n,
                          const jt_hybrid_costs *costs);

/* The shortest time of all 2^n divisions; n at most JT_HYBRID_MOST. Sets `fast` to one
 * that has it. Orders. */
enum { JT_HYBRID_MOST = 16 };
double jt_hybrid_optimum(jt_hybrid_expert *experts, int n,
                         const jt_hybrid_costs *costs);

#endif
