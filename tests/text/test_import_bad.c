/* Broken vocabularies: one clear error each, and no crash. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "golden.h"
#include "import_folder.h"
#include "scratch.h"

/* The vocabulary in the file is refused with this in the message. */
static void refused(const char *name, const char *text, size_t len, jt_status status,
                    const char *message)
{
    jt_tokenizer *tok = NULL;
    jt_err err = {0};
    scratch_write(scratch_path(&scratch_dir, name), text, len);
    jt_status got = import_any(&tok, NULL, scratch_dir.dir, &err);
    unlink(scratch_path(&scratch_dir, name));
    if (got != status || !strstr(err.msg, message))
        fail_msg("expected %d '%s', got %d '%s'", (int)status, message, (int)got,
                 err.msg);
    assert_null(tok);
}

#define REFUSED(name, text, status, message) \
    refused(name, text, strlen(text), status, message)

/* A byte-level tokenizer.json with parts put in. */
static void refused_json(const char *vocab, const char *merges, const char *more,
                         jt_status status, const char *message)
{
    char text[8192];
    snprintf(text, sizeof text,
             "{\"model\": {\"type\": \"BPE\", \"vocab\": {%s}, \"merges\": [%s]}, "
             "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": "
             "false}%s}",
             vocab, merges, more);
    REFUSED("tokenizer.json", text, status, message);
}

#define VOCAB "\"a\": 0, \"b\": 1, \"ab\": 2"

static void files(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_tokenizer *tok = NULL;
    assert_int_equal(import_any(&tok, NULL, scratch_dir.dir, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "has no tokenizer.json"));
    REFUSED("tokenizer.json", "", JT_E_FORMAT,
            "tokenizer.json: line 1, column 1: expected a value, found the end");
    REFUSED("tokenizer.json", "{}", JT_E_FORMAT, "'model' is missing");
    REFUSED("tokenizer.json", "{\"model\": {}}", JT_E_FORMAT, "no 'vocab'");
    REFUSED("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {},\n]}",
            JT_E_FORMAT, "line 2, column 1: expected a name in quotes");
    REFUSED("tokenizer.json", "{\"model\": {\"type\": \"WordLevel\", \"vocab\": {}}}",
            JT_E_UNSUPPORTED, "'WordLevel'; known are BPE, Unigram, WordPiece");
    REFUSED("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": []}}",
            JT_E_FORMAT, "'vocab' is not that of a 'BPE'");
}

static void ids_of_tokens(void **state)
{
    (void)state;
    refused_json("", "", "", JT_E_FORMAT, "empty");
    refused_json("\"a\": 0, \"b\": 0", "", "", JT_E_FORMAT,
                 "id 0 has two tokens, 'a' and 'b'");
    refused_json("\"a\": 0, \"a\": 1", "", "", JT_E_FORMAT,
                 "token 'a' has two ids, 0 and 1");
    refused_json("\"a\": -1", "", "", JT_E_FORMAT, "'a' has id -1");
    refused_json("\"a\": 99999999999", "", "", JT_E_FORMAT, "'a' has id 99999999999");
    refused_json("\"a\": 16777215", "", "", JT_E_FORMAT,
                 "1 tokens have ids up to 16777215");
    refused_json("\"a\": 1.5", "", "", JT_E_FORMAT, "1.5 is not a whole number");
    refused_json("\"a\": \"1\"", "", "", JT_E_FORMAT, "expected a number");
    refused_json(VOCAB, "", ", \"added_tokens\": [{\"id\": 0, \"content\": \"x\"}]",
                 JT_E_FORMAT, "id 0 has two tokens, 'a' and 'x'");
    refused_json(VOCAB, "", ", \"added_tokens\": [{\"id\": 3}]", JT_E_FORMAT,
                 "without content");
}

static void merges(void **state)
{
    (void)state;
    refused_json(VOCAB, "\"a c\"", "", JT_E_FORMAT, "item 0, 'a c', is not two tokens");
    refused_json(VOCAB, "\"b a\"", "", JT_E_FORMAT, "item 0, 'b a', is not two tokens");
    refused_json(VOCAB, "\"ab\"", "", JT_E_FORMAT, "item 0, 'ab', is not two tokens");
    refused_json(VOCAB, "\"\"", "", JT_E_FORMAT, "item 0, '', is not two tokens");
    refused_json(VOCAB, "\"ab \"", "", JT_E_FORMAT, "item 0, 'ab ', is not two tokens");
    refused_json(VOCAB, "\"a b\", [\"a\", \"b\"]", "", JT_E_FORMAT, "'a b' twice");
    refused_json(VOCAB, "[\"a\"]", "", JT_E_FORMAT, "fewer than two");
    refused_json(VOCAB, "[\"a\", \"b\", \"c\"]", "", JT_E_FORMAT, "more than two");
    refused_json(VOCAB, "[\"a \", \"b\"]", "", JT_E_UNSUPPORTED, "with spaces");
    refused_json(VOCAB, "7", "", JT_E_FORMAT, "expected an array, found a number");
}

/* In place of the normalizer. */
static void refused_step(const char *step, jt_status status, const char *message)
{
    char more[6000];
    snprintf(more, sizeof more, ", \"normalizer\": %s", step);
    refused_json(VOCAB, "", more, status, message);
}

static void refused_expression(const char *expression, const char *message)
{
    char step[500];
    snprintf(step, sizeof step,
             "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": "
             "\"Isolated\"}",
             expression);
    refused_step(step, JT_E_UNSUPPORTED, message);
}

