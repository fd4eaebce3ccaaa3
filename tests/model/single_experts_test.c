/* A mixture with a tensor per expert, as the first files had them, is the same mixture:
 * converting it gives back the stacked file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "junto/junto.h"
#include "scratch.h"

static jt_gguf *source;
static char old_path[256], new_path[256];

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static int setup(void **state)
{
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", data ? data : "tests");
    scratch_setup(state);
    snprintf(old_path, sizeof old_path, "%s/old.gguf", scratch_dir.dir);
    snprintf(new_path, sizeof new_path, "%s/new.gguf", scratch_dir.dir);
    return jt_gguf_open(&source, path, NULL) != JT_OK;
}

static int teardown(void **state)
{
    jt_gguf_close(source);
    return scratch_teardown(state);
}

/* "blk.0.ffn_up_exps.weight" and 7 -> "blk.0.ffn_up.7.weight"; false for others. */
static bool old_name(char name[128], const jt_gguf_tensor *t, int expert)
{
    const char *at = memmem(t->name.data, t->name.len, "_exps", 5);
    if (at)
        snprintf(name, 128, "%.*s.%d.weight", (int)(at - t->name.data), t->name.data,
                 expert);
    else
        snprintf(name, 128, "%.*s", (int)t->name.len, t->name.data);
    return at;
}

/* The golden mixture with its experts apart, but for number `without`. */
static void write_old(int without)
{
    jt_gguf_writer *w;
    jt_err err = {0};
    must(jt_gguf_writer_new(&w, old_path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(source); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(source, i), &err), &err);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
            const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
            char name[128];
            bool stack = old_name(name, t, 0);
            int count = stack ? (int)t->shape[0] : 1;
            for (int e = 0; e < count; e++) {
                old_name(name, t, e);
                size_t n = t->bytes / (size_t)count;
                if (stack && e == without)
                    continue;
                if (pass == 0)
                    must(jt_gguf_add_tensor(w, name, t->dtype, t->n_dims - stack,
                                            t->shape + stack, &err),
                         &err);
                else
                    must(jt_gguf_write(w, (const char *)t->data + (size_t)e * n, n,
                                       &err),
                         &err);
            }
        }
    }
    must(jt_gguf_writer_finish(w, &err), &err);
}

static void same_as_stacked(void **state)
{
    (void)state;
    jt_convert_options o = {0};
    jt_err err = {0};
    jt_gguf *made;
    write_old(-1);
    must(jt_convert(old_path, new_path, &o, NULL, &err), &err);
    must(jt_gguf_open(&made, new_path, &err), &err);
    assert_int_equal(jt_gguf_tensor_count(made), jt_gguf_tensor_count(source));
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        const jt_gguf_tensor *other = jt_gguf_find(made, name);
        assert_non_null(other);
        assert_int_equal(other->bytes, t->bytes);
        assert_memory_equal(other->shape, t->shape, sizeof t->shape);
        assert_memory_equal(other->data, t->data, t->bytes);
    }
    jt_gguf_close(made);
}

static void used_in_place(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_model *model;
    write_old(-1);
    must(jt_model_load(&model, old_path, &err), &err);
    const jt_gguf_tensor *t =
        jt_gguf_find(jt_model_file(model), "blk.1.ffn_down_exps.weight");
    assert_non_null(t);
    assert_non_null(t->pieces);
    assert_int_equal(jt_model_layer_experts(model, 1), 8);
    jt_model_free(model);
}

static void one_is_missing(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_model *model = NULL;
    write_old(5);
    assert_int_equal(jt_model_load(&model, old_path, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, ".5.weight' is missing"));
    assert_null(model);
}

static void out_of_memory(void **state)
{
    (void)state;
    write_old(-1);
    long n = 0;
    for (;; n++) {
        jt_err err = {0};
        jt_model *model = NULL;
        jt_fault_after(n);
        jt_status status = jt_model_load(&model, old_path, &err);
        jt_fault_after(-1);
        jt_model_free(model);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
    }
    assert_true(n > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_stacked),
        cmocka_unit_test(used_in_place),
        cmocka_unit_test(one_is_missing),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
