/* A vocabulary that goes from a folder to keys, to a folder and to keys again cuts text
 * as it did at first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "import_folder.h"
#include "junto/gguf.h"
#include "scratch.h"
#include "text/export.h"
#include "text/vocab.h"
#include "vocab_file.h"

static jt_tokenizer *open_folder(jt_gguf **file, const char *folder)
{
    jt_tokenizer *tok = NULL;
    jt_err err = {0};
    if (import_any(&tok, file, folder, &err) != JT_OK)
        fail_msg("%s: %s", folder, err.msg);
    return tok;
}

static void encode(jt_tokens *out, const jt_tokenizer *tok, const char *text,
                   size_t len, unsigned flags)
{
    jt_err err = {0};
    *out = (jt_tokens){0};
    if (jt_encode(tok, text, len, flags, out, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

/* For how many lines of strings.txt the two do not give the same tokens. */
static int count_different(const jt_tokenizer *a, const jt_tokenizer *b, unsigned flags)
{
    size_t bytes;
    char *strings = golden_read("strings.txt", &bytes), *next = strings;
    int different = 0;
    while (next < strings + bytes) {
        char *text = next, *end = memchr(text, '\n', (size_t)(strings + bytes - text));
        next = end + 1;
        size_t len = golden_unescape(text, (size_t)(end - text));
        jt_tokens x, y;
        encode(&x, a, text, len, flags);
        encode(&y, b, text, len, flags);
        different += x.count != y.count ||
                     (x.count && memcmp(x.ids, y.ids, x.count * sizeof *x.ids) != 0);
        free(x.ids);
        free(y.ids);
    }
    free(strings);
    return different;
}

/* The folder `name` as keys, and again; how many strings come out in another way, with
 * special tokens and without. */
static void go_back(const char *name, int different[2])
{
    char folder[4096];
    jt_err err = {0};
    jt_gguf *keys, *again;
    bool written;
    scratch s = scratch_new();
    snprintf(folder, sizeof folder, "%s/text/data/folders/%s",
             getenv("JUNTO_TEST_DATA"), name);
    jt_tokenizer *before = open_folder(&keys, folder);
    if (jt_tokenizer_export(keys, s.dir, &written, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_true(written);
    jt_tokenizer *after = open_folder(&again, s.dir);
    assert_int_equal(jt_token_eos(before), jt_token_eos(after));
    different[0] = count_different(before, after, 0);
    different[1] =
        count_different(before, after, JT_ENCODE_ADD_SPECIAL | JT_ENCODE_PARSE_SPECIAL);
    jt_tokenizer_free(before);
    jt_tokenizer_free(after);
    jt_gguf_close(keys);
    jt_gguf_close(again);
    scratch_free(&s);
}

static void there_and_back(void **state)
{
    int different[2];
    go_back(*state, different);
    assert_int_equal(different[0], 0);
    assert_int_equal(different[1], 0);
}

/* SentencePiece looks up the longest piece of text in its table, a tokenizer.json whole
 * characters as people see them: single ones only where that finds nothing. */
static void by_characters(void **state)
{
    int different[2];
    go_back(*state, different);
    assert_in_range(different[0], 1, 5);
    assert_in_range(different[1], 1, 5);
}

/* The same keys by the name that Gemma 4 has: merges count without being asked for. */
static void gemma4(void **state)
{
    (void)state;
    char folder[4096];
    bool written;
    size_t bytes;
    vocab_file v = {0};
    jt_gguf *keys, *renamed, *again;
    scratch s = scratch_new();
    snprintf(folder, sizeof folder, "%s/text/data/folders/gemma",
             getenv("JUNTO_TEST_DATA"));
    jt_tokenizer *before = open_folder(&keys, folder);
    for (size_t i = 0; i < jt_gguf_kv_count(keys); i++)
        vocab_copy(&v, jt_gguf_kv_at(keys, i));
    vocab_str(&v, "tokenizer.ggml.model", "gemma4");
    vocab_unset(&v, JT_KEY_USE_MERGES);
    const unsigned char *image = vocab_image(&v, &bytes);
    assert_int_equal(jt_gguf_open_memory(&renamed, image, bytes, NULL), JT_OK);
    assert_int_equal(jt_tokenizer_export(renamed, s.dir, &written, NULL), JT_OK);
    assert_true(written);
    jt_tokenizer *after = open_folder(&again, s.dir);
    assert_int_equal(count_different(before, after, JT_ENCODE_ADD_SPECIAL), 0);
    jt_tokenizer_free(before);
    jt_tokenizer_free(after);
    jt_gguf_close(keys);
    jt_gguf_close(renamed);
    jt_gguf_close(again);
    vocab_free(&v);
    scratch_free(&s);
}

#define FOLDER(name, check)                              \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma4),
        FOLDER("bailingmoe", there_and_back),
        FOLDER("deepseek-v3", there_and_back),
        FOLDER("falcon", there_and_back),
        FOLDER("gpt-4o", there_and_back),
        FOLDER("kimi-k2", there_and_back),
        FOLDER("llama-bpe", there_and_back),
        FOLDER("mistral", there_and_back),
        FOLDER("olmo", there_and_back),
        FOLDER("qwen2", there_and_back),
        FOLDER("qwen35", there_and_back),
        FOLDER("smollm", there_and_back),
        FOLDER("llama-2", there_and_back),
        FOLDER("gemma", there_and_back),
        FOLDER("spm-bpe", there_and_back),
        FOLDER("bert-cased", there_and_back),
        FOLDER("bert-uncased", there_and_back),
        FOLDER("spm-unigram", by_characters),
        FOLDER("spm-unigram-bytes", there_and_back),
        FOLDER("t5", there_and_back),
        FOLDER("xlm", there_and_back),
        FOLDER("metaspace", there_and_back),
        FOLDER("odd", there_and_back),
        FOLDER("spm-bpe-bare", there_and_back),
        FOLDER("spm-bpe-rules", by_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
