/* Ids of some hundred strings, the same as those of the reference libraries.
 *
 *     test_text_golden [MODEL.gguf FILE.ids]
 *
 * compares a real vocabulary with ids that make_tokenizers.py made of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "golden.h"
#include "text/normal.h"

/* What decoding gives back: the string, but for what a vocabulary cannot tell apart:
 * normalized text, and U+2581 from a space. Real ones may even lack bytes. */
typedef enum loss { LOSS_NONE, LOSS_NFC, LOSS_MARK, LOSS_BYTES } loss;

typedef struct golden {
    const char *ids, *vocab, *pre;
    loss loss;
    unsigned flags;
} golden;

static const golden cases[] = {
    {"gpt-2", "bytes.gguf", "gpt-2", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"olmo", "bytes.gguf", "olmo", LOSS_NFC, JT_ENCODE_PARSE_SPECIAL},
    {"smollm", "bytes.gguf", "smollm", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"llama-bpe", "bytes.gguf", "llama-bpe", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"qwen2", "bytes.gguf", "qwen2", LOSS_NFC, JT_ENCODE_PARSE_SPECIAL},
    {"qwen35", "bytes.gguf", "qwen35", LOSS_NFC, JT_ENCODE_PARSE_SPECIAL},
    {"gpt-4o", "bytes.gguf", "gpt-4o", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"tekken", "bytes.gguf", "tekken", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"seed-coder", "bytes.gguf", "seed-coder", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"bailingmoe", "bytes.gguf", "bailingmoe", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"deepseek-llm", "bytes.gguf", "deepseek-llm", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"deepseek-coder", "bytes.gguf", "deepseek-coder", LOSS_NONE,
     JT_ENCODE_PARSE_SPECIAL},
    {"deepseek-v3", "bytes.gguf", "deepseek-v3", LOSS_NONE, JT_ENCODE_PARSE_SPECIAL},
    {"pieces", "pieces.gguf", NULL, LOSS_MARK, 0},
    {"pieces-special", "pieces.gguf", NULL, LOSS_MARK, JT_ENCODE_PARSE_SPECIAL},
};

/* The next line of a text, NULL after the last; *next moves on. */
static char *next_line(char **next, size_t *len)
{
    char *line = *next, *end = strchr(line, '\n');
    if (!end)
        return NULL;
    *len = (size_t)(end - line);
    *end = '\0';
    *next = end + 1;
    return line;
}

/* Whether the ids are those of a line of numbers. */
static bool same_ids(const jt_tokens *got, const char *expected)
{
    size_t n = 0;
    for (char *end;; n++, expected = end) {
        long id = strtol(expected, &end, 10);
        if (end == expected)
            return n == got->count;
        if (n >= got->count || got->ids[n] != id)
            return false;
    }
}

static void show_difference(const char *name, const char *text, size_t len,
                            const jt_tokens *got, const char *expected)
{
    fprintf(stderr, "%s: '%.*s'\n  expected %s\n  got     ", name, (int)len, text,
            expected);
    for (size_t i = 0; i < got->count; i++)
        fprintf(stderr, " %d", (int)got->ids[i]);
    fputc('\n', stderr);
}

static void replace_marks(char *text, size_t *len)
{
    char *mark;
    while ((mark = memmem(text, *len, "\xe2\x96\x81", 3)) != NULL) {
        *mark = ' ';
        memmove(mark + 1, mark + 3, (size_t)(text + *len - (mark + 3)));
        *len -= 2;
    }
}

/* Decoded ids are the text again, but for the named loss. Normalizing the whole is not
 * quite normalizing between special tokens, so text with those is not compared. */
static void check_decoded(const jt_tokenizer *tok, const jt_tokens *ids, char *text,
                          size_t len, loss expect)
{
    char *decoded;
    size_t decoded_len;
    assert_int_equal(
        jt_decode(tok, ids->ids, ids->count, true, &decoded, &decoded_len, NULL),
        JT_OK);
    jt_normal work = {0};
    jt_str expected = {text, len};
    if (expect == LOSS_NFC) {
        assert_int_equal(jt_normal_run(&work, JT_NFC, expected, &expected, NULL),
                         JT_OK);
    } else if (expect == LOSS_MARK) {
        replace_marks(text, &len);
        expected.len = len;
    }
    if (expect != LOSS_NFC || !memmem(text, len, "«", 2)) {
        assert_int_equal(decoded_len, expected.len);
        assert_memory_equal(decoded, expected.data, expected.len);
    }
    jt_normal_free(&work);
    free(decoded);
}

/* Returns the number of strings with other ids. */
static int compare(const jt_tokenizer *tok, const golden *c, char *ids)
{
    size_t len, ignored;
    char *strings = golden_read("strings.txt", &ignored), *next = strings, *text;
    jt_tokens got = {0};
    int count = 0, different = 0;
    for (; (text = next_line(&next, &len)) != NULL; count++) {
        const char *expected = next_line(&ids, &ignored);
        assert_non_null(expected);
        len = golden_unescape(text, len);
        got.count = 0;
        jt_err err = {0};
        if (jt_encode(tok, text, len, c->flags, &got, &err) != JT_OK)
            fail_msg("%s: %s", c->ids, err.msg);
        if (!same_ids(&got, expected)) {
            show_difference(c->ids, text, len, &got, expected);
            different++;
        }
        if (c->loss != LOSS_BYTES)
            check_decoded(tok, &got, text, len, c->loss);
    }
    assert_true(count > 400);
    free(got.ids);
    free(strings);
    return different;
}

static void same_as_reference(void **state)
{
    const golden *c = *state;
    char name[64];
    snprintf(name, sizeof name, "%s.ids", c->ids);
    size_t bytes;
    char *ids = golden_read(name, &bytes);
    jt_tokenizer *tok = golden_tokenizer(c->vocab, c->pre);
    assert_string_equal(jt_tokenizer_kind(tok), c->pre ? "gpt2" : "llama");
    assert_string_equal(jt_tokenizer_pre(tok), c->pre ? c->pre : "");
    assert_int_equal(compare(tok, c, ids), 0);
    jt_tokenizer_free(tok);
    free(ids);
}

static int compare_files(const char *model, const char *ids_path)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    jt_tokenizer *tok = NULL;
    char *ids = NULL;
    size_t bytes;
    int different = -1;
    if (jt_gguf_open(&file, model, &err) == JT_OK &&
        jt_tokenizer_new(&tok, file, &err) == JT_OK &&
        jt_read_file(&ids, &bytes, ids_path, 1 << 24, &err) == JT_OK) {
        golden c = {ids_path, model, "", LOSS_BYTES, JT_ENCODE_PARSE_SPECIAL};
        different = compare(tok, &c, ids);
        printf("%s: %d strings differ\n", jt_tokenizer_pre(tok), different);
    } else {
        fprintf(stderr, "%s\n", err.msg);
    }
    free(ids);
    jt_tokenizer_free(tok);
    jt_gguf_close(file);
    return different != 0;
}

enum { CASES = sizeof cases / sizeof *cases };

int main(int argc, char **argv)
{
    if (argc == 3)
        return compare_files(argv[1], argv[2]);
    struct CMUnitTest tests[CASES];
    for (size_t i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){.name = cases[i].ids,
                                       .test_func = same_as_reference,
                                       .initial_state = (void *)&cases[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
