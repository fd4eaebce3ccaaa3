/* Which tokens begin, end and divide texts. */
#include <inttypes.h>
#include <string.h>

#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* An optional key that names a token; *id stays where it is absent. */
static jt_status read_id(int32_t *id, const jt_tokenizer *tok, const jt_gguf *file,
                         const char *key, jt_err *err)
{
    if (!jt_gguf_kv_find(file, key))
        return JT_OK;
    int64_t value;
    if (!jt_gguf_get_i64(file, key, &value))
        return jt_fail(err, JT_E_FORMAT, "%s is not a number", key);
    if (value < 0 || (uint64_t)value >= tok->count)
        return jt_fail(err, JT_E_FORMAT, "%s is %" PRId64 ", of %zu tokens", key, value,
                       tok->count);
    *id = (int32_t)value;
    return JT_OK;
}

jt_status jt_vocab_switch(bool *on, const jt_gguf *file, const char *key, jt_err *err)
{
    if (jt_gguf_kv_find(file, key) && !jt_gguf_get_bool(file, key, on))
        return jt_fail(err, JT_E_FORMAT, "%s is not true or false", key);
    return JT_OK;
}

/* Whatever its type says, a token that a key names as begin or end is never text. */
static void make_special(jt_tokenizer *tok, int32_t id, bool end)
{
    if (id < 0)
        return;
    jt_token *token = &tok->tokens[id];
    if (token->type == JT_TOKEN_NORMAL)
        token->type = JT_TOKEN_CONTROL;
    token->end |= end;
}

/* The first token of a type; -1 when there is none. */
static int32_t first_of(const jt_tokenizer *tok, jt_token_type type)
{
    for (size_t i = 0; i < tok->count; i++) {
        if (tok->tokens[i].type == type)
            return (int32_t)i;
    }
    return -1;
}

/* `id` when it is a control token, otherwise -1. */
static int32_t if_control(const jt_tokenizer *tok, int32_t id)
{
    bool is = (size_t)id < tok->count && tok->tokens[id].type == JT_TOKEN_CONTROL;
    return is ? id : -1;
}

/* What holds for a kind when a file says nothing. Old SentencePiece files do not say
 * what is the same in all of them. */
static void set_defaults(jt_tokenizer *tok)
{
    bool pieces = tok->kind == JT_VOCAB_PIECES, words = tok->kind == JT_VOCAB_WORDS;
    tok->bos = pieces ? if_control(tok, 1) : -1;
    tok->eos = pieces ? if_control(tok, 2) : -1;
    tok->unknown = first_of(tok, JT_TOKEN_UNKNOWN);
    tok->add_bos = pieces || words || (tok->pre && tok->pre->add_bos);
    tok->add_eos = words || tok->kind == JT_VOCAB_UNIGRAM;
}

static jt_status read_ids(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    int32_t eot = -1, eom = -1;
    if (tok->kind == JT_VOCAB_WORDS) { /* [CLS] and [SEP] begin and end a text */
        JT_TRY(read_id(&tok->bos, tok, file, KEY("cls_token_id"), err));
        JT_TRY(read_id(&tok->eos, tok, file, KEY("seperator_token_id"), err));
    }
    JT_TRY(read_id(&tok->bos, tok, file, KEY("bos_token_id"), err));
    if (tok->kind != JT_VOCAB_WORDS || tok->eos < 0)
        JT_TRY(read_id(&tok->eos, tok, file, KEY("eos_token_id"), err));
    JT_TRY(read_id(&eot, tok, file, KEY("eot_token_id"), err));
    JT_TRY(read_id(&eom, tok, file, KEY("eom_token_id"), err));
    JT_TRY(read_id(&tok->unknown, tok, file, KEY("unknown_token_id"), err));
    make_special(tok, tok->bos, false);
    make_special(tok, tok->eos, true);
    make_special(tok, eot, true);
    make_special(tok, eom, true);
    return JT_OK;
}

