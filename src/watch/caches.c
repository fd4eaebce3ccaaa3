/* Caches of any policy, as a stack: what a cache of c experts holds are the first c. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/locality.h"

/* Of the next token that uses an expert; no later one is as late as this. */
#define NEVER UINT64_MAX

typedef struct machine {
    const jt_uses *uses;
    jt_caching cache;
    size_t first, end;  /* tokens of the text at hand */
    uint16_t *stack;    /* [experts] */
    size_t n_stack;     /* different experts so far */
    uint64_t *priority; /* [experts] */
    uint8_t *marked;    /* [experts] used by the token at hand */
    uint64_t clock;     /* uses so far: recency */
    uint64_t *next;     /* [tokens of the text, k] Belady: time of the next use */
    size_t next_room;
    uint64_t *ranks; /* [experts] uses by place in the stack */
} machine;

/* A priority: what counts first, then recency. */
#define RECENCY_BITS 40
#define RECENCY      (((uint64_t)1 << RECENCY_BITS) - 1)

const uint16_t *jt_uses_row(const jt_uses *uses, size_t t, size_t *n)
{
    size_t row = uses->order ? uses->order[t] : t;
    const uint16_t *experts = uses->expert + row * uses->stride;
    *n = 0;
    while (*n < uses->k && experts[*n] != JT_NO_EXPERT)
        (*n)++;
    return experts;
}

/* Tokens that SCH sees; 0 for the other caches. */
static size_t ahead(jt_caching cache)
{
    return cache < JT_CACHE_SCH ? 0 : (size_t)jt_segment[cache - JT_CACHE_SCH];
}

/* Token `t` comes into sight. */
static void see(machine *m, size_t t)
{
    size_t n;
    const uint16_t *experts = jt_uses_row(m->uses, t, &n);
    for (size_t i = 0; i < n; i++)
        m->priority[experts[i]] += (uint64_t)1 << RECENCY_BITS;
}

/* When each use of the text is followed by one of the same expert. `priority` is room.
 */
static bool find_next(machine *m)
{
    const jt_uses *u = m->uses;
    size_t tokens = m->end - m->first, n;
    if (!jt_grow((void **)&m->next, &m->next_room, tokens * u->k, sizeof *m->next))
        return false;
    for (int e = 0; e < u->n_experts; e++)
        m->priority[e] = NEVER - (uint64_t)e;
    for (size_t t = tokens; t-- > 0;) {
        const uint16_t *experts = jt_uses_row(u, m->first + t, &n);
        for (size_t i = n; i-- > 0;) {
            m->next[t * u->k + i] = m->priority[experts[i]];
            m->priority[experts[i]] = t * u->k + i;
        }
    }
    return true;
}

static bool begin(machine *m)
{
    bool good = m->cache != JT_CACHE_BELADY || find_next(m);
    m->n_stack = 0;
    m->clock = 0;
    memset(m->priority, 0, (size_t)m->uses->n_experts * sizeof *m->priority);
    for (size_t t = m->first; t < m->end && t - m->first < ahead(m->cache); t++)
        see(m, t);
    return good;
}

/* Book the places of these experts in the stack. */
static void look_up(machine *m, const uint16_t *experts, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        m->marked[experts[i]] = 1;
    for (size_t place = 0; place < m->n_stack && found < n; place++) {
        if (m->marked[m->stack[place]]) {
            m->ranks[place]++;
            found++;
        }
    }
    for (size_t fresh = 0; fresh < n - found; fresh++)
        m->ranks[m->n_stack + fresh]++;
    for (size_t i = 0; i < n; i++)
        m->marked[experts[i]] = 0;
}

/* Expert `x` comes to the top. What stood there sinks: at each place the one with the
 * higher priority stays and the other goes on, down to where x was. */
static void bring_in(machine *m, uint16_t x)
{
    if (!m->n_stack) {
        m->stack[m->n_stack++] = x;
        return;
    }
    uint16_t sinking = m->stack[0];
    uint64_t priority = m->priority[sinking];
    m->stack[0] = x;
    if (sinking == x)
        return;
    for (size_t place = 1; place < m->n_stack; place++) {
        uint16_t e = m->stack[place];
        if (e == x) {
            m->stack[place] = sinking;
            return;
        }
        if (m->priority[e] < priority) { /* seldom: a new least one */
            m->stack[place] = sinking;
            sinking = e;
            priority = m->priority[e];
        }
    }
    m->stack[m->n_stack++] = sinking;
}

/* What the priority of an expert is after a use. */
static void reckon(machine *m, uint16_t x, uint64_t next)
{
    uint64_t *priority = &m->priority[x], one = (uint64_t)1 << RECENCY_BITS;
    m->clock++;
    if (m->cache == JT_CACHE_BELADY)
        *priority = ~next;
    else if (m->cache == JT_CACHE_LRU)
        *priority = m->clock;
    else if (m->cache == JT_CACHE_LFU)
        *priority = ((*priority & ~RECENCY) + one) | m->clock;
    else
        *priority = ((*priority & ~RECENCY) - one) | m->clock;
}

static void run_text(machine *m)
{
    size_t k = m->uses->k, n, sight = ahead(m->cache);
    for (size_t t = m->first; t < m->end; t++) {
        const uint16_t *experts = jt_uses_row(m->uses, t, &n);
        const uint64_t *next = m->next ? m->next + (t - m->first) * k : NULL;
        look_up(m, experts, n);
        for (size_t i = 0; i < n; i++) {
            bring_in(m, experts[i]);
            reckon(m, experts[i], next ? next[i] : 0);
        }
        if (sight && t + sight < m->end)
            see(m, t + sight);
    }
}

static bool run(machine *m)
{
    const jt_uses *u = m->uses;
    for (m->first = 0; m->first < u->n_tokens; m->first = m->end) {
        m->end = m->first + 1;
        while (m->end < u->n_tokens && !u->begins[m->end])
            m->end++;
        if (!begin(m))
            return false;
        run_text(m);
    }
    return true;
}

jt_status jt_cache_hits(uint64_t *hits, const jt_uses *uses, jt_caching cache,
                        jt_err *err)
{
    size_t n = (size_t)uses->n_experts;
    machine m = {.uses = uses,
                 .cache = cache,
                 .stack = jt_alloc(n, sizeof *m.stack),
                 .priority = jt_alloc(n, sizeof *m.priority),
                 .marked = jt_calloc(n, sizeof *m.marked),
                 .ranks = hits};
    memset(hits, 0, n * sizeof *hits);
    bool good = m.stack && m.priority && m.marked && run(&m);
    for (size_t i = 1; i < n; i++)
        hits[i] += hits[i - 1];
    free(m.stack);
    free(m.priority);
    free(m.marked);
    free(m.next);
    return good ? JT_OK : jt_fail_memory(err, "trying caches");
}
