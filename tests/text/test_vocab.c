/* Files with a wrong vocabulary: errors that name the key, and no crash. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "vocab_file.h"

#define KEY(name) "tokenizer.ggml." name

/* Making a tokenizer fails like this; `v` is freed. */
static void refused(vocab_file *v, jt_status status, const char *message)
{
    jt_err err = {0};
    jt_tokenizer *tok = NULL;
    jt_status got = vocab_tokenizer(&tok, v, &err);
    if (got != status || !strstr(err.msg, message))
        fail_msg("expected '%s', got %d '%s'", message, (int)got, err.msg);
    assert_null(tok);
    vocab_free(v);
}

/* A byte-level vocabulary of a few tokens, right as it is. */
static void tiny(vocab_file *v)
{
    vocab_str(v, KEY("model"), "gpt2");
    vocab_str(v, KEY("pre"), "gpt-2");
    vocab_strs(v, KEY("tokens"), "a\nb\nab\n<x>");
    vocab_i32s(v, KEY("token_type"), (int32_t[]){1, 1, 1, 3}, 4);
    vocab_strs(v, KEY("merges"), "a b");
}

static void tiny_pieces(vocab_file *v)
{
    vocab_str(v, KEY("model"), "llama");
    vocab_strs(v, KEY("tokens"), "<unk>\n<0x0A>\na\nb\nab");
    vocab_i32s(v, KEY("token_type"), (int32_t[]){2, 6, 1, 1, 1}, 5);
    vocab_f32s(v, KEY("scores"), (float[]){0, 0, -1, -2, -3}, 5);
}

static void right_as_it_is(void **state)
{
    (void)state;
    void (*const both[])(vocab_file *) = {tiny, tiny_pieces};
    for (int i = 0; i < 2; i++) {
        vocab_file v = {0};
        both[i](&v);
        jt_tokenizer *tok;
        assert_int_equal(vocab_tokenizer(&tok, &v, NULL), JT_OK);
        assert_int_equal(jt_vocab_size(tok), i ? 5 : 4);
        jt_tokenizer_free(tok);
        vocab_free(&v);
    }
    jt_tokenizer_free(NULL);
}

static void kinds(void **state)
{
    (void)state;
    vocab_file v = {0};
    refused(&v, JT_E_FORMAT, KEY("model") " is missing");
    tiny(&v);
    vocab_u32(&v, KEY("model"), 1);
    refused(&v, JT_E_FORMAT, KEY("model"));
    tiny(&v);
    vocab_str(&v, KEY("model"), "rwkv");
    refused(&v, JT_E_UNSUPPORTED, "'rwkv'; known are gpt2, llama, t5, bert");
    tiny(&v);
    vocab_str(&v, KEY("pre"), "nobody's");
    refused(&v, JT_E_UNSUPPORTED, KEY("pre") " is 'nobody's'; known are gpt-2, ");
    tiny(&v);
    vocab_str(&v, KEY("pre"), "nobody's");
    refused(&v, JT_E_UNSUPPORTED, "known are gpt-2, phi-2, ");
    tiny(&v);
    vocab_u32(&v, KEY("pre"), 7);
    refused(&v, JT_E_FORMAT, KEY("pre") " is not a string");
}

static void tokens(void **state)
{
    (void)state;
    vocab_file v = {0};
    tiny(&v);
    vocab_unset(&v, KEY("tokens"));
    refused(&v, JT_E_FORMAT, KEY("tokens") " is missing");
    tiny(&v);
    vocab_str(&v, KEY("tokens"), "a");
    refused(&v, JT_E_FORMAT, KEY("tokens") " is not an array");
    tiny(&v);
    vocab_strs(&v, KEY("tokens"), "");
    refused(&v, JT_E_FORMAT, KEY("tokens") " has 0 items");
    tiny(&v);
    vocab_i32s(&v, KEY("tokens"), (int32_t[]){1, 2, 3, 4}, 4);
    refused(&v, JT_E_FORMAT, KEY("tokens") " is not a list of strings");
    tiny(&v);
    vocab_strs(&v, KEY("tokens"), "a\nb\nab\na");
    refused(&v, JT_E_FORMAT, KEY("tokens") " has 'a' twice, as 0 and 3");
}

