/* The examples of FIPS 180-2, appendix B, and pieces of all sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/sha256.h"

static void expect(const char *text, size_t times, const char *wanted)
{
    char sum[JT_SHA256_TEXT];
    jt_sha256 s;
    jt_sha256_start(&s);
    for (size_t i = 0; i < times; i++)
        jt_sha256_add(&s, text, strlen(text));
    jt_sha256_end(&s, sum);
    assert_string_equal(sum, wanted);
}

static void examples(void **state)
{
    (void)state;
    expect("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 1,
           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect("a", 1000000,
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void pieces_do_not_matter(void **state)
{
    (void)state;
    unsigned char data[300];
    char whole[JT_SHA256_TEXT], cut[JT_SHA256_TEXT];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    for (size_t n = 0; n <= sizeof data; n++) {
        jt_sha256 s;
        jt_sha256_start(&s);
        jt_sha256_add(&s, data, n);
        jt_sha256_end(&s, whole);
        jt_sha256_start(&s);
        for (size_t at = 0, step = 1; at < n; at += step, step++) {
            size_t left = n - at;
            jt_sha256_add(&s, data + at, step < left ? step : left);
        }
        jt_sha256_end(&s, cut);
        assert_string_equal(whole, cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(pieces_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