/* Files name one end token, models use several: these end a reply wherever they are
 * special tokens. */
static void find_ends(jt_tokenizer *tok)
{
    static const char *const ends[] = {"<|eot_id|>",
                                       "<|eom_id|>",
                                       "<|im_end|>",
                                       "<|end|>",
                                       "<|return|>",
                                       "<|call|>",
                                       "<|flush|>",
                                       "<|calls|>",
                                       "<end_of_turn>",
                                       "<|endoftext|>",
                                       "</s>",
                                       "<EOT>",
                                       "[EOT]",
                                       "[EOS]",
                                       "<eos>",
                                       "<|end_of_text|>",
                                       "<|end_of_turn|>",
                                       "<end_of_utterance>",
                                       "<turn|>",
                                       "[e~[",
                                       "<｜end▁of▁sentence｜>"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = jt_vocab_find(tok, (jt_str){ends[i], strlen(ends[i])});
        if (id >= 0 && (tok->tokens[id].type == JT_TOKEN_CONTROL ||
                        tok->tokens[id].type == JT_TOKEN_USER))
            tok->tokens[id].end = true;
    }
    /* Where replies end with these, <|end|> only ends one of their parts. */
    int32_t part = jt_token_find(tok, "<|end|>", 7);
    bool parts = (jt_token_find(tok, "<|return|>", 10) >= 0 &&
                  jt_token_find(tok, "<|call|>", 8) >= 0) ||
                 (jt_token_find(tok, "<|flush|>", 9) >= 0 &&
                  jt_token_find(tok, "<|calls|>", 9) >= 0);
    if (part >= 0 && parts && part != tok->eos)
        tok->tokens[part].end = false;
}

/* An optional list of ids; *count stays 0 where it is absent. */
static jt_status read_list(int32_t **ids, size_t *count, jt_tokenizer *tok,
                           const jt_gguf *file, const char *key, jt_err *err)
{
    if (!jt_gguf_kv_find(file, key))
        return JT_OK;
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, key, 0, err));
    if (kv->count > tok->count)
        return jt_fail(err, JT_E_FORMAT, "%s has %" PRIu64 " items", key, kv->count);
    *ids = jt_arena_alloc(&tok->arena, (size_t)kv->count, sizeof **ids);
    if (!*ids)
        return jt_fail_memory(err, "reading a vocabulary");
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t id = -1;
        if (!jt_gguf_item_i64(kv, i, &id) || id < 0 || (uint64_t)id >= tok->count)
            return jt_fail(err, JT_E_FORMAT, "%s has %" PRId64 ", of %zu tokens", key,
                           id, tok->count);
        (*ids)[i] = (int32_t)id;
    }
    *count = (size_t)kv->count;
    return JT_OK;
}

static jt_status read_lists(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    int32_t *ends = NULL;
    size_t n_ends = 0;
    JT_TRY(read_list(&tok->begin, &tok->n_begin, tok, file, JT_KEY_BEGIN, err));
    JT_TRY(read_list(&tok->end, &tok->n_end, tok, file, JT_KEY_END, err));
    JT_TRY(read_list(&ends, &n_ends, tok, file, JT_KEY_REPLY_ENDS, err));
    for (size_t i = 0; i < n_ends; i++)
        make_special(tok, ends[i], true);
    return JT_OK;
}

jt_status jt_vocab_read_roles(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    set_defaults(tok);
    JT_TRY(read_ids(tok, file, err));
    JT_TRY(jt_vocab_switch(&tok->add_bos, file, KEY("add_bos_token"), err));
    JT_TRY(jt_vocab_switch(&tok->add_eos, file,
                           tok->kind == JT_VOCAB_WORDS ? KEY("add_sep_token")
                                                       : KEY("add_eos_token"),
                           err));
    /* Files that ask for a token that they do not have are common; none is meant. */
    tok->add_bos &= tok->bos >= 0;
    tok->add_eos &= tok->eos >= 0;
    find_ends(tok);
    return read_lists(tok, file, err);
}
