/* UTF-8 in streams, normalization form C, and words that are nearly the same. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "text/alphabet.h"
#include "text/normal.h"
#include "base/utf8.h"

static void characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\x80", 0},
        {"\xc1\xbf", 0},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xc2", 0},
        {"\xc2 ", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xed\xa0\x80", 0},
        {"\xef\xbf\xbf", 3},
        {"\xe1\x80", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xf0\x90\x80", 0},
        {"\xff", 0},
        {"", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(jt_utf8_char(cases[i].text, strlen(cases[i].text)),
                         cases[i].bytes);
    assert_int_equal(jt_utf8_char("\0", 1), 1);
    assert_int_equal(jt_utf8_valid("aé\xff", 4), 3);
    assert_int_equal(jt_utf8_valid("\xff", 1), 0);
    assert_int_equal(jt_utf8_invalid("\xff\xc3\x80\x80 ", 5), 1);
    assert_int_equal(jt_utf8_invalid("\xff\xe3\x80 ", 4), 3);
    assert_int_equal(jt_utf8_invalid("\xff\xe3\x80", 3), 3);
}

static void whole_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t whole;
    } cases[] = {
        {"", 0},
        {"a", 1},
        {"a\xc3", 1},
        {"a\xc3\xa9", 3},
        {"a\xe4", 1},
        {"a\xe4\xb8", 1},
        {"a\xe4\xb8\xad", 4},
        {"a\xf0", 1},
        {"a\xf0\x9f", 1},
        {"a\xf0\x9f\x98", 1},
        {"a\xf0\x9f\x98\x80", 5},
        {"\xf0\x9f\x98", 0},
        /* What can never become a character is not held back. */
        {"a\xff", 2},
        {"a\x80", 2},
        {"\x80\x80\x80\x80", 4},
        {"a\xc1", 2},
        {"a\xed\xa0", 3},
        {"a\xe0\x80", 3},
        {"a\xf4\x90\x80", 4},
        {"a\xf5", 2},
        {"a\xc3\xa9\xa9", 4},
        {"\xe4\xb8\xe4", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(jt_utf8_whole(cases[i].text, strlen(cases[i].text)),
                         cases[i].whole);
}

/* Byte by byte, a stream shows whole characters and in the end everything. */
static void streaming(void **state)
{
    (void)state;
    const char *text = "aé中😀\xff\xe4\xb8z";
    char buffer[32], shown[64];
    size_t used = 0, out = 0;
    for (const char *p = text; *p; p++) {
        buffer[used++] = *p;
        size_t n = jt_utf8_whole(buffer, used);
        assert_true(used - n <= 3);
        memcpy(shown + out, buffer, n);
        out += n;
        memmove(buffer, buffer + n, used -= n);
    }
    assert_int_equal(used, 0);
    assert_int_equal(out, strlen(text));
    assert_memory_equal(shown, text, out);
}

static void check_nfc(const char *text, const char *expected)
{
    jt_normal work = {0};
    jt_str out;
    assert_int_equal(
        jt_normal_run(&work, JT_NFC, (jt_str){text, strlen(text)}, &out, NULL), JT_OK);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.data, expected, out.len);
    jt_normal_free(&work);
}

static void normal_forms(void **state)
{
    (void)state;
    check_nfc("plain", "plain");
    check_nfc("e\u0301", "\u00e9");
    check_nfc("\u00e9", "\u00e9");
    check_nfc("q\u0307\u0323", "q\u0323\u0307");            /* marks in order */
    check_nfc("e\u0301\u0323", "\u1eb9\u0301");             /* then composed */
    check_nfc("a\u0327\u0301\u0300", "\u00e1\u0327\u0300"); /* equal classes stay */
    check_nfc("\u212b\u2126", "\u00c5\u03a9");
    check_nfc("\u1100\u1161\u11a8", "\uac01"); /* Hangul */
    check_nfc("\uac00\u11a8", "\uac01");
    check_nfc("\u0958", "\u0915\u093c"); /* not composed again */
    check_nfc("\ufb01", "\ufb01");       /* no compatibility forms */
    check_nfc("\u0301a", "\u0301a");
}

/* A text of nothing but marks, in the worst order. */
static void many_marks(void **state)
{
    (void)state;
    enum { HALF = 200000 };
    char *text = jt_alloc(2 * HALF, 2);
    assert_non_null(text);
    for (size_t i = 0; i < 2 * HALF; i++)
        memcpy(text + 2 * i, i < HALF ? "\u0301" : "\u0323", 2);
    jt_normal work = {0};
    jt_str out;
    assert_int_equal(jt_normal_run(&work, JT_NFC, (jt_str){text, 4 * HALF}, &out, NULL),
                     JT_OK);
    assert_int_equal(out.len, 4 * HALF);
    assert_memory_equal(out.data, "\u0323", 2);
    assert_memory_equal(out.data + 2 * HALF, "\u0301", 2);
    jt_normal_free(&work);
    free(text);
}

/* Each byte has a character of its own, which stands for it. */
static void alphabet(void **state)
{
    (void)state;
    char all[512];
    size_t len = 0;
    for (int byte = 0; byte < 256; byte++) {
        char one[2], back[2];
        size_t n = jt_alphabet_char((unsigned char)byte, one);
        assert_int_equal(jt_utf8_char(one, n), n);
        assert_int_equal(jt_alphabet_decode(back, (jt_str){one, n}), 1);
        assert_int_equal((unsigned char)back[0], byte);
        memcpy(all + len, one, n);
        len += n;
    }
    char bytes[512];
    assert_int_equal(jt_alphabet_decode(bytes, (jt_str){all, len}), 256);
    for (int byte = 0; byte < 256; byte++)
        assert_int_equal((unsigned char)bytes[byte], byte);
    static const char *const other[] = {"a b",  "\u0144", "中",
                                        "\xff", "a\xc4",  "\xc1\x81"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        jt_str text = {other[i], strlen(other[i])};
        assert_int_equal(jt_alphabet_decode(bytes, text), text.len);
        assert_memory_equal(bytes, text.data, text.len);
    }
}

static void distance(void **state)
{
    (void)state;
    assert_int_equal(jt_text_distance("run", 3, "run", 3), 0);
    assert_int_equal(jt_text_distance("rnu", 3, "run", 3), 1);
    assert_int_equal(jt_text_distance("", 0, "run", 3), 3);
    assert_int_equal(jt_text_distance("bench", 5, "bnech", 5), 1);
    assert_int_equal(jt_text_distance("tokenise", 8, "tokenize", 8), 1);
    char longest[64] = {0};
    memset(longest, 'a', sizeof longest - 1);
    assert_true(jt_text_distance(longest, 63, longest, 63) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters), cmocka_unit_test(whole_characters),
        cmocka_unit_test(streaming),  cmocka_unit_test(normal_forms),
        cmocka_unit_test(many_marks), cmocka_unit_test(alphabet),
        cmocka_unit_test(distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
