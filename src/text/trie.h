/* Byte strings to numbers, so that all strings that a text begins with are found in one
 * pass: a tree whose edges lie in a hash table. */
#ifndef JT_TEXT_TRIE_H
#define JT_TEXT_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"

typedef struct jt_trie_edge {
    uint32_t from, to; /* nodes; `to` 0: a free slot */
    int32_t value;     /* of the string that ends at `to`; -1: none does */
    unsigned char byte;
} jt_trie_edge;

/* {0} is empty and ready. Node 0 is the root. */
typedef struct jt_trie {
    jt_trie_edge *slots; /* a power of two of them, at most half in use */
    size_t capacity, used;
} jt_trie;

/* Remember `text`, not empty, with a value of at least 0; a later one with the same
 * text replaces it. false: out of memory. */
bool jt_trie_add(jt_trie *trie, jt_str text, int32_t value);
void jt_trie_free(jt_trie *trie);

/* Follow one byte from `node`; NULL when no string goes on there. */
const jt_trie_edge *jt_trie_step(const jt_trie *trie, uint32_t node,
                                 unsigned char byte);

#endif
