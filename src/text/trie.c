#include "text/trie.h"

#include <stdlib.h>

#include "base/memory.h"

/* The slot of an edge, or the free one where it belongs. */
static jt_trie_edge *find_slot(const jt_trie *trie, uint32_t from, unsigned char byte)
{
    size_t mask = trie->capacity - 1;
    uint64_t hash = ((uint64_t)from << 8 | byte) * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(hash >> 32) & mask;; i = (i + 1) & mask) {
        jt_trie_edge *edge = &trie->slots[i];
        if (!edge->to || (edge->from == from && edge->byte == byte))
            return edge;
    }
}

static bool enlarge(jt_trie *trie)
{
    jt_trie larger = {.capacity = trie->capacity ? 2 * trie->capacity : 1024,
                      .used = trie->used};
    if (larger.capacity > UINT32_MAX)
        return false;
    larger.slots = jt_calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < trie->capacity; i++) {
        const jt_trie_edge *edge = &trie->slots[i];
        if (edge->to)
            *find_slot(&larger, edge->from, edge->byte) = *edge;
    }
    free(trie->slots);
    *trie = larger;
    return true;
}

bool jt_trie_add(jt_trie *trie, jt_str text, int32_t value)
{
    uint32_t node = 0;
    jt_trie_edge *edge = NULL;
    for (size_t i = 0; i < text.len; i++, node = edge->to) {
        if (trie->used >= trie->capacity / 2 && !enlarge(trie))
            return false;
        unsigned char byte = (unsigned char)text.data[i];
        edge = find_slot(trie, node, byte);
        if (!edge->to)
            *edge = (jt_trie_edge){node, (uint32_t)++trie->used, -1, byte};
    }
    if (edge)
        edge->value = value;
    return true;
}

void jt_trie_free(jt_trie *trie)
{
    free(trie->slots);
    *trie = (jt_trie){0};
}

const jt_trie_edge *jt_trie_step(const jt_trie *trie, uint32_t node, unsigned char byte)
{
    if (!trie->used)
        return NULL;
    const jt_trie_edge *edge = find_slot(trie, node, byte);
    return edge->to ? edge : NULL;
}
