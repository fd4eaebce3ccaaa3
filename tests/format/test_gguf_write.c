/* The writer: what is written is read back, and failures leave nothing behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "build.h"
#include "scratch.h"
#include "walk.h"

/* ---- a value of every type, a tensor of every dtype ----------------------------- */

static const jt_str strings[] = {{"one", 3}, {NULL, 0}, {"t\0o", 3}};
static const int32_t ints[] = {INT32_MIN, 0, 5};
static const float floats[] = {0.5f, -2};

/* Values that only a copy can bring: (type, bytes), the value is 0xa5 all over. */
static const struct {
    const char *key;
    jt_gguf_type type;
    size_t bytes;
} copied[] = {
    {"c.u8", JT_GGUF_U8, 1},   {"c.i8", JT_GGUF_I8, 1},   {"c.u16", JT_GGUF_U16, 2},
    {"c.i16", JT_GGUF_I16, 2}, {"c.i32", JT_GGUF_I32, 4}, {"c.u64", JT_GGUF_U64, 8},
    {"c.i64", JT_GGUF_I64, 8}, {"c.f64", JT_GGUF_F64, 8},
};
enum { COPIED = sizeof copied / sizeof *copied };

static jt_status set_keys(jt_gguf_writer *w, jt_err *err)
{
    unsigned char raw[8];
    memset(raw, 0xa5, sizeof raw);
    JT_TRY(jt_gguf_set_u32(w, "u32", 1, err));
    JT_TRY(jt_gguf_set_f32(w, "f32", -0.75f, err));
    JT_TRY(jt_gguf_set_bool(w, "bool", true, err));
    JT_TRY(jt_gguf_set_str(w, "gone", "will be unset", err));
    JT_TRY(jt_gguf_set_str(w, "str", "text", err));
    JT_TRY(jt_gguf_set_strs(w, "strs", strings, 3, err));
    JT_TRY(jt_gguf_set_strs(w, "no-strs", NULL, 0, err));
    JT_TRY(jt_gguf_set_i32s(w, "i32s", ints, 3, err));
    JT_TRY(jt_gguf_set_i32s(w, "no-i32s", NULL, 0, err));
    JT_TRY(jt_gguf_set_f32s(w, "f32s", floats, 2, err));
    JT_TRY(jt_gguf_set_u32(w, "u32", 2, err)); /* in its place */
    for (int i = 0; i < COPIED; i++) {
        const char *key = copied[i].key;
        jt_gguf_kv kv = {.key = {key, strlen(key)},
                         .type = copied[i].type,
                         .raw = raw,
                         .raw_bytes = copied[i].bytes};
        JT_TRY(jt_gguf_set_kv(w, NULL, &kv, err));
    }
    jt_gguf_unset(w, "gone");
    jt_gguf_unset(w, "never there");
    return JT_OK;
}

/* Tensor number `dtype`: [2, 3, 512] of each, with bytes that depend on both. */
static const uint64_t shape[3] = {2, 3, 512};

static unsigned char tensor_byte(jt_dtype dtype, size_t i)
{
    return (unsigned char)(i * 7 + (size_t)dtype * 13 + 1);
}

static jt_status write_tensor(jt_gguf_writer *w, jt_dtype dtype, jt_err *err)
{
    static unsigned char data[6 * 512 * 8];
    size_t bytes = 6 * jt_dtype_row_bytes(dtype, 512);
    for (size_t i = 0; i < bytes; i++)
        data[i] = tensor_byte(dtype, i);
    size_t half = bytes / 2 - 1;
    JT_TRY(jt_gguf_write(w, data, half, err));
    return jt_gguf_write(w, data + half, bytes - half, err);
}

static jt_status write_all(const char *path, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    jt_status status = set_keys(w, err);
    for (int d = 0; d < JT_DTYPE_COUNT && status == JT_OK; d++)
        status = jt_gguf_add_tensor(w, jt_dtype_name((jt_dtype)d), (jt_dtype)d, 3,
                                    shape, err);
    for (int d = 0; d < JT_DTYPE_COUNT && status == JT_OK; d++)
        status = write_tensor(w, (jt_dtype)d, err);
    if (status != JT_OK) {
        jt_gguf_writer_abort(w);
        return status;
    }
    return jt_gguf_writer_finish(w, err);
}

