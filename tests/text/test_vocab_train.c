/* Learning a vocabulary: against a slow and simple trainer, on random texts; what the
 * file says; texts there and back; failures. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "junto/tokenizer.h"
#include "junto/vocabulary.h"
#include "scratch.h"
#include "text/alphabet.h"
#include "text/pieces.h"
#include "text/pretoken.h"

#define KEY(name) "tokenizer.ggml." name

/* ---- the simple trainer: all pieces side by side, all pairs counted each time ---- */

enum { PIECES = 4096, PIECE = 64, TOKENS = 600 };

typedef struct naive {
    int ids[PIECES][PIECE];
    int len[PIECES];
    int n_pieces;
    char tokens[TOKENS][PIECE + 1]; /* texts; the bytes of these tests are letters */
    int n_tokens;
    char merges[TOKENS][2 * PIECE];
    int n_merges;
} naive;

static jt_status naive_piece(void *user, jt_str piece)
{
    naive *n = user;
    assert_true(n->n_pieces < PIECES && piece.len <= PIECE);
    unsigned char order[256];
    jt_alphabet_order(order);
    for (size_t i = 0; i < piece.len; i++) {
        const unsigned char *at = memchr(order, piece.data[i], 256);
        n->ids[n->n_pieces][i] = (int)(at - order);
    }
    n->len[n->n_pieces++] = (int)piece.len;
    return JT_OK;
}

static void naive_read(naive *n, const char *text, const char *pre)
{
    const jt_pretokenizer *kind = jt_pretokenizer_find((jt_str){pre, strlen(pre)});
    jt_steps steps;
    jt_pieces pieces;
    assert_int_equal(jt_pretokenizer_steps(&steps, kind, NULL), JT_OK);
    assert_int_equal(jt_pieces_new(&pieces, &steps, NULL), JT_OK);
    jt_str all = {text, strlen(text)};
    assert_int_equal(jt_pieces_run(&pieces, all, true, naive_piece, n, NULL), JT_OK);
    jt_pieces_free(&pieces);
    jt_steps_free(&steps);
    unsigned char order[256];
    jt_alphabet_order(order);
    for (int i = 0; i < 256; i++) {
        char text_of[2];
        size_t len = jt_alphabet_char(order[i], text_of);
        snprintf(n->tokens[i], sizeof n->tokens[i], "%.*s", (int)len, text_of);
    }
    n->n_tokens = 256;
}

static void naive_texts(const naive *n, int left, int right, char joined[2 * PIECE],
                        char merge[2 * PIECE])
{
    snprintf(joined, 2 * PIECE, "%s%s", n->tokens[left], n->tokens[right]);
    snprintf(merge, 2 * PIECE, "%s %s", n->tokens[left], n->tokens[right]);
}

/* The most frequent pair, of equals the smallest; its count. */
static int naive_best(const naive *n, int best[2])
{
    static int counts[TOKENS][TOKENS];
    memset(counts, 0, sizeof counts);
    for (int p = 0; p < n->n_pieces; p++) {
        for (int i = 0; i + 1 < n->len[p]; i++)
            counts[n->ids[p][i]][n->ids[p][i + 1]]++;
    }
    int most = 0;
    for (int a = 0; a < n->n_tokens; a++) {
        for (int b = 0; b < n->n_tokens; b++) {
            if (counts[a][b] <= most)
                continue;
            most = counts[a][b];
            best[0] = a;
            best[1] = b;
        }
    }
    return most;
}

static void naive_merge(naive *n, const int pair[2])
{
    char joined[2 * PIECE], merge[2 * PIECE];
    naive_texts(n, pair[0], pair[1], joined, merge);
    int id = 0, known = 0;
    while (id < n->n_tokens && strcmp(n->tokens[id], joined) != 0)
        id++;
    if (id == n->n_tokens)
        strcpy(n->tokens[n->n_tokens++], joined);
    while (known < n->n_merges && strcmp(n->merges[known], merge) != 0)
        known++;
    if (known == n->n_merges)
        strcpy(n->merges[n->n_merges++], merge);
    for (int p = 0; p < n->n_pieces; p++) {
        int *ids = n->ids[p], len = 0;
        for (int i = 0; i < n->len[p]; i++) {
            bool is = i + 1 < n->len[p] && ids[i] == pair[0] && ids[i + 1] == pair[1];
            ids[len++] = is ? id : ids[i];
            i += is;
        }
        n->len[p] = len;
    }
}

