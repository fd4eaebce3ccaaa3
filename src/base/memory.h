/* Checked allocation and arenas.
 *
 * All sizes are multiplied through jt_mul / jt_alloc so that an overflow is a failed
 * allocation and never a short buffer. Tests make the n-th allocation fail with
 * jt_fault_after. */
#ifndef JT_BASE_MEMORY_H
#define JT_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

/* a * b into *out; false on overflow. */
bool jt_mul(size_t a, size_t b, size_t *out);

/* count * size bytes, not initialised (jt_alloc) or zero (jt_calloc), 64-byte aligned,
 * freed with free(). A count of 0 gives a valid pointer. NULL only on failure. */
void *jt_alloc(size_t count, size_t size);
void *jt_calloc(size_t count, size_t size);
/* `bytes` of untouched memory for streaming through, in huge pages where the system has
 * them: a processor that need not look up every 4 KiB reads up to twice as fast. Freed
 * with free(). */
void *jt_alloc_large(size_t bytes);
char *jt_strndup(const char *text, size_t len);

/* Make room for `need` items in a growing array; false (unchanged) on failure. */
bool jt_grow(void **items, size_t *capacity, size_t need, size_t size);

/* For tests: the n-th allocation from now (0 = the next) fails, then all is well
 * again; negative switches it off. Not thread-safe. */
void jt_fault_after(long n);

/* "out of memory while <what>" */
static inline jt_status jt_fail_memory(jt_err *err, const char *what)
{
    return jt_fail(err, JT_E_MEMORY, "out of memory while %s", what);
}

/* Memory that dies together. Allocation moves forward through blocks; a mark remembers
 * a place and a rewind frees all that came later, keeping the blocks for reuse, so a
 * decoding step that fits its blocks makes no heap call. */
typedef struct jt_arena_block jt_arena_block;
typedef struct jt_arena {
    jt_arena_block *first, *current;
    size_t used;  /* bytes used of the current block */
    size_t total; /* bytes held in all blocks */
    size_t limit; /* that `total` may not exceed; 0: none */
} jt_arena;

typedef struct jt_arena_mark {
    jt_arena_block *block;
    size_t used;
} jt_arena_mark;

/* count * size bytes, 64-byte aligned, not initialised. NULL on failure. A jt_arena
 * that is all zero is empty and ready. */
void *jt_arena_alloc(jt_arena *arena, size_t count, size_t size);
/* One block of at least `bytes` for an arena that is all zero, so that work whose size
 * is known lies in one piece. False (unchanged) on failure. */
bool jt_arena_reserve(jt_arena *arena, size_t bytes);
jt_arena_mark jt_arena_save(const jt_arena *arena);
void jt_arena_rewind(jt_arena *arena, jt_arena_mark mark);
void jt_arena_free(jt_arena *arena);

#endif
