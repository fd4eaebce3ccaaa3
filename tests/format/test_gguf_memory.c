/* Files in memory: what was set and placed is read like a file, and can be written. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "scratch.h"
#include "walk.h"

/* [4, 2, 3]: four pieces in an order of their own; [6]: one place. */
static const float stacked[4][6] = {{18, 19, 20, 21, 22, 23},
                                    {0, 1, 2, 3, 4, 5},
                                    {12, 13, 14, 15, 16, 17},
                                    {6, 7, 8, 9, 10, 11}};
static const void *const pieces[4] = {stacked[1], stacked[3], stacked[2], stacked[0]};
static const float flat[6] = {1, 2, 3, 4, 5, 6};

static jt_gguf_tensor tensor_of(const char *name, const void *data,
                                const void *const *parts)
{
    jt_gguf_tensor t = {.name = {name, strlen(name)}, .dtype = JT_F32, .n_dims = 1};
    t.data = data;
    t.pieces = parts;
    if (parts) {
        t.n_dims = 3;
        t.shape[0] = 4;
        t.shape[1] = 2;
        t.shape[2] = 3;
    } else {
        t.shape[0] = 6;
    }
    return t;
}

static void release(void *owner)
{
    ++*(int *)owner;
}

static jt_status fill(jt_gguf_writer *w, jt_err *err)
{
    static const jt_str names[2] = {{"a", 1}, {"bc", 2}};
    char name[] = "experts"; /* the name is copied */
    JT_TRY(jt_gguf_set_u32(w, "answer", 42, err));
    JT_TRY(jt_gguf_set_strs(w, "names", names, 2, err));
    jt_gguf_tensor t = tensor_of(name, NULL, pieces);
    JT_TRY(jt_gguf_place_tensor(w, &t, err));
    memset(name, 'x', strlen(name));
    t = tensor_of("flat", flat, NULL);
    return jt_gguf_place_tensor(w, &t, err);
}

static jt_status make(jt_gguf **out, int *released, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new_memory(&w, err));
    jt_status status = fill(w, err);
    if (status != JT_OK) {
        jt_gguf_writer_abort(w);
        return status;
    }
    return jt_gguf_writer_open(out, w, "virtual", (jt_gguf_owner){release, released},
                               err);
}

static void check(const jt_gguf *f)
{
    uint32_t answer = 0;
    jt_str text;
    assert_true(jt_gguf_get_u32(f, "answer", &answer));
    assert_int_equal(answer, 42);
    assert_true(jt_gguf_item_str(jt_gguf_kv_find(f, "names"), 1, &text));
    assert_memory_equal(text.data, "bc", 2);
    const jt_gguf_tensor *t = jt_gguf_find(f, "experts");
    assert_non_null(t);
    for (uint64_t r = 0; r < 8; r++)
        assert_true(*(const float *)jt_gguf_row(t, r) == 3.0f * (float)r);
    assert_memory_equal(jt_gguf_row(jt_gguf_find(f, "flat"), 0), flat, sizeof flat);
    walk_file(f);
}

static void read_like_a_file(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf *f;
    int released = 0;
    assert_int_equal(make(&f, &released, &err), JT_OK);
    assert_string_equal(jt_gguf_path(f), "virtual");
    assert_true(jt_gguf_file_bytes(f) > sizeof stacked + sizeof flat);
    assert_ptr_equal(jt_gguf_find(f, "experts")->pieces, pieces); /* not copied */
    check(f);
    assert_int_equal(released, 0);
    jt_gguf_close(f);
    assert_int_equal(released, 1);
}

static jt_status copy(const jt_gguf *f, jt_gguf_writer *w, jt_err *err)
{
    for (size_t i = 0; i < jt_gguf_kv_count(f); i++)
        JT_TRY(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(f, i), err));
    for (size_t i = 0; i < jt_gguf_tensor_count(f); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(f, i);
        JT_TRY(jt_gguf_add_tensor(w, t->name.data, t->dtype, t->n_dims, t->shape, err));
    }
    for (size_t i = 0; i < jt_gguf_tensor_count(f); i++)
        JT_TRY(jt_gguf_write_tensor(w, jt_gguf_tensor_at(f, i), err));
    return JT_OK;
}

static void written_to_a_file(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "copy.gguf");
    jt_err err = {0};
    jt_gguf *f;
    jt_gguf_writer *w;
    int released = 0;
    assert_int_equal(make(&f, &released, &err), JT_OK);
    assert_int_equal(jt_gguf_writer_new(&w, path, &err), JT_OK);
    assert_int_equal(copy(f, w, &err), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_OK);
    jt_gguf_close(f);
    assert_int_equal(jt_gguf_open(&f, path, &err), JT_OK);
    assert_null(jt_gguf_find(f, "experts")->pieces);
    check(f);
    jt_gguf_close(f);
}

static void refusals(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf *f = NULL;
    jt_gguf_writer *w;
    jt_gguf_owner nobody = {0};
    jt_gguf_tensor nowhere = tensor_of("nowhere", NULL, NULL);
    assert_int_equal(jt_gguf_writer_new_memory(&w, &err), JT_OK);
    assert_int_equal(jt_gguf_place_tensor(w, &nowhere, &err), JT_E_ARG);
    assert_int_equal(jt_gguf_write(w, flat, 4, &err), JT_E_ARG);
    assert_int_equal(jt_gguf_writer_finish(w, &err), JT_E_ARG);
    assert_int_equal(jt_gguf_writer_new_memory(&w, &err), JT_OK);
    assert_int_equal(jt_gguf_add_tensor(w, "t", JT_F32, 1, (uint64_t[]){4}, &err),
                     JT_OK);
    assert_int_equal(jt_gguf_writer_open(&f, w, "virtual", nobody, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "'t' has no place"));
    assert_null(f);
}

static void out_of_memory(void **state)
{
    (void)state;
    jt_gguf *f = NULL;
    int released = 0;
    long n = 0;
    for (;; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        jt_status status = make(&f, &released, &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
        assert_int_equal(released, 0); /* the data is still the caller's */
    }
    assert_true(n > 10);
    jt_gguf_close(f);
    assert_int_equal(released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_like_a_file),
        cmocka_unit_test(written_to_a_file),
        cmocka_unit_test(refusals),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
