/* Texts of a megabyte that are hard to split or merge take less than a second each
 * (with sanitizers a few), and come back whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/memory.h"
#include "golden.h"
#include "sanitized.h"

enum { LENGTH = SANITIZED ? 1 << 17 : 1 << 20 };

/* Measured: at most 0.2. Anything quadratic takes minutes. */
static const double SECONDS_MOST = 2;

/* Fill a text with repetitions of `part`, `last` at its end. */
static void fill(char *text, const char *part, const char *last)
{
    size_t n = strlen(part), tail = strlen(last);
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = part[i % n];
    memcpy(text + LENGTH - tail, last, tail);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(const jt_tokenizer *tok, const char *text, const char *part)
{
    jt_tokens ids = {0};
    char *decoded;
    size_t len;
    double start = seconds();
    assert_int_equal(jt_encode(tok, text, LENGTH, 3, &ids, NULL), JT_OK);
    double took = seconds() - start;
    if (took > SECONDS_MOST)
        fail_msg("%s: '%s' took %.1f s", jt_tokenizer_pre(tok), part, took);
    assert_int_equal(jt_decode(tok, ids.ids, ids.count, false, &decoded, &len, NULL),
                     JT_OK);
    assert_int_equal(len, LENGTH);
    assert_memory_equal(decoded, text, LENGTH);
    free(decoded);
    free(ids.ids);
}

static void hard_texts(void **state)
{
    static const char *const parts[][2] = {{"a", ""},    {" ", ""},
                                           {" ", "a"},   {" \n", "x"},
                                           {"\t ", ""},  {"!", ""},
                                           {"A", "a"},   {"Aa", "1"},
                                           {"中", ""},   {"\xe3\x80\x80", "b"},
                                           {"the ", ""}, {"<|im_start", ""},
                                           {"\xff", ""}, {"\xcc\x81", ""},
                                           {"1", ""},    {" ", "\n"}};
    jt_tokenizer *tok = strcmp(*state, "pieces") == 0
                            ? golden_tokenizer("pieces.gguf", NULL)
                            : golden_tokenizer("bytes.gguf", *state);
    char *text = jt_alloc(LENGTH, 1);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fill(text, parts[i][0], parts[i][1]);
        check(tok, text, parts[i][0]);
    }
    free(text);
    jt_tokenizer_free(tok);
}

int main(void)
{
    static const char *const names[] = {"gpt-2",        "llama-bpe",   "gpt-4o",
                                        "deepseek-llm", "deepseek-v3", "pieces"};
    struct CMUnitTest tests[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = hard_texts,
                                       .initial_state = (void *)names[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
