/* Wrong files, from memory: refused with a message that names what is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "build.h"
#include "walk.h"

/* ---- the table: each case writes a whole file ----------------------------------- */

static void no_magic(build *b)
{
    put(b, "GGML\3\0\0\0", 8);
}

static void version_1(build *b)
{
    put_head(b, 0, 0);
    b->data[4] = 1;
}

static void version_4(build *b)
{
    put_head(b, 0, 0);
    b->data[4] = 4;
}

static void endless_keys(build *b)
{
    put_head(b, 0, UINT64_MAX);
    put_key_u32(b, "a", 1);
}

static void endless_tensors(build *b)
{
    put_head(b, 1000, 0);
    put_tensor(b, "t", 4, 0, 0, 0);
    put_data(b, 16);
}

static void endless_key_name(build *b)
{
    put_head(b, 0, 1);
    put_u64(b, UINT64_MAX - 7);
    put_data(b, 32);
}

static void empty_key_name(build *b)
{
    put_head(b, 0, 1);
    put_key_u32(b, "", 1);
}

static void long_key_name(build *b)
{
    put_head(b, 0, 1);
    put_u64(b, 65536);
    put_data(b, 65536 + 16);
}

static void nul_in_name(build *b)
{
    put_head(b, 0, 1);
    put_u64(b, 3);
    put(b, "a\0b", 3);
    put_u32(b, 4);
    put_u32(b, 1);
}

static void unknown_key_type(build *b)
{
    put_head(b, 0, 1);
    put_key(b, "k", 13);
    put_u64(b, 0);
}

static void huge_key_type(build *b)
{
    put_head(b, 0, 1);
    put_key(b, "k\x1b", UINT32_MAX);
    put_u64(b, 0);
}

static void array_of(build *b, uint32_t item_type, uint64_t count)
{
    put_head(b, 0, 1);
    put_key(b, "k", 9);
    put_u32(b, item_type);
    put_u64(b, count);
}

static void nested_array(build *b)
{
    array_of(b, 9, 1);
    put_u32(b, 4);
    put_u64(b, 0);
}

static void unknown_item_type(build *b)
{
    array_of(b, 99, 0);
}

static void endless_numbers(build *b)
{
    array_of(b, 10, UINT64_MAX / 8 + 1); /* its bytes wrap to 0 */
    put_data(b, 64);
}

static void endless_strings(build *b)
{
    array_of(b, 8, UINT64_MAX / 16 + 1);
    put_data(b, 64);
}

static void string_over_the_end(build *b)
{
    array_of(b, 8, 2);
    put_str(b, "fine");
    put_u64(b, 100);
    put(b, "short", 5);
}

static void scalar_over_the_end(build *b)
{
    put_head(b, 0, 1);
    put_key(b, "kk", 10);
    put_u32(b, 0);
}

static void key_twice(build *b)
{
    put_head(b, 0, 2);
    put_key_u32(b, "same", 1);
    put_key_u32(b, "same", 1);
}

static void alignment_is(build *b, uint32_t value)
{
    put_head(b, 1, 1);
    put_key_u32(b, "general.alignment", value);
    put_tensor(b, "t", 4, 0, 0, 0);
    put_data(b, 16);
}

static void alignment_0(build *b)
{
    alignment_is(b, 0);
}

static void alignment_24(build *b)
{
    alignment_is(b, 24);
}

static void alignment_beyond_the_file(build *b)
{
    alignment_is(b, 1u << 31);
}

static void alignment_string(build *b)
{
    put_head(b, 0, 1);
    put_key(b, "general.alignment", 8);
    put_str(b, "32");
}

/* One tensor 't' with `n_dims` dimensions of 4 and data in plenty. */
static void with_dims(build *b, uint32_t n_dims)
{
    put_head(b, 1, 0);
    put_str(b, "t");
    put_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++)
        put_u64(b, 4);
    put_u32(b, 0);
    put_u64(b, 0);
    put_data(b, 4096);
}

