/* Memory that comes next, asked for while the processor computes: by itself it does not
 * follow then. A part with each step, as what waits for more lines than it can have
 * under way stands still. */
#ifndef JT_AHEAD_H
#define JT_AHEAD_H

#include <stddef.h>
#include <stdint.h>

typedef struct ahead {
    uintptr_t next, end;
    size_t share; /* bytes to ask for in a step: not less than a line */
} ahead;

/* `bytes` from `at` on, in `steps` steps. Addresses where nothing is do no harm. */
static inline ahead ahead_of(const void *at, size_t bytes, size_t steps)
{
    uintptr_t first = (uintptr_t)at;
    size_t share = (bytes + steps - 1) / steps;
    return (ahead){first, first + bytes, share < 64 ? 64 : share};
}

static inline void ask(ahead *a, size_t steps)
{
    uintptr_t left = a->end - a->next, wanted = steps * a->share;
    uintptr_t to = a->next + (wanted < left ? wanted : left);
    for (; a->next < to; a->next += 64)
        __builtin_prefetch((const void *)a->next, 0, 3);
    a->next = to;
}

#endif
