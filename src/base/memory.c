#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64 };

static long fault_countdown = -1;

void jt_fault_after(long n)
{
    fault_countdown = n;
}

static bool fault_now(void)
{
    if (fault_countdown < 0)
        return false;
    return fault_countdown-- == 0;
}

bool jt_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

void *jt_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (!jt_mul(count, size, &bytes) || bytes > PTRDIFF_MAX - ALIGN || fault_now())
        return NULL;
    size_t rounded = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    return aligned_alloc(ALIGN, rounded ? rounded : ALIGN);
}

void *jt_calloc(size_t count, size_t size)
{
    void *p = jt_alloc(count, size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

void *jt_alloc_large(size_t bytes)
{
    enum { HUGE = 2 << 20 };
    if (bytes > PTRDIFF_MAX - HUGE || fault_now())
        return NULL;
    size_t rounded = (bytes + HUGE - 1) & ~(size_t)(HUGE - 1);
    void *p = aligned_alloc(HUGE, rounded ? rounded : HUGE);
    if (p)
        madvise(p, rounded, MADV_HUGEPAGE); /* a wish: small pages work as well */
    return p;
}

char *jt_strndup(const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? jt_alloc(len + 1, 1) : NULL;
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

bool jt_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return true;
    size_t wanted = *capacity < 16 ? 16 : *capacity;
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2)
            return false;
        wanted *= 2;
    }
    size_t bytes;
    if (!jt_mul(wanted, size, &bytes) || bytes > PTRDIFF_MAX || fault_now())
        return false;
    void *grown = realloc(*items, bytes);
    if (!grown)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

struct jt_arena_block {
    jt_arena_block *next;
    size_t bytes; /* usable, after the header */
};

enum { HEADER = ALIGN, BLOCK_BYTES = 1 << 20, LARGE_BYTES = 8 << 20 };

static char *block_data(jt_arena_block *block)
{
    return (char *)block + HEADER;
}

/* Step to the next kept block, or put a fresh one behind the current. */
static bool next_block(jt_arena *arena, size_t bytes)
{
    jt_arena_block *kept = arena->current ? arena->current->next : arena->first;
    if (!kept || kept->bytes < bytes) {
        /* Few large blocks: what they do not use stays untouched, and the same work
         * with slightly other sizes fits again. */
        size_t want = arena->first ? arena->total / 2 : arena->total;
        want = want > BLOCK_BYTES ? want : BLOCK_BYTES;
        size_t held = arena->first ? arena->total : 0;
        size_t left = arena->limit > held ? arena->limit - held : 0;
        if (arena->limit && want > left)
            want = left;
        want = bytes > want ? bytes : want;
        if (want > PTRDIFF_MAX - HEADER || (arena->limit && want > left))
            return false;
        jt_arena_block *fresh = want < LARGE_BYTES ? jt_alloc(want + HEADER, 1)
                                                   : jt_alloc_large(want + HEADER);
        if (!fresh)
            return false;
        *fresh = (jt_arena_block){.next = kept, .bytes = want};
        if (!arena->first)
            arena->total = 0;
        if (arena->current)
            arena->current->next = fresh;
        else
            arena->first = fresh;
        arena->total += want;
        kept = fresh;
    }
    arena->current = kept;
    arena->used = 0;
    return true;
}

void *jt_arena_alloc(jt_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!jt_mul(count, size, &bytes) || bytes > PTRDIFF_MAX - ALIGN)
        return NULL;
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (!arena->current || arena->current->bytes - arena->used < bytes) {
        if (!next_block(arena, bytes))
            return NULL;
    }
    void *p = block_data(arena->current) + arena->used;
    arena->used += bytes;
    return p;
}

jt_arena_mark jt_arena_save(const jt_arena *arena)
{
    return (jt_arena_mark){arena->current, arena->used};
}

static void free_blocks(jt_arena *arena)
{
    for (jt_arena_block *block = arena->first, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    arena->first = arena->current = NULL;
    arena->used = 0;
}

bool jt_arena_reserve(jt_arena *arena, size_t bytes)
{
    bool done = next_block(arena, bytes);
    arena->current = NULL;
    return done;
}

void jt_arena_rewind(jt_arena *arena, jt_arena_mark mark)
{
    arena->current = mark.block;
    arena->used = mark.used;
    /* Empty, and in pieces: the next block will be one as large as all of them. */
    if (!mark.block && arena->first && arena->first->next)
        free_blocks(arena);
}

void jt_arena_free(jt_arena *arena)
{
    free_blocks(arena);
    arena->total = 0;
}