static void dims_0(build *b)
{
    with_dims(b, 0);
    put_data(b, 64);
}

static void dims_5(build *b)
{
    with_dims(b, 5);
}

static void dims_endless(build *b)
{
    with_dims(b, UINT32_MAX);
}

static void one_tensor(build *b, uint64_t ne0, uint64_t ne1, uint32_t type,
                       uint64_t offset)
{
    put_head(b, 1, 0);
    put_tensor(b, "t", ne0, ne1, type, offset);
    put_data(b, 1024);
}

static void dimension_0(build *b)
{
    one_tensor(b, 0, 0, 0, 0);
}

static void dimension_negative(build *b)
{
    one_tensor(b, UINT64_MAX, 0, 0, 0);
}

static void size_wraps(build *b)
{
    one_tensor(b, 1u << 30, (uint64_t)1 << 33, 0, 0); /* 2^65 bytes */
}

static void row_wraps(build *b)
{
    one_tensor(b, INT64_MAX, 2, 0, 0);
}

static void half_block(build *b)
{
    one_tensor(b, 48, 0, 8, 0);
}

static void half_k_block(build *b)
{
    one_tensor(b, 128, 2, 12, 0);
}

static void q8_k(build *b)
{
    one_tensor(b, 256, 0, 15, 0);
}

static void type_retired(build *b)
{
    one_tensor(b, 256, 0, 4, 0);
}

static void type_unknown(build *b)
{
    one_tensor(b, 256, 0, 123456, 0);
}

static void offset_unaligned(build *b)
{
    one_tensor(b, 4, 0, 0, 16);
}

static void offset_beyond(build *b)
{
    one_tensor(b, 4, 0, 0, 1024);
}

static void offset_wraps(build *b)
{
    one_tensor(b, 64, 0, 0, UINT64_MAX - 31);
}

static void data_too_short(build *b)
{
    one_tensor(b, 257, 0, 0, 0);
}

static void no_data(build *b)
{
    put_head(b, 1, 0);
    put_tensor(b, "t", 1, 0, 0, 0);
}

static void overlap(build *b)
{
    put_head(b, 3, 0);
    put_tensor(b, "first", 16, 0, 0, 64);
    put_tensor(b, "second", 8, 0, 0, 32);
    put_tensor(b, "third", 9, 0, 0, 0);
    put_data(b, 128);
}

static void same_place(build *b)
{
    put_head(b, 2, 0);
    put_tensor(b, "first", 4, 0, 0, 0);
    put_tensor(b, "second", 4, 0, 0, 0);
    put_data(b, 128);
}

static void tensor_twice(build *b)
{
    put_head(b, 2, 0);
    put_tensor(b, "same", 4, 0, 0, 0);
    put_tensor(b, "same", 4, 0, 0, 32);
    put_data(b, 64);
}

static void a_part(build *b)
{
    put_head(b, 0, 1);
    put_key_u32(b, "split.count", 2);
}

static void split_count_string(build *b)
{
    put_head(b, 0, 1);
    put_key(b, "split.count", 8);
    put_str(b, "2");
}

