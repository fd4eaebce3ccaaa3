/* Factors: the type that says all values, where they lie, and that adapters of 16 bits
 * do what they would do in 32. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "adapted.h"
#include "base/half.h"

static const jt_session_options options = {.kv_type = "f32"};

static float rounded(float x, jt_dtype dtype)
{
    if (dtype == JT_F16)
        return jt_f16_to_float(jt_float_to_f16(x));
    return dtype == JT_BF16 ? jt_bf16_to_float(jt_float_to_bf16(x)) : x;
}

static float value_of(const jt_factor *f, size_t matrix, size_t i)
{
    const char *at = f->data + matrix * f->bytes;
    float x;
    jt_dequantize(f->dtype, &x, at + jt_dtype_row_bytes(f->dtype, i), 1);
    return x;
}

enum { COUNT = 3, ROWS = 37, COLS = 5 };

/* Each value where kernels.h says, in the type that is asked for, or in F32. */
static void check_places(jt_dtype dtype, bool panels)
{
    float x[COUNT * ROWS * COLS];
    jt_err err = {0};
    const jt_kernels *k;
    jt_tensor t = {
        .data = x, .dtype = JT_F32, .n_dims = 3, .shape = {COUNT, ROWS, COLS}};
    jt_factor f;
    adapted_must(jt_kernels_choose(&k, NULL, &err), &err);
    for (size_t i = 0; i < COUNT * ROWS * COLS; i++)
        x[i] = rounded(sinf((float)i + 1) * powf(2, -(float)(i % 20)), dtype);
    size_t need = jt_factor_plan(&f, &t, panels, k);
    assert_int_equal(f.dtype, dtype);
    assert_int_equal(need, dtype == JT_F32 && !panels ? 0 : jt_pad64(COUNT * f.bytes));
    char *memory = jt_factors_room(need);
    assert_non_null(memory);
    assert_ptr_equal(jt_factor_fill(&f, &t, memory, k), memory + need);
    for (size_t i = 0; i < COUNT * ROWS * COLS; i++) {
        size_t matrix = i / (ROWS * COLS), row = i / COLS % ROWS, col = i % COLS;
        size_t at = panels ? jt_panel_at(row, col, COLS) : row * COLS + col;
        assert_memory_equal(&(float){value_of(&f, matrix, at)}, &x[i], sizeof *x);
    }
    for (size_t i = 0; panels && i < COLS; i++)
        assert_true(value_of(&f, 1, jt_panel_at(ROWS, i, COLS)) == 0.0f);
    free(memory);
}

static void test_places(void **state)
{
    static const jt_dtype types[] = {JT_F32, JT_F16, JT_BF16};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        check_places(types[i], false);
        check_places(types[i], true);
    }
}

/* What 16 bits cannot say stays as it is. */
static void test_exact(void **state)
{
    static const float odd[] = {1.0f + 0x1p-20f, 0x1p-30f + 0x1p-45f, 1e30f, -0.1f};
    jt_err err = {0};
    const jt_kernels *k;
    (void)state;
    adapted_must(jt_kernels_choose(&k, NULL, &err), &err);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        float x[4] = {1.0f, 1.0f + 0x1p-10f, odd[i], -2.0f};
        jt_tensor t = {.data = x, .dtype = JT_F32, .n_dims = 3, .shape = {1, 2, 2}};
        jt_factor f;
        jt_factor_plan(&f, &t, true, k);
        assert_int_equal(f.dtype, JT_F32);
    }
}

/* Round A and B; `odd`: but for a value of each, so that they stay F32. */
static void round_adapter(jt_adapter *a, jt_dtype dtype, bool odd)
{
    for (size_t i = 0; i < a->count; i++) {
        for (int part = JT_LOW_A; part <= JT_LOW_B; part++) {
            const jt_tensor *t = &a->slot[i].part[part];
            float *x = t->data;
            for (size_t j = 0; j < jt_rows(t) * jt_cols(t); j++)
                x[j] = rounded(x[j], dtype);
            x[0] *= odd ? 1.0f + 0x1p-22f : 1.0f;
        }
    }
}

static void check_type(const char *folder, const char *name, jt_dtype dtype)
{
    float one = 1.0f, *logits[2];
    size_t values = 0;
    for (int odd = 0; odd < 2; odd++) {
        adapted a;
        adapted_open(&a, folder, name);
        round_adapter(a.adapter, dtype, odd);
        logits[odd] = adapted_run(&a.g, &options, &a.adapter, &one, 1);
        values = a.g.count * a.g.vocab;
        adapted_close(&a);
    }
    double error = golden_error(logits[0], logits[1], values);
    print_message("  %s: error %.2e\n", name, error);
    assert_true(error < 3e-5);
    free(logits[0]);
    free(logits[1]);
}

static void test_types(void **state)
{
    (void)state;
    check_type("llama", "llama-lora", JT_F16);
    check_type("llama", "llama-dora", JT_BF16);
    check_type("mixtral", "mixtral-lora", JT_F16);
    check_type("phi3", "phi3-lora", JT_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
