/* The inside of a tokenizer, shared by vocab.c and ranks.c (which read it from a file),
 * tokenizer.c, encode.c and decode.c. */
#ifndef JT_TEXT_VOCAB_H
#define JT_TEXT_VOCAB_H

#include "base/memory.h"
#include "format/names.h"
#include "junto/tokenizer.h"
#include "text/merges.h"
#include "text/pretoken.h"
#include "text/specials.h"

/* Values of tokenizer.ggml.token_type. */
typedef enum jt_token_type {
    JT_TOKEN_NORMAL = 1,
    JT_TOKEN_UNKNOWN = 2,
    JT_TOKEN_CONTROL = 3,
    JT_TOKEN_USER = 4, /* always found in text, never merged */
    JT_TOKEN_UNUSED = 5,
    JT_TOKEN_BYTE = 6 /* "<0x0A>" */
} jt_token_type;

typedef struct jt_token {
    jt_str text;  /* as the file has it: "Ġthe", "▁the", "<0x0A>" */
    jt_str piece; /* the bytes it stands for: " the", " the", "\n" */
    unsigned char type;
    bool end; /* of a reply */
} jt_token;

struct jt_tokenizer {
    jt_arena arena; /* tokens and their bytes */
    jt_token *tokens;
    size_t count;
    jt_names by_text;  /* all tokens */
    jt_names by_piece; /* normal tokens; only for whole_words */

    bool sentencepiece;         /* kind "llama"; otherwise byte-level, "gpt2" */
    const jt_pretokenizer *pre; /* NULL for "llama" */
    jt_splitter splitter;       /* of `pre` */
    jt_merges merges;
    jt_specials specials;

    int32_t bytes[256]; /* tokens of single bytes, -1 where there are none */
    int32_t ascii[128]; /* "llama": tokens of single characters, likewise */
    int32_t bos, eos, unknown;
    bool add_bos, add_eos;
    bool space_prefix; /* "llama": a space goes before each stretch of text */
};

/* Read tokens, types and the ids and switches of special tokens; fill in everything but
 * merges and splitter. On failure jt_tokenizer_free cleans up. */
jt_status jt_vocab_read(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);

/* Fill in the merges: of the list in the file, or from the scores of the tokens. */
jt_status jt_vocab_read_merges(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);
jt_status jt_vocab_read_scores(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);

/* An array key of `item_type` with `count` items (any number when it is 0). */
jt_status jt_vocab_array(const jt_gguf_kv **out, const jt_gguf *file, const char *key,
                         size_t count, jt_err *err);

/* The token with this text, -1 when there is none. */
int32_t jt_vocab_find(const jt_tokenizer *tok, jt_str text);

/* U+2581, which stands for a space in SentencePiece vocabularies. */
#define JT_SPACE_MARK "\xe2\x96\x81"

#endif
