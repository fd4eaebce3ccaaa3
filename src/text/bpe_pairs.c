#include "text/bpe_pairs.h"

#include <stdlib.h>

#include "base/memory.h"

static uint64_t key_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot that holds the pair, or the free one where it belongs. */
static uint32_t *find_slot(const jt_pairs *pairs, int32_t left, int32_t right)
{
    uint64_t hash = key_of(left, right) * 0x9e3779b97f4a7c15u;
    for (size_t i = hash >> 32;; i++) {
        uint32_t *slot = &pairs->slots[i & (pairs->n_slots - 1)];
        if (!*slot || (pairs->items[*slot - 1].left == left &&
                       pairs->items[*slot - 1].right == right))
            return slot;
    }
}

static bool enlarge_table(jt_pairs *pairs)
{
    size_t n_slots = pairs->n_slots ? 2 * pairs->n_slots : 1024;
    uint32_t *slots = jt_calloc(n_slots, sizeof *slots);
    if (!slots)
        return false;
    free(pairs->slots);
    pairs->slots = slots;
    pairs->n_slots = n_slots;
    for (size_t i = 0; i < pairs->count; i++)
        *find_slot(pairs, pairs->items[i].left, pairs->items[i].right) =
            (uint32_t)i + 1;
    return true;
}

/* The pair, new if need be; NULL: out of memory, or of the numbers of a slot. */
static jt_pair *get(jt_pairs *pairs, int32_t left, int32_t right)
{
    if (pairs->count >= pairs->n_slots / 2 && !enlarge_table(pairs))
        return NULL;
    uint32_t *slot = find_slot(pairs, left, right);
    if (*slot)
        return &pairs->items[*slot - 1];
    if (pairs->count == UINT32_MAX || !jt_grow((void **)&pairs->items, &pairs->capacity,
                                               pairs->count + 1, sizeof *pairs->items))
        return NULL;
    jt_pair *pair = &pairs->items[pairs->count++];
    *pair = (jt_pair){.left = left, .right = right};
    *slot = (uint32_t)pairs->count;
    return pair;
}

static bool mark_changed(jt_pairs *pairs, jt_pair *pair)
{
    if (pair->changed)
        return true;
    if (!jt_grow((void **)&pairs->changed, &pairs->changed_capacity,
                 pairs->n_changed + 1, sizeof *pairs->changed))
        return false;
    pairs->changed[pairs->n_changed++] = (uint32_t)(pair - pairs->items);
    pair->changed = true;
    return true;
}

bool jt_pairs_add(jt_pairs *pairs, int32_t left, int32_t right, uint64_t count,
                  uint32_t word)
{
    jt_pair *pair = get(pairs, left, right);
    if (!pair || !mark_changed(pairs, pair))
        return false;
    pair->count += count;
    if (pair->n_words > 0 && pair->words[pair->n_words - 1] == word)
        return true;
    if (!jt_grow((void **)&pair->words, &pair->words_capacity, pair->n_words + 1,
                 sizeof *pair->words))
        return false;
    pair->words[pair->n_words++] = word;
    return true;
}

void jt_pairs_remove(jt_pairs *pairs, int32_t left, int32_t right, uint64_t count)
{
    pairs->items[*find_slot(pairs, left, right) - 1].count -= count;
}

/* More frequent, or as frequent and with smaller ids. */
static bool is_before(const jt_pair_entry *a, const jt_pair_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void sift_up(jt_pairs *pairs, jt_pair_entry entry)
{
    jt_pair_entry *queue = pairs->queue;
    size_t i = pairs->queue_count++;
    for (; i > 0 && is_before(&entry, &queue[(i - 1) / 2]); i = (i - 1) / 2)
        queue[i] = queue[(i - 1) / 2];
    queue[i] = entry;
}

static jt_pair_entry pop(jt_pairs *pairs)
{
    jt_pair_entry *queue = pairs->queue;
    jt_pair_entry top = queue[0], entry = queue[--pairs->queue_count];
    size_t i = 0, n = pairs->queue_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_before(&queue[child + 1], &queue[child]))
            child++;
        if (!is_before(&queue[child], &entry))
            break;
        queue[i] = queue[child];
    }
    queue[i] = entry;
    return top;
}

bool jt_pairs_update(jt_pairs *pairs)
{
    if (!jt_grow((void **)&pairs->queue, &pairs->queue_capacity,
                 pairs->queue_count + pairs->n_changed, sizeof *pairs->queue))
        return false;
    for (size_t i = 0; i < pairs->n_changed; i++) {
        uint32_t at = pairs->changed[i];
        jt_pair *pair = &pairs->items[at];
        pair->changed = false;
        if (pair->count <= pair->queued)
            continue;
        pair->queued = pair->count;
        uint64_t key = key_of(pair->left, pair->right);
        sift_up(pairs, (jt_pair_entry){pair->count, key, at});
    }
    pairs->n_changed = 0;
    return true;
}

jt_pair *jt_pairs_take(jt_pairs *pairs, uint64_t least)
{
    while (pairs->queue_count > 0) {
        jt_pair_entry entry = pop(pairs);
        jt_pair *pair = &pairs->items[entry.pair];
        if (entry.count != pair->queued)
            continue; /* there is a newer one */
        pair->queued = 0;
        if (pair->count < least)
            continue;
        if (pair->count == entry.count)
            return pair;
        entry.count = pair->queued = pair->count;
        sift_up(pairs, entry); /* into the room that it has left */
    }
    return NULL;
}

void jt_pairs_free(jt_pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++)
        free(pairs->items[i].words);
    free(pairs->items);
    free(pairs->slots);
    free(pairs->queue);
    free(pairs->changed);
    *pairs = (jt_pairs){0};
}