static void types(void **state)
{
    (void)state;
    vocab_file v = {0};
    tiny(&v);
    vocab_i32s(&v, KEY("token_type"), (int32_t[]){1, 1, 1}, 3);
    refused(&v, JT_E_FORMAT, KEY("token_type") " has 3 items");
    for (int32_t type = -1; type <= 7; type += 8) {
        tiny(&v);
        vocab_i32s(&v, KEY("token_type"), (int32_t[]){1, 1, type, 3}, 4);
        refused(&v, JT_E_FORMAT, KEY("token_type") " of token 2");
    }
    tiny(&v);
    vocab_strs(&v, KEY("token_type"), "1\n1\n1\n1");
    refused(&v, JT_E_FORMAT, KEY("token_type"));
    tiny(&v);
    vocab_i32s(&v, KEY("token_type"), (int32_t[]){1, 1, 1, 6}, 4);
    refused(&v, JT_E_FORMAT, "'<x>' as byte token 3");
    tiny_pieces(&v);
    vocab_strs(&v, KEY("tokens"), "<unk>\n<0x0G>\na\nb\nab");
    refused(&v, JT_E_FORMAT, "'<0x0G>' as byte token 1");
}

static void merges(void **state)
{
    (void)state;
    vocab_file v = {0};
    tiny(&v);
    vocab_unset(&v, KEY("merges"));
    refused(&v, JT_E_FORMAT, KEY("merges") " is missing");
    static const char *const wrong[] = {"a c", "c a", "b a",  "ab",
                                        " ab", "a ",  "a b b"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tiny(&v);
        vocab_strs(&v, KEY("merges"), wrong[i]);
        refused(&v, JT_E_FORMAT, KEY("merges") " item 0, '");
    }
    tiny(&v);
    vocab_strs(&v, KEY("merges"), "a b\na b");
    refused(&v, JT_E_FORMAT, KEY("merges") " has 'a b' twice");
    tiny(&v);
    vocab_i32s(&v, KEY("merges"), (int32_t[]){1}, 1);
    refused(&v, JT_E_FORMAT, KEY("merges") " is not a list of strings");
}

static void scores(void **state)
{
    (void)state;
    vocab_file v = {0};
    tiny_pieces(&v);
    vocab_unset(&v, KEY("scores"));
    refused(&v, JT_E_FORMAT, KEY("scores") " is missing");
    tiny_pieces(&v);
    vocab_f32s(&v, KEY("scores"), (float[]){1}, 1);
    refused(&v, JT_E_FORMAT, KEY("scores") " has 1 items");
    tiny_pieces(&v);
    vocab_f32s(&v, KEY("scores"), (float[]){0, 0, NAN, 0, 0}, 5);
    refused(&v, JT_E_FORMAT, KEY("scores") " of token 2");
    tiny_pieces(&v);
    vocab_strs(&v, KEY("scores"), "0\n0\n0\n0\n0");
    refused(&v, JT_E_FORMAT, KEY("scores"));
}

static void roles(void **state)
{
    (void)state;
    static const char *const keys[] = {KEY("bos_token_id"), KEY("eos_token_id"),
                                       KEY("eot_token_id"), KEY("eom_token_id"),
                                       KEY("unknown_token_id")};
    vocab_file v = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        tiny(&v);
        vocab_u32(&v, keys[i], 4);
        refused(&v, JT_E_FORMAT, keys[i]);
        tiny(&v);
        vocab_u32(&v, keys[i], UINT32_MAX);
        refused(&v, JT_E_FORMAT, keys[i]);
        tiny(&v);
        vocab_str(&v, keys[i], "x");
        refused(&v, JT_E_FORMAT, keys[i]);
    }
    tiny(&v);
    vocab_str(&v, KEY("add_bos_token"), "yes");
    refused(&v, JT_E_FORMAT, KEY("add_bos_token") " is not true or false");
    tiny_pieces(&v);
    vocab_str(&v, KEY("add_space_prefix"), "yes");
    refused(&v, JT_E_FORMAT, KEY("add_space_prefix"));
}

