/* Memory that comes next, asked for while the processor computes: by itself it does not
 * follow then. A part with each step, as what waits for more lines than it can have
 * under way stands still.
 *
 * Part of what is asked for in bursts is dropped. MEASURED (Zen 5, 108 KB asked for
 * during a product of 16 tokens and read after it): where 16 lines were asked for at a
 * time, in some of the steps, they were not there, a fifth of all; a few at a time,
 * into the first cache and not only the second, all were. */
#ifndef JT_AHEAD_H
#define JT_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* What is left to ask for of one stretch of memory. */
typedef struct stretch {
    uintptr_t next, end;
    size_t share; /* bytes to ask for in a step: not less than a line */
} stretch;

typedef struct ahead {
    stretch near; /* what the same product reads soon */
    stretch far;  /* of a jt_later */
} ahead;

/* `bytes` from `at` on, in `steps` steps. Addresses where nothing is do no harm. */
static inline stretch stretch_of(const void *at, size_t bytes, size_t steps)
{
    uintptr_t first = (uintptr_t)at;
    size_t share = (bytes + steps - 1) / steps;
    return (stretch){first, first + bytes, share < 64 ? 64 : share};
}

static inline ahead ahead_of(const void *at, size_t bytes, size_t steps)
{
    return (ahead){.near = stretch_of(at, bytes, steps)};
}

/* The next `steps` steps of a stretch. */
static inline void ask_stretch(stretch *s, size_t steps)
{
    uintptr_t left = s->end - s->next, wanted = steps * s->share;
    uintptr_t to = s->next + (wanted < left ? wanted : left);
    for (; s->next < to; s->next += 64)
        __builtin_prefetch((const void *)s->next, 0, 3);
    s->next = to;
}

static inline void ask(ahead *a, size_t steps)
{
    ask_stretch(&a->near, steps);
    if (a->far.next != a->far.end) /* mostly there is none */
        ask_stretch(&a->far, steps);
}

/* `share` more bytes of what is read later are due; what of them can be asked for in
 * one stretch: up to the end of a piece. */
static inline stretch take_due(jt_later *later, size_t *due, size_t share, size_t steps)
{
    *due += share;
    size_t bytes = *due < later->bytes ? *due : later->bytes;
    if (bytes == 0)
        return (stretch){0, 0, 0};
    size_t left = later->piece->bytes - later->at;
    const char *at = (const char *)later->piece->data + later->at;
    bytes = bytes < left ? bytes : left;
    *due -= bytes;
    later->bytes -= bytes;
    later->at += bytes;
    if (bytes == left) {
        later->piece++;
        later->at = 0;
    }
    return stretch_of(at, bytes, steps);
}

#endif
