#include "text/vocab.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/alphabet.h"

#define KEY(name) "tokenizer.ggml." name

/* The library's strings as arguments of "%.*s"; messages are short. */
#define SHOW(str) (int)((str).len < 80 ? (str).len : 80), (str).data

jt_status jt_vocab_array(const jt_gguf_kv **out, const jt_gguf *file, const char *key,
                         size_t count, jt_err *err)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    if (!kv || kv->type != JT_GGUF_ARRAY)
        return jt_fail(err, JT_E_FORMAT, "%s is %s", key,
                       kv ? "not an array" : "missing");
    if (count && kv->count != count)
        return jt_fail(err, JT_E_FORMAT,
                       "%s has %" PRIu64 " items, " KEY("tokens") " has %zu", key,
                       kv->count, count);
    *out = kv;
    return JT_OK;
}

int32_t jt_vocab_find(const jt_tokenizer *tok, jt_str text)
{
    size_t at = text.len ? jt_names_find(&tok->by_text, text) : JT_NAMES_NONE;
    return at == JT_NAMES_NONE ? -1 : (int32_t)at;
}

/* Point the texts of all tokens into the file and add up their bytes. */
static jt_status list_texts(jt_tokenizer *tok, const jt_gguf *file, size_t *bytes,
                            jt_err *err)
{
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, KEY("tokens"), 0, err));
    if (kv->count == 0 || kv->count >= INT32_MAX)
        return jt_fail(err, JT_E_FORMAT, KEY("tokens") " has %" PRIu64 " items",
                       kv->count);
    tok->count = (size_t)kv->count;
    tok->tokens = jt_arena_alloc(&tok->arena, tok->count, sizeof *tok->tokens);
    if (!tok->tokens)
        return jt_fail_memory(err, "reading a vocabulary");
    *bytes = 0;
    for (size_t i = 0; i < tok->count; i++) {
        jt_token *token = &tok->tokens[i];
        *token = (jt_token){.type = JT_TOKEN_NORMAL};
        if (!jt_gguf_item_str(kv, i, &token->text))
            return jt_fail(err, JT_E_FORMAT, KEY("tokens") " is not a list of strings");
        *bytes += token->text.len; /* they lie in the file: no overflow */
    }
    return JT_OK;
}

/* Texts become the tokenizer's own, and can be found. An empty one cannot. */
static jt_status read_texts(jt_tokenizer *tok, const jt_gguf *file, size_t *bytes,
                            jt_err *err)
{
    JT_TRY(list_texts(tok, file, bytes, err));
    char *to = jt_arena_alloc(&tok->arena, *bytes, 1);
    if (!to)
        return jt_fail_memory(err, "reading a vocabulary");
    for (size_t i = 0; i < tok->count; i++) {
        jt_str *text = &tok->tokens[i].text;
        if (!text->len) {
            text->data = "";
            continue;
        }
        memcpy(to, text->data, text->len);
        text->data = to;
        to += text->len;
        int32_t twin = jt_vocab_find(tok, *text);
        if (twin >= 0)
            return jt_fail(err, JT_E_FORMAT,
                           KEY("tokens") " has '%.*s' twice, as %" PRId32 " and %zu",
                           SHOW(*text), twin, i);
        if (!jt_names_add(&tok->by_text, *text, i))
            return jt_fail_memory(err, "reading a vocabulary");
    }
    return JT_OK;
}

static jt_status read_types(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    if (!jt_gguf_kv_find(file, KEY("token_type")))
        return JT_OK; /* all normal */
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, KEY("token_type"), tok->count, err));
    for (size_t i = 0; i < tok->count; i++) {
        int64_t type;
        if (!jt_gguf_item_i64(kv, i, &type) || type < JT_TOKEN_NORMAL ||
            type > JT_TOKEN_BYTE)
            return jt_fail(
                err, JT_E_FORMAT,
                KEY("token_type") " of token %zu is not a number from 1 to 6", i);
        tok->tokens[i].type = (unsigned char)type;
    }
    return JT_OK;
}

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

static jt_status read_switch(bool *on, const jt_gguf *file, const char *key,
                             jt_err *err)
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

static jt_status read_roles(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    int32_t eot = -1, eom = -1;
    /* Old SentencePiece files do not say what is the same in all of them. */
    tok->bos = tok->sentencepiece ? if_control(tok, 1) : -1;
    tok->eos = tok->sentencepiece ? if_control(tok, 2) : -1;
    tok->unknown = first_of(tok, JT_TOKEN_UNKNOWN);
    JT_TRY(read_id(&tok->bos, tok, file, KEY("bos_token_id"), err));
    JT_TRY(read_id(&tok->eos, tok, file, KEY("eos_token_id"), err));
    JT_TRY(read_id(&eot, tok, file, KEY("eot_token_id"), err));
    JT_TRY(read_id(&eom, tok, file, KEY("eom_token_id"), err));
    JT_TRY(read_id(&tok->unknown, tok, file, KEY("unknown_token_id"), err));
    make_special(tok, tok->bos, false);
    make_special(tok, tok->eos, true);
    make_special(tok, eot, true);
    make_special(tok, eom, true);

    tok->add_bos = tok->sentencepiece || tok->pre->add_bos;
    tok->space_prefix = tok->sentencepiece;
    JT_TRY(read_switch(&tok->add_bos, file, KEY("add_bos_token"), err));
    JT_TRY(read_switch(&tok->add_eos, file, KEY("add_eos_token"), err));
    if (tok->sentencepiece)
        JT_TRY(read_switch(&tok->space_prefix, file, KEY("add_space_prefix"), err));
    /* Files that ask for a token that they do not have are common; none is meant. */
    tok->add_bos &= tok->bos >= 0;
    tok->add_eos &= tok->eos >= 0;
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

/* "<0x0A>" to 10; -1 when `text` is not of this form. */
static int parse_byte(jt_str text)
{
    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        const char *digits = "0123456789ABCDEF", *at = strchr(digits, text.data[i]);
        if (!text.data[i] || !at)
            return -1;
        value = value * 16 + (int)(at - digits);
    }
    return value;
}

