/* A vocabulary that goes from a folder to keys, to a folder and to keys again cuts text
 * as it did at first; kinds that cannot be written say so. */
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

/* Both give the same tokens for every line of strings.txt. */
static void compare(const jt_tokenizer *a, const jt_tokenizer *b, unsigned flags)
{
    size_t bytes;
    char *strings = golden_read("strings.txt", &bytes), *next = strings;
    while (next < strings + bytes) {
        char *text = next, *end = memchr(text, '\n', (size_t)(strings + bytes - text));
        next = end + 1;
        size_t len = golden_unescape(text, (size_t)(end - text));
        jt_tokens x, y;
        encode(&x, a, text, len, flags);
        encode(&y, b, text, len, flags);
        assert_int_equal(x.count, y.count);
        assert_memory_equal(x.ids, y.ids, x.count * sizeof *x.ids);
        free(x.ids);
        free(y.ids);
    }
    free(strings);
}

static void there_and_back(void **state)
{
    char folder[4096];
    jt_err err = {0};
    jt_gguf *keys, *again;
    bool written;
    scratch s = scratch_new();
    snprintf(folder, sizeof folder, "%s/text/data/folders/%s",
             getenv("JUNTO_TEST_DATA"), (const char *)*state);
    jt_tokenizer *before = open_folder(&keys, folder);
    if (jt_tokenizer_export(keys, s.dir, &written, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_true(written);
    jt_tokenizer *after = open_folder(&again, s.dir);
    assert_int_equal(jt_token_eos(before), jt_token_eos(after));
    compare(before, after, JT_ENCODE_ADD_SPECIAL | JT_ENCODE_PARSE_SPECIAL);
    compare(before, after, 0);
    jt_tokenizer_free(before);
    jt_tokenizer_free(after);
    jt_gguf_close(keys);
    jt_gguf_close(again);
    scratch_free(&s);
}

static void not_written(void **state)
{
    char folder[4096];
    jt_err err = {0};
    jt_gguf *keys;
    bool written = true;
    scratch s = scratch_new();
    snprintf(folder, sizeof folder, "%s/text/data/folders/%s",
             getenv("JUNTO_TEST_DATA"), (const char *)*state);
    jt_tokenizer_free(open_folder(&keys, folder));
    assert_int_equal(jt_tokenizer_export(keys, s.dir, &written, &err), JT_OK);
    assert_false(written);
    assert_int_equal(scratch_entries(&s, 0), 0);
    jt_gguf_close(keys);
    scratch_free(&s);
}

#define FOLDER(name, check)                              \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER("bailingmoe", there_and_back), FOLDER("deepseek-v3", there_and_back),
        FOLDER("falcon", there_and_back),     FOLDER("gpt-4o", there_and_back),
        FOLDER("kimi-k2", there_and_back),    FOLDER("llama-bpe", there_and_back),
        FOLDER("mistral", there_and_back),    FOLDER("olmo", there_and_back),
        FOLDER("qwen2", there_and_back),      FOLDER("qwen35", there_and_back),
        FOLDER("smollm", there_and_back),     FOLDER("llama-2", there_and_back),
        FOLDER("gemma", there_and_back),      FOLDER("spm-bpe", there_and_back),
        FOLDER("bert-cased", not_written),    FOLDER("spm-unigram", not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
