/* Safetensors: what is written is read back; what is wrong is refused by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "junto/safetensors.h"
#include "scratch.h"

/* ---- malformed headers ---- */

/* A file of this header and `room` bytes of data. */
static size_t make_file(char *file, const char *header, size_t room)
{
    uint64_t length = strlen(header);
    memcpy(file, &length, sizeof length);
    memcpy(file + sizeof length, header, length);
    memset(file + sizeof length + length, 7, room);
    return sizeof length + length + room;
}

static void check_refused(const char *header, size_t room, jt_status status,
                          const char *why)
{
    char file[4096];
    jt_err err = {0};
    jt_safetensors *s = NULL;
    size_t bytes = make_file(file, header, room);
    assert_int_equal(jt_safetensors_open_memory(&s, file, bytes, &err), status);
    assert_null(s);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
}

#define ONE(body) "{\"a\":{" body "}}"
#define F32       "\"dtype\":\"F32\","
#define TWO(a, b)                                             \
    "{\"a\":{" F32 "\"shape\":[1],\"data_offsets\":[" a "]}," \
    "\"b\":{" F32 "\"shape\":[1],\"data_offsets\":[" b "]}}"

static void malformed(void **state)
{
    (void)state;
    static const struct {
        const char *header, *why;
        size_t room;
    } cases[] = {
        {"", "found the end", 0},
        {"[]", "expected an object", 0},
        {"{\"a\":1}", "expected an object", 0},
        {"{\"\":{" F32 "\"shape\":[1],\"data_offsets\":[0,4]}}", "is empty", 4},
        {ONE("\"shape\":[1],\"data_offsets\":[0,4]"), "are missing", 4},
        {ONE(F32 "\"data_offsets\":[0,4]"), "are missing", 4},
        {ONE(F32 "\"shape\":[1]"), "are missing", 4},
        {ONE(F32 "\"shape\":[-1],\"data_offsets\":[0,4]"), "a dimension of -1", 4},
        {ONE(F32 "\"shape\":[1.5],\"data_offsets\":[0,4]"), "tensor 'a'", 4},
        {ONE(F32 "\"shape\":[2],\"data_offsets\":[0,4]"), "do not fit its type", 4},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[0,8]"), "is the file complete?", 4},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[4,0]"), "no two places", 4},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[-4,0]"), "no two places", 4},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[0,4,8]"), "no two places", 8},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[4,8]"), "a gap before", 8},
        {ONE(F32 "\"shape\":[1],\"data_offsets\":[0,4]"), "4 bytes after the last", 8},
        {ONE(F32 "\"shape\":[4611686018427387904,8],\"data_offsets\":[0,4]"),
         "do not fit its type", 4},
        {TWO("0,4", "0,4"), "overlaps", 8},
        {TWO("0,4", "2,6"), "overlaps", 8},
        {"{\"a\":{" F32 "\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{" F32 "\"shape\":[1],\"data_offsets\":[4,8]}}",
         "'a' appears twice", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].header, cases[i].room, JT_E_FORMAT, cases[i].why);
    check_refused(ONE("\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]"), 4,
                  JT_E_UNSUPPORTED, "type 'F4'");
    check_refused(ONE(F32 "\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"), 4,
                  JT_E_UNSUPPORTED, "more than 8 dimensions");
}

static void wrong_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        size_t bytes;
        const char *why;
    } cases[] = {
        {0, 7, "are no safetensors"},
        {2, 9, "is it complete?"},
        {UINT64_MAX, 100, "at most 100000000"},
        {100000001, 100, "at most 100000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[100] = "";
        jt_err err = {0};
        jt_safetensors *s = NULL;
        memcpy(file, &cases[i].length, 8);
        assert_int_equal(jt_safetensors_open_memory(&s, file, cases[i].bytes, &err),
                         JT_E_FORMAT);
        assert_non_null(strstr(err.msg, cases[i].why));
    }
}

static void unusual_but_right(void **state)
{
    (void)state;
    /* metadata, a scalar, an empty tensor, tensors out of order, blanks at the end */
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[4,8]},"
        "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,3],\"data_offsets\":[4,4]},"
        "\"a\\u0062\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ";
    char file[512];
    jt_err err = {0};
    jt_safetensors *s;
    size_t bytes = make_file(file, header, 8);
    assert_int_equal(jt_safetensors_open_memory(&s, file, bytes, &err), JT_OK);
    assert_int_equal(jt_safetensors_count(s), 3);
    const jt_safetensor *t = jt_safetensors_find(s, "ab");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->bytes, 4);
    t = jt_safetensors_find(s, "b");
    assert_ptr_equal(t->data, file + bytes - 4);
    assert_int_equal(t->type, JT_ST_F16);
    assert_int_equal(jt_safetensors_find(s, "empty")->bytes, 0);
    assert_null(jt_safetensors_find(s, "c"));
    jt_safetensors_close(s);
}

/* ---- writing and reading back ---- */

enum { TENSORS = 5, VALUES = 100 };

static void values_of(int i, float values[VALUES])
{
    for (int j = 0; j < VALUES; j++)
        values[j] = (float)(i * 1000 + j);
}

static jt_status write_all(const char *folder, uint64_t shard_bytes, jt_err *err)
{
    jt_safetensors_writer *w;
    JT_TRY(jt_safetensors_writer_new(&w, folder, shard_bytes, err));
    jt_status status = JT_OK;
    for (int i = 0; i < TENSORS && status == JT_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "tensor\"%d", i);
        status = jt_safetensors_add(w, name, JT_ST_F32, 2, (uint64_t[]){10, 10}, err);
    }
    for (int i = 0; i < TENSORS && status == JT_OK; i++) {
        float values[VALUES];
        values_of(i, values);
        status = jt_safetensors_write(w, values, 40, err);
        if (status == JT_OK)
            status = jt_safetensors_write(w, values + 10, sizeof values - 40, err);
    }
    if (status == JT_OK)
        return jt_safetensors_writer_finish(w, err);
    jt_safetensors_writer_abort(w);
    return status;
}

