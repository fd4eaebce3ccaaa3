/* Files of another writer (data/, made by make_files.py) as the reader sees them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "build.h"
#include "junto/gguf.h"
#include "scratch.h"
#include "walk.h"

static const char *data_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/format/data/%s", getenv("JUNTO_TEST_DATA"), name);
    return path;
}

static jt_gguf *open_data(const char *name)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    if (jt_gguf_open(&file, data_path(name), &err) != JT_OK)
        fail_msg("%s", err.msg);
    return file;
}

static void assert_str(jt_str text, const char *wanted)
{
    assert_int_equal(text.len, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.len);
}

/* ---- keys ----------------------------------------------------------------------- */

static void check_integers(const jt_gguf *f)
{
    static const struct {
        const char *key;
        int64_t value;
    } all[] = {
        {"test.u8", 200},        {"test.i8", -100},        {"test.u16", 60000},
        {"test.i16", -30000},    {"test.u32", 4000000000}, {"test.i32", -2000000000},
        {"test.i64", INT64_MIN}, {"test.true", 1},         {"test.false", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int64_t v = 77;
        uint32_t u = 77;
        assert_true(jt_gguf_get_i64(f, all[i].key, &v));
        assert_int_equal(v, all[i].value);
        bool fits = all[i].value >= 0;
        assert_int_equal(jt_gguf_get_u32(f, all[i].key, &u), fits);
        assert_int_equal(u, fits ? (uint32_t)all[i].value : 77);
    }
    int64_t v = 77;
    assert_false(jt_gguf_get_i64(f, "test.u64", &v));
    assert_false(jt_gguf_get_i64(f, "test.f32", &v));
    assert_false(jt_gguf_get_i64(f, "test.string", &v));
    assert_false(jt_gguf_get_i64(f, "test.ints", &v));
    assert_false(jt_gguf_get_i64(f, "absent", &v));
    assert_int_equal(v, 77);
}

static void check_other_scalars(const jt_gguf *f)
{
    float v = 77;
    assert_false(jt_gguf_get_f32(f, "test.true", &v));
    assert_false(jt_gguf_get_f32(f, "test.string", &v));
    assert_false(jt_gguf_get_f32(f, "absent", &v));
    assert_true(v == 77);
    assert_true(jt_gguf_get_f32(f, "test.f32", &v) && v == 1.5f);
    assert_true(jt_gguf_get_f32(f, "test.f64", &v) && v == -0.1f);
    assert_true(jt_gguf_get_f32(f, "test.i16", &v) && v == -30000);
    assert_true(jt_gguf_get_f32(f, "test.u64", &v) && v == 0x1p64f);
    bool flag = false;
    assert_false(jt_gguf_get_bool(f, "test.u8", &flag));
    assert_true(jt_gguf_get_bool(f, "test.true", &flag) && flag);
    assert_true(jt_gguf_get_bool(f, "test.false", &flag) && !flag);
    jt_str text = {0};
    assert_false(jt_gguf_get_str(f, "test.u8", &text));
    assert_true(jt_gguf_get_str(f, "test.string", &text));
    assert_str(text, "gr\u00fc\u00df dich");
    assert_true(jt_gguf_get_str(f, "test.empty", &text));
    assert_str(text, "");
}

static void check_arrays(const jt_gguf *f)
{
    jt_str text = {0};
    int64_t i = 77;
    float v = 77;
    const jt_gguf_kv *kv = jt_gguf_kv_find(f, "test.strings");
    assert_int_equal(kv->type, JT_GGUF_ARRAY);
    assert_int_equal(kv->item_type, JT_GGUF_STRING);
    assert_int_equal(kv->count, 3);
    assert_true(jt_gguf_item_str(kv, 1, &text) && text.len == 0);
    assert_true(jt_gguf_item_str(kv, 2, &text));
    assert_str(text, "long enough");
    assert_false(jt_gguf_item_str(kv, 3, &text));
    assert_false(jt_gguf_item_i64(kv, 0, &i));
    assert_false(jt_gguf_item_f32(kv, 0, &v));

    kv = jt_gguf_kv_find(f, "test.ints");
    assert_true(jt_gguf_item_i64(kv, 1, &i) && i == -2);
    assert_true(jt_gguf_item_f32(kv, 2, &v) && v == 3);
    assert_false(jt_gguf_item_i64(kv, UINT64_MAX, &i));
    assert_false(jt_gguf_item_str(kv, 0, &text));

    kv = jt_gguf_kv_find(f, "test.floats");
    assert_true(jt_gguf_item_f32(kv, 1, &v) && v == -0.25f);
    assert_false(jt_gguf_item_i64(kv, 0, &i));

    kv = jt_gguf_kv_find(f, "test.bools");
    assert_true(jt_gguf_item_i64(kv, 0, &i) && i == 1);
    assert_true(jt_gguf_item_i64(kv, 1, &i) && i == 0);

    kv = jt_gguf_kv_find(f, "test.u8"); /* a scalar has no items */
    assert_false(jt_gguf_item_i64(kv, 0, &i));
    assert_false(jt_gguf_item_str(kv, 0, &text));
}

/* ---- tensors -------------------------------------------------------------------- */

static const jt_gguf_tensor *check_tensor(const jt_gguf *f, const char *name,
                                          jt_dtype dtype, int n_dims, size_t bytes)
{
    const jt_gguf_tensor *t = jt_gguf_find(f, name);
    assert_non_null(t);
    assert_str(t->name, name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->n_dims, n_dims);
    assert_int_equal(t->bytes, bytes);
    return t;
}

static void check_tensors(const jt_gguf *f)
{
    assert_int_equal(jt_gguf_tensor_count(f), 5);
    assert_null(jt_gguf_find(f, "f3"));
    assert_null(jt_gguf_find(f, ""));
    const jt_gguf_tensor *t = check_tensor(f, "f32", JT_F32, 2, 256);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 32);
    for (int i = 0; i < 64; i++) {
        float v;
        memcpy(&v, (const char *)t->data + 4 * i, sizeof v);
        assert_true(v == (float)i);
    }
    t = check_tensor(f, "stack", JT_F32, 3, 96);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->shape[2], 4);
    t = check_tensor(f, "i32", JT_I32, 1, 20);
    assert_int_equal(((const unsigned char *)t->data)[16], 4);
    check_tensor(f, "f16", JT_F16, 2, 128);
    t = check_tensor(f, "q8_0", JT_Q8_0, 2, 68);
    assert_int_equal(((const unsigned char *)t->data)[33], 127); /* 31, the largest */
}