static void naive_train(naive *n, int size, int min_count)
{
    for (int pair[2]; n->n_tokens < size && naive_best(n, pair) >= min_count;)
        naive_merge(n, pair);
}

/* ---- comparing ---- */

static void assert_list(const jt_gguf *file, const char *key, const char *first,
                        size_t stride, size_t count)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    assert_non_null(kv);
    assert_true(kv->count >= count);
    for (size_t i = 0; i < count; i++) {
        jt_str item;
        const char *expected = first + i * stride;
        assert_true(jt_gguf_item_str(kv, i, &item));
        if (item.len != strlen(expected) || memcmp(item.data, expected, item.len) != 0)
            fail_msg("%s %zu is '%.*s', not '%s'", key, i, (int)item.len, item.data,
                     expected);
    }
}

static const char *file_with(const char *name, const char *text, size_t len)
{
    const char *path = scratch_path(&scratch_dir, name);
    scratch_write(path, text, len);
    return path;
}

/* Words of few letters, some many times, in which runs and overlaps are common. */
static void random_text(char *text, size_t size, uint64_t seed)
{
    jt_rng rng = {.seed = seed};
    size_t len = 0;
    while (len + 1 < size) {
        uint32_t kind = jt_rng_below(&rng, 8), letters = 1 + jt_rng_below(&rng, 3);
        if (kind == 0)
            text[len++] = ' ';
        else if (kind == 1)
            text[len++] = '\n';
        else
            text[len++] = (char)('a' + jt_rng_below(&rng, letters));
    }
    text[len] = '\0';
}

static void check_random(uint64_t seed, const char *pre, int size, int min_count)
{
    static const char *const specials[] = {"<end>", "ab"};
    char text[3000];
    random_text(text, sizeof text, seed);
    naive *n = calloc(1, sizeof *n);
    /* The special token that is a word of the text divides it. */
    for (char *at = text, *end; at; at = end ? end + 2 : NULL) {
        end = strstr(at, "ab");
        if (end)
            *end = '\0';
        naive_read(n, at, pre);
        if (end)
            *end = 'a';
    }
    naive_train(n, size - 2, min_count);

    const char *paths[] = {file_with("in.txt", text, strlen(text))};
    const char *out = scratch_path(&scratch_dir, "out.gguf");
    jt_vocabulary_options options = {.size = (size_t)size,
                                     .pre = pre,
                                     .min_count = (uint64_t)min_count,
                                     .specials = specials,
                                     .n_specials = 2};
    jt_vocabulary_report report;
    assert_int_equal(jt_vocabulary_train(paths, 1, out, &options, &report, NULL),
                     JT_OK);
    assert_int_equal(report.tokens, n->n_tokens + 2);
    assert_int_equal(report.merges, n->n_merges);
    jt_gguf *file;
    assert_int_equal(jt_gguf_open(&file, out, NULL), JT_OK);
    assert_list(file, KEY("tokens"), n->tokens[0], sizeof n->tokens[0],
                (size_t)n->n_tokens);
    assert_list(file, KEY("merges"), n->merges[0], sizeof n->merges[0],
                (size_t)n->n_merges);
    jt_gguf_close(file);
    free(n);
}

static void as_the_simple_trainer(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2", "qwen2", "llama-bpe"};
    for (uint64_t seed = 0; seed < 24; seed++)
        check_random(seed, pres[seed % 3], 262 + (int)seed * 8, 1 + (int)seed % 4);
    check_random(99, "gpt-2", 500, 1); /* until nothing is left to merge */
}

/* ---- the file as a tokenizer ---- */

static const char prose[] =
    "Die Grille zirpt, die Grille singt.\n<|endoftext|>\nDie Gr\xc3\xbc\xc3\x9f"
    "e der Grille: 12 345 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x90\xb1\n\n"
    "for (i = 0; i < n; i++)\n    sum += i;\n";

static jt_status learn(const char *text, size_t len,
                       const jt_vocabulary_options *options,
                       jt_vocabulary_report *report, jt_err *err)
{
    const char *paths[] = {file_with("in.txt", text, len)};
    return jt_vocabulary_train(paths, 1, scratch_path(&scratch_dir, "out.gguf"),
                               options, report, err);
}