static void steps(void **state)
{
    (void)state;
    refused_step("7", JT_E_FORMAT, "normalizer: line 1, column 1: expected an object");
    refused_step("{\"type\": \"Shout\"}", JT_E_UNSUPPORTED, "'Shout' is not known");
    refused_step("{}", JT_E_UNSUPPORTED, "'' is not known");
    refused_step("{\"type\": \"ByteLevel\"}", JT_E_UNSUPPORTED,
                 "ByteLevel as a normalizer");
    refused_step("{\"type\": \"Split\", \"behavior\": \"Isolated\"}", JT_E_FORMAT,
                 "'Split' has no pattern");
    refused_step("{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\":"
                 " \"Eaten\"}",
                 JT_E_UNSUPPORTED, "behavior 'Eaten'");
    refused_step("{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}}",
                 JT_E_FORMAT, "'Replace' has no pattern");
    refused_step("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"*\"}",
                 JT_E_FORMAT, "not base64");
    refused_step("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}",
                 JT_E_FORMAT, "a trie of 0");
    refused_step("{\"type\": \"Metaspace\"}", JT_E_FORMAT, "without a replacement");
    refused_expression("(a", "missing closing parenthesis");
    refused_expression("[a", "a class that is not closed");
    refused_expression("[a&&b]", "'&&' without a class");
    refused_expression("\\\\p", "\\p without a name");
    refused_expression("\\\\p{Klingon}", "unknown property");
    refused_expression("a\\\\", "a backslash at the end");
    refused_expression("\\\\C", "");
}

static void many_steps(void **state)
{
    (void)state;
    char text[6000] = "{\"type\": \"Sequence\", \"normalizers\": [";
    for (int i = 0; i < 40; i++)
        strcat(text, i ? ", {\"type\": \"NFC\"}" : "{\"type\": \"NFC\"}");
    strcat(text, "]}");
    refused_step(text, JT_E_LIMIT, "more than 32 steps");
    text[0] = '\0';
    for (int i = 0; i < 100; i++)
        strcat(text, "{\"type\":\"Sequence\",\"normalizers\":[");
    refused_step(text, JT_E_LIMIT, "in each other");
}

static void other_forms(void **state)
{
    (void)state;
    static const char cut[] = "\x0a\x10\x0a";
    refused("tokenizer.model", cut, sizeof cut - 1, JT_E_FORMAT, "or cut off");
    REFUSED("tokenizer.model", "", JT_E_FORMAT, "not a SentencePiece model");
    REFUSED("tokenizer.model", "hello", JT_E_FORMAT, "not a SentencePiece model");
    REFUSED("tiktoken.model", "YQ==", JT_E_FORMAT, "line 1 has no rank");
    REFUSED("tiktoken.model", "YQ== 0\n*** 1\n", JT_E_FORMAT, "token 1 is not base64");
    REFUSED("tiktoken.model", "YQ== 0\nYQ== 1\n", JT_E_FORMAT, "'a' has two ids");
    REFUSED("tekken.json", "{}", JT_E_FORMAT, "'vocab' or a part of 'config'");
}

/* An expression that takes for ever is given up. */
static void slow_expression(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []},"
        " \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\":"
        " \"Split\", \"pattern\": {\"Regex\": \"(a+)+b\"}, \"behavior\": \"Isolated\"},"
        " {\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}}";
    const char *path = scratch_path(&scratch_dir, "tokenizer.json");
    scratch_write(path, text, sizeof text - 1);
    jt_tokenizer *tok = NULL;
    jt_err err = {0};
    jt_status status = import_any(&tok, NULL, scratch_dir.dir, &err);
    unlink(path);
    if (status != JT_OK)
        fail_msg("%s", err.msg);
    jt_tokens got = {0};
    char letters[64];
    memset(letters, 'a', sizeof letters);
    letters[60] = 'c';
    letters[61] = 'b'; /* or the expression is not tried at all */
    assert_int_equal(jt_encode(tok, letters, sizeof letters, 0, &got, &err),
                     JT_E_LIMIT);
    assert_int_equal(got.count, 0);
    free(got.ids);
    jt_tokenizer_free(tok);
}

/* Each allocation fails once; nothing leaks (with the address sanitizer). */
static void out_of_memory(void **state)
{
    (void)state;
    static const char *const names[] = {
        "odd", "gemma", "t5", "bert-uncased", "spm-bpe-rules", "tekken-ranks"};
    const char *root = getenv("JUNTO_TEST_DATA");
    assert_non_null(root);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/text/data/folders/%s", root, names[i]);
        jt_status status = JT_E_MEMORY;
        for (long n = 0; status != JT_OK; n += 1 + n / 16) {
            jt_tokenizer *tok = NULL;
            jt_err err = {0};
            jt_fault_after(n);
            status = import_any(&tok, NULL, path, &err);
            jt_fault_after(-1);
            if (status != JT_OK && status != JT_E_MEMORY)
                fail_msg("%s, %ld: %s", names[i], n, err.msg);
            assert_true((tok != NULL) == (status == JT_OK));
            jt_tokenizer_free(tok);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),           cmocka_unit_test(ids_of_tokens),
        cmocka_unit_test(merges),          cmocka_unit_test(steps),
        cmocka_unit_test(many_steps),      cmocka_unit_test(other_forms),
        cmocka_unit_test(slow_expression), cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
