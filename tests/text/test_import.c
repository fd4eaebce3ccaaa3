/* Vocabularies as they are published: read, written as GGUF, built, and their ids
 * compared with those of the libraries that the forms belong to.
 *
 *     test_text_import [FOLDER]
 *
 * shows, for each form, the ids that differ from FOLDER/NAME.ids (make_imports.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "import_folder.h"

typedef struct form {
    const char *name, *kind, *pre;
    unsigned flags;
} form;

enum {
    PARSE = JT_ENCODE_PARSE_SPECIAL,
    BOTH = JT_ENCODE_PARSE_SPECIAL | JT_ENCODE_ADD_SPECIAL
};

static const form forms[] = {
    {"smollm", "gpt2", "smollm", BOTH},
    {"qwen2", "gpt2", "qwen2", BOTH},
    {"qwen35", "gpt2", "qwen35", BOTH},
    {"llama-bpe", "gpt2", "llama-bpe", BOTH},
    {"gpt-4o", "gpt2", "gpt-4o", BOTH},
    {"tekken", "gpt2", "tekken", BOTH},
    {"bailingmoe", "gpt2", "bailingmoe", BOTH},
    {"deepseek-llm", "gpt2", "deepseek-llm", BOTH},
    {"deepseek-coder", "gpt2", "deepseek-coder", BOTH},
    {"deepseek-v3", "gpt2", "deepseek-v3", BOTH},
    {"seed-coder", "gpt2", "seed-coder", BOTH},
    {"olmo", "gpt2", "mpt", BOTH},
    {"dbrx", "gpt2", "dbrx", BOTH},
    {"falcon", "gpt2", "falcon", BOTH},
    {"kimi-k2", "gpt2", "kimi-k2", BOTH},
    {"superbpe", "gpt2", "superbpe", BOTH},
    {"exaone-moe", "gpt2", "exaone-moe", BOTH},
    {"roberta", "gpt2", "junto", BOTH},
    {"bloom", "gpt2", "junto", BOTH},
    {"llama3-nfc", "gpt2", "junto", BOTH},
    {"odd", "gpt2", "junto", BOTH},
    {"llama-2", "llama", "", BOTH},
    {"gemma", "llama", "", BOTH},
    {"mistral", "llama", "", BOTH},
    {"metaspace", "llama", "", BOTH},
    {"t5", "t5", "", BOTH},
    {"xlm", "t5", "", BOTH},
    {"bert-uncased", "bert", "", BOTH},
    {"bert-cased", "bert", "", BOTH},
    {"spm-bpe", "llama", "", 0},
    {"spm-bpe-rules", "llama", "", 0},
    {"spm-bpe-bare", "llama", "", 0},
    {"spm-unigram", "t5", "", 0},
    {"spm-unigram-bytes", "t5", "", 0},
    {"kimi-ranks", "gpt2", "kimi-k2", PARSE},
    {"tekken-ranks", "gpt2", "tekken", PARSE},
};

enum { FORMS = sizeof forms / sizeof *forms };

static uint32_t checksum(const jt_tokens *tokens)
{
    uint32_t sum = 0x811c9dc5;
    for (size_t i = 0; i < tokens->count; i++)
        sum = (sum ^ (uint32_t)tokens->ids[i]) * 0x01000193;
    return sum;
}

/* The next line of a text, NULL after the last; *next moves on. */
static char *next_line(char **next)
{
    char *line = *next, *end = strchr(line, '\n');
    if (!end)
        return NULL;
    *end = '\0';
    *next = end + 1;
    return line;
}

/* Call `fn` for each string, with its tokens. */
typedef void each_fn(void *user, const char *text, size_t len, const jt_tokens *tokens);
static void each_string(const form *f, each_fn *fn, void *user)
{
    jt_tokenizer *tok = import_folder(f->name);
    assert_string_equal(jt_tokenizer_kind(tok), f->kind);
    assert_string_equal(jt_tokenizer_pre(tok), f->pre);
    size_t bytes;
    char *strings = golden_read("strings.txt", &bytes), *next = strings, *text;
    while (next < strings + bytes) {
        text = next;
        char *end = memchr(text, '\n', (size_t)(strings + bytes - text));
        assert_non_null(end);
        next = end + 1;
        size_t len = golden_unescape(text, (size_t)(end - text));
        jt_tokens got = {0};
        jt_err err = {0};
        if (jt_encode(tok, text, len, f->flags, &got, &err) != JT_OK)
            fail_msg("%s: %s", f->name, err.msg);
        fn(user, text, len, &got);
        free(got.ids);
    }
    free(strings);
    jt_tokenizer_free(tok);
}

typedef struct comparison {
    char *next;
    int count, different;
} comparison;

static void compare_sum(void *user, const char *text, size_t len,
                        const jt_tokens *tokens)
{
    comparison *c = user;
    const char *line = next_line(&c->next);
    assert_non_null(line);
    c->count++;
    if (strtoul(line, NULL, 16) == checksum(tokens))
        return;
    c->different++;
    print_error("'%.*s' has other ids\n", (int)len, text);
}

static void same_as_reference(void **state)
{
    const form *f = *state;
    char name[128];
    size_t bytes;
    snprintf(name, sizeof name, "folders/%s/sums", f->name);
    char *sums = golden_read(name, &bytes);
    comparison c = {.next = sums};
    each_string(f, compare_sum, &c);
    free(sums);
    assert_true(c.count > 400);
    assert_int_equal(c.different, 0);
}

/* ---- by hand ---- */

static void compare_ids(void *user, const char *text, size_t len,
                        const jt_tokens *tokens)
{
    comparison *c = user;
    const char *line = next_line(&c->next);
    char got[1 << 16] = "";
    size_t used = 0;
    for (size_t i = 0; i < tokens->count; i++)
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%d", i ? " " : "",
                                 (int)tokens->ids[i]);
    c->count++;
    if (line && strcmp(line, got) == 0)
        return;
    c->different++;
    printf("'%.*s'\n  expected %s\n  got      %s\n", (int)len, text, line, got);
}

static int show(const char *folder)
{
    int different = 0;
    for (size_t i = 0; i < FORMS; i++) {
        char path[4096];
        size_t bytes;
        snprintf(path, sizeof path, "%s/%s.ids", folder, forms[i].name);
        char *ids = import_read(path, &bytes);
        comparison c = {.next = ids};
        each_string(&forms[i], compare_ids, &c);
        printf("%s: %d of %d differ\n", forms[i].name, c.different, c.count);
        different += c.different;
        free(ids);
    }
    return different != 0;
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return show(argv[1]);
    struct CMUnitTest tests[FORMS];
    for (size_t i = 0; i < FORMS; i++)
        tests[i] = (struct CMUnitTest){.name = forms[i].name,
                                       .test_func = same_as_reference,
                                       .initial_state = (void *)&forms[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
