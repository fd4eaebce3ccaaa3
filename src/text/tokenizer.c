#include "junto/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

/* As tokenizer.ggml.model has them. */
static const char *const kinds[] = {[JT_VOCAB_BYTES] = "gpt2",
                                    [JT_VOCAB_PIECES] = "llama",
                                    [JT_VOCAB_UNIGRAM] = "t5",
                                    [JT_VOCAB_WORDS] = "bert"};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Pieces that are merged as the list of merges has it (Gemma 4), not by score. */
static const char merged_pieces[] = "gemma4";

/* "tokenizer.ggml.pre" of files whose steps stand in keys of our own. */
static const char own_steps[] = "junto";

static bool is(jt_str text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static jt_status read_kind(jt_tokenizer *tok, const jt_gguf *file, bool *by_merges,
                           jt_err *err)
{
    jt_str kind;
    if (!jt_gguf_get_str(file, "tokenizer.ggml.model", &kind))
        return jt_fail(err, JT_E_FORMAT,
                       "tokenizer.ggml.model is missing or no string");
    *by_merges = is(kind, merged_pieces);
    for (size_t i = 0; i < KINDS; i++) {
        if (is(kind, kinds[i]) || (*by_merges && i == JT_VOCAB_PIECES)) {
            tok->kind = (jt_vocab_kind)i;
            return JT_OK;
        }
    }
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "tokenizer.ggml.model is '%.*s'; known are gpt2, llama, t5, bert, "
                   "gemma4",
                   (int)(kind.len < 80 ? kind.len : 80), kind.data);
}

/* Which pre-tokenizer a byte-level vocabulary has. */
static jt_status read_pre(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    jt_str pre = {"default", 7};
    if (tok->kind != JT_VOCAB_BYTES)
        return JT_OK;
    if (jt_gguf_kv_find(file, "tokenizer.ggml.pre") &&
        !jt_gguf_get_str(file, "tokenizer.ggml.pre", &pre))
        return jt_fail(err, JT_E_FORMAT, "tokenizer.ggml.pre is not a string");
    if (is(pre, own_steps))
        return jt_vocab_switch(&tok->whole_words, file, JT_KEY_WHOLE_WORDS, err);
    tok->pre = jt_pretokenizer_find(pre);
    if (tok->pre) {
        tok->whole_words = tok->pre->whole_words;
        return JT_OK;
    }
    char known[400];
    jt_pretokenizer_names(known, sizeof known);
    return jt_fail(err, JT_E_UNSUPPORTED, "tokenizer.ggml.pre is '%.*s'; known are %s",
                   (int)(pre.len < 80 ? pre.len : 80), pre.data, known);
}

/* What turns pieces into tokens. */
static jt_status read_model(jt_tokenizer *tok, const jt_gguf *file, bool by_merges,
                            jt_err *err)
{
    switch (tok->kind) {
    case JT_VOCAB_UNIGRAM:
        return jt_vocab_read_unigram(tok, file, err);
    case JT_VOCAB_WORDS:
        tok->word_most = 100; /* as all of BERT's vocabularies have it */
        (void)jt_gguf_get_u32(file, JT_KEY_WORD_MOST, &tok->word_most);
        return jt_vocab_read_words(tok, err);
    case JT_VOCAB_PIECES: /* other files may have merges, too, and mean the scores */
        JT_TRY(jt_vocab_switch(&by_merges, file, JT_KEY_USE_MERGES, err));
        return by_merges ? jt_vocab_read_merges(tok, file, err)
                         : jt_vocab_read_scores(tok, file, err);
    default:
        return jt_vocab_read_merges(tok, file, err);
    }
}

static jt_status build(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    bool by_merges;
    JT_TRY(read_kind(tok, file, &by_merges, err));
    JT_TRY(read_pre(tok, file, err));
    JT_TRY(jt_vocab_read(tok, file, err));
    JT_TRY(jt_vocab_read_roles(tok, file, err));
    JT_TRY(jt_vocab_index(tok, err));
    JT_TRY(read_model(tok, file, by_merges, err));
    return jt_vocab_read_steps(tok, file, err);
}

jt_status jt_tokenizer_new(jt_tokenizer **out, const jt_gguf *file, jt_err *err)
{
    jt_tokenizer *tok = jt_calloc(1, sizeof *tok);
    if (!tok)
        return jt_fail_memory(err, "reading a vocabulary");
    jt_status status = build(tok, file, err);
    if (status == JT_OK)
        *out = tok;
    else
        jt_tokenizer_free(tok);
    return status;
}

void jt_tokenizer_free(jt_tokenizer *tok)
{
    if (!tok)
        return;
    jt_steps_free(&tok->steps);
    jt_merges_free(&tok->merges);
    jt_trie_free(&tok->unigram.trie);
    jt_trie_free(&tok->words);
    jt_trie_free(&tok->parts);
    free(tok->specials.list);
    jt_names_free(&tok->by_text);
    jt_names_free(&tok->by_piece);
    jt_arena_free(&tok->arena);
    free(tok);
}

/* NULL when there is no such token. */
static const jt_token *token_at(const jt_tokenizer *tok, int32_t id)
{
    return id >= 0 && (size_t)id < tok->count ? &tok->tokens[id] : NULL;
}

jt_str jt_token_piece(const jt_tokenizer *tok, int32_t id)
{
    const jt_token *token = token_at(tok, id);
    return token ? token->piece : (jt_str){NULL, 0};
}

size_t jt_vocab_size(const jt_tokenizer *tok)
{
    return tok->count;
}

const char *jt_tokenizer_kind(const jt_tokenizer *tok)
{
    return kinds[tok->kind];
}

const char *jt_tokenizer_pre(const jt_tokenizer *tok)
{
    if (tok->kind != JT_VOCAB_BYTES)
        return "";
    return tok->pre ? tok->pre->name : own_steps;
}

int32_t jt_token_bos(const jt_tokenizer *tok)
{
    return tok->bos;
}

int32_t jt_token_eos(const jt_tokenizer *tok)
{
    return tok->eos;
}

int32_t jt_token_unknown(const jt_tokenizer *tok)
{
    return tok->unknown;
}

int32_t jt_token_find(const jt_tokenizer *tok, const char *text, size_t len)
{
    return jt_vocab_find(tok, (jt_str){text, len});
}

bool jt_token_is_special(const jt_tokenizer *tok, int32_t id)
{
    const jt_token *token = token_at(tok, id);
    return token && (token->type == JT_TOKEN_CONTROL ||
                     token->type == JT_TOKEN_UNKNOWN || token->type == JT_TOKEN_UNUSED);
}

bool jt_token_is_end(const jt_tokenizer *tok, int32_t id)
{
    const jt_token *token = token_at(tok, id);
    return token && token->end;
}
