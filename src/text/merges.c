#include "text/merges.h"

#include <stdlib.h>

#include "base/memory.h"

bool jt_merges_new(jt_merges *table, size_t most)
{
    unsigned bits = 4;
    while (bits < 48 && ((size_t)1 << bits) / 2 < most)
        bits++;
    size_t count = (size_t)1 << bits;
    *table = (jt_merges){jt_alloc(count, sizeof *table->slots), 64 - bits, count - 1};
    if (!table->slots)
        return false;
    for (size_t i = 0; i < count; i++)
        table->slots[i] = (jt_merge){.pair = JT_NO_PAIR};
    return true;
}

void jt_merges_free(jt_merges *table)
{
    free(table->slots);
    *table = (jt_merges){0};
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot that holds `pair`, or the free one where it belongs. Multiplying by 2^64
 * over the golden ratio spreads pairs over the high bits, which choose the slot. */
static jt_merge *find_slot(const jt_merges *table, uint64_t pair)
{
    size_t i = (size_t)(pair * 0x9e3779b97f4a7c15u >> table->shift);
    while (table->slots[i].pair != pair && table->slots[i].pair != JT_NO_PAIR)
        i = (i + 1) & table->mask;
    return &table->slots[i];
}

bool jt_merges_add(jt_merges *table, int32_t left, int32_t right, uint32_t rank,
                   int32_t id)
{
    jt_merge *slot = find_slot(table, pair_of(left, right));
    if (slot->pair != JT_NO_PAIR)
        return false;
    *slot = (jt_merge){pair_of(left, right), rank, id};
    return true;
}

void jt_merger_reset(jt_merger *merger)
{
    merger->count = merger->heap_count = 0;
}

bool jt_merger_push(jt_merger *merger, int32_t id)
{
    if (!jt_grow((void **)&merger->symbols, &merger->capacity, merger->count + 1,
                 sizeof *merger->symbols))
        return false;
    uint32_t at = (uint32_t)merger->count++;
    merger->symbols[at] = (jt_symbol){id, at - 1, JT_SYMBOL_END};
    if (at > 0)
        merger->symbols[at - 1].next = at;
    return true;
}

void jt_merger_free(jt_merger *merger)
{
    free(merger->symbols);
    free(merger->heap);
    *merger = (jt_merger){0};
}

/* The merge of the symbol at `at` with its right neighbour; NULL when there is none. */
static const jt_merge *merge_at(const jt_merger *merger, const jt_merges *table,
                                uint32_t at)
{
    const jt_symbol *left = &merger->symbols[at];
    if (left->id < 0 || left->next == JT_SYMBOL_END)
        return NULL;
    const jt_merge *slot =
        find_slot(table, pair_of(left->id, merger->symbols[left->next].id));
    return slot->pair == JT_NO_PAIR ? NULL : slot;
}

/* The heap holds rank << 32 | place, smallest first: its order is the order of merges.
 * Entries are not removed when a neighbour's merge makes them stale; they are checked
 * when they come up. */
static void heap_push(jt_merger *merger, uint64_t entry)
{
    size_t i = merger->heap_count++;
    for (; i > 0 && merger->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        merger->heap[i] = merger->heap[(i - 1) / 2];
    merger->heap[i] = entry;
}

static uint64_t heap_pop(jt_merger *merger)
{
    uint64_t top = merger->heap[0], entry = merger->heap[--merger->heap_count];
    size_t i = 0, n = merger->heap_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && merger->heap[child + 1] < merger->heap[child])
            child++;
        if (merger->heap[child] >= entry)
            break;
        merger->heap[i] = merger->heap[child];
    }
    merger->heap[i] = entry;
    return top;
}

static void offer(jt_merger *merger, const jt_merges *table, uint32_t at)
{
    const jt_merge *merge = merge_at(merger, table, at);
    if (merge)
        heap_push(merger, (uint64_t)merge->rank << 32 | at);
}

/* Turn the symbol at `at` and its right neighbour into one. */
static void join(jt_merger *merger, uint32_t at, int32_t id)
{
    jt_symbol *left = &merger->symbols[at], *right = &merger->symbols[left->next];
    left->id = id;
    left->next = right->next;
    right->id = -1;
    if (left->next != JT_SYMBOL_END)
        merger->symbols[left->next].prev = at;
}

bool jt_merger_run(jt_merger *merger, const jt_merges *table)
{
    if (merger->count < 2)
        return true;
    /* A merge takes one entry from the heap and offers at most two: never more than
     * twice as many entries as symbols. */
    if (!jt_grow((void **)&merger->heap, &merger->heap_capacity, 2 * merger->count,
                 sizeof *merger->heap))
        return false;
    for (uint32_t at = 0; at + 1 < merger->count; at++)
        offer(merger, table, at);
    while (merger->heap_count > 0) {
        uint64_t entry = heap_pop(merger);
        uint32_t at = (uint32_t)entry;
        const jt_merge *merge = merge_at(merger, table, at);
        if (!merge || merge->rank != entry >> 32)
            continue;
        join(merger, at, merge->id);
        if (at > 0)
            offer(merger, table, merger->symbols[at].prev);
        offer(merger, table, at);
    }
    return true;
}
