/* "model" of a tokenizer.json: tokens, and what they are found by. */
#include <string.h>

#include "base/memory.h"
#include "text/export_impl.h"
#include "text/export_merges.h"

#define KEY(name) "tokenizer.ggml." name

/* ---- tokens ---- */

/* GGUF marks where words begin, WordPiece where they go on: "▁the" is "the", and "ing"
 * is "##ing". */
static json_t *word_text(const jt_exporter *x, uint64_t id)
{
    static const char mark[] = JT_SPACE_MARK;
    const size_t len = strlen(mark);
    jt_str text = jt_export_token(x, (int64_t)id);
    if (jt_export_type(x, id) != JT_TOKEN_NORMAL)
        return jt_export_text(text);
    if (text.len > len && memcmp(text.data, mark, len) == 0)
        return json_stringn(text.data + len, text.len - len);
    return json_pack("s+%", "##", text.data, text.len);
}

/* Is it one of the model's tokens, and not only an added one? */
static bool is_listed(const jt_exporter *x, uint64_t id)
{
    int64_t type = jt_export_type(x, id);
    if (x->kind == JT_VOCAB_WORDS)
        return type != JT_TOKEN_UNUSED;
    return type == JT_TOKEN_NORMAL || type == JT_TOKEN_BYTE ||
           x->kind == JT_VOCAB_PIECES;
}

/* {"token": id}; in order of the ids. Bytes of SentencePiece are tokens, too. */
static json_t *vocabulary(const jt_exporter *x)
{
    json_t *vocab = json_object();
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        if (!is_listed(x, i))
            continue;
        json_t *text = x->kind == JT_VOCAB_WORDS
                           ? word_text(x, i)
                           : jt_export_text(jt_export_token(x, (int64_t)i));
        json_object_setn_new(vocab, json_string_value(text), json_string_length(text),
                             json_integer((json_int_t)i));
        json_decref(text);
    }
    return vocab;
}

/* [["token", score]], one for each id */
static json_t *scored_vocabulary(const jt_exporter *x)
{
    const jt_gguf_kv *scores = jt_gguf_kv_find(x->file, KEY("scores"));
    json_t *vocab = json_array();
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        float score = 0;
        if (scores)
            jt_gguf_item_f32(scores, i, &score);
        json_array_append_new(
            vocab, json_pack("[o, f]", jt_export_text(jt_export_token(x, (int64_t)i)),
                             (double)score));
    }
    return vocab;
}

static bool has_bytes(const jt_exporter *x)
{
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        if (jt_export_type(x, i) == JT_TOKEN_BYTE)
            return true;
    }
    return false;
}

/* The key, or the first token of that type; -1 for none. */
static int64_t unknown_id(const jt_exporter *x)
{
    int64_t id;
    if (jt_gguf_get_i64(x->file, KEY("unknown_token_id"), &id))
        return id;
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        if (jt_export_type(x, i) == JT_TOKEN_UNKNOWN)
            return (int64_t)i;
    }
    return -1;
}

static json_t *unknown_token(const jt_exporter *x)
{
    int64_t id = unknown_id(x);
    if (x->kind == JT_VOCAB_BYTES || id < 0)
        return json_null();
    return jt_export_text(jt_export_token(x, id));
}

/* ---- models ---- */

/* "a b" -> ["a", "b"] */
static json_t *listed_merges(const jt_gguf_kv *kv)
{
    json_t *merges = json_array();
    for (uint64_t i = 0; i < kv->count; i++) {
        jt_str text = {"", 0};
        jt_gguf_item_str(kv, i, &text);
        const char *space =
            text.len > 1 ? memchr(text.data + 1, ' ', text.len - 1) : NULL;
        size_t left = space ? (size_t)(space - text.data) : text.len;
        size_t right = space ? text.len - left - 1 : 0;
        json_array_append_new(merges, json_pack("[s%, s%]", text.data, left,
                                                space ? space + 1 : "", right));
    }
    return merges;
}

static jt_status merges(const jt_exporter *x, json_t **out)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(x->file, KEY("merges"));
    if (!x->listed_merges)
        return jt_export_merges(out, x->file, x->err);
    *out = kv ? listed_merges(kv) : json_array();
    return JT_OK;
}

static jt_status bpe(const jt_exporter *x, json_t **out)
{
    json_t *list;
    JT_TRY(merges(x, &list));
    bool pieces = x->kind == JT_VOCAB_PIECES;
    bool whole = jt_export_switch(x, JT_KEY_WHOLE_WORDS, x->pre && x->pre->whole_words);
    *out =
        json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE",
                  "dropout", "unk_token", unknown_token(x), "continuing_subword_prefix",
                  "end_of_word_suffix", "fuse_unk", pieces, "byte_fallback", pieces,
                  "ignore_merges", whole, "vocab", vocabulary(x), "merges", list);
    return JT_OK;
}

static json_t *unigram(const jt_exporter *x)
{
    int64_t unknown = unknown_id(x);
    return json_pack("{s:s, s:o, s:b, s:o}", "type", "Unigram", "unk_id",
                     unknown < 0 ? json_null() : json_integer((json_int_t)unknown),
                     "byte_fallback", has_bytes(x), "vocab", scored_vocabulary(x));
}

static json_t *word_piece(const jt_exporter *x)
{
    uint32_t most = 100; /* as in vocabularies of BERT */
    jt_gguf_get_u32(x->file, JT_KEY_WORD_MOST, &most);
    return json_pack("{s:s, s:o, s:s, s:I, s:o}", "type", "WordPiece", "unk_token",
                     unknown_token(x), "continuing_subword_prefix", "##",
                     "max_input_chars_per_word", (json_int_t)most, "vocab",
                     vocabulary(x));
}

jt_status jt_export_model(const jt_exporter *x, json_t **out)
{
    if (x->kind != JT_VOCAB_UNIGRAM && x->kind != JT_VOCAB_WORDS)
        return bpe(x, out);
    *out = x->kind == JT_VOCAB_WORDS ? word_piece(x) : unigram(x);
    return JT_OK;
}
