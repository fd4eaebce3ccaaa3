#include "store/hybrid.h"

#include <math.h>
#include <stdlib.h>

/* When each of the three is free again. */
typedef struct clocks {
    double slow, fast, link;
} clocks;

/* The fast worker does one more expert. */
static void do_fast(clocks *c, const jt_hybrid_expert *e, const jt_hybrid_costs *costs)
{
    if (!e->here) {
        c->link += costs->move;
        c->fast = fmax(c->fast, c->link);
    }
    c->fast += costs->fast_each + costs->fast * e->tokens;
}

static void do_slow(clocks *c, const jt_hybrid_expert *e, const jt_hybrid_costs *costs)
{
    c->slow += costs->slow_each + costs->slow * e->tokens;
}

static int by_place(const void *a, const void *b)
{
    const jt_hybrid_expert *x = a, *y = b;
    if (x->here != y->here)
        return y->here - x->here;
    return (y->tokens > x->tokens) - (y->tokens < x->tokens);
}

void jt_hybrid_order(jt_hybrid_expert *experts, int n)
{
    qsort(experts, (size_t)n, sizeof *experts, by_place);
}

double jt_hybrid_makespan(const jt_hybrid_expert *experts, int n,
                          const jt_hybrid_costs *costs)
{
    clocks c = {0};
    for (int i = 0; i < n; i++) {
        if (experts[i].fast)
            do_fast(&c, &experts[i], costs);
        else
            do_slow(&c, &experts[i], costs);
    }
    return fmax(c.fast, c.slow);
}

double jt_hybrid_schedule(jt_hybrid_expert *experts, int n,
                          const jt_hybrid_costs *costs)
{
    clocks now = {0};
    jt_hybrid_order(experts, n);
    for (int front = 0, back = n - 1; front <= back;) {
        clocks fast = now, slow = now;
        do_fast(&fast, &experts[front], costs);
        do_slow(&slow, &experts[back], costs);
        bool first = fast.fast <= slow.slow;
        now = first ? fast : slow;
        experts[first ? front++ : back--].fast = first;
    }
    return fmax(now.fast, now.slow);
}

static void divide(jt_hybrid_expert *experts, int n, unsigned set)
{
    for (int i = 0; i < n; i++)
        experts[i].fast = set >> i & 1;
}

double jt_hybrid_optimum(jt_hybrid_expert *experts, int n, const jt_hybrid_costs *costs)
{
    double best = INFINITY;
    unsigned found = 0;
    jt_hybrid_order(experts, n);
    for (unsigned set = 0; set < 1u << n; set++) {
        divide(experts, n, set);
        double time = jt_hybrid_makespan(experts, n, costs);
        if (time < best) {
            best = time;
            found = set;
        }
    }
    divide(experts, n, found);
    return best;
}
