/* Puts together small GGUF files that hold a vocabulary, right and wrong ones. */
#ifndef TEST_TEXT_VOCAB_FILE_H
#define TEST_TEXT_VOCAB_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"
#include "junto/tokenizer.h"

enum { VOCAB_KEYS_MOST = 64 };

/* Encoded keys, in order; starts as {0}. */
typedef struct vocab_file {
    struct {
        char *key;
        unsigned char *value; /* type and value, as they lie in a file */
        size_t bytes;
    } keys[VOCAB_KEYS_MOST];
    size_t count;
    unsigned char *image; /* of the whole file, once a tokenizer was asked for */
} vocab_file;

/* Set a key; a later value takes the place of an earlier one. `text` lists are split at
 * line ends. */
void vocab_str(vocab_file *v, const char *key, const char *text);
void vocab_strs(vocab_file *v, const char *key, const char *text);
void vocab_u32(vocab_file *v, const char *key, uint32_t value);
void vocab_bool(vocab_file *v, const char *key, int value);
void vocab_i32s(vocab_file *v, const char *key, const int32_t *values, size_t count);
void vocab_f32s(vocab_file *v, const char *key, const float *values, size_t count);
void vocab_copy(vocab_file *v, const jt_gguf_kv *kv);
void vocab_unset(vocab_file *v, const char *key);

/* Two small vocabularies. Byte-level: byte b is token b, then come merges of "the",
 * runs of 'a' and of spaces and a few more, then special tokens. SentencePiece: <unk>,
 * <s>,
 * </s>, the byte tokens, and pieces of the same. */
void vocab_small_bytes(vocab_file *v, const char *pre);
void vocab_small_pieces(vocab_file *v);

/* The same tokens as a unigram vocabulary; and a few words, of kind "bert". */
void vocab_small_unigram(vocab_file *v);
void vocab_small_words(vocab_file *v);

/* The file as bytes; they belong to `v`. */
const unsigned char *vocab_image(vocab_file *v, size_t *bytes);
/* Make a tokenizer of it. */
jt_status vocab_tokenizer(jt_tokenizer **out, vocab_file *v, jt_err *err);
void vocab_free(vocab_file *v);

#endif