static const struct {
    void (*make)(build *b);
    jt_status status;
    const char *fragment;
} cases[] = {
    {no_magic, JT_E_FORMAT, "not a GGUF file: it does not start with GGUF"},
    {version_1, JT_E_UNSUPPORTED, "GGUF version 1; only versions 2 and 3"},
    {version_4, JT_E_UNSUPPORTED, "GGUF version 4; only versions 2 and 3"},
    {endless_keys, JT_E_FORMAT, "counts 18446744073709551615 keys, more than fit"},
    {endless_tensors, JT_E_FORMAT, "counts 1000 tensors, more than fit"},
    {endless_key_name, JT_E_FORMAT, "ends inside the name of key 0"},
    {empty_key_name, JT_E_FORMAT, "the name of key 0 has 0 bytes"},
    {long_key_name, JT_E_FORMAT, "the name of key 0 has 65536 bytes"},
    {nul_in_name, JT_E_FORMAT, "the name of key 0 contains a NUL"},
    {unknown_key_type, JT_E_FORMAT, "key 'k' has the unknown type 13"},
    {huge_key_type, JT_E_FORMAT, "key 'k?' has the unknown type 4294967295"},
    {nested_array, JT_E_UNSUPPORTED, "key 'k' is an array of arrays"},
    {unknown_item_type, JT_E_FORMAT, "key 'k' has the unknown type 99"},
    {endless_numbers, JT_E_FORMAT, "ends inside key 'k'"},
    {endless_strings, JT_E_FORMAT, "ends inside key 'k'"},
    {string_over_the_end, JT_E_FORMAT, "ends inside key 'k'"},
    {scalar_over_the_end, JT_E_FORMAT, "ends inside key 'kk'"},
    {key_twice, JT_E_FORMAT, "key 'same' appears twice"},
    {alignment_0, JT_E_FORMAT, "'general.alignment' is 0, expected a power of two"},
    {alignment_24, JT_E_FORMAT, "'general.alignment' is 24, expected a power of two"},
    {alignment_beyond_the_file, JT_E_FORMAT, "tensor 't' lies beyond the end"},
    {alignment_string, JT_E_FORMAT, "'general.alignment' is not a u32"},
    {dims_0, JT_E_FORMAT, "tensor 't': 0 dimensions, expected 1 to 4"},
    {dims_5, JT_E_FORMAT, "tensor 't': 5 dimensions, expected 1 to 4"},
    {dims_endless, JT_E_FORMAT, "tensor 't': 4294967295 dimensions"},
    {dimension_0, JT_E_FORMAT, "tensor 't': a dimension of 0"},
    {dimension_negative, JT_E_FORMAT, "tensor 't': a dimension of -1"},
    {size_wraps, JT_E_FORMAT, "tensor 't': its size overflows"},
    {row_wraps, JT_E_FORMAT, "tensor 't': its size overflows"},
    {half_block, JT_E_FORMAT,
     "tensor 't': rows of 48 values are no whole blocks of Q8_0"},
    {half_k_block, JT_E_FORMAT, "are no whole blocks of Q4_K (256 values)"},
    {q8_k, JT_E_UNSUPPORTED, "tensor 't': type Q8_K (id 15) is not supported"},
    {type_retired, JT_E_UNSUPPORTED, "tensor 't': type unknown (id 4)"},
    {type_unknown, JT_E_UNSUPPORTED, "tensor 't': type unknown (id 123456)"},
    {offset_unaligned, JT_E_FORMAT, "tensor 't': offset 16 is not a multiple of"},
    {offset_beyond, JT_E_FORMAT, "tensor 't' lies beyond the end of the file"},
    {offset_wraps, JT_E_FORMAT, "tensor 't' lies beyond the end of the file"},
    {data_too_short, JT_E_FORMAT, "is the file complete?"},
    {no_data, JT_E_FORMAT, "tensor 't' lies beyond the end of the file"},
    {overlap, JT_E_FORMAT, "tensors 'third' and 'second' overlap"},
    {same_place, JT_E_FORMAT, "overlap"},
    {tensor_twice, JT_E_FORMAT, "tensor 'same' appears twice"},
    {a_part, JT_E_UNSUPPORTED, "cannot be opened from memory"},
    {split_count_string, JT_E_FORMAT, "key 'split.count' is not an integer"},
};

/* Open a copy that ends where its allocation ends, so that a sanitizer sees a read
 * beyond it; read all when it opens. */
static jt_status try_open(const unsigned char *data, size_t bytes, jt_err *err)
{
    unsigned char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, data, bytes);
    jt_gguf *file = NULL;
    jt_status status = jt_gguf_open_memory(&file, copy, bytes, err);
    if (status == JT_OK) {
        walk_file(file);
        jt_gguf_close(file);
    } else {
        assert_null(file);
    }
    free(copy);
    return status;
}

