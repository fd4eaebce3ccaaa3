/* Hugging Face folders, the parts: transforms and their way back, FP8, names, and
 * failures of memory. What whole folders compute is tested in tests/golden/hf_*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/half.h"
#include "base/memory.h"
#include "junto/junto.h"
#include "model/hf_rows.h"
#include "scratch.h"

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

/* ---- transforms ---- */

enum { VALUES = 2 * 8 * 12 };
static uint16_t data[VALUES];

/* A tensor of BF16 or F32 over `data`. */
static jt_gguf_tensor tensor(jt_dtype dtype, int n_dims, uint64_t a, uint64_t b,
                             uint64_t c)
{
    jt_gguf_tensor t = {.dtype = dtype, .n_dims = n_dims, .shape = {a, b, c}};
    t.data = data;
    return t;
}

static jt_hf_job new_job(jt_err *err)
{
    static jt_hf_family family = {.arch = "test"};
    jt_hf_job job = {.family = &family, .err = err};
    must(jt_gguf_writer_new_memory(&job.writer, err), err);
    must(jt_hf_set_int(&job, "attention.head_count", 4), err);
    must(jt_hf_set_int(&job, "attention.head_count_kv", 2), err);
    return job;
}

static void free_job(jt_hf_job *job)
{
    jt_hf_drop_rooms(job);
    jt_pool_free(job->pool);
    free(job->rooms);
    jt_arena_free(&job->arena);
    jt_gguf_writer_abort(job->writer);
}

/* Rows of `t` as jt_gguf_row finds them, one after the other. */
static void flatten(unsigned char *to, const jt_gguf_tensor *t)
{
    jt_gguf_tensor x = *t;
    size_t row = jt_dtype_row_bytes(x.dtype, (size_t)x.shape[x.n_dims - 1]);
    size_t rows = jt_hf_values(&x) / (size_t)x.shape[x.n_dims - 1];
    x.bytes = rows * row;
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * row, jt_gguf_row(&x, r), row);
}

/* Import by all of `how`, export by all of them: the same tensor. `size` values. */
static void check_back(jt_gguf_tensor from, const jt_hf_transform *const *how,
                       size_t parts)
{
    jt_err err = {0};
    jt_hf_job job = new_job(&err);
    jt_gguf_tensor back = {0};
    unsigned char before[sizeof data], after[sizeof data];
    size_t bytes = jt_hf_values(&from) * jt_dtype_block_bytes(from.dtype);
    for (size_t i = 0; i < parts; i++) {
        jt_gguf_tensor t = from, described = from;
        must(how[i]->import(&job, &t), &err);
        job.describing = true; /* the same shape without the data */
        must(how[i]->import(&job, &described), &err);
        job.describing = false;
        assert_int_equal(t.dtype, described.dtype);
        assert_int_equal(t.n_dims, described.n_dims);
        assert_memory_equal(t.shape, described.shape,
                            (size_t)t.n_dims * sizeof *t.shape);
        must(how[i]->export(&job, &t, &back), &err);
    }
    assert_int_equal(back.dtype, from.dtype);
    assert_int_equal(back.n_dims, from.n_dims);
    assert_memory_equal(back.shape, from.shape,
                        (size_t)from.n_dims * sizeof *from.shape);
    flatten(before, &from);
    flatten(after, &back);
    assert_memory_equal(before, after, bytes);
    free_job(&job);
}

static void transforms_back(void **state)
{
    (void)state;
    for (int i = 0; i < VALUES; i++)
        data[i] = (uint16_t)(0x3f80 + i);
    static const jt_hf_transform *const halves[] = {&jt_hf_first_half,
                                                    &jt_hf_second_half};
    static const jt_hf_transform *const halves_t[] = {&jt_hf_first_half_t,
                                                      &jt_hf_second_half_t};
    const jt_hf_transform *one;
    check_back(tensor(JT_BF16, 3, 2, 8, 12), halves, 2);
    check_back(tensor(JT_BF16, 2, 8, 12, 0), halves, 2);
    check_back(tensor(JT_BF16, 3, 2, 8, 12), halves_t, 2);
    one = &jt_hf_rotate_q;
    check_back(tensor(JT_BF16, 2, 16, 12, 0), &one, 1);
    check_back(tensor(JT_BF16, 1, 16, 0, 0), &one, 1);
    one = &jt_hf_rotate_k;
    check_back(tensor(JT_BF16, 2, 8, 12, 0), &one, 1);
    one = &jt_hf_transposed;
    check_back(tensor(JT_BF16, 3, 2, 8, 12), &one, 1);
    one = &jt_hf_squeeze;
    check_back(tensor(JT_BF16, 3, 8, 1, 12), &one, 1);
    one = &jt_hf_vector;
    check_back(tensor(JT_BF16, 2, 1, 12, 0), &one, 1);
}

