/* Any bytes as a GGUF file with a vocabulary ("GGUF..."), or as text: the first byte
 * chooses the vocabulary, the second the flags. Text comes back as it was, or, where a
 * vocabulary normalizes, as text that encodes to the same tokens again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vocab_file.c" /* a fuzz target is one source */

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static const char *const pres[] = {"gpt-2",       "smollm",       "llama-bpe",
                                   "gpt-4o",      "deepseek-llm", "deepseek-coder",
                                   "deepseek-v3", "bailingmoe",   "seed-coder",
                                   "default",     "qwen2",        "qwen35"};
enum {
    PRES = sizeof pres / sizeof *pres,
    EXACT = PRES - 2 /* the last two normalize */
};

/* Vocabularies that are not byte-level. */
static void (*const others[])(vocab_file *) = {vocab_small_pieces, vocab_small_unigram,
                                               vocab_small_words};
enum { OTHERS = sizeof others / sizeof *others };

/* Made once, never freed. */
static jt_tokenizer *tokenizers[PRES + OTHERS];

static void make_tokenizers(void)
{
    for (size_t i = 0; i < PRES + OTHERS; i++) {
        vocab_file v = {0};
        if (i < PRES)
            vocab_small_bytes(&v, pres[i]);
        else
            others[i - PRES](&v);
        CHECK(vocab_tokenizer(&tokenizers[i], &v, NULL) == JT_OK);
        vocab_free(&v);
    }
}

static void check_tokens(const jt_tokenizer *tok, const jt_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        CHECK(tokens->ids[i] >= 0 && (size_t)tokens->ids[i] < jt_vocab_size(tok));
}

/* Encode and decode; the caller frees what comes back. */
static char *there_and_back(const jt_tokenizer *tok, const char *text, size_t len,
                            unsigned flags, size_t *back_len)
{
    jt_tokens tokens = {0};
    char *back;
    CHECK(jt_encode(tok, text, len, flags, &tokens, NULL) == JT_OK);
    check_tokens(tok, &tokens);
    CHECK(jt_decode(tok, tokens.ids, tokens.count, true, &back, back_len, NULL) ==
          JT_OK);
    free(tokens.ids);
    return back;
}

static void run_text(size_t which, unsigned flags, const char *text, size_t len)
{
    const jt_tokenizer *tok = tokenizers[which];
    size_t once_len, twice_len;
    char *once = there_and_back(tok, text, len, flags, &once_len);
    if (which < EXACT)
        CHECK(once_len == len && memcmp(once, text, len) == 0);
    if (which > PRES) { /* text does not come back from these */
        free(once);
        return;
    }
    char *twice = there_and_back(tok, once, once_len, flags, &twice_len);
    CHECK(twice_len == once_len && memcmp(twice, once, once_len) == 0);
    free(twice);
    free(once);
}

static void use(const jt_tokenizer *tok)
{
    jt_tokens tokens = {0};
    char *text;
    size_t len;
    jt_status status =
        jt_encode(tok, "The 123 e\xcc\x81\xff <s>\n", 17, 3, &tokens, NULL);
    CHECK(status == JT_OK || status == JT_E_UNSUPPORTED);
    check_tokens(tok, &tokens);
    CHECK(jt_decode(tok, tokens.ids, tokens.count, false, &text, &len, NULL) == JT_OK);
    free(text);
    free(tokens.ids);
    for (int32_t id = 0; (size_t)id < jt_vocab_size(tok); id++)
        CHECK(jt_token_piece(tok, id).data);
}

static void run_file(const uint8_t *data, size_t size)
{
    jt_gguf *file;
    jt_tokenizer *tok;
    jt_err err = {0};
    if (jt_gguf_open_memory(&file, data, size, &err) != JT_OK)
        return;
    if (jt_tokenizer_new(&tok, file, &err) == JT_OK) {
        use(tok);
        jt_tokenizer_free(tok);
    } else {
        CHECK(err.msg[0]);
    }
    jt_gguf_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!tokenizers[0])
        make_tokenizers();
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        run_file(data, size);
    else if (size >= 2)
        run_text(data[0] % (PRES + OTHERS), data[1] & JT_ENCODE_PARSE_SPECIAL,
                 (const char *)data + 2, size - 2);
    return 0;
}