static size_t replace_marks(char *out, jt_str text)
{
    size_t n = 0, mark = strlen(JT_SPACE_MARK);
    for (size_t i = 0; i < text.len;) {
        bool is =
            text.len - i >= mark && memcmp(text.data + i, JT_SPACE_MARK, mark) == 0;
        out[n++] = is ? ' ' : text.data[i];
        i += is ? mark : 1;
    }
    return n;
}

/* Write the bytes that a token stands for to `to`, at most as many as its text has. */
static jt_status set_piece(jt_tokenizer *tok, size_t id, char *to, jt_err *err)
{
    jt_token *token = &tok->tokens[id];
    token->piece = (jt_str){to, 0};
    if (token->type == JT_TOKEN_BYTE) {
        int byte = parse_byte(token->text);
        if (byte < 0)
            return jt_fail(
                err, JT_E_FORMAT,
                KEY("tokens") " has '%.*s' as byte token %zu; expected <0xXX>",
                SHOW(token->text), id);
        tok->bytes[byte] = (int32_t)id;
        *to = (char)byte;
        token->piece.len = 1;
    } else if (tok->sentencepiece && token->type != JT_TOKEN_CONTROL &&
               token->type != JT_TOKEN_UNKNOWN) {
        token->piece.len = replace_marks(to, token->text);
    } else if (!tok->sentencepiece && token->type == JT_TOKEN_NORMAL) {
        token->piece.len = jt_alphabet_decode(to, token->text);
    } else {
        token->piece = token->text;
    }
    return JT_OK;
}

static jt_status set_pieces(jt_tokenizer *tok, size_t bytes, jt_err *err)
{
    memset(tok->bytes, -1, sizeof tok->bytes);
    char *to = jt_arena_alloc(&tok->arena, bytes, 1);
    if (!to)
        return jt_fail_memory(err, "reading a vocabulary");
    for (size_t i = 0; i < tok->count; i++) {
        JT_TRY(set_piece(tok, i, to, err));
        to += tok->tokens[i].text.len;
    }
    return JT_OK;
}

/* The token of one character, if it is a normal one. */
static int32_t find_char(const jt_tokenizer *tok, const char *text, size_t len)
{
    int32_t id = jt_vocab_find(tok, (jt_str){text, len});
    return id >= 0 && tok->tokens[id].type == JT_TOKEN_NORMAL ? id : -1;
}

static void find_chars(jt_tokenizer *tok)
{
    for (int c = 0; c < 128 && tok->sentencepiece; c++) {
        char text = (char)c;
        tok->ascii[c] = c == ' ' ? find_char(tok, JT_SPACE_MARK, strlen(JT_SPACE_MARK))
                                 : find_char(tok, &text, 1);
    }
    for (int b = 0; b < 256 && !tok->sentencepiece; b++) {
        char text[2];
        int32_t id = find_char(tok, text, jt_alphabet_char((unsigned char)b, text));
        if (id >= 0)
            tok->bytes[b] = id;
    }
}

static jt_status index_pieces(jt_tokenizer *tok, jt_err *err)
{
    if (tok->sentencepiece || !tok->pre->whole_words)
        return JT_OK;
    for (size_t i = 0; i < tok->count; i++) {
        const jt_token *token = &tok->tokens[i];
        if (token->type != JT_TOKEN_NORMAL || !token->piece.len ||
            jt_names_find(&tok->by_piece, token->piece) != JT_NAMES_NONE)
            continue;
        if (!jt_names_add(&tok->by_piece, token->piece, i))
            return jt_fail_memory(err, "reading a vocabulary");
    }
    return JT_OK;
}

static jt_status index_specials(jt_tokenizer *tok, jt_err *err)
{
    size_t capacity = 0;
    jt_specials *specials = &tok->specials;
    for (size_t i = 0; i < tok->count; i++) {
        const jt_token *token = &tok->tokens[i];
        bool control =
            token->type == JT_TOKEN_CONTROL || token->type == JT_TOKEN_UNKNOWN;
        if (!token->piece.len || (!control && token->type != JT_TOKEN_USER))
            continue;
        if (!jt_grow((void **)&specials->list, &capacity, specials->count + 1,
                     sizeof *specials->list))
            return jt_fail_memory(err, "reading a vocabulary");
        specials->list[specials->count++] =
            (jt_special){token->piece, (int32_t)i, control};
    }
    jt_specials_index(specials);
    return JT_OK;
}

jt_status jt_vocab_read(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    size_t bytes = 0;
    JT_TRY(read_texts(tok, file, &bytes, err));
    JT_TRY(read_types(tok, file, err));
    JT_TRY(read_roles(tok, file, err));
    find_ends(tok);
    JT_TRY(set_pieces(tok, bytes, err));
    find_chars(tok);
    JT_TRY(index_pieces(tok, err));
    return index_specials(tok, err);
}
