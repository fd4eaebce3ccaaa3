/* Pairs of neighbouring tokens: how often each is seen, in which words, and which is
 * the most frequent one. */
#ifndef JT_TEXT_BPE_PAIRS_H
#define JT_TEXT_BPE_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct jt_pair {
    int32_t left, right;
    uint64_t count;
    uint64_t queued; /* count of its entry in the queue; 0: none */
    uint32_t *words; /* where it is, or was */
    size_t n_words, words_capacity;
    bool changed; /* since the queue was last brought up to date */
    bool merged;  /* the caller's mark; false at first */
} jt_pair;

/* An entry of the queue. A pair's count may have fallen since: this shows when the
 * entry comes up, which is then put back. When it rises a new entry is made. */
typedef struct jt_pair_entry {
    uint64_t count, key;
    uint32_t pair;
} jt_pair_entry;

/* {0} is empty and ready. */
typedef struct jt_pairs {
    jt_pair *items;
    size_t count, capacity;
    uint32_t *slots; /* hash table of indices plus one; 0: free */
    size_t n_slots;  /* a power of two, at most half in use */
    jt_pair_entry *queue;
    size_t queue_count, queue_capacity;
    uint32_t *changed;
    size_t n_changed, changed_capacity;
} jt_pairs;

/* Count a pair `count` times more, in `word`; or less. jt_pairs_add is false when out
 * of memory. A pair that is counted less is there. */
bool jt_pairs_add(jt_pairs *pairs, int32_t left, int32_t right, uint64_t count,
                  uint32_t word);
void jt_pairs_remove(jt_pairs *pairs, int32_t left, int32_t right, uint64_t count);

/* Bring the queue up to date. false: out of memory. */
bool jt_pairs_update(jt_pairs *pairs);

/* Take the most frequent pair from the queue, of equals the one with the smaller ids.
 * It comes back when its count rises. NULL when none is seen `least` times. The pointer
 * is good until the next pair is added. */
jt_pair *jt_pairs_take(jt_pairs *pairs, uint64_t least);

void jt_pairs_free(jt_pairs *pairs);

#endif