static jt_gguf *open_file(const char *path)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    if (jt_gguf_open(&file, path, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return file;
}

static void check_keys(const jt_gguf *f)
{
    uint32_t u32 = 0;
    float f32 = 0;
    bool flag = false;
    jt_str text;
    int64_t i64;
    assert_int_equal(jt_gguf_kv_count(f), 9 + COPIED);
    assert_ptr_equal(jt_gguf_kv_at(f, 0), jt_gguf_kv_find(f, "u32"));
    assert_true(jt_gguf_get_u32(f, "u32", &u32) && u32 == 2);
    assert_true(jt_gguf_get_f32(f, "f32", &f32) && f32 == -0.75f);
    assert_true(jt_gguf_get_bool(f, "bool", &flag) && flag);
    assert_true(jt_gguf_get_str(f, "str", &text));
    assert_int_equal(text.len, 4);
    assert_memory_equal(text.data, "text", 4);
    for (int i = 0; i < 3; i++) {
        assert_true(jt_gguf_item_str(jt_gguf_kv_find(f, "strs"), (uint64_t)i, &text));
        assert_int_equal(text.len, strings[i].len);
        assert_memory_equal(text.data, strings[i].len ? strings[i].data : "", text.len);
        assert_true(jt_gguf_item_i64(jt_gguf_kv_find(f, "i32s"), (uint64_t)i, &i64));
        assert_int_equal(i64, ints[i]);
    }
    assert_true(jt_gguf_item_f32(jt_gguf_kv_find(f, "f32s"), 1, &f32) && f32 == -2);
    assert_int_equal(jt_gguf_kv_find(f, "no-strs")->count, 0);
    assert_int_equal(jt_gguf_kv_find(f, "no-i32s")->count, 0);
    for (int i = 0; i < COPIED; i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_find(f, copied[i].key);
        assert_int_equal(kv->type, copied[i].type);
        assert_int_equal(kv->raw_bytes, copied[i].bytes);
        for (size_t j = 0; j < kv->raw_bytes; j++)
            assert_int_equal(((const unsigned char *)kv->raw)[j], 0xa5);
    }
}

static void check_tensors(const jt_gguf *f, size_t alignment)
{
    assert_int_equal(jt_gguf_tensor_count(f), JT_DTYPE_COUNT);
    for (int d = 0; d < JT_DTYPE_COUNT; d++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(f, (size_t)d);
        assert_ptr_equal(jt_gguf_find(f, jt_dtype_name((jt_dtype)d)), t);
        assert_int_equal(t->dtype, d);
        assert_int_equal(t->n_dims, 3);
        assert_memory_equal(t->shape, shape, sizeof shape);
        assert_int_equal((uintptr_t)t->data % alignment, 0);
        size_t wrong = 0;
        for (size_t i = 0; i < t->bytes; i++)
            wrong += ((const unsigned char *)t->data)[i] != tensor_byte((jt_dtype)d, i);
        assert_int_equal(wrong, 0);
    }
}

static void round_trip(void **state)
{
    (void)state;
    jt_err err = {0};
    const char *path = scratch_path(&scratch_dir, "all.gguf");
    if (write_all(path, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_gguf *f = open_file(path);
    check_keys(f);
    check_tensors(f, 32);
    walk_file(f);
    jt_gguf_close(f);
}

/* Copying all keys and tensors with another alignment, one key under another name. */
static void copy_of_a_file(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf *from = open_file(scratch_path(&scratch_dir, "all.gguf"));
    jt_gguf_writer *w;
    const char *path = scratch_path(&scratch_dir, "copy.gguf");
    assert_int_equal(jt_gguf_writer_new(&w, path, &err), JT_OK);
    for (size_t i = 0; i < jt_gguf_kv_count(from); i++)
        assert_int_equal(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(from, i), &err), JT_OK);
    for (size_t i = 0; i < jt_gguf_tensor_count(from); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(from, i);
        assert_int_equal(jt_gguf_add_tensor(w, jt_dtype_name(t->dtype), t->dtype,
                                            t->n_dims, t->shape, &err),
                         JT_OK);
    }
    assert_int_equal(jt_gguf_set_u32(w, "general.alignment", 4096, &err), JT_OK);
    jt_gguf_unset(w, "general.alignment");
    assert_int_equal(jt_gguf_set_u32(w, "general.alignment", 8192, &err), JT_OK);
    for (size_t i = 0; i < jt_gguf_tensor_count(from); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(from, i);
        assert_int_equal(jt_gguf_write(w, t->data, t->bytes, &err), JT_OK);
    }
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_OK);
    jt_gguf_close(from);

    jt_gguf *f = open_file(path);
    check_tensors(f, 4096); /* a map starts at a multiple of a page */
    uint32_t alignment = 0;
    assert_true(jt_gguf_get_u32(f, "general.alignment", &alignment));
    assert_int_equal(alignment, 8192);
    assert_int_equal(jt_gguf_kv_count(f), 10 + COPIED);
    jt_gguf_close(f);
}

/* Byte for byte what the layout in docs/formats.md says. */
static void exact_bytes(void **state)
{
    (void)state;
    static build b;
    jt_err err = {0};
    jt_gguf_writer *w;
    const uint64_t dims[2] = {1, 4};
    const float row[4] = {1, 2, 3, 4};
    const char *path = scratch_path(&scratch_dir, "exact.gguf");
    assert_int_equal(jt_gguf_writer_new(&w, path, &err), JT_OK);
    assert_int_equal(jt_gguf_set_u32(w, "k", 7, &err), JT_OK);
    assert_int_equal(jt_gguf_set_str(w, "s", "abc", &err), JT_OK);
    assert_int_equal(jt_gguf_add_tensor(w, "t", JT_F32, 2, dims, &err), JT_OK);
    assert_int_equal(jt_gguf_write(w, row, sizeof row, &err), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_OK);

    put_head(&b, 1, 2);
    put_key_u32(&b, "k", 7);
    put_key(&b, "s", 8);
    put_str(&b, "abc");
    put_tensor(&b, "t", 4, 1, 0, 0);
    put_data(&b, 0);
    put(&b, row, sizeof row);
    put_data(&b, 0);
    FILE *file = fopen(path, "rb");
    static unsigned char back[4096];
    assert_int_equal(fread(back, 1, sizeof back, file), b.len);
    fclose(file);
    assert_memory_equal(back, b.data, b.len);
}

/* A file without tensors is its head; one without anything opens too. */
static void no_tensors(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf_writer *w;
    const char *path = scratch_path(&scratch_dir, "bare.gguf");
    assert_int_equal(jt_gguf_writer_new(&w, path, &err), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_OK);
    jt_gguf *f = open_file(path);
    assert_int_equal(jt_gguf_kv_count(f) + jt_gguf_tensor_count(f), 0);
    jt_gguf_close(f);
}

/* ---- wrong use ------------------------------------------------------------------ */

static void assert_refused(jt_status status, const jt_err *err, const char *fragment)
{
    assert_int_equal(status, JT_E_ARG);
    if (!strstr(err->msg, fragment))
        fail_msg("\"%s\" lacks \"%s\"", err->msg, fragment);
}

static void wrong_descriptions(void **state)
{
    (void)state;
    static char long_name[70000];
    jt_err err = {0};
    jt_gguf_writer *w;
    const uint64_t dims[4] = {INT64_MAX, 3, 48, 0};
    int before = scratch_entries(&scratch_dir, 0);
    assert_int_equal(jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "wrong"), &err),
                     JT_OK);
