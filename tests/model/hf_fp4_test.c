/* Matrices in FP4 with scales beside them: values, names, factors, and what is refused.
 * What whole folders compute is tested in tests/golden/hf_forms_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/half.h"
#include "base/memory.h"
#include "junto/junto.h"
#include "model/hf.h"
#include "scratch.h"

enum { ROWS = 3, COLS = 192, MOST = 6 };

static unsigned char codes[ROWS * COLS / 2], scales[ROWS * COLS / 16];

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static void fill(void)
{
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (unsigned char)(i * 37 + 11);
    for (size_t i = 0; i < sizeof scales; i++)
        scales[i] = (unsigned char)(0x30 + i % 24);
}

/* ---- folders of a few tensors ---- */

typedef struct part {
    const char *name; /* NULL: no more */
    jt_safetensor_type type;
    int n_dims;
    uint64_t shape[3];
    const void *data;
} part;

static size_t bytes_of(const part *p)
{
    size_t bytes = jt_safetensor_type_bytes(p->type);
    for (int i = 0; i < p->n_dims; i++)
        bytes *= (size_t)p->shape[i];
    return bytes;
}

static jt_hf_job open_job(const part *parts, jt_err *err)
{
    static const jt_hf_family family = {.arch = "test"};
    jt_safetensors_writer *w;
    must(jt_safetensors_writer_new(&w, scratch_dir.dir, 1 << 20, err), err);
    for (const part *p = parts; p->name; p++)
        must(jt_safetensors_add(w, p->name, p->type, p->n_dims, p->shape, err), err);
    for (const part *p = parts; p->name; p++)
        must(jt_safetensors_write(w, p->data, bytes_of(p), err), err);
    must(jt_safetensors_writer_finish(w, err), err);
    jt_hf_job job = {.family = &family, .err = err, .layer = -1, .blocks = true};
    must(jt_safetensors_open(&job.source, scratch_dir.dir, err), err);
    must(jt_hf_index_names(&job), err);
    return job;
}

static void free_job(jt_hf_job *job)
{
    jt_hf_drop_rooms(job);
    jt_pool_free(job->pool);
    free(job->rooms);
    free(job->used);
    jt_names_free(&job->names);
    jt_safetensors_close(job->source);
    jt_arena_free(&job->arena);
}

/* Fetch "x.weight", whatever the folder calls it. */
static jt_status fetch(jt_hf_job *job, jt_gguf_tensor *out)
{
    return jt_hf_fetch(job, "x.weight", jt_hf_find(job, "x.weight"), out);
}

/* ---- values ---- */

static float value_at(size_t r, size_t c, size_t group)
{
    unsigned code = codes[(r * COLS + c) / 2] >> 4 * (c % 2) & 15U;
    uint8_t scale = scales[(r * COLS + c) / group];
    return jt_f4e2m1_to_f32((uint8_t)code) *
           (group == 16 ? jt_f8e4m3_to_f32(scale) : jt_e8m0_to_f32(scale));
}

static void check_values(jt_gguf_tensor *t, size_t group)
{
    float row[COLS];
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], ROWS);
    assert_int_equal(t->shape[1], COLS);
    for (size_t r = 0; r < ROWS; r++) {
        size_t bytes = jt_dtype_row_bytes(t->dtype, COLS);
        jt_dequantize(t->dtype, row, (const char *)t->data + r * bytes, COLS);
        for (size_t c = 0; c < COLS; c++)
            assert_true(row[c] == value_at(r, c, group));
    }
}

static void check_form(jt_safetensor_type type, size_t group, jt_dtype dtype,
                       const char *name)
{
    jt_err err = {0};
    const part parts[] = {
        {name, JT_ST_U8, 2, {ROWS, COLS / 2}, codes},
        {"x.weight_scale", type, 2, {ROWS, COLS / group}, scales},
        {0},
    };
    jt_hf_job job = open_job(parts, &err);
    jt_gguf_tensor t;
    must(fetch(&job, &t), &err);
    assert_int_equal(t.dtype, dtype);
    check_values(&t, group);
    job.blocks = false;
    must(fetch(&job, &t), &err);
    assert_int_equal(t.dtype, JT_BF16);
    check_values(&t, group);
    assert_true(job.used[0] && job.used[1]);
    free_job(&job);
}

