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

/* Bytes of the texts of all tokens, which lie in a file: no overflow. */
static size_t text_bytes(const jt_tokenizer *tok)
{
    size_t bytes = 0;
    for (size_t i = 0; i < tok->count; i++)
        bytes += tok->tokens[i].text.len;
    return bytes;
}

/* Point the texts of all tokens into the file. */
static jt_status list_texts(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
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
    for (size_t i = 0; i < tok->count; i++) {
        jt_token *token = &tok->tokens[i];
        *token = (jt_token){.type = JT_TOKEN_NORMAL};
        if (!jt_gguf_item_str(kv, i, &token->text))
            return jt_fail(err, JT_E_FORMAT, KEY("tokens") " is not a list of strings");
    }
    return JT_OK;
}

/* Texts become the tokenizer's own, and can be found. An empty one cannot. */
static jt_status read_texts(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    JT_TRY(list_texts(tok, file, err));
    char *to = jt_arena_alloc(&tok->arena, text_bytes(tok), 1);
    if (!to || !jt_names_reserve(&tok->by_text, tok->count))
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
        size_t twin = i;
        if (!jt_names_claim(&tok->by_text, *text, &twin))
            return jt_fail_memory(err, "reading a vocabulary");
        if (twin != i)
            return jt_fail(err, JT_E_FORMAT,
                           KEY("tokens") " has '%.*s' twice, as %zu and %zu",
                           SHOW(*text), twin, i);
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
    } else if (tok->kind == JT_VOCAB_BYTES && token->type == JT_TOKEN_NORMAL) {
        token->piece.len = jt_alphabet_decode(to, token->text);
    } else if (tok->kind != JT_VOCAB_BYTES && token->type != JT_TOKEN_CONTROL &&
               token->type != JT_TOKEN_UNKNOWN) {
        token->piece.len = replace_marks(to, token->text);
    } else {
        token->piece = token->text;
    }
    return JT_OK;
}

static jt_status set_pieces(jt_tokenizer *tok, jt_err *err)
{
    memset(tok->bytes, -1, sizeof tok->bytes);
    char *to = jt_arena_alloc(&tok->arena, text_bytes(tok), 1);
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
    for (int c = 0; c < 128 && tok->kind == JT_VOCAB_PIECES; c++) {
        char text = (char)c;
        tok->ascii[c] = find_char(tok, &text, 1);
    }
    for (int b = 0; b < 256 && tok->kind == JT_VOCAB_BYTES; b++) {
        char text[2];
        int32_t id = find_char(tok, text, jt_alphabet_char((unsigned char)b, text));
        if (id >= 0)
            tok->bytes[b] = id;
    }
}

static jt_status index_pieces(jt_tokenizer *tok, jt_err *err)
{
    if (!tok->whole_words)
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
            (jt_special){.text = token->piece,
                         .id = (int32_t)i,
                         .control = control,
                         .strip_left = token->strip_left,
                         .strip_right = token->strip_right,
                         .single_word = token->single_word};
    }
    jt_specials_index(specials);
    return JT_OK;
}

/* The tokens that a list of ids names get a flag. */
static jt_status read_flag(jt_tokenizer *tok, const jt_gguf *file, const char *key,
                           size_t flag, jt_err *err)
{
    if (!jt_gguf_kv_find(file, key))
        return JT_OK;
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, key, 0, err));
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t id = -1;
        if (!jt_gguf_item_i64(kv, i, &id) || id < 0 || (uint64_t)id >= tok->count)
            return jt_fail(err, JT_E_FORMAT, "%s has %" PRId64 ", of %zu tokens", key,
                           id, tok->count);
        *(bool *)((char *)&tok->tokens[id] + flag) = true;
    }
    return JT_OK;
}

static jt_status read_flags(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    JT_TRY(
        read_flag(tok, file, JT_KEY_STRIP_LEFT, offsetof(jt_token, strip_left), err));
    JT_TRY(
        read_flag(tok, file, JT_KEY_STRIP_RIGHT, offsetof(jt_token, strip_right), err));
    return read_flag(tok, file, JT_KEY_SINGLE_WORD, offsetof(jt_token, single_word),
                     err);
}

jt_status jt_vocab_read(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    JT_TRY(read_texts(tok, file, err));
    JT_TRY(read_types(tok, file, err));
    return read_flags(tok, file, err);
}

jt_status jt_vocab_index(jt_tokenizer *tok, jt_err *err)
{
    JT_TRY(set_pieces(tok, err));
    find_chars(tok);
    JT_TRY(index_pieces(tok, err));
    return index_specials(tok, err);
}