#define REFUSED(call, fragment) assert_refused(call, &err, fragment)
#define ADD(dtype, n, shape)    jt_gguf_add_tensor(w, "t", dtype, n, shape, &err)
    REFUSED(ADD(JT_F32, 0, dims), "tensor 't': 0 dimensions");
    REFUSED(ADD(JT_F32, 5, dims), "tensor 't': 5 dimensions");
    REFUSED(ADD(JT_F32, 1, dims + 3), "a dimension of 0");
    REFUSED(ADD(JT_Q8_0, 1, dims + 2), "rows of 48 values are no whole blocks of Q8_0");
    REFUSED(ADD(JT_F32, 2, dims), "its size overflows");
    REFUSED(ADD(JT_F32, 1, dims), "rows of 9223372036854775807 values");
    REFUSED(ADD(JT_DTYPE_COUNT, 1, dims + 1), "unknown type");
    assert_int_equal(ADD(JT_F32, 1, dims + 1), JT_OK);
    REFUSED(ADD(JT_F32, 1, dims + 1), "'t' is described twice");
    REFUSED(jt_gguf_add_tensor(w, "", JT_F32, 1, dims + 1, &err), "has 0 bytes");
    REFUSED(jt_gguf_set_u32(w, "", 1, &err), "the name of a key has 0 bytes");
    memset(long_name, 'x', sizeof long_name - 1);
    REFUSED(jt_gguf_set_u32(w, long_name, 1, &err), "has 69999 bytes");
    REFUSED(jt_gguf_set_u32(w, "general.alignment", 48, &err), "a power of two");
    REFUSED(jt_gguf_set_u32(w, "general.alignment", 0, &err), "a power of two");
    REFUSED(jt_gguf_set_str(w, "general.alignment", "32", &err), "must be a u32");
    REFUSED(jt_gguf_writer_finish(w, &err), "tensor 't': 0 of 12 bytes written");
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);
}

