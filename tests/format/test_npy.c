#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "junto/npy.h"
#include "scratch.h"

static void assert_refused(jt_status status, jt_status wanted, const jt_err *err,
                           const char *fragment)
{
    assert_int_equal(status, wanted);
    if (!strstr(err->msg, fragment))
        fail_msg("\"%s\" lacks \"%s\"", err->msg, fragment);
}

static size_t read_back(const char *path, void *data, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t bytes = fread(data, 1, room, file);
    fclose(file);
    return bytes;
}

static jt_status new_matrix(jt_npy_writer **w, const char *path, uint64_t rows,
                            uint64_t cols, jt_err *err)
{
    const uint64_t shape[] = {rows, cols};
    return jt_npy_writer_new(w, path, JT_NPY_F32, shape, 2, err);
}

static void exact_bytes(void **state)
{
    (void)state;
    static const char head[] = "\x93NUMPY\x01\x00\x76\x00"
                               "{'descr': '<f4', 'fortran_order': False, "
                               "'shape': (3, 2), }";
    const float values[6] = {0, 1, 2, 3, -4, 5.5f};
    unsigned char back[512];
    jt_err err = {0};
    jt_npy_writer *w;
    const char *path = scratch_path(&scratch_dir, "a.npy");
    assert_int_equal(new_matrix(&w, path, 3, 2, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values, 1, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values, 0, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values + 2, 2, &err), JT_OK);
    assert_int_equal(jt_npy_writer_finish(w, &err), JT_OK);
    assert_int_equal(read_back(path, back, sizeof back), 128 + sizeof values);
    assert_memory_equal(back, head, sizeof head - 1);
    for (size_t i = sizeof head - 1; i < 127; i++)
        assert_int_equal(back[i], ' ');
    assert_int_equal(back[127], '\n');
    assert_memory_equal(back + 128, values, sizeof values);
}

static void largest_head(void **state)
{
    (void)state;
    unsigned char back[512];
    jt_err err = {0};
    jt_npy_writer *w;
    const char *path = scratch_path(&scratch_dir, "b.npy");
    assert_int_equal(new_matrix(&w, path, 0, UINT64_MAX, &err), JT_OK);
    assert_int_equal(jt_npy_writer_finish(w, &err), JT_OK);
    assert_int_equal(read_back(path, back, sizeof back), 128);
    assert_non_null(strstr((char *)back + 10, "(0, 18446744073709551615), }   "));
    assert_int_equal(back[127], '\n');
}

/* Whole numbers, and other numbers of dimensions than two. */
static void other_arrays(void **state)
{
    (void)state;
    const int32_t values[12] = {1, -2, 3};
    const uint64_t shape[] = {2, 3, 2};
    unsigned char back[512];
    jt_err err = {0};
    jt_npy_writer *w;
    const char *path = scratch_path(&scratch_dir, "i.npy");
    assert_int_equal(jt_npy_writer_new(&w, path, JT_NPY_I32, shape, 3, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values, 1, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values + 6, 1, &err), JT_OK);
    assert_int_equal(jt_npy_writer_finish(w, &err), JT_OK);
    assert_int_equal(read_back(path, back, sizeof back), 128 + sizeof values);
    assert_non_null(strstr((char *)back + 10, "'<i4', "));
    assert_non_null(strstr((char *)back + 10, "'shape': (2, 3, 2), }"));
    assert_memory_equal(back + 128, values, sizeof values);

    assert_int_equal(jt_npy_writer_new(&w, path, JT_NPY_I32, shape, 1, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values, 2, &err), JT_OK);
    assert_int_equal(jt_npy_writer_finish(w, &err), JT_OK);
    assert_int_equal(read_back(path, back, sizeof back), 128 + 8);
    assert_non_null(strstr((char *)back + 10, "'shape': (2,), }"));
    assert_refused(jt_npy_writer_new(&w, path, JT_NPY_I32, shape, 4, &err), JT_E_ARG,
                   &err, "4 dimensions");
}

static void wrong_use(void **state)
{
    (void)state;
    const float values[8] = {0};
    jt_err err = {0};
    jt_npy_writer *w;
    int before = scratch_entries(&scratch_dir, 0);
    const char *path = scratch_path(&scratch_dir, "c.npy");
    assert_refused(new_matrix(&w, path, UINT64_MAX / 4, 2, &err), JT_E_ARG, &err,
                   "c.npy': an array of shape (4611686018427387903, 2) is too large");
    assert_int_equal(new_matrix(&w, path, 3, 2, &err), JT_OK);
    assert_int_equal(jt_npy_writer_append(w, values, 2, &err), JT_OK);
    assert_refused(jt_npy_writer_append(w, values, 2, &err), JT_E_ARG, &err,
                   "c.npy': 1 more rows than the 3 promised");
    assert_refused(jt_npy_writer_finish(w, &err), JT_E_ARG, &err,
                   "c.npy': 2 of 3 rows written");
    assert_int_equal(new_matrix(&w, path, 3, 2, &err), JT_OK);
    jt_npy_writer_abort(w);
    jt_npy_writer_abort(NULL);
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);
}

static void failures_outside(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_npy_writer *w = NULL;
    assert_refused(new_matrix(&w, scratch_path(&scratch_dir, "none/c.npy"), 1, 1, &err),
                   JT_E_IO, &err, "none/c.npy': No such file");
    for (long n = 0; n < 3; n++) {
        jt_fault_after(n);
        assert_refused(new_matrix(&w, scratch_path(&scratch_dir, "m.npy"), 1, 1, &err),
                       JT_E_MEMORY, &err, "out of memory");
    }
    jt_fault_after(-1);
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_bytes),      cmocka_unit_test(largest_head),
        cmocka_unit_test(other_arrays),     cmocka_unit_test(wrong_use),
        cmocka_unit_test(failures_outside),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
