/* One pool of threads per context: parallel loops over an index range.
 *
 * The caller works, too, and waits only for threads that took part in the loop: one
 * that the system has put aside (a busy machine, more threads than processors) is not
 * missed, the others do its share. Items must be independent: which thread runs an item
 * is not fixed, so results may depend on the item but never on the thread. */
#ifndef JT_BASE_POOL_H
#define JT_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

typedef struct jt_pool jt_pool;

/* `threads` counts the caller; 0 means all processors that this process may use. */
jt_status jt_pool_new(jt_pool **out, int threads, jt_err *err);
void jt_pool_free(jt_pool *pool); /* NULL is fine */
int jt_pool_threads(const jt_pool *pool);

/* Processors that this process may use. */
int jt_processors(void);

/* Which thread of its pool the caller of this is: 0 is the one that runs the loop. For
 * scratch memory of a thread's own, never for results. */
int jt_pool_self(void);

/* Call fn(arg, i) for every i < count and wait for all. From one thread at a time, and
 * not from inside an item. */
typedef void jt_pool_fn(void *arg, size_t i);
void jt_pool_run(jt_pool *pool, jt_pool_fn *fn, void *arg, size_t count);

/* What may come between the items of a long loop: the thread that runs it asks `due`
 * before each of its items, and if so lets the others finish theirs, calls `play`,
 * which may run loops of its own, and goes on. */
typedef struct jt_interlude {
    bool (*due)(void *user);
    void (*play)(void *user);
    void *user;
} jt_interlude;

/* Of all loops from now on; NULL: none. Returns the one before. In `play` there is
 * none. Whoever holds a lock that `play` may want says NULL for as long. */
const jt_interlude *jt_pool_interlude(jt_pool *pool, const jt_interlude *interlude);

#endif
