#include "vocab_file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/alphabet.h"

typedef struct bytes {
    unsigned char *data;
    size_t len;
} bytes;

static void put(bytes *b, const void *data, size_t len)
{
    b->data = realloc(b->data, b->len + len + 1);
    assert(b->data);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void put_u32(bytes *b, uint32_t value)
{
    put(b, &value, sizeof value);
}

static void put_u64(bytes *b, uint64_t value)
{
    put(b, &value, sizeof value);
}

static void put_text(bytes *b, const char *text, size_t len)
{
    put_u64(b, len);
    put(b, text, len);
}

/* Hand an encoded value over to the file. */
static void set(vocab_file *v, const char *key, size_t key_len, bytes value)
{
    size_t at = 0;
    while (at < v->count && (strlen(v->keys[at].key) != key_len ||
                             memcmp(v->keys[at].key, key, key_len) != 0))
        at++;
    assert(at < VOCAB_KEYS_MOST);
    if (at == v->count) {
        v->keys[at].key = strndup(key, key_len);
        v->count++;
    } else {
        free(v->keys[at].value);
    }
    v->keys[at].value = value.data;
    v->keys[at].bytes = value.len;
}

void vocab_str(vocab_file *v, const char *key, const char *text)
{
    bytes b = {0};
    put_u32(&b, JT_GGUF_STRING);
    put_text(&b, text, strlen(text));
    set(v, key, strlen(key), b);
}

static void put_array(bytes *b, jt_gguf_type type, uint64_t count)
{
    put_u32(b, JT_GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, count);
}

void vocab_strs(vocab_file *v, const char *key, const char *text)
{
    bytes b = {0};
    uint64_t count = *text ? 1 : 0;
    for (const char *p = text; *p; p++)
        count += *p == '\n';
    put_array(&b, JT_GGUF_STRING, count);
    for (const char *p = text, *end; count-- > 0; p = end + 1) {
        end = strchrnul(p, '\n');
        put_text(&b, p, (size_t)(end - p));
    }
    set(v, key, strlen(key), b);
}

void vocab_u32(vocab_file *v, const char *key, uint32_t value)
{
    bytes b = {0};
    put_u32(&b, JT_GGUF_U32);
    put_u32(&b, value);
    set(v, key, strlen(key), b);
}

void vocab_bool(vocab_file *v, const char *key, int value)
{
    bytes b = {0};
    put_u32(&b, JT_GGUF_BOOL);
    put(&b, value ? "\1" : "\0", 1);
    set(v, key, strlen(key), b);
}

void vocab_i32s(vocab_file *v, const char *key, const int32_t *values, size_t count)
{
    bytes b = {0};
    put_array(&b, JT_GGUF_I32, count);
    put(&b, values, count * sizeof *values);
    set(v, key, strlen(key), b);
}

void vocab_f32s(vocab_file *v, const char *key, const float *values, size_t count)
{
    bytes b = {0};
    put_array(&b, JT_GGUF_F32, count);
    put(&b, values, count * sizeof *values);
    set(v, key, strlen(key), b);
}

void vocab_copy(vocab_file *v, const jt_gguf_kv *kv)
{
    bytes b = {0};
    put_u32(&b, kv->type);
    put(&b, kv->raw, kv->raw_bytes);
    set(v, kv->key.data, kv->key.len, b);
}

void vocab_unset(vocab_file *v, const char *key)
{
    for (size_t i = 0; i < v->count; i++) {
        if (strcmp(v->keys[i].key, key) != 0)
            continue;
        free(v->keys[i].key);
        free(v->keys[i].value);
        v->keys[i] = v->keys[--v->count];
        return;
    }
}

/* Text that grows, and the types of the tokens in it. */
typedef struct token_list {
    char text[8192];
    int32_t types[512];
    size_t len, count;
} token_list;

static void add_token(token_list *list, const char *text, size_t len, int32_t type)
{
    list->len += (size_t)snprintf(list->text + list->len, sizeof list->text - list->len,
                                  "%s%.*s", list->count ? "\n" : "", (int)len, text);
    list->types[list->count++] = type;
    assert(list->len < sizeof list->text && list->count < 512);
}

static void set_tokens(vocab_file *v, const token_list *list)
{
    vocab_strs(v, "tokenizer.ggml.tokens", list->text);
    vocab_i32s(v, "tokenizer.ggml.token_type", list->types, list->count);
}

/* Left and right of each merge. */
static const char *const small_merges[][2] = {
    {"h", "e"}, {"Ġ", "t"},   {"Ġt", "he"},     {"i", "n"},       {"Ġ", "a"},
    {"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"Ġ", "Ġ"},       {"ĠĠ", "ĠĠ"},
    {"Ċ", "Ċ"}, {"1", "2"},   {"12", "3"},      {"Ã", "©"},       {"'", "s"},
    {"<", "|"}, {"e", "n"},   {"en", "d"},      {"ĠĠĠĠ", "ĠĠĠĠ"}, {"!", "Ċ"}};

void vocab_small_bytes(vocab_file *v, const char *pre)
{
    token_list list = {.len = 0};
    char merges[1024] = "";
    size_t len = 0;
    for (int byte = 0; byte < 256; byte++) {
        char text[2];
        add_token(&list, text, jt_alphabet_char((unsigned char)byte, text), 1);
    }
    for (size_t i = 0; i < sizeof small_merges / sizeof *small_merges; i++) {
        char merged[32];
        const char *left = small_merges[i][0], *right = small_merges[i][1];
        snprintf(merged, sizeof merged, "%s%s", left, right);
        add_token(&list, merged, strlen(merged), 1);
        len += (size_t)snprintf(merges + len, sizeof merges - len, "%s%s %s",
                                i ? "\n" : "", left, right);
    }
    add_token(&list, "whole", 5, 1);
    add_token(&list, "<|endoftext|>", 13, 3);
    add_token(&list, "<|im_start|>", 12, 3);
    add_token(&list, "<|im_end|>", 10, 3);
    add_token(&list, "<tool>", 6, 4);
    add_token(&list, "<tool><tool>!", 13, 4);
    set_tokens(v, &list);
    vocab_str(v, "tokenizer.ggml.model", "gpt2");
    vocab_str(v, "tokenizer.ggml.pre", pre);
    vocab_strs(v, "tokenizer.ggml.merges", merges);
    vocab_u32(v, "tokenizer.ggml.bos_token_id", (uint32_t)list.count - 4);
    vocab_u32(v, "tokenizer.ggml.eos_token_id", (uint32_t)list.count - 3);
}

static const char *const small_pieces[] = {
    "▁t",   "he", "▁the", "in",   "▁a", "aa", "aaaa", "aaaaaaaa", "▁▁",
    "▁▁▁▁", "12", "▁",    "t",    "h",  "e",  "i",    "n",        "a",
    "1",    "2",  "é",    "中文", "中", "文", "\t"};

void vocab_small_pieces(vocab_file *v)
{
    token_list list = {.len = 0};
    float scores[512] = {0};
    add_token(&list, "<unk>", 5, 2);
    add_token(&list, "<s>", 3, 3);
    add_token(&list, "</s>", 4, 3);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        add_token(&list, text, 6, 6);
    }
    for (size_t i = 0; i < sizeof small_pieces / sizeof *small_pieces; i++) {
        scores[list.count] = -(float)i;
        add_token(&list, small_pieces[i], strlen(small_pieces[i]), 1);
    }
    add_token(&list, "[x]", 3, 4);
    set_tokens(v, &list);
    vocab_str(v, "tokenizer.ggml.model", "llama");
    vocab_f32s(v, "tokenizer.ggml.scores", scores, list.count);
}

void vocab_small_unigram(vocab_file *v)
{
    vocab_small_pieces(v);
    vocab_str(v, "tokenizer.ggml.model", "t5");
    vocab_u32(v, "tokenizer.ggml.eos_token_id", 2);
}

void vocab_small_words(vocab_file *v)
{
    static const char *const words[] = {"▁the", "▁a", "▁t",  "he", "e", "a",  "in",
                                        "▁in",  "n",  "▁中", "é",  ",", "▁,", "12"};
    token_list list = {.len = 0};
    add_token(&list, "[UNK]", 5, 2);
    add_token(&list, "[CLS]", 5, 3);
    add_token(&list, "[SEP]", 5, 3);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        add_token(&list, words[i], strlen(words[i]), 1);
    set_tokens(v, &list);
    vocab_str(v, "tokenizer.ggml.model", "bert");
    vocab_u32(v, "tokenizer.ggml.cls_token_id", 1);
    vocab_u32(v, "tokenizer.ggml.seperator_token_id", 2);
}

const unsigned char *vocab_image(vocab_file *v, size_t *len)
{
    bytes b = {0};
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, 0);
    put_u64(&b, v->count);
    for (size_t i = 0; i < v->count; i++) {
        put_text(&b, v->keys[i].key, strlen(v->keys[i].key));
        put(&b, v->keys[i].value, v->keys[i].bytes);
    }
    free(v->image);
    v->image = b.data;
    *len = b.len;
    return b.data;
}

jt_status vocab_tokenizer(jt_tokenizer **out, vocab_file *v, jt_err *err)
{
    size_t len;
    const unsigned char *image = vocab_image(v, &len);
    jt_gguf *file;
    JT_TRY(jt_gguf_open_memory(&file, image, len, err));
    jt_status status = jt_tokenizer_new(out, file, err);
    jt_gguf_close(file);
    return status;
}

void vocab_free(vocab_file *v)
{
    for (size_t i = 0; i < v->count; i++) {
        free(v->keys[i].key);
        free(v->keys[i].value);
    }
    free(v->image);
    *v = (vocab_file){0};
}
