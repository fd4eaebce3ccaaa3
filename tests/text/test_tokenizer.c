/* Encoding and decoding with small vocabularies: special tokens, flags, odd bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "golden.h"
#include "vocab_file.h"

static jt_tokenizer *make(vocab_file *v)
{
    jt_err err = {0};
    jt_tokenizer *tok = NULL;
    if (vocab_tokenizer(&tok, v, &err) != JT_OK)
        fail_msg("%s", err.msg);
    vocab_free(v);
    return tok;
}

static jt_tokenizer *small_bytes(void)
{
    vocab_file v = {0};
    vocab_small_bytes(&v, "gpt-2");
    return make(&v);
}

static jt_tokenizer *small_pieces(void)
{
    vocab_file v = {0};
    vocab_small_pieces(&v);
    return make(&v);
}

/* The text encodes to the tokens of these texts, "" for the end. */
static void check(const jt_tokenizer *tok, const char *text, unsigned flags,
                  const char *const *expected)
{
    jt_tokens got = {0};
    assert_int_equal(jt_encode(tok, text, strlen(text), flags, &got, NULL), JT_OK);
    for (size_t i = 0; i < got.count; i++) {
        assert_string_not_equal(expected[i], "");
        assert_int_equal(got.ids[i],
                         jt_token_find(tok, expected[i], strlen(expected[i])));
    }
    assert_string_equal(expected[got.count], "");
    free(got.ids);
}

#define CHECK(tok, text, flags, ...) \
    check(tok, text, flags, (const char *const[]){__VA_ARGS__, ""})

/* Decoding gives the text back; without special tokens, where encoding added some. */
static void check_round_trip(const jt_tokenizer *tok, const char *text, size_t len,
                             unsigned flags)
{
    bool special = !(flags & JT_ENCODE_ADD_SPECIAL);
    jt_tokens ids = {0};
    char *decoded;
    size_t decoded_len;
    assert_int_equal(jt_encode(tok, text, len, flags, &ids, NULL), JT_OK);
    assert_int_equal(
        jt_decode(tok, ids.ids, ids.count, special, &decoded, &decoded_len, NULL),
        JT_OK);
    assert_int_equal(decoded_len, len);
    assert_memory_equal(decoded, text, len);
    assert_int_equal(decoded[len], 0);
    free(decoded);
    free(ids.ids);
}

static void merges_in_order(void **state)
{
    (void)state;
    jt_tokenizer *tok = small_bytes();
    CHECK(tok, " the", 0, "Ġthe");
    CHECK(tok, "the", 0, "t", "he");
    CHECK(tok, "aaaaaaa", 0, "aaaa", "aa", "a");
    CHECK(tok, "1234", 0, "123", "4");
    CHECK(tok, "é", 0, "Ã©");
    CHECK(tok, "whole", 0, "w", "h", "o", "l", "e"); /* no merges make it */
    jt_tokenizer_free(tok);
}

static void whole_words(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_bytes(&v, "llama-bpe");
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "whole", 0, "whole");
    CHECK(tok, "wholes", 0, "w", "h", "o", "l", "e", "s");
    CHECK(tok, "a", JT_ENCODE_ADD_SPECIAL, "<|im_start|>",
          "a"); /* as its family does */
    jt_tokenizer_free(tok);
}

static void special_tokens(void **state)
{
    (void)state;
    jt_tokenizer *tok = small_bytes();
    CHECK(tok, "a<|im_end|>a", JT_ENCODE_PARSE_SPECIAL, "a", "<|im_end|>", "a");
    CHECK(tok, "<|im_end|>", 0, "<|", "i", "m", "_", "end", "|", ">");
    CHECK(tok, "<|im_end|", JT_ENCODE_PARSE_SPECIAL, "<|", "i", "m", "_", "end", "|");
    CHECK(tok, "<|im_<|im_end|>", JT_ENCODE_PARSE_SPECIAL, "<|", "i", "m", "_",
          "<|im_end|>");
    /* User-defined ones always; the longest, and not one that only begins there. */
    CHECK(tok, "a<tool>a", 0, "a", "<tool>", "a");
    CHECK(tok, "<tool><tool><tool>!", 0, "<tool>", "<tool><tool>!");
    CHECK(tok, "<tool><tool>a", 0, "<tool>", "<tool>", "a");
    jt_tokenizer_free(tok);
}