static void check_written(const char *folder)
{
    jt_err err = {0};
    jt_safetensors *s;
    if (jt_safetensors_open(&s, folder, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(jt_safetensors_count(s), TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        char name[16];
        float values[VALUES];
        values_of(i, values);
        snprintf(name, sizeof name, "tensor\"%d", i);
        const jt_safetensor *t = jt_safetensors_find(s, name);
        assert_non_null(t);
        assert_int_equal(t->bytes, sizeof values);
        assert_memory_equal(t->data, values, sizeof values);
    }
    jt_safetensors_close(s);
}

static void whole_and_in_shards(void **state)
{
    (void)state;
    /* all in one; two per file; a tensor larger than a shard has its own */
    static const struct {
        uint64_t shard_bytes;
        int files; /* with the index */
    } cases[] = {{1000000, 1}, {900, 4}, {1, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s = scratch_new();
        jt_err err = {0};
        assert_int_equal(write_all(s.dir, cases[i].shard_bytes, &err), JT_OK);
        assert_int_equal(scratch_entries(&s, 0), cases[i].files);
        check_written(s.dir);
        scratch_free(&s);
    }
}

/* ---- folders that are not what they should be ---- */

static void check_folder_refused(const scratch *s, jt_status status, const char *why)
{
    jt_err err = {0};
    jt_safetensors *found = NULL;
    assert_int_equal(jt_safetensors_open(&found, s->dir, &err), status);
    assert_null(found);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
}

/* Replace the index of a folder of three shards. */
static void set_index(const scratch *s, const char *text)
{
    scratch_write(scratch_path(s, "model.safetensors.index.json"), text, strlen(text));
}

static void broken_folders(void **state)
{
    (void)state;
    scratch s = scratch_new();
    jt_err err = {0};
    check_folder_refused(&s, JT_E_IO, "holds neither");
    assert_int_equal(write_all(s.dir, 900, &err), JT_OK);
    set_index(&s, "{\"weight_map\":{\"x\":\"model-00001-of-00003.safetensors\"}}");
    check_folder_refused(&s, JT_E_FORMAT, "'x' is not in 'model-00001");
    set_index(&s, "{\"weight_map\":{\"tensor\\\"4\":\"model-00001-of-00003."
                  "safetensors\"}}");
    check_folder_refused(&s, JT_E_FORMAT, "do these shards belong together?");
    set_index(&s, "{\"weight_map\":{\"tensor\\\"0\":\"model-00001-of-00003."
                  "safetensors\"}}");
    check_folder_refused(&s, JT_E_FORMAT, "hold 2 tensors, the index names 1");
    set_index(&s, "{\"weight_map\":{\"tensor\\\"0\":\"../../etc/x.safetensors\"}}");
    check_folder_refused(&s, JT_E_FORMAT, "is no name of a shard");
    set_index(&s, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    check_folder_refused(&s, JT_E_IO, "gone.safetensors");
    set_index(&s, "{\"weight_map\":{}}");
    check_folder_refused(&s, JT_E_FORMAT, "names no tensors");
    set_index(&s, "{\"weight_map\":3}");
    check_folder_refused(&s, JT_E_FORMAT, "index.json");
    scratch_write(scratch_path(&s, "model.safetensors"), "", 0);
    check_folder_refused(&s, JT_E_FORMAT, "are both there");
    scratch_free(&s);
}

static void writer_refusals(void **state)
{
    (void)state;
    scratch s = scratch_new();
    jt_err err = {0};
    jt_safetensors_writer *w;
    float value = 1;
    assert_int_equal(jt_safetensors_writer_new(&w, s.dir, 100, &err), JT_OK);
    assert_int_equal(jt_safetensors_add(w, "a", JT_ST_F32, 0, NULL, &err), JT_OK);
    assert_int_equal(jt_safetensors_add(w, "a", JT_ST_F32, 0, NULL, &err), JT_E_ARG);
    assert_int_equal(jt_safetensors_add(w, "b", JT_ST_F32, 2,
                                        (uint64_t[]){1u << 31, 1ull << 62}, &err),
                     JT_E_ARG);
    assert_int_equal(jt_safetensors_write(w, &value, 2, &err), JT_OK);
    assert_int_equal(jt_safetensors_add(w, "c", JT_ST_F32, 0, NULL, &err), JT_E_ARG);
    assert_int_equal(jt_safetensors_writer_finish(w, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "2 of 4 bytes"));
    assert_int_equal(scratch_entries(&s, 0), 0);
    scratch_free(&s);
}

static void out_of_memory(void **state)
{
    (void)state;
    scratch s = scratch_new();
    int failures = 0; /* one that only syncs the folder is passed over */
    for (long n = 0; n < 100; n++) {
        jt_err err = {0};
        jt_safetensors *found = NULL;
        jt_fault_after(n);
        jt_status status = write_all(s.dir, 900, &err);
        if (status == JT_OK)
            status = jt_safetensors_open(&found, s.dir, &err);
        jt_fault_after(-1);
        jt_safetensors_close(found);
        failures += status != JT_OK;
        if (status != JT_OK)
            assert_int_equal(status, JT_E_MEMORY);
    }
    assert_true(failures > 30 && failures < 100);
    scratch_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed),         cmocka_unit_test(wrong_lengths),
        cmocka_unit_test(unusual_but_right), cmocka_unit_test(whole_and_in_shards),
        cmocka_unit_test(broken_folders),    cmocka_unit_test(writer_refusals),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
