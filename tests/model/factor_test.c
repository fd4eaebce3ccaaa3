/* Factors beside matrices ("attn_q.scale" beside "attn_q.weight"): the golden mixture
 * with every matrix but routers divided by a power of two, and that as its factor, has
 * the same logits to the last bit. Factors of a wrong shape or type are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "junto/junto.h"
#include "learn/variables.h"
#include "scratch.h"

static jt_gguf *source;
static char source_path[512], path[256];

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static int setup(void **state)
{
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(source_path, sizeof source_path, "%s/golden/mixtral.gguf",
             data ? data : "tests");
    scratch_setup(state);
    snprintf(path, sizeof path, "%s/factors.gguf", scratch_dir.dir);
    return jt_gguf_open(&source, source_path, NULL) != JT_OK;
}

static int teardown(void **state)
{
    jt_gguf_close(source);
    return scratch_teardown(state);
}

/* Of matrix `i` of a stack. */
static float factor_of(size_t i)
{
    return i % 2 ? 0.25f : 8.0f;
}

/* "blk.0.attn_q.scale" for "blk.0.attn_q.weight". */
static void scale_name(char name[128], const jt_gguf_tensor *t)
{
    snprintf(name, 128, "%.*s.scale", (int)(t->name.len - strlen(".weight")),
             t->name.data);
}

/* None for vectors, and for routers, which have no factors. */
static size_t factors_of(const jt_gguf_tensor *t)
{
    if (t->n_dims == 1 || memmem(t->name.data, t->name.len, "ffn_gate_inp", 12))
        return 0;
    return t->n_dims == 3 ? (size_t)t->shape[0] : 1;
}

static void write_divided(jt_gguf_writer *w, const jt_gguf_tensor *t)
{
    const float *x = t->data;
    size_t count = t->bytes / sizeof *x, each = count / factors_of(t);
    float *y = malloc(t->bytes);
    assert_non_null(y);
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] / factor_of(i / each);
    jt_status status = jt_gguf_write(w, y, t->bytes, NULL);
    free(y);
    assert_int_equal(status, JT_OK);
}

/* Every matrix divided; its factors after it, of type `dtype`, and `more` than there
 * should be. */
static void write_file(jt_dtype dtype, size_t more)
{
    jt_gguf_writer *w;
    jt_err err = {0};
    must(jt_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(source); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(source, i), &err), &err);
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        must(jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, &err), &err);
        uint64_t count = factors_of(t) + more;
        scale_name(name, t);
        if (factors_of(t))
            must(jt_gguf_add_tensor(w, name, dtype, 1, &count, &err), &err);
    }
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        if (!factors_of(t)) {
            must(jt_gguf_write(w, t->data, t->bytes, &err), &err);
            continue;
        }
        write_divided(w, t);
        for (size_t k = 0; k < factors_of(t) + more; k++) {
            float factor = factor_of(k);
            must(jt_gguf_write(w, &factor, jt_dtype_row_bytes(dtype, 1), &err), &err);
        }
    }
    must(jt_gguf_writer_finish(w, &err), &err);
}

enum { TOKENS = 5, VOCAB = 272 };

static void logits_of(float *logits, const char *file)
{
    static const int32_t tokens[TOKENS] = {3, 1, 4, 1, 5};
    jt_err err = {0};
    jt_model *model;
    jt_session *session;
    must(jt_model_load(&model, file, &err), &err);
    must(jt_session_new(&session, model, NULL, &err), &err);
    must(jt_session_eval(session, tokens, TOKENS, NULL, &err), &err);
    memcpy(logits, jt_session_logits(session), VOCAB * sizeof *logits);
    jt_session_free(session);
    jt_model_free(model);
}

static void same_logits(void **state)
{
    (void)state;
    float want[VOCAB], got[VOCAB];
    write_file(JT_F32, 0);
    logits_of(want, source_path);
    logits_of(got, path);
    assert_memory_equal(got, want, sizeof want);
}

static void expect_refusal(const char *culprit)
{
    jt_model *model = NULL;
    jt_err err = {0};
    assert_int_equal(jt_model_load(&model, path, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, culprit));
}

static void wrong_ones_are_refused(void **state)
{
    (void)state;
    write_file(JT_F32, 1);
    expect_refusal("token_embd.scale' has shape [2], expected [1]");
    write_file(JT_F16, 0);
    expect_refusal("token_embd.scale' has type F16, expected F32");
}

static void not_trained(void **state)
{
    (void)state;
    jt_variables v;
    jt_model *model;
    jt_err err = {0};
    write_file(JT_F32, 0);
    must(jt_model_load(&model, path, &err), &err);
    assert_int_equal(jt_variables_take(&v, model, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "token_embd.weight"));
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_logits),
        cmocka_unit_test(wrong_ones_are_refused),
        cmocka_unit_test(not_trained),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