static void begin_and_end(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_bytes(&v, "gpt-2");
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "a", JT_ENCODE_ADD_SPECIAL, "a");
    jt_tokenizer_free(tok);
    vocab_small_bytes(&v, "gpt-2");
    vocab_bool(&v, "tokenizer.ggml.add_bos_token", 1);
    vocab_bool(&v, "tokenizer.ggml.add_eos_token", 1);
    tok = make(&v);
    CHECK(tok, "a", JT_ENCODE_ADD_SPECIAL, "<|im_start|>", "a", "<|im_end|>");
    CHECK(tok, "", JT_ENCODE_ADD_SPECIAL, "<|im_start|>", "<|im_end|>");
    CHECK(tok, "a", 0, "a");
    jt_tokenizer_free(tok);
    /* Asked for, but there is none. */
    vocab_small_bytes(&v, "gpt-2");
    vocab_bool(&v, "tokenizer.ggml.add_bos_token", 1);
    vocab_unset(&v, "tokenizer.ggml.bos_token_id");
    tok = make(&v);
    assert_int_equal(jt_token_bos(tok), -1);
    CHECK(tok, "a", JT_ENCODE_ADD_SPECIAL, "a");
    jt_tokenizer_free(tok);
}

static int32_t find(const jt_tokenizer *tok, const char *text)
{
    return jt_token_find(tok, text, strlen(text));
}

static void roles(void **state)
{
    (void)state;
    jt_tokenizer *tok = small_bytes();
    assert_int_equal(jt_token_bos(tok), find(tok, "<|im_start|>"));
    assert_int_equal(jt_token_eos(tok), find(tok, "<|im_end|>"));
    assert_int_equal(jt_token_unknown(tok), -1);
    assert_true(jt_token_is_end(tok, find(tok, "<|im_end|>")));
    assert_true(jt_token_is_end(tok, find(tok, "<|endoftext|>"))); /* by its text */
    assert_false(jt_token_is_end(tok, find(tok, "<|im_start|>")));
    assert_true(jt_token_is_special(tok, find(tok, "<|im_start|>")));
    assert_false(jt_token_is_special(tok, find(tok, "<tool>")));
    assert_false(jt_token_is_special(tok, find(tok, "Ġthe")));
    int32_t most = (int32_t)jt_vocab_size(tok);
    for (int i = 0; i < 2; i++) {
        int32_t id = i ? most : -1;
        assert_null(jt_token_piece(tok, id).data);
        assert_false(jt_token_is_special(tok, id));
        assert_false(jt_token_is_end(tok, id));
    }
    assert_int_equal(find(tok, "no such token"), -1);
    assert_int_equal(find(tok, ""), -1);
    jt_tokenizer_free(tok);
}

/* "<|end|>" ends a reply, but not where "<|return|>" and "<|call|>" do. */
static void end_or_part(void **state)
{
    (void)state;
    for (int parts = 0; parts < 2; parts++) {
        vocab_file v = {0};
        vocab_small_bytes(&v, "gpt-4o");
        vocab_strs(&v, "tokenizer.ggml.tokens",
                   parts ? "a\n<|end|>\n<|return|>\n<|call|>" : "a\n<|end|>\n<|x|>\nb");
        vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){1, 3, 3, 3}, 4);
        vocab_strs(&v, "tokenizer.ggml.merges", "");
        vocab_u32(&v, "tokenizer.ggml.bos_token_id", 0);
        vocab_u32(&v, "tokenizer.ggml.eos_token_id", 2);
        jt_tokenizer *tok = make(&v);
        assert_int_equal(jt_token_is_end(tok, 1), !parts);
        assert_true(jt_token_is_end(tok, 2));
        assert_int_equal(jt_token_is_end(tok, 3), parts);
        /* Named by a key: special, whatever its type. */
        assert_true(jt_token_is_special(tok, 0));
        jt_tokenizer_free(tok);
    }
}

static void decode_is(const jt_tokenizer *tok, const int32_t *ids, size_t count,
                      bool special, const char *expected)
{
    char *text;
    size_t len;
    assert_int_equal(jt_decode(tok, ids, count, special, &text, &len, NULL), JT_OK);
    assert_string_equal(text, expected);
    assert_int_equal(len, strlen(expected));
    free(text);
}

static void decoding(void **state)
{
    (void)state;
    jt_tokenizer *tok = small_bytes();
    int32_t ids[] = {find(tok, "<|im_start|>"),
                     find(tok, "Ġthe"),
                     find(tok, "<tool>"),
                     find(tok, "<|im_end|>"),
                     -1,
                     1 << 20};
    decode_is(tok, ids, 6, true, "<|im_start|> the<tool><|im_end|>");
    decode_is(tok, ids, 6, false, " the<tool>");
    decode_is(tok, NULL, 0, true, "");
    jt_tokenizer_free(tok);
}

