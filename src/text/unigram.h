/* Unigram vocabularies: a text becomes those tokens whose scores (logarithms of
 * probabilities) have the greatest sum (T. Kudo, "Subword Regularization", 2018; the
 * search as in sentencepiece/src/unigram_model.cc, EncodeOptimized). */
#ifndef JT_TEXT_UNIGRAM_H
#define JT_TEXT_UNIGRAM_H

#include "junto/status.h"
#include "text/trie.h"

typedef struct jt_unigram {
    jt_trie trie;   /* of the tokens that may stand in text */
    float *scores;  /* of all tokens */
    double unknown; /* score of a character that no token has */
} jt_unigram;

/* The best way to a place in the text. */
typedef struct jt_unigram_place {
    double score;
    size_t from;
    int32_t id; /* -1: one character that no token has */
} jt_unigram_place;

/* Scratch memory, reused from piece to piece; starts as {0}. */
typedef struct jt_unigram_work {
    jt_unigram_place *places;
    size_t capacity;
} jt_unigram_work;

/* Call `fn` for each token of `text` (not empty; a byte that is no UTF-8 is a
 * character) in order, with the bytes that it stands for. Errors: JT_E_MEMORY, those of
 * `fn`. */
typedef jt_status jt_unigram_fn(void *user, int32_t id, jt_str bytes);
jt_status jt_unigram_run(const jt_unigram *unigram, jt_unigram_work *work, jt_str text,
                         jt_unigram_fn *fn, void *user, jt_err *err);

#endif
