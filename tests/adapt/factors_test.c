/* Factors: the type that says all values, where they lie, that adapters of 16 bits do
 * what they would do in 32, and how near those of 8 bits come. */
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
    size_t need = jt_factor_plan(&f, &t, panels ? JT_FACTOR_B : JT_FACTOR_A, false, k);
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
        jt_factor_plan(&f, &t, JT_FACTOR_B, false, k);
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

/* ---- 8 bits ---- */

enum { WIDE = 70 }; /* two blocks and a rest */

/* W[row, k] of a matrix in panels of 8 bits. */
static float code_of(const jt_factor *f, size_t matrix, size_t row, size_t k,
                     float *scale)
{
    const char *block = f->data + matrix * f->bytes + jt_panel8_at(row, k, WIDE);
    memcpy(scale, block + row % JT_PANEL_ROWS * sizeof *scale, sizeof *scale);
    block += JT_PANEL_ROWS * sizeof *scale;
    return (float)((
        const int8_t *)block)[k % JT_PANEL_BLOCK * JT_PANEL_ROWS + row % JT_PANEL_ROWS];
}

/* Each value within half a step, and the largest of a block told exactly. */
static void check_rounded(const float *x, bool same)
{
    jt_err err = {0};
    const jt_kernels *k;
    jt_tensor t = {.data = (void *)(uintptr_t)x,
                   .dtype = JT_F32,
                   .n_dims = 3,
                   .shape = {2, ROWS, WIDE}};
    jt_factor f;
    adapted_must(jt_kernels_choose(&k, NULL, &err), &err);
    size_t need = jt_factor_plan(&f, &t, JT_FACTOR_A, true, k);
    assert_int_equal(f.dtype, JT_Q8_0);
    assert_int_equal(need, jt_pad64(2 * jt_panel8_bytes(ROWS, WIDE)));
    char *memory = jt_factors_room(need);
    assert_non_null(memory);
    assert_ptr_equal(jt_factor_fill(&f, &t, memory, k), memory + need);
    for (size_t i = 0; i < 2 * ROWS * WIDE; i++) {
        float scale, code, most = 0;
        size_t col = i % WIDE, block = col / JT_PANEL_BLOCK * JT_PANEL_BLOCK;
        code = code_of(&f, i / (ROWS * WIDE), i / WIDE % ROWS, col, &scale);
        for (size_t j = block; j < WIDE && j < block + JT_PANEL_BLOCK; j++)
            most = fmaxf(most, fabsf(x[i - col + j]));
        assert_true(scale == most / 127);
        assert_true(fabsf(code * scale - x[i]) <= (same ? 0 : 0.501f * scale));
    }
    for (size_t col = 0; col < WIDE; col++) { /* rows that there are not */
        float scale, code = code_of(&f, 1, ROWS, col, &scale);
        assert_true(code == 0 && scale == 0);
    }
    free(memory);
}

/* As llama.cpp makes a block of Q8_0. */
static void round_block(float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, kept = rounded(d, JT_F16);
    for (size_t i = 0; i < n; i++)
        x[i] = d > 0 ? roundf(x[i] / d) * kept : 0;
}

/* And what was in 8 bits before stays what it was. */
static void test_rounded(void **state)
{
    static float x[2 * ROWS * WIDE];
    (void)state;
    for (size_t i = 0; i < 2 * ROWS * WIDE; i++)
        x[i] = sinf((float)i + 1) * powf(10, -(float)(i % 9));
    memset(x + 5 * WIDE, 0, WIDE * sizeof *x);
    check_rounded(x, false);
    for (size_t i = 0; i < 2 * ROWS * WIDE; i += WIDE) {
        for (size_t col = 0; col < WIDE; col += 32)
            round_block(x + i + col, WIDE - col < 32 ? WIDE - col : 32);
    }
    check_rounded(x, true);
}

/* Not where it would not be less, nor where a value is none. */
static void test_rounded_when(void **state)
{
    static float x[8 * 576];
    jt_err err = {0};
    const jt_kernels *k;
    jt_factor f;
    jt_tensor a = {.data = x, .dtype = JT_F32, .n_dims = 3, .shape = {1, 8, 576}};
    jt_tensor b = {.data = x, .dtype = JT_F32, .n_dims = 3, .shape = {1, 576, 8}};
    (void)state;
    adapted_must(jt_kernels_choose(&k, NULL, &err), &err);
    jt_factor_plan(&f, &a, JT_FACTOR_A, true, k); /* half a panel */
    assert_int_equal(f.dtype, JT_BF16);
    jt_factor_plan(&f, &b, JT_FACTOR_B, true, k);
    assert_int_equal(f.dtype, JT_Q8_0);
    x[77] = NAN;
    jt_factor_plan(&f, &b, JT_FACTOR_B, true, k);
    assert_int_not_equal(f.dtype, JT_Q8_0);
    x[77] = -INFINITY;
    jt_factor_plan(&f, &b, JT_FACTOR_B, true, k);
    assert_int_not_equal(f.dtype, JT_Q8_0);
}

static void test_rule(void **state)
{
    jt_factor_rule rule;
    jt_err err = {0};
    (void)state;
    adapted_must(jt_factor_rule_named(&rule, NULL, &err), &err);
    assert_true(jt_factors_rounded(rule, JT_Q4_K) && !jt_factors_rounded(rule, JT_F16));
    adapted_must(jt_factor_rule_named(&rule, "exact", &err), &err);
    assert_false(jt_factors_rounded(rule, JT_Q4_K));
    adapted_must(jt_factor_rule_named(&rule, "q8_0", &err), &err);
    assert_true(jt_factors_rounded(rule, JT_F32));
    assert_int_equal(jt_factor_rule_named(&rule, "q9", &err), JT_E_ARG);
}

/* Adapters of a model of floats: exact unless 8 bits are asked for, and then near. */
static void check_near(const char *folder, const char *name)
{
    static const char *const types[] = {"exact", NULL, "q8_0"};
    float one = 1.0f, *logits[4];
    adapted a;
    adapted_open(&a, folder, name);
    size_t values = a.g.count * a.g.vocab;
    for (size_t i = 0; i < 3; i++) {
        jt_session_options o = {.kv_type = "f32", .adapter_type = types[i]};
        logits[i] = adapted_run(&a.g, &o, &a.adapter, &one, 1);
    }
    logits[3] = adapted_run(&a.g, &options, NULL, NULL, 0);
    double error = golden_error(logits[0], logits[2], values);
    double change = golden_error(logits[0], logits[3], values);
    print_message("  %s: 8 bits change %.2e, the adapter %.2e\n", name, error, change);
    assert_memory_equal(logits[0], logits[1], values * sizeof(float));
    assert_true(error > 0 && error < 0.02 * change);
    for (size_t i = 0; i < 4; i++)
        free(logits[i]);
    adapted_close(&a);
}

static void test_near(void **state)
{
    (void)state;
    check_near("llama", "llama-lora");
    check_near("llama", "llama-dora");
    check_near("mixtral", "mixtral-lora");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),       cmocka_unit_test(test_exact),
        cmocka_unit_test(test_types),        cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_rounded_when), cmocka_unit_test(test_rule),
        cmocka_unit_test(test_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