static void sentence_pieces(void **state)
{
    (void)state;
    jt_tokenizer *tok = small_pieces();
    CHECK(tok, "the", 0, "▁the");
    CHECK(tok, " the", 0, "▁", "▁the");
    CHECK(tok, "é\x7f", 0, "▁", "é", "<0x7F>");
    CHECK(tok, "ü", 0, "▁", "<0xC3>", "<0xBC>");
    CHECK(tok, "中文", JT_ENCODE_ADD_SPECIAL, "<s>", "▁", "中文");
    CHECK(tok, "", 0, "");
    /* Special tokens, and a space before each stretch of text. */
    CHECK(tok, "a</s>a", JT_ENCODE_PARSE_SPECIAL, "▁a", "</s>", "▁a");
    CHECK(tok, "a</s>", 0, "▁a", "<0x3C>", "<0x2F>", "<0x73>", "<0x3E>");
    CHECK(tok, "a[x]a", 0, "▁a", "[x]", "▁a");
    assert_int_equal(jt_token_bos(tok), 1);
    assert_int_equal(jt_token_eos(tok), 2);
    assert_int_equal(jt_token_unknown(tok), 0);
    assert_true(jt_token_is_end(tok, 2));
    assert_true(jt_token_is_special(tok, 0));
    jt_str piece = jt_token_piece(tok, find(tok, "▁the"));
    assert_int_equal(piece.len, 4);
    assert_memory_equal(piece.data, " the", 4);
    piece = jt_token_piece(tok, find(tok, "<0x0A>"));
    assert_int_equal(piece.len, 1);
    assert_int_equal(piece.data[0], '\n');
    check_round_trip(tok, " the</s> in[x] a [x]</s>", 24, JT_ENCODE_PARSE_SPECIAL);
    check_round_trip(tok, "\xff\xc3 \0\xe4\xb8 a", 8, 0);
    jt_tokenizer_free(tok);
}

/* Equal scores: the leftmost pair first. A control token is not the token of its text.
 */
static void scores_and_types(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_pieces(&v);
    vocab_strs(&v, "tokenizer.ggml.tokens", "<unk>\n▁\na\nb\nc\nbc\nab\ncb\n→");
    vocab_f32s(&v, "tokenizer.ggml.scores", (float[]){0, 0, 0, 0, 0, 1, 1, 2, 0}, 9);
    vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 1, 1, 1, 1, 1, 3},
               9);
    vocab_bool(&v, "tokenizer.ggml.add_space_prefix", 0);
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "abc", 0, "ab", "c");
    CHECK(tok, "abcb", 0, "ab", "cb");
    CHECK(tok, "bcbc", 0, "b", "cb", "c");
    CHECK(tok, "a→", 0, "a", "<unk>");
    CHECK(tok, "a→", JT_ENCODE_PARSE_SPECIAL, "a", "→");
    jt_tokenizer_free(tok);
}

/* Gemma 4's vocabulary: pieces like any, in the order of the merges. */
static void merges_of_pieces(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_pieces(&v);
    vocab_str(&v, "tokenizer.ggml.model", "gemma4");
    vocab_strs(&v, "tokenizer.ggml.tokens", "<unk>\n▁\na\nb\nc\nbc\nab\ncb\n▁a");
    vocab_f32s(&v, "tokenizer.ggml.scores", (float[]){0, 0, 0, 0, 0, 1, 1, 2, 0}, 9);
    vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 1, 1, 1, 1, 1, 1},
               9);
    vocab_strs(&v, "tokenizer.ggml.merges", "b c\nc b\na b\n▁ a");
    vocab_bool(&v, "tokenizer.ggml.add_space_prefix", 0);
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "abc", 0, "a", "bc");
    CHECK(tok, "abcb a", 0, "a", "bc", "b", "▁a");
    CHECK(tok, "acb", 0, "a", "cb");
    jt_tokenizer_free(tok);
}

static void no_space_prefix(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_pieces(&v);
    vocab_bool(&v, "tokenizer.ggml.add_space_prefix", 0);
    vocab_bool(&v, "tokenizer.ggml.add_bos_token", 0);
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "the", JT_ENCODE_ADD_SPECIAL, "t", "he");
    check_round_trip(tok, " the ", 5, 0);
    jt_tokenizer_free(tok);
}

/* Without byte tokens there are unknown characters; without an unknown token, errors.
 */