static void transforms_values(void **state)
{
    (void)state;
    static const float x[4] = {0.5f, -1.0f, 2.0f, 0.0f};
    jt_err err = {0};
    jt_hf_job job = new_job(&err);
    jt_gguf_tensor t = {.dtype = JT_F32, .n_dims = 1, .shape = {4}, .data = x}, back;
    must(jt_hf_minus_exp.import(&job, &t), &err);
    for (int i = 0; i < 4; i++)
        assert_true(((const float *)t.data)[i] == -expf(x[i]));
    t = (jt_gguf_tensor){.dtype = JT_F32, .n_dims = 1, .shape = {4}, .data = x};
    must(jt_hf_plus_one.import(&job, &t), &err);
    assert_true(((const float *)t.data)[0] == 1.5f);
    must(jt_hf_plus_one.export(&job, &t, &back), &err);
    assert_memory_equal(back.data, x, sizeof x);
    free_job(&job);
}

/* Rotation by hand: head of 4 rows, halves (0 1)(2 3) become neighbours (0 2)(1 3). */
static void rotation_order(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_hf_job job = new_job(&err);
    jt_gguf_tensor t = tensor(JT_BF16, 1, 16, 0, 0);
    must(jt_hf_rotate_q.import(&job, &t), &err);
    static const int order[4] = {0, 2, 1, 3};
    for (int i = 0; i < 16; i++)
        assert_int_equal(((const uint16_t *)t.data)[i], data[i / 4 * 4 + order[i % 4]]);
    free_job(&job);
}

