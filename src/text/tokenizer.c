#include "junto/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

/* Which kind of vocabulary, and which pre-tokenizer. */
static jt_status read_kind(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    jt_str kind, pre = {"default", 7};
    if (!jt_gguf_get_str(file, "tokenizer.ggml.model", &kind))
        return jt_fail(err, JT_E_FORMAT,
                       "tokenizer.ggml.model is missing or no string");
    tok->sentencepiece = kind.len == 5 && memcmp(kind.data, "llama", 5) == 0;
    if (tok->sentencepiece)
        return JT_OK;
    if (kind.len != 4 || memcmp(kind.data, "gpt2", 4) != 0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "tokenizer.ggml.model is '%.*s'; known are gpt2, llama",
                       (int)(kind.len < 80 ? kind.len : 80), kind.data);
    if (jt_gguf_kv_find(file, "tokenizer.ggml.pre") &&
        !jt_gguf_get_str(file, "tokenizer.ggml.pre", &pre))
        return jt_fail(err, JT_E_FORMAT, "tokenizer.ggml.pre is not a string");
    tok->pre = jt_pretokenizer_find(pre);
    if (tok->pre)
        return JT_OK;
    char known[480];
    jt_pretokenizer_names(known, sizeof known);
    return jt_fail(err, JT_E_UNSUPPORTED, "tokenizer.ggml.pre is '%.*s'; known are %s",
                   (int)(pre.len < 80 ? pre.len : 80), pre.data, known);
}

static jt_status build(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    JT_TRY(read_kind(tok, file, err));
    JT_TRY(jt_vocab_read(tok, file, err));
    if (tok->sentencepiece)
        return jt_vocab_read_scores(tok, file, err);
    JT_TRY(jt_vocab_read_merges(tok, file, err));
    return jt_splitter_new(&tok->splitter, tok->pre, err);
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
    jt_splitter_free(&tok->splitter);
    jt_merges_free(&tok->merges);
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
    return tok->sentencepiece ? "llama" : "gpt2";
}

const char *jt_tokenizer_pre(const jt_tokenizer *tok)
{
    return tok->pre ? tok->pre->name : "";
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
