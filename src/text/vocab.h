/* The inside of a tokenizer, shared by what reads it from a file (vocab*.c, ranks.c),
 * tokenizer.c, encode.c and decode.c. */
#ifndef JT_TEXT_VOCAB_H
#define JT_TEXT_VOCAB_H

#include "base/memory.h"
#include "format/names.h"
#include "junto/tokenizer.h"
#include "text/merges.h"
#include "text/pretoken.h"
#include "text/specials.h"
#include "text/trie.h"
#include "text/unigram.h"

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
    /* Special tokens: white space around it goes with it; it is no part of a word. */
    bool strip_left, strip_right, single_word;
} jt_token;

/* Values of tokenizer.ggml.model. */
typedef enum jt_vocab_kind {
    JT_VOCAB_BYTES,   /* "gpt2": merges of bytes */
    JT_VOCAB_PIECES,  /* "llama": merges of characters */
    JT_VOCAB_UNIGRAM, /* "t5": the likeliest tokens */
    JT_VOCAB_WORDS    /* "bert": the longest tokens */
} jt_vocab_kind;

struct jt_tokenizer {
    jt_arena arena; /* tokens and their bytes */
    jt_token *tokens;
    size_t count;
    jt_names by_text;  /* all tokens */
    jt_names by_piece; /* normal tokens; only for whole_words */

    jt_vocab_kind kind;
    const jt_pretokenizer *pre; /* of "gpt2"; NULL when the file says the steps */
    bool whole_words;           /* "gpt2": a piece that is a token needs no merges */
    jt_steps steps;
    jt_merges merges;   /* "gpt2", "llama" */
    jt_unigram unigram; /* "t5" */
    jt_trie words;      /* "bert": tokens that begin a word, without the mark */
    jt_trie parts;      /* "bert": tokens that continue one */
    uint32_t word_most; /* "bert": characters of a word; more are unknown */
    jt_specials specials;

    int32_t bytes[256]; /* tokens of single bytes, -1 where there are none */
    int32_t ascii[128]; /* "llama": tokens of single characters, likewise */
    int32_t bos, eos, unknown;
    bool add_bos, add_eos;
    int32_t *begin, *end; /* more tokens around a text, in the arena */
    size_t n_begin, n_end;
    /* Encoding puts a space before each stretch of text or (`space_once`) before the
     * whole; decoding takes it off. */
    bool space_prefix, space_once;
};

/* Read tokens, types and the bytes that they stand for. On failure jt_tokenizer_free
 * cleans up, here and below. */
jt_status jt_vocab_read(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);

/* Then, the ids and switches of special tokens. */
jt_status jt_vocab_read_roles(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);

/* Then, what finds tokens in text: indices of special and single tokens. */
jt_status jt_vocab_index(jt_tokenizer *tok, jt_err *err);

/* What is done to text first, and whether a space is put before it. */
jt_status jt_vocab_read_steps(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);

/* The merges: of the list in the file, or from the scores of the tokens. */
jt_status jt_vocab_read_merges(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);
jt_status jt_vocab_read_scores(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);
/* The trie of a unigram vocabulary with its scores, or of words. */
jt_status jt_vocab_read_unigram(jt_tokenizer *tok, const jt_gguf *file, jt_err *err);
jt_status jt_vocab_read_words(jt_tokenizer *tok, jt_err *err);

/* An optional key that is true or false; *on stays where it is absent. */
jt_status jt_vocab_switch(bool *on, const jt_gguf *file, const char *key, jt_err *err);

/* An array key of `item_type` with `count` items (any number when it is 0). */
jt_status jt_vocab_array(const jt_gguf_kv **out, const jt_gguf *file, const char *key,
                         size_t count, jt_err *err);

/* The token with this text, -1 when there is none. */
int32_t jt_vocab_find(const jt_tokenizer *tok, jt_str text);

/* U+2581, which stands for a space in SentencePiece vocabularies. */
#define JT_SPACE_MARK "\xe2\x96\x81"

/* Keys of our own. */
#define JT_KEY_NORMALIZER    "junto.tokenizer.normalizer"
#define JT_KEY_PRE_TOKENIZER "junto.tokenizer.pre_tokenizer"
#define JT_KEY_WHOLE_WORDS   "junto.tokenizer.whole_words"
#define JT_KEY_USE_MERGES    "junto.tokenizer.use_merges"
#define JT_KEY_BEGIN         "junto.tokenizer.begin_ids"
#define JT_KEY_END           "junto.tokenizer.end_ids"
#define JT_KEY_REPLY_ENDS    "junto.tokenizer.reply_end_ids"
#define JT_KEY_WORD_MOST     "junto.tokenizer.word_characters"
#define JT_KEY_STRIP_LEFT    "junto.tokenizer.strip_left"
#define JT_KEY_STRIP_RIGHT   "junto.tokenizer.strip_right"
#define JT_KEY_SINGLE_WORD   "junto.tokenizer.single_word"

#endif