static void whole_files(void **state)
{
    (void)state;
    static const char *const names[] = {"v2.gguf", "v3.gguf"};
    for (int i = 0; i < 2; i++) {
        jt_gguf *f = open_data(names[i]);
        assert_string_equal(jt_gguf_path(f), data_path(names[i]));
        assert_int_equal(jt_gguf_file_bytes(f), 1472);
        assert_int_equal(jt_gguf_kv_count(f), 19);
        check_integers(f);
        check_other_scalars(f);
        check_arrays(f);
        check_tensors(f);
        walk_file(f);
        jt_gguf_close(f);
    }
    jt_gguf_close(NULL);
}

/* ---- split files ---------------------------------------------------------------- */

static void split_file(void **state)
{
    (void)state;
    jt_gguf *f = open_data("split-00001-of-00002.gguf");
    assert_int_equal(jt_gguf_file_bytes(f), 1344 + 320);
    assert_int_equal(jt_gguf_kv_count(f), 19);
    assert_null(jt_gguf_kv_find(f, "split.count"));
    assert_null(jt_gguf_kv_find(f, "split.no"));
    check_integers(f);
    check_arrays(f);
    check_tensors(f);
    walk_file(f);
    jt_gguf_close(f);
}

/* Part `no` of `count` with one tensor called `name`, under `file`. */
static void make_part(const char *file, uint32_t no, uint32_t count, uint32_t tensors,
                      const char *name)
{
    build b;
    put_head(&b, 1, 3);
    put_key_u32(&b, "split.no", no);
    put_key_u32(&b, "split.count", count);
    put_key_u32(&b, "split.tensors.count", tensors);
    put_tensor(&b, name, 4, 0, 0, 0);
    put_data(&b, 16);
    scratch_write(scratch_path(&scratch_dir, file), b.data, b.len);
}

static void assert_refused(const char *name, jt_status status, const char *fragment)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    assert_int_equal(jt_gguf_open(&file, scratch_path(&scratch_dir, name), &err),
                     status);
    assert_null(file);
    if (!strstr(err.msg, fragment) || !strstr(err.msg, scratch_dir.dir))
        fail_msg("\"%s\" lacks \"%s\" or the path", err.msg, fragment);
}