static jt_tokenizer *learnt(void)
{
    jt_gguf *file;
    jt_tokenizer *tok;
    const char *out = scratch_path(&scratch_dir, "out.gguf");
    assert_int_equal(jt_gguf_open(&file, out, NULL), JT_OK);
    assert_int_equal(jt_gguf_tensor_count(file), 0);
    assert_int_equal(jt_tokenizer_new(&tok, file, NULL), JT_OK);
    jt_gguf_close(file);
    return tok;
}

/* Encode and decode; gives the number of tokens. */
static size_t there_and_back(const jt_tokenizer *tok, const char *text, size_t len)
{
    jt_tokens ids = {0};
    char *back;
    size_t back_len, count;
    assert_int_equal(jt_encode(tok, text, len, 0, &ids, NULL), JT_OK);
    assert_int_equal(jt_decode(tok, ids.ids, ids.count, true, &back, &back_len, NULL),
                     JT_OK);
    assert_int_equal(back_len, len);
    assert_memory_equal(back, text, len);
    count = ids.count;
    free(ids.ids);
    free(back);
    return count;
}

static void a_tokenizer(void **state)
{
    (void)state;
    jt_vocabulary_options options = {.size = 320};
    jt_vocabulary_report report;
    assert_int_equal(learn(prose, strlen(prose), &options, &report, NULL), JT_OK);
    assert_int_equal(report.bytes, strlen(prose) - strlen("<|endoftext|>"));
    jt_tokenizer *tok = learnt();
    assert_int_equal(jt_vocab_size(tok), report.tokens);
    assert_string_equal(jt_tokenizer_pre(tok), "gpt-2");
    int32_t last = (int32_t)report.tokens - 1;
    assert_int_equal(jt_token_find(tok, "<|im_end|>", 10), last);
    assert_int_equal(jt_token_find(tok, "<|im_start|>", 12), last - 1);
    assert_int_equal(jt_token_bos(tok), last - 2);
    assert_int_equal(jt_token_eos(tok), last - 2);
    assert_true(jt_token_is_special(tok, last) && jt_token_is_end(tok, last));
    jt_tokens ids = {0};
    assert_int_equal(jt_encode(tok, " Grille<|endoftext|>", 20,
                               JT_ENCODE_ADD_SPECIAL | JT_ENCODE_PARSE_SPECIAL, &ids,
                               NULL),
                     JT_OK);
    assert_int_equal(ids.count, 2); /* a word that was seen often is one token */
    assert_int_equal(ids.ids[1], last - 2);
    free(ids.ids);
    jt_tokenizer_free(tok);
}

static void any_bytes(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe"};
    for (size_t i = 0; i < 3; i++) {
        jt_vocabulary_options options = {.size = 340, .pre = pres[i], .min_count = 1};
        jt_vocabulary_report report;
        assert_int_equal(learn(prose, strlen(prose), &options, &report, NULL), JT_OK);
        jt_tokenizer *tok = learnt();
        size_t count = 0;
        for (const char *at = prose, *end; at; at = end ? end + 13 : NULL) {
            end = strstr(at, "<|endoftext|>");
            count += there_and_back(tok, at, end ? (size_t)(end - at) : strlen(at));
        }
        assert_int_equal(count, report.text_tokens);
        char bytes[512];
        jt_rng rng = {.seed = i};
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (char)(j < 256 ? j : jt_rng_below(&rng, 256));
        there_and_back(tok, bytes, sizeof bytes);
        jt_tokenizer_free(tok);
    }
}

/* Bytes that are not UTF-8 are learnt from too; so is nothing. */
static void odd_texts(void **state)
{
    (void)state;
    jt_vocabulary_options options = {.size = 4096};
    jt_vocabulary_report report;
    assert_int_equal(learn("\xff\xfe\xff\xfe a", 6, &options, &report, NULL), JT_OK);
    assert_int_equal(report.merges, 1);
    jt_tokenizer *tok = learnt();
    assert_int_equal(there_and_back(tok, "\xff\xfe", 2), 1);
    jt_tokenizer_free(tok);
    assert_int_equal(learn("", 0, &options, &report, NULL), JT_OK);
    assert_int_equal(report.tokens, 259);
    tok = learnt();
    assert_int_equal(there_and_back(tok, "ab", 2), 2);
    jt_tokenizer_free(tok);
}

/* ---- failures: nothing is left of the file ---- */