static void table(void **state)
{
    (void)state;
    static build b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_err err = {0};
        b.len = 0;
        cases[i].make(&b);
        jt_status status = try_open(b.data, b.len, &err);
        if (status != cases[i].status || !strstr(err.msg, cases[i].fragment) ||
            strncmp(err.msg, "'(memory)': ", 12) != 0)
            fail_msg("case %zu: status %d \"%s\" instead of %d \"%s\"", i, (int)status,
                     err.msg, (int)cases[i].status, cases[i].fragment);
        assert_int_equal(err.code, status);
    }
}

/* A long name must not push the reason out of the message. */
static void long_names(void **state)
{
    (void)state;
    static build b;
    char name[3001];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    put_head(&b, 1, 0);
    put_tensor(&b, name, 4, 0, 15, 0);
    jt_err err = {0};
    assert_int_equal(try_open(b.data, b.len, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "type Q8_K (id 15) is not supported"));
}

/* Not wrong, only unusual. */
static void unusual_files(void **state)
{
    (void)state;
    static build b;
    jt_err err = {0};
    put_head(&b, 0, 0);
    assert_int_equal(try_open(b.data, b.len, &err), JT_OK);
    /* out of order, with a gap, and no padding after the last */
    put_head(&b, 2, 0);
    put_tensor(&b, "late", 4, 0, 0, 96);
    put_tensor(&b, "early", 4, 0, 0, 0);
    put_data(&b, 96 + 16);
    assert_int_equal(try_open(b.data, b.len, &err), JT_OK);
    /* an alignment of 1 */
    put_head(&b, 1, 1);
    put_key_u32(&b, "general.alignment", 1);
    put_tensor(&b, "t", 2, 0, 0, 3);
    put(&b, "...........", 11);
    assert_int_equal(try_open(b.data, b.len, &err), JT_OK);
    /* a bool that is neither 0 nor 1 is true */
    put_head(&b, 0, 1);
    put_key(&b, "k", 7);
    put_u8(&b, 2);
    jt_gguf *file;
    bool value = false;
    assert_int_equal(jt_gguf_open_memory(&file, b.data, b.len, &err), JT_OK);
    assert_string_equal(jt_gguf_path(file), "(memory)");
    assert_true(jt_gguf_get_bool(file, "k", &value) && value);
    jt_gguf_close(file);
}

/* ---- every prefix, every flipped bit -------------------------------------------- */

static jt_map sample;

static int map_sample(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/format/data/v3.gguf", getenv("JUNTO_TEST_DATA"));
    return jt_map_open(&sample, path, NULL);
}

static int unmap_sample(void **state)
{
    (void)state;
    jt_map_close(&sample);
    return 0;
}

static void every_prefix(void **state)
{
    (void)state;
    jt_err err = {0};
    assert_int_equal(try_open(sample.data, sample.bytes, &err), JT_OK);
    /* The last tensor needs 68 bytes of the 96 that remain for it. */
    for (size_t bytes = 0; bytes < sample.bytes; bytes++) {
        err = (jt_err){0};
        jt_status status = try_open(sample.data, bytes, &err);
        assert_int_equal(status, bytes < sample.bytes - 28 ? JT_E_FORMAT : JT_OK);
        assert_int_equal(status != JT_OK, err.msg[0] != '\0');
    }
}

static void every_flipped_bit(void **state)
{
    (void)state;
    int opened = 0, refused = 0;
    unsigned char *copy = malloc(sample.bytes);
    memcpy(copy, sample.data, sample.bytes);
    for (size_t bit = 0; bit < 8 * sample.bytes; bit++) {
        jt_err err = {0};
        copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (try_open(copy, sample.bytes, &err) == JT_OK) {
            opened++;
        } else {
            refused++;
            assert_true(err.msg[0] != '\0');
        }
        copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(copy);
    assert_true(opened > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(long_names),
        cmocka_unit_test(unusual_files),
        cmocka_unit_test(every_prefix),
        cmocka_unit_test(every_flipped_bit),
    };
    return cmocka_run_group_tests(tests, map_sample, unmap_sample);
}