static void wrong_shapes(void **state)
{
    (void)state;
    static const struct {
        const jt_hf_transform *how;
        int n_dims;
        uint64_t a, b, c;
    } cases[] = {
        {&jt_hf_rotate_q, 2, 12, 4, 0},    {&jt_hf_rotate_q, 3, 8, 4, 2},
        {&jt_hf_first_half, 1, 12, 0, 0},  {&jt_hf_first_half, 2, 7, 4, 0},
        {&jt_hf_squeeze, 3, 8, 2, 3},      {&jt_hf_squeeze, 2, 8, 2, 0},
        {&jt_hf_vector, 2, 2, 8, 0},       {&jt_hf_transposed, 1, 8, 0, 0},
        {&jt_hf_first_half_t, 2, 4, 7, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_err err = {0};
        jt_hf_job job = new_job(&err);
        jt_gguf_tensor t =
            tensor(JT_BF16, cases[i].n_dims, cases[i].a, cases[i].b, cases[i].c);
        assert_int_equal(cases[i].how->import(&job, &t), JT_E_FORMAT);
        assert_non_null(strstr(err.msg, "its shape is not"));
        free_job(&job);
    }
}

/* ---- FP8 ---- */

static void check_fp8(uint8_t code, jt_safetensor_type type, float wanted)
{
    jt_err err = {0};
    jt_hf_job job = new_job(&err);
    jt_safetensor from = {.type = type, .n_dims = 1, .shape = {1}, .data = &code};
    jt_gguf_tensor t;
    from.bytes = 1;
    must(jt_hf_fetch(&job, "x", &from, &t), &err);
    assert_int_equal(t.dtype, JT_BF16);
    float got = jt_bf16_to_float(*(const uint16_t *)t.data);
    assert_true(isnan(wanted) ? isnan(got) : got == wanted);
    free_job(&job);
}

static void fp8_codes(void **state)
{
    (void)state;
    check_fp8(0x00, JT_ST_F8_E4M3, 0.0f);
    check_fp8(0x01, JT_ST_F8_E4M3, 0x1p-9f);
    check_fp8(0x07, JT_ST_F8_E4M3, 7 * 0x1p-9f);
    check_fp8(0x08, JT_ST_F8_E4M3, 0x1p-6f);
    check_fp8(0x38, JT_ST_F8_E4M3, 1.0f);
    check_fp8(0xbc, JT_ST_F8_E4M3, -1.5f);
    check_fp8(0x7e, JT_ST_F8_E4M3, 448.0f);
    check_fp8(0x7f, JT_ST_F8_E4M3, NAN);
    check_fp8(0x3c, JT_ST_F8_E5M2, 1.0f);
    check_fp8(0xc1, JT_ST_F8_E5M2, -2.5f);
    check_fp8(0x7c, JT_ST_F8_E5M2, INFINITY);
}

/* ---- names and types ---- */

static void names(void **state)
{
    (void)state;
    char name[20];
    assert_true(jt_hf_name(name, sizeof name, "l.%.e.#.w", 12, 345));
    assert_string_equal(name, "l.12.e.345.w");
    assert_false(jt_hf_name(name, 8, "l.%.e.#.w", 12, 345));
    assert_false(jt_hf_name(name, 4, "l.%", 123456, 0));
    assert_true(jt_hf_wants_f32("blk.0.attn_norm.weight", 1));
    assert_true(jt_hf_wants_f32("blk.0.ffn_gate_inp.weight", 2));
    assert_true(jt_hf_wants_f32("blk.0.ffn_gate_exps.bias", 2));
    assert_false(jt_hf_wants_f32("blk.0.ffn_gate_exps.weight", 3));
}

/* Every row says something, and no two rows of a family make the same tensor. */
static void rows_are_sound(void **state)
{
    (void)state;
    for (size_t f = 0; jt_hf_families[f]; f++) {
        const jt_hf_family *family = jt_hf_families[f];
        assert_non_null(family->model_type);
        assert_non_null(family->architecture);
        for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
            for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
                assert_non_null(row->gguf);
                assert_true(!strchr(row->hf, '%') == !strchr(row->gguf, '%'));
                assert_null(strchr(row->gguf, '#'));
            }
        }
        for (int i = 0; i < JT_HF_LISTS && family->keys[i]; i++) {
            for (const jt_hf_key *k = family->keys[i]; k->config || k->gguf; k++) {
                assert_true(k->config || k->otherwise);
                assert_true(k->gguf || k->otherwise || k->kind == JT_HF_HAS);
                assert_true((k->kind == JT_HF_WORD) == (k->words != NULL));
            }
        }
    }
}

/* ---- failures ---- */

static void check_out_of_memory(const char *name)
{
    char path[512];
    long failures = 0;
    snprintf(path, sizeof path, "%s/golden/hf/%s", getenv("JUNTO_TEST_DATA"), name);
    for (long n = 0;; n++) {
        jt_err err = {0};
        jt_model *model = NULL;
        jt_fault_after(n);
        jt_status status = jt_model_load(&model, path, &err);
        jt_fault_after(-1);
        jt_model_free(model);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
        failures++;
    }
    assert_true(failures > 50);
}

static void out_of_memory(void **state)
{
    (void)state;
    check_out_of_memory("qwen3moe-fp8");
    check_out_of_memory("llama");
    check_out_of_memory("bailingmoe");
}

static jt_status convert(const char *from, const char *to)
{
    jt_err err = {0};
    jt_convert_options o = {.shard_bytes = 20000};
    return jt_convert(from, to, &o, NULL, &err);
}

/* Whatever allocation fails while a folder is written, nothing of it stays. */
static void out_of_memory_writing(void **state)
{
    (void)state;
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/golden/mixtral.gguf", getenv("JUNTO_TEST_DATA"));
    snprintf(to, sizeof to, "%s/folder", scratch_dir.dir);
    for (long n = 0; n < 1500; n += 7) {
        jt_fault_after(n);
        jt_status status = convert(from, to);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
        assert_int_equal(scratch_entries(&scratch_dir, 0), 0);
    }
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.190s", to);
    scratch_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transforms_back),
        cmocka_unit_test(transforms_values),
        cmocka_unit_test(rotation_order),
        cmocka_unit_test(wrong_shapes),
        cmocka_unit_test(fp8_codes),
        cmocka_unit_test(names),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(out_of_memory_writing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
