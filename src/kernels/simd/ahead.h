/* Memory that comes next, asked for while the processor computes: by itself it does not
 * follow then. A part with each step, as what waits for more lines than it can have
 * under way stands still. */
#ifndef JT_AHEAD_H
#define JT_AHEAD_H

#include <stddef.h>
#include <stdint.h>

typedef struct ahead {
    uintptr_t next, end;
    size_t share; /* bytes to ask for at a time */
} ahead;

/* `bytes` from `at` on, in `steps` steps. Addresses where nothing is do no harm. */
static inline ahead ahead_of(const void *at, size_t bytes, size_t steps)
{
    uintptr_t first = (uintptr_t)at;
    return (ahead){first, first + bytes, (bytes + steps - 1) / steps};
}

static inline void ask(ahead *a)
{
    uintptr_t left = a->end - a->next;
    uintptr_t to = a->next + (a->share < left ? a->share : left);
    for (; a->next < to; a->next += 64)
        __builtin_prefetch((const void *)a->next, 0, 3);
    a->next = to;
}

#endif
