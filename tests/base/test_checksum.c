/* Checksums: those that the reference states, whatever the parts that bytes come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/checksum.h"
#include "base/memory.h"

enum { MOST = 3 * JT_CHECKSUM_PIECE + 77 };

static unsigned char data[MOST];

static uint64_t by_pieces(size_t bytes)
{
    uint64_t sums[4];
    size_t pieces = jt_checksum_pieces(bytes);
    assert_true(pieces <= 4);
    for (size_t i = 0; i < pieces; i++)
        sums[i] = jt_checksum_piece(data, bytes, i);
    return jt_checksum_join(sums, pieces);
}

static uint64_t by_parts(jt_summing *s, size_t bytes, size_t part)
{
    jt_summing_start(s);
    for (size_t at = 0; at < bytes; at += part)
        jt_summing_add(s, data + at, bytes - at < part ? bytes - at : part);
    return jt_summing_end(s);
}

/* The sum of nothing, as in the sanity tests of xxHash 0.8; that of one byte as xxhsum
 * -H3 gives it. */
static void as_the_reference(void **state)
{
    (void)state;
    assert_int_equal(jt_checksum_join(NULL, 0), 0x2d06800538d394c2u);
    assert_int_equal(jt_checksum_piece("a", 1, 0), 0xe6c632b61e964e1fu);
}

static void the_same_in_any_parts(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        0,   1, 4096, JT_CHECKSUM_PIECE - 1, JT_CHECKSUM_PIECE, JT_CHECKSUM_PIECE + 1,
        MOST};
    static const size_t parts[] = {999, JT_CHECKSUM_PIECE, JT_CHECKSUM_PIECE + 3, MOST};
    jt_err err = {0};
    jt_summing s;
    for (size_t i = 0; i < MOST; i++)
        data[i] = (unsigned char)(i * i >> 5);
    assert_int_equal(jt_summing_init(&s, &err), JT_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t expected = by_pieces(sizes[i]);
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
            assert_int_equal(by_parts(&s, sizes[i], parts[p]), expected);
    }
    uint64_t before = by_pieces(MOST);
    data[MOST / 2] ^= 1;
    assert_int_not_equal(by_pieces(MOST), before);
    jt_summing_free(&s);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_summing s;
    jt_fault_after(0);
    assert_int_equal(jt_summing_init(&s, &err), JT_E_MEMORY);
    jt_fault_after(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_reference),
        cmocka_unit_test(the_same_in_any_parts),
        cmocka_unit_test(missing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