static void forms(void **state)
{
    (void)state;
    fill();
    check_form(JT_ST_F8_E4M3, 16, JT_NVFP4, "x.weight");
    check_form(JT_ST_F8_E4M3, 16, JT_NVFP4, "language_model.x.weight_packed");
    for (size_t i = 0; i < sizeof scales; i++)
        scales[i] = (unsigned char)(120 + i % 16);
    check_form(JT_ST_U8, 32, JT_MXFP4, "x.weight_packed");
    check_form(JT_ST_F8_E8M0, 32, JT_MXFP4, "x.weight");
}

static void factors(void **state)
{
    (void)state;
    static const float four = 4.0f, none = 0.0f, two[2] = {1.0f, 2.0f};
    static const struct {
        part p;
        float wanted; /* 0: refused */
    } cases[] = {
        {{"x.weight_scale_2", JT_ST_F32, 0, {0}, &four}, 4.0f},
        {{"x.weight_scale_2", JT_ST_F32, 1, {1}, &four}, 4.0f},
        {{"x.weight_global_scale", JT_ST_F32, 1, {1}, &four}, 0.25f},
        {{"x.weight_global_scale", JT_ST_F32, 1, {1}, &none}, 0.0f},
        {{"x.weight_scale_2", JT_ST_F32, 1, {2}, two}, 0.0f},
        {{"x.weight_scale_2", JT_ST_BF16, 1, {1}, &four}, 0.0f},
        {{"y.weight_scale_2", JT_ST_F32, 1, {1}, &four}, 0.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_err err = {0};
        float factor = 0.0f;
        jt_hf_job job = open_job((part[]){cases[i].p, {0}}, &err);
        assert_true(jt_hf_has_factor(&job, "x.weight") == (cases[i].p.name[0] == 'x'));
        jt_status status = jt_hf_factor(&job, "x.weight", &factor);
        assert_int_equal(status, cases[i].wanted != 0.0f ? JT_OK : JT_E_FORMAT);
        if (status == JT_OK)
            assert_true(factor == cases[i].wanted);
        else
            assert_non_null(strstr(err.msg, "'x.weight'"));
        free_job(&job);
    }
}

static void wrong_shapes(void **state)
{
    (void)state;
    static const struct {
        int n_dims;
        uint64_t shape[3];
        int scale_dims;
        uint64_t scale_shape[3];
    } cases[] = {
        {2, {3, 96}, 2, {3, 11}},    /* too few */
        {2, {3, 96}, 2, {2, 12}},    /* of other rows */
        {2, {3, 92}, 2, {3, 12}},    /* too many */
        {2, {3, 92}, 2, {3, 11}},    /* the last group is none */
        {1, {96}, 1, {12}},          /* a vector */
        {3, {1, 3, 96}, 2, {3, 12}}, /* a stack */
        {2, {3, 96}, 1, {36}},       /* scales without rows */
        {2, {3, 96}, 0, {0}},        /* one scale */
        {2, {3, 4}, 2, {3, 0}},      /* none */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        part parts[] = {{.name = "x.weight",
                         .type = JT_ST_U8,
                         .n_dims = cases[i].n_dims,
                         .data = codes},
                        {.name = "x.weight_scale",
                         .type = JT_ST_F8_E4M3,
                         .n_dims = cases[i].scale_dims,
                         .data = scales},
                        {0}};
        memcpy(parts[0].shape, cases[i].shape, sizeof parts[0].shape);
        memcpy(parts[1].shape, cases[i].scale_shape, sizeof parts[1].shape);
        jt_err err = {0};
        jt_hf_job job = open_job(parts, &err);
        jt_gguf_tensor t;
        assert_int_equal(fetch(&job, &t), JT_E_FORMAT);
        assert_non_null(strstr(err.msg, "its scales do not fit it"));
        free_job(&job);
    }
}

static void out_of_memory(void **state)
{
    (void)state;
    jt_err err = {0};
    const part parts[] = {
        {"x.weight", JT_ST_U8, 2, {ROWS, COLS / 2}, codes},
        {"x.weight_scale", JT_ST_F8_E4M3, 2, {ROWS, COLS / 16}, scales},
        {0},
    };
    long failures = 0;
    for (jt_status status = JT_E_MEMORY; status != JT_OK; failures++) {
        jt_hf_job job = open_job(parts, &err);
        jt_gguf_tensor t;
        jt_fault_after(failures);
        status = fetch(&job, &t);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        free_job(&job);
    }
    assert_true(failures > 3);
}

/* ---- whole folders ---- */

static void add_all(jt_safetensors_writer *w, const jt_safetensors *from,
                    const char *without, const part *more, bool data)
{
    jt_err err = {0};
    for (size_t i = 0; i < jt_safetensors_count(from); i++) {
        const jt_safetensor *t = jt_safetensors_at(from, i);
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        if (strcmp(name, without) == 0)
            continue;
        must(data ? jt_safetensors_write(w, t->data, t->bytes, &err)
                  : jt_safetensors_add(w, name, t->type, t->n_dims, t->shape, &err),
             &err);
    }
    for (const part *p = more; p->name; p++)
        must(data ? jt_safetensors_write(w, p->data, bytes_of(p), &err)
                  : jt_safetensors_add(w, p->name, p->type, p->n_dims, p->shape, &err),
             &err);
}

/* The golden folder without a tensor and with others is refused with such a message. */
static void check_refused(const char *without, const part *more, const char *message)
{
    char folder[512], config[8192];
    jt_err err = {0};
    jt_safetensors *from;
    jt_safetensors_writer *w;
    jt_model *model = NULL;
    snprintf(folder, sizeof folder, "%s/golden/hf/mixtral-nvfp4",
             getenv("JUNTO_TEST_DATA"));
    must(jt_safetensors_open(&from, folder, &err), &err);
    must(jt_safetensors_writer_new(&w, scratch_dir.dir, 1 << 20, &err), &err);
    add_all(w, from, without, more, false);
    add_all(w, from, without, more, true);
    must(jt_safetensors_writer_finish(w, &err), &err);
    jt_safetensors_close(from);
    strncat(folder, "/config.json", sizeof folder - strlen(folder) - 1);
    FILE *f = fopen(folder, "rb");
    assert_non_null(f);
    size_t bytes = fread(config, 1, sizeof config, f);
    fclose(f);
    scratch_write(scratch_path(&scratch_dir, "config.json"), config, bytes);
    jt_status status = jt_model_load(&model, scratch_dir.dir, &err);
    jt_model_free(model);
    assert_int_not_equal(status, JT_OK);
    if (!strstr(err.msg, message))
        fail_msg("%s", err.msg);
}

static void refused(void **state)
{
    (void)state;
#define EXPERT "model.layers.1.block_sparse_moe.experts.3.w2.weight"
#define ROUTER "model.layers.0.block_sparse_moe.gate.weight"
    static const float one = 1.0f;
    static const part nothing[] = {{0}};
    const part router[] = {{ROUTER, JT_ST_U8, 2, {4, 32}, codes},
                           {ROUTER "_scale", JT_ST_F8_E4M3, 2, {4, 4}, scales},
                           {ROUTER "_scale_2", JT_ST_F32, 0, {0}, &one},
                           {0}};
    const part twice[] = {{EXPERT, JT_ST_U8, 2, {ROWS, COLS / 2}, codes}, {0}};
    check_refused(EXPERT "_global_scale", nothing, "has no factor");
    check_refused(EXPERT "_scale", nothing, "another shape or type");
    check_refused(EXPERT "_packed", nothing, "is missing");
    check_refused(ROUTER, router, "in four bits");
    check_refused("", twice, "appears twice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),        cmocka_unit_test(factors),
        cmocka_unit_test(wrong_shapes), cmocka_unit_test(out_of_memory),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
