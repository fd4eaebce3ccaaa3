/* Learning byte-pair merges: pieces of text are counted (bpe_words.c), then pairs of
 * tokens merged (bpe_train.c). */
#ifndef JT_TEXT_BPE_H
#define JT_TEXT_BPE_H

#include "base/memory.h"
#include "format/names.h"

/* Different pieces, and how often each was seen. */
typedef struct jt_word {
    jt_str text;
    uint64_t count;
} jt_word;

typedef struct jt_words {
    jt_word *items; /* in the order in which they were first seen */
    size_t count, capacity;
    jt_names index;
    jt_arena arena; /* bytes of the texts */
    char *room;     /* what is left of the arena's last block */
    size_t room_left;
    uint64_t bytes, pieces; /* seen, all together */
} jt_words;

/* Count one more `text`. Errors: JT_E_MEMORY, JT_E_LIMIT (a piece of 2^32 bytes, 2^32
 * pieces). */
jt_status jt_words_add(jt_words *words, jt_str text, jt_err *err);
void jt_words_free(jt_words *words); /* {0} is fine */

typedef struct jt_bpe_merge {
    int32_t left, right, id;
} jt_bpe_merge;

/* A vocabulary: tokens 0 to 255 are the bytes, in the order of their characters in the
 * alphabet (text/alphabet.h); the others were merged. */
typedef struct jt_bpe {
    jt_str *tokens; /* their bytes, in `arena` */
    size_t n_tokens, tokens_capacity;
    jt_bpe_merge *merges;
    size_t n_merges, merges_capacity;
    uint64_t text_tokens; /* of the words, each as often as it was seen */
    jt_names by_bytes;
    jt_arena arena;
} jt_bpe;

/* Merge until there are `size` tokens (at least 256) or no pair is left that was seen
 * `min_count` times. Errors: JT_E_MEMORY, JT_E_INTERRUPTED. jt_bpe_free is for failures
 * too. */
jt_status jt_bpe_train(jt_bpe *out, const jt_words *words, size_t size,
                       uint64_t min_count, const jt_progress *progress, jt_err *err);
void jt_bpe_free(jt_bpe *bpe);

#endif