static void broken_splits(void **state)
{
    (void)state;
    static const char first[] = "m-00001-of-00002.gguf",
                      second[] = "m-00002-of-00002.gguf";
    make_part(first, 0, 2, 2, "a");
    assert_refused(first, JT_E_IO, "m-00002-of-00002.gguf': No such file");
    make_part(second, 1, 2, 2, "a");
    assert_refused(first, JT_E_FORMAT, "tensor 'a' appears twice");
    make_part(second, 1, 2, 3, "b");
    assert_refused(first, JT_E_FORMAT, "do not agree");
    make_part(second, 0, 2, 2, "b");
    assert_refused(first, JT_E_FORMAT, "do not agree");
    make_part(second, 1, 3, 2, "b");
    assert_refused(first, JT_E_FORMAT, "do not agree");
    make_part(second, 1, 2, 2, "b");
    assert_refused(second, JT_E_FORMAT, "part 2 of a split file; open part 1");
    make_part(first, 0, 3, 2, "a");
    assert_refused(first, JT_E_FORMAT, "keys say part 1 of 3, its name part 1 of 2");
    make_part(first, 2, 2, 2, "a");
    assert_refused(first, JT_E_FORMAT, "'split.no' is not an integer from 0 to 1");
    make_part(first, 0, 70000, 2, "a");
    assert_refused(first, JT_E_FORMAT, "'split.count' is not an integer from 0 to");
    make_part(first, 0, 2, 7, "a");
    make_part(second, 1, 2, 7, "b");
    assert_refused(first, JT_E_FORMAT, "says 7, the 2 parts hold 2 tensors");
    scratch_write(scratch_path(&scratch_dir, second), "GGUF", 4);
    assert_refused(first, JT_E_FORMAT, "m-00002-of-00002.gguf': the file ends inside");
    make_part("renamed.gguf", 0, 2, 2, "a");
    assert_refused("renamed.gguf", JT_E_FORMAT, "was it renamed?");
    make_part("x-00000-of-00002.gguf", 0, 2, 2, "a");
    assert_refused("x-00000-of-00002.gguf", JT_E_FORMAT, "was it renamed?");
}

static void split_of_one(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf *file;
    for (uint32_t count = 0; count < 2; count++) {
        make_part("one.gguf", 0, count, 1, "a");
        assert_int_equal(
            jt_gguf_open(&file, scratch_path(&scratch_dir, "one.gguf"), &err), JT_OK);
        assert_int_equal(jt_gguf_tensor_count(file), 1);
        jt_gguf_close(file);
    }
}

/* ---- what cannot be opened ------------------------------------------------------ */

static void not_files(void **state)
{
    (void)state;
    assert_refused("missing.gguf", JT_E_IO, "missing.gguf': No such file");
    assert_refused(".", JT_E_IO, "not a regular file");
    scratch_write(scratch_path(&scratch_dir, "empty.gguf"), "", 0);
    assert_refused("empty.gguf", JT_E_FORMAT, "not a GGUF file: it is empty");
    scratch_write(scratch_path(&scratch_dir, "text.gguf"), "hello", 5);
    assert_refused("text.gguf", JT_E_FORMAT, "does not start with GGUF");
    jt_err err = {0};
    jt_gguf *file;
    assert_int_equal(jt_gguf_open(&file, data_path("big-endian.gguf"), &err),
                     JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "big-endian"));
    assert_int_equal(jt_gguf_open(&file, data_path("big-endian.gguf"), NULL),
                     JT_E_UNSUPPORTED);
}

static void no_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"v3.gguf", "split-00001-of-00002.gguf"};
    for (int i = 0; i < 2; i++) {
        jt_gguf *file = NULL;
        long n = 0;
        for (;; n++) {
            jt_err err = {0};
            jt_fault_after(n);
            jt_status status = jt_gguf_open(&file, data_path(names[i]), &err);
            jt_fault_after(-1);
            if (status == JT_OK)
                break;
            assert_int_equal(status, JT_E_MEMORY);
            assert_non_null(strstr(err.msg, "out of memory"));
            assert_null(file);
        }
        assert_true(n >= 5);
        walk_file(file);
        jt_gguf_close(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files),   cmocka_unit_test(split_file),
        cmocka_unit_test(broken_splits), cmocka_unit_test(split_of_one),
        cmocka_unit_test(not_files),     cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
