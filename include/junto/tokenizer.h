/* Tokenizers: bytes to token ids and back.
 *
 * Four kinds, as the GGUF key tokenizer.ggml.model names them: byte-level BPE ("gpt2",
 * with the pre-tokenizer named by tokenizer.ggml.pre), the SentencePiece-style BPE of
 * Llama 2 and Gemma ("llama": byte fallback), Unigram ("t5") and WordPiece ("bert").
 * What GGUF has no key for stands in keys of our own (docs/formats.md, "Vocabularies").
 *
 * For any bytes that a BPE vocabulary can express, decoding the encoded text gives the
 * same bytes back, with two exceptions that the models were trained with: the families
 * that normalize text (Qwen, OLMo and others: Unicode form C) give the normalized text,
 * and SentencePiece cannot tell U+2581 from a space. Unigram and WordPiece vocabularies
 * give the normalized text with single spaces; WordPiece puts one before each
 * punctuation mark.
 */
#ifndef JUNTO_TOKENIZER_H
#define JUNTO_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_tokenizer jt_tokenizer;

/* Build from the tokenizer.* keys of a file. The tokenizer borrows nothing: the file
 * may be closed afterwards. Errors: JT_E_FORMAT (missing or contradicting keys,
 * duplicate special tokens, merges of unknown tokens), JT_E_UNSUPPORTED (another kind
 * or pre-tokenizer, which the message names; an expression that cannot be compiled),
 * JT_E_LIMIT, JT_E_MEMORY. */
JT_API jt_status jt_tokenizer_new(jt_tokenizer **out, const jt_gguf *file, jt_err *err);
JT_API void jt_tokenizer_free(jt_tokenizer *tok); /* NULL is fine */

/* A growing list of tokens; starts as {0}, freed with free(list.ids). */
typedef struct jt_tokens {
    int32_t *ids;
    size_t count, capacity;
} jt_tokens;

typedef enum jt_encode_flags {
    JT_ENCODE_ADD_SPECIAL = 1, /* begin/end tokens where the vocabulary asks for them */
    JT_ENCODE_PARSE_SPECIAL = 2 /* "<|im_start|>" in the text becomes that token */
} jt_encode_flags;

/* Append the tokens of `text` (any bytes, `len` of them, may contain NUL). Invalid
 * UTF-8 is encoded byte by byte where the vocabulary has bytes. On failure `tokens` is
 * as before. Thread-safe on one tokenizer. Bytes that a byte-level vocabulary lacks are
 * left out, as the libraries do that such models come from. Errors: JT_E_UNSUPPORTED
 * (the other kinds without byte tokens and unknown token: a character that they lack),
 * JT_E_MEMORY, JT_E_LIMIT (2 GiB of text, or the expression engine gave up). */
JT_API jt_status jt_encode(const jt_tokenizer *tok, const char *text, size_t len,
                           unsigned flags, jt_tokens *tokens, jt_err *err);

/* Bytes of one token: a borrowed view, for special tokens their text. Ids outside the
 * vocabulary give {NULL, 0}. A sequence of pieces, joined, is the decoded text, but for
 * the space that SentencePiece vocabularies add at the beginning and after each special
 * token (jt_decode takes it off). */
JT_API jt_str jt_token_piece(const jt_tokenizer *tok, int32_t id);

/* Decode `count` tokens into a fresh NUL-terminated buffer (*len bytes before the NUL;
 * caller frees). `special` false leaves special (control) tokens out. */
JT_API jt_status jt_decode(const jt_tokenizer *tok, const int32_t *ids, size_t count,
                           bool special, char **text, size_t *len, jt_err *err);

JT_API size_t jt_vocab_size(const jt_tokenizer *tok);
/* "gpt2", "llama", "t5" or "bert"; name of the pre-tokenizer of "gpt2" ("junto" when
 * its steps stand in the file), "" for the others. */
JT_API const char *jt_tokenizer_kind(const jt_tokenizer *tok);
JT_API const char *jt_tokenizer_pre(const jt_tokenizer *tok);

/* Ids of special tokens; -1 where the vocabulary has none. */
JT_API int32_t jt_token_bos(const jt_tokenizer *tok);
JT_API int32_t jt_token_eos(const jt_tokenizer *tok);
JT_API int32_t jt_token_unknown(const jt_tokenizer *tok);
/* Id of a token by its exact vocabulary text ("<|im_end|>"); -1 when absent. */
JT_API int32_t jt_token_find(const jt_tokenizer *tok, const char *text, size_t len);
/* Control tokens (never part of plain text) and tokens that end a reply (eos, eot,
 * "<|im_end|>", "<|eot_id|>", "</s>", ...). */
JT_API bool jt_token_is_special(const jt_tokenizer *tok, int32_t id);
JT_API bool jt_token_is_end(const jt_tokenizer *tok, int32_t id);

#ifdef __cplusplus
}
#endif
#endif