/* What training reads of records is what the vocabulary is learnt from: neither their
 * keys nor roles. */
static void json_lines(void **state)
{
    (void)state;
    static const char records[] =
        "{\"text\": \"la la\\nla\", \"source\": \"nobody knows\"}\n\n"
        "{\"prompt\": \"la?\", \"completion\": \" si<|im_end|>si\"}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"la\"},"
        " {\"role\": \"assistant\", \"content\": \"si si\"}]}\n";
    static const char same[] = "la la\nla<|im_end|>la?<|im_end|> si<|im_end|>si"
                               "<|im_end|>la<|im_end|>si si";
    static const char unknown[] = "{\"text\": \"la\"}\n{\"tax\": 1}\n";
    const char *out = scratch_path(&scratch_dir, "out.gguf");
    const char *paths[] = {file_with("in.jsonl", records, strlen(records))};
    jt_vocabulary_options options = {.size = 300};
    jt_vocabulary_report of_records, of_text;
    jt_err err = {0};
    assert_int_equal(jt_vocabulary_train(paths, 1, out, &options, &of_records, NULL),
                     JT_OK);
    assert_int_equal(learn(same, strlen(same), &options, &of_text, NULL), JT_OK);
    assert_memory_equal(&of_records, &of_text, sizeof of_text);
    paths[0] = file_with("in.jsonl", unknown, strlen(unknown));
    assert_int_equal(jt_vocabulary_train(paths, 1, out, &options, NULL, &err),
                     JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "in.jsonl': line 2: a record has"));
    assert_int_equal(remove(paths[0]), 0);
}

static void refused(const jt_vocabulary_options *options, jt_status status,
                    const char *message)
{
    jt_err err = {0};
    assert_int_equal(learn(prose, strlen(prose), options, NULL, &err), status);
    assert_non_null(strstr(err.msg, message));
}

static int stop(void *user, const char *what, unsigned long long done,
                unsigned long long total)
{
    (void)done;
    (void)total;
    return !strcmp(what, user);
}

static void failures(void **state)
{
    (void)state;
    scratch_entries(&scratch_dir, 1);
    static const char *const empty[] = {""}, *const twice[] = {"<x>", "<x>"};
    static const char *const byte[] = {"a"};
    refused(&(jt_vocabulary_options){.size = 258}, JT_E_ARG, "258 tokens");
    refused(&(jt_vocabulary_options){.size = SIZE_MAX}, JT_E_ARG, "at most 2^31");
    refused(&(jt_vocabulary_options){.size = 300, .pre = "mine"}, JT_E_ARG, "'mine'");
    refused(&(jt_vocabulary_options){.size = 300, .specials = empty, .n_specials = 1},
            JT_E_ARG, "empty");
    refused(&(jt_vocabulary_options){.size = 300, .specials = twice, .n_specials = 2},
            JT_E_ARG, "twice");
    refused(&(jt_vocabulary_options){.size = 300, .specials = byte, .n_specials = 1},
            JT_E_ARG, "another token");
    refused(&(jt_vocabulary_options){.size = 300, .progress = {stop, "merging"}},
            JT_E_INTERRUPTED, "");
    jt_err err = {0};
    const char *missing[] = {"no/such.txt"};
    assert_int_equal(
        jt_vocabulary_train(missing, 1, scratch_path(&scratch_dir, "out.gguf"),
                            &(jt_vocabulary_options){.size = 300}, NULL, &err),
        JT_E_IO);
    assert_non_null(strstr(err.msg, "no/such.txt"));
    assert_int_equal(scratch_entries(&scratch_dir, 0), 1); /* in.txt */
}

static void failing_allocations(void **state)
{
    (void)state;
    jt_vocabulary_options options = {.size = 290, .pre = "qwen2"};
    int failed = 0;
    jt_status status = JT_OK;
    for (long n = 0; n < 200; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        status = learn(prose, strlen(prose), &options, NULL, &err);
        jt_fault_after(-1);
        if (status != JT_OK)
            assert_int_equal(status, JT_E_MEMORY);
        failed += status != JT_OK;
    }
    assert_int_equal(status, JT_OK); /* by now none was left to fail */
    assert_true(failed > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_simple_trainer),
        cmocka_unit_test(a_tokenizer),
        cmocka_unit_test(any_bytes),
        cmocka_unit_test(odd_texts),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(failures),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
