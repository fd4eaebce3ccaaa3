/* Byte-pair merges: a table from pairs of tokens to what they become, and the loop that
 * applies it. Byte-level and SentencePiece vocabularies share both: a merge has a rank,
 * and of all possible merges the one with the lowest rank, then the leftmost, is done.
 */
#ifndef JT_TEXT_MERGES_H
#define JT_TEXT_MERGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JT_NO_PAIR UINT64_MAX

typedef struct jt_merge {
    uint64_t pair; /* left << 32 | right; JT_NO_PAIR in a free slot */
    uint32_t rank;
    int32_t id; /* of the merged token */
} jt_merge;

typedef struct jt_merges {
    jt_merge *slots; /* a power of two of them, at most half in use */
    unsigned shift;  /* 64 - log2(slots) */
    size_t mask;
} jt_merges;

/* A table for up to `most` merges. false: out of memory. */
bool jt_merges_new(jt_merges *table, size_t most);
void jt_merges_free(jt_merges *table);
/* false: the pair is there already. */
bool jt_merges_add(jt_merges *table, int32_t left, int32_t right, uint32_t rank,
                   int32_t id);

/* A linked list of tokens in an array; the first is always symbols[0]. */
typedef struct jt_symbol {
    int32_t id; /* -1 once merged into its left neighbour */
    uint32_t prev, next;
} jt_symbol;

#define JT_SYMBOL_END UINT32_MAX

/* Scratch memory, reused from piece to piece; starts as {0}. */
typedef struct jt_merger {
    jt_symbol *symbols;
    size_t count, capacity;
    uint64_t *heap;
    size_t heap_count, heap_capacity;
} jt_merger;

/* Begin an empty list; append a symbol (false: out of memory; at most 2^32 - 2). */
void jt_merger_reset(jt_merger *merger);
bool jt_merger_push(jt_merger *merger, int32_t id);
/* Merge what can be merged, in O(n log n). false: out of memory. */
bool jt_merger_run(jt_merger *merger, const jt_merges *table);
void jt_merger_free(jt_merger *merger);

#endif