static void wrong_order(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf_writer *w;
    const uint64_t dims[1] = {4};
    const char data[32] = {0};
    int before = scratch_entries(&scratch_dir, 0);
    assert_int_equal(jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "wrong"), &err),
                     JT_OK);
    assert_int_equal(jt_gguf_add_tensor(w, "a", JT_F32, 1, dims, &err), JT_OK);
    assert_int_equal(jt_gguf_add_tensor(w, "b", JT_F32, 1, dims, &err), JT_OK);
    REFUSED(jt_gguf_write(w, data, 17, &err),
            "tensor 'a': 17 bytes of data where 16 are missing");
    assert_int_equal(jt_gguf_write(w, data, 10, &err), JT_OK);
    REFUSED(jt_gguf_write(w, data, 7, &err), "where 6 are missing");
    REFUSED(jt_gguf_set_u32(w, "late", 1, &err), "'late' comes after the first data");
    REFUSED(jt_gguf_add_tensor(w, "c", JT_F32, 1, dims, &err), "after the first data");
    assert_int_equal(jt_gguf_write(w, data, 6, &err), JT_OK);
    assert_int_equal(jt_gguf_write(w, data, 16, &err), JT_OK);
    assert_int_equal(jt_gguf_write(w, data, 0, &err), JT_OK);
    REFUSED(jt_gguf_write(w, data, 1, &err), "after the last tensor");
    jt_gguf_writer_abort(w);
    jt_gguf_writer_abort(NULL);
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);
}

/* ---- failures outside ----------------------------------------------------------- */

static void no_memory(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "memory.gguf");
    int before = scratch_entries(&scratch_dir, 0);
    long n = 0;
    for (;; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        jt_status status = write_all(path, &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
        assert_non_null(strstr(err.msg, "out of memory"));
        assert_int_equal(scratch_entries(&scratch_dir, 0), before);
    }
    assert_true(n > 40);
    jt_gguf *f = open_file(path);
    check_keys(f);
    check_tensors(f, 32);
    jt_gguf_close(f);
}

/* A full disk, played by a limit on the size of files; at `limit` 0 only the flush at
 * the end meets it, at others a write in the middle. */
static void full_disk(void **state)
{
    (void)state;
    static const rlim_t limits[] = {0, 100, 5000, 30000};
    const char *path = scratch_path(&scratch_dir, "full.gguf");
    scratch_write(path, "old", 3);
    int before = scratch_entries(&scratch_dir, 0);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit usual, tight;
        jt_err err = {0};
        getrlimit(RLIMIT_FSIZE, &usual);
        tight = usual;
        tight.rlim_cur = limits[i];
        setrlimit(RLIMIT_FSIZE, &tight);
        jt_status status = write_all(path, &err);
        setrlimit(RLIMIT_FSIZE, &usual);
        assert_int_equal(status, JT_E_IO);
        assert_non_null(strstr(err.msg, "full.gguf': File too large"));
        assert_int_equal(scratch_entries(&scratch_dir, 0), before);
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 3);
}

/* After a failed write the file is lost even when the caller goes on. */
static void failure_is_remembered(void **state)
{
    (void)state;
    const uint64_t dims[1] = {1 << 16};
    static const char data[4 << 16];
    jt_err err = {0};
    jt_gguf_writer *w;
    struct rlimit usual, tight;
    int before = scratch_entries(&scratch_dir, 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "lost"), &err),
                     JT_OK);
    assert_int_equal(jt_gguf_add_tensor(w, "t", JT_F32, 1, dims, &err), JT_OK);
    getrlimit(RLIMIT_FSIZE, &usual);
    tight = usual;
    tight.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &tight);
    jt_status status = jt_gguf_write(w, data, sizeof data, &err);
    setrlimit(RLIMIT_FSIZE, &usual);
    assert_int_equal(status, JT_E_IO);
    assert_int_equal(jt_gguf_write(w, data, sizeof data, &err), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "lost': an earlier write failed"));
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);
}

static void unwritable_places(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf_writer *w = NULL;
    scratch_write(scratch_path(&scratch_dir, "file"), "x", 1);
    assert_int_equal(
        jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "file/m.gguf"), &err),
        JT_E_IO);
    assert_non_null(strstr(err.msg, "file/m.gguf': Not a directory"));
    assert_int_equal(
        jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "none/m.gguf"), &err),
        JT_E_IO);
    assert_non_null(strstr(err.msg, "none/m.gguf': No such file"));
    if (geteuid() != 0) { /* the superuser may write everywhere */
        const char *locked = scratch_path(&scratch_dir, "locked");
        assert_int_equal(mkdir(locked, 0500), 0);
        assert_int_equal(
            jt_gguf_writer_new(&w, scratch_path(&scratch_dir, "locked/m.gguf"), &err),
            JT_E_IO);
        assert_non_null(strstr(err.msg, "Permission denied"));
    }
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(copy_of_a_file),
        cmocka_unit_test(exact_bytes),
        cmocka_unit_test(no_tensors),
        cmocka_unit_test(wrong_descriptions),
        cmocka_unit_test(wrong_order),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(failure_is_remembered),
        cmocka_unit_test(unwritable_places),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