/* Every key in turn becomes every kind of value; any outcome but a crash will do, and a
 * tokenizer that was made must work. */
static void shuffled_values(void **state)
{
    (void)state;
    int made = 0, refusals = 0;
    for (size_t to = 0; to < 8; to++) {
        for (size_t from = 0; from < 8; from++) {
            vocab_file v = {0};
            vocab_small_pieces(&v);
            vocab_small_bytes(&v, "deepseek-v3");
            vocab_str(&v, KEY("model"), to % 2 ? "llama" : "gpt2");
            unsigned char *value = v.keys[to].value;
            size_t bytes = v.keys[to].bytes;
            v.keys[to].value = v.keys[from % v.count].value;
            v.keys[to].bytes = v.keys[from % v.count].bytes;
            jt_tokenizer *tok = NULL;
            if (vocab_tokenizer(&tok, &v, NULL) == JT_OK) {
                jt_tokens ids = {0};
                jt_status status = jt_encode(tok, " the", 4, 3, &ids, NULL);
                assert_true(status == JT_OK || status == JT_E_UNSUPPORTED);
                free(ids.ids);
                jt_tokenizer_free(tok);
                made++;
            } else {
                refusals++;
            }
            v.keys[to].value = value;
            v.keys[to].bytes = bytes;
            vocab_free(&v);
        }
    }
    assert_true(made > 4 && refusals > 20);
}

/* Each allocation of making and using a tokenizer fails once. */
static void check_faults(vocab_file *v)
{
    size_t bytes;
    const unsigned char *image = vocab_image(v, &bytes);
    jt_gguf *file;
    assert_int_equal(jt_gguf_open_memory(&file, image, bytes, NULL), JT_OK);
    long n = 0;
    for (bool done = false; !done; n++) {
        jt_err err = {0};
        jt_tokenizer *tok = NULL;
        jt_tokens ids = {0};
        char *text = NULL;
        size_t len;
        jt_fault_after(n);
        jt_status status = jt_tokenizer_new(&tok, file, &err);
        if (status == JT_OK) {
            status = jt_encode(tok, "the e\xcc\x81\xcc\xa3 <|im_end|>\xff aaaa", 26, 3,
                               &ids, &err);
            if (status != JT_OK)
                assert_int_equal(ids.count, 0);
        }
        if (status == JT_OK)
            status = jt_decode(tok, ids.ids, ids.count, true, &text, &len, &err);
        jt_fault_after(-1);
        done = status == JT_OK;
        if (!done) {
            assert_int_equal(status, JT_E_MEMORY);
            assert_non_null(strstr(err.msg, "out of memory"));
        }
        free(text);
        free(ids.ids);
        jt_tokenizer_free(tok);
    }
    assert_true(n > 6);
    jt_gguf_close(file);
    vocab_free(v);
}

static void failing_allocations(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_bytes(&v, "qwen2");
    check_faults(&v);
    vocab_small_bytes(&v, "llama-bpe");
    check_faults(&v);
    vocab_small_pieces(&v);
    check_faults(&v);
    vocab_small_unigram(&v);
    check_faults(&v);
    vocab_small_words(&v);
    check_faults(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_as_it_is),
        cmocka_unit_test(kinds),
        cmocka_unit_test(tokens),
        cmocka_unit_test(types),
        cmocka_unit_test(merges),
        cmocka_unit_test(scores),
        cmocka_unit_test(roles),
        cmocka_unit_test(shuffled_values),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