static void unknown_characters(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_pieces(&v);
    vocab_strs(&v, "tokenizer.ggml.tokens", "<unk>\n▁\na");
    vocab_f32s(&v, "tokenizer.ggml.scores", (float[]){0, 0, 0}, 3);
    vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1}, 3);
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "aüöa", 0, "▁", "a", "<unk>", "a");
    CHECK(tok, "\xff", 0, "<unk>");
    jt_tokenizer_free(tok);

    vocab_small_pieces(&v);
    vocab_strs(&v, "tokenizer.ggml.tokens", "▁\na");
    vocab_f32s(&v, "tokenizer.ggml.scores", (float[]){0, 0}, 2);
    vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){1, 1}, 2);
    tok = make(&v);
    jt_tokens got = {0};
    jt_err err = {0};
    assert_int_equal(jt_encode(tok, "a", 1, 0, &got, &err), JT_OK);
    assert_int_equal(jt_encode(tok, "ab", 2, 0, &got, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "0x62"));
    assert_int_equal(got.count, 2); /* as before */
    free(got.ids);
    jt_tokenizer_free(tok);
}

/* Bytes that a byte-level vocabulary lacks are left out. */
static void missing_bytes(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_bytes(&v, "gpt-2");
    vocab_strs(&v, "tokenizer.ggml.tokens", "a\n<|end|>");
    vocab_i32s(&v, "tokenizer.ggml.token_type", (int32_t[]){1, 3}, 2);
    vocab_strs(&v, "tokenizer.ggml.merges", "");
    vocab_u32(&v, "tokenizer.ggml.bos_token_id", 1);
    vocab_u32(&v, "tokenizer.ggml.eos_token_id", 1);
    vocab_u32(&v, "tokenizer.ggml.unknown_token_id", 1);
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "aba b", 0, "a", "a");
    jt_tokenizer_free(tok);
}

/* Text in form D becomes form C where a family's tokenizer does that. */
static void normalization(void **state)
{
    (void)state;
    vocab_file v = {0};
    vocab_small_bytes(&v, "gpt-2");
    jt_tokenizer *tok = make(&v);
    CHECK(tok, "e\xcc\x81", 0, "e", "Ì", "ģ");
    jt_tokenizer_free(tok);
    vocab_small_bytes(&v, "qwen2");
    tok = make(&v);
    CHECK(tok, "e\xcc\x81", 0, "Ã©");
    check_round_trip(tok,
                     "\xff"
                     "e\xcc",
                     3, 0);
    jt_tokenizer_free(tok);
}

static const char *const pres[] = {"gpt-2",       "smollm",       "llama-bpe",
                                   "gpt-4o",      "tekken",       "seed-coder",
                                   "bailingmoe",  "deepseek-llm", "deepseek-coder",
                                   "deepseek-v3", "default"};

/* Any bytes come back, whatever the pre-tokenizer. */
static void random_bytes(void **state)
{
    (void)state;
    static const char *const parts[] = {" ",  "\n", "\xe4\xb8\xad", "a",
                                        "1",  "'",  "\xf0\x9f",     "\xcc\x81",
                                        "\r", "!",  "\xc2\x85",     "<tool>"};
    jt_rng rng = {1727, 0, 0};
    for (size_t p = 0; p <= sizeof pres / sizeof *pres; p++) {
        jt_tokenizer *tok = p < sizeof pres / sizeof *pres
                                ? golden_tokenizer("bytes.gguf", pres[p])
                                : golden_tokenizer("pieces.gguf", NULL);
        for (int round = 0; round < 200; round++) {
            char text[256];
            size_t len = 0;
            while (len < 200 && jt_rng_below(&rng, 40)) {
                if (jt_rng_below(&rng, 3)) {
                    const char *part = parts[jt_rng_below(&rng, 12)];
                    memcpy(text + len, part, strlen(part));
                    len += strlen(part);
                } else {
                    text[len++] = (char)jt_rng_below(&rng, 256);
                }
            }
            check_round_trip(tok, text, len, round % 4);
        }
        jt_tokenizer_free(tok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_in_order),
        cmocka_unit_test(whole_words),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(begin_and_end),
        cmocka_unit_test(roles),
        cmocka_unit_test(end_or_part),
        cmocka_unit_test(decoding),
        cmocka_unit_test(sentence_pieces),
        cmocka_unit_test(scores_and_types),
        cmocka_unit_test(merges_of_pieces),
        cmocka_unit_test(no_space_prefix),
        cmocka_unit_test(unknown_characters),
        cmocka_unit_test(missing_bytes),
        cmocka_unit_test(normalization),
        cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
