/* Adapters in weights, several as one, and out of two models. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "adapt/svd.h"
#include "adapted.h"
#include "base/random.h"
#include "scratch.h"

static const jt_session_options exact = {.cpu = "scalar", .kv_type = "f32"};
static const float one = 1.0f;

static double apart(const golden *g, const float *a, const float *b)
{
    return golden_error(a, b, g->count * g->vocab);
}

/* ---- in the weights ---- */

static void check_merged(void **state)
{
    const char *const *names = *state;
    adapted a;
    char path[256];
    jt_err err = {0};
    adapted_open(&a, names[0], names[1]);
    snprintf(path, sizeof path, "%s/merged.gguf", scratch_dir.dir);
    jt_adapter_mix mix = {&a.adapter, &one, 1};
    adapted_must(jt_adapter_merge(path, a.g.model, &mix, NULL, &err), &err);
    golden merged = a.g;
    adapted_must(jt_model_load(&merged.model, path, &err), &err);
    float *logits = adapted_run(&merged, &exact, NULL, NULL, 0);
    double error = apart(&a.g, logits, a.g.logits),
           moved = apart(&a.g, a.plain, a.g.logits);
    print_message("  %s: %.2e of %.2e\n", names[1], error, moved);
    /* the folders have BF16 weights: merging rounds once more */
    assert_true(error < 0.1 * moved);
    free(logits);
    jt_model_free(merged.model);
    remove(path);
    adapted_close(&a);
}

/* In F32 nothing is lost. */
static void check_merged_exactly(void **state)
{
    golden g;
    char path[256];
    jt_adapter *a;
    jt_adapter_slot *slot;
    jt_err err = {0};
    jt_rng rng = {.seed = 4};
    const size_t shape[] = {1, 48, 48};
    (void)state;
    golden_open(&g, "llama");
    adapted_must(jt_adapter_new(&a, &jt_adapter_dora, "x", &err), &err);
    adapted_must(jt_adapter_add(a, &slot, (jt_str){"blk.1.attn_q.weight", 19}, shape, 3,
                                2.0f, &err),
                 &err);
    for (int i = 0; i < 3; i++) {
        jt_tensor *t = &slot->part[i];
        jt_rng_normals(&rng, t->data, jt_rows(t) * jt_cols(t));
    }
    snprintf(path, sizeof path, "%s/merged.gguf", scratch_dir.dir);
    jt_adapter_mix mix = {&a, &(float){0.7f}, 1};
    adapted_must(jt_adapter_merge(path, g.model, &mix, NULL, &err), &err);
    golden merged = g;
    adapted_must(jt_model_load(&merged.model, path, &err), &err);
    float *x = adapted_run(&merged, &exact, NULL, NULL, 0);
    float *y = adapted_run(&g, &exact, &a, mix.scales, 1);
    float *plain = adapted_run(&g, &exact, NULL, NULL, 0);
    assert_true(apart(&g, x, y) < 1e-5);
    assert_true(apart(&g, x, plain) > 0.01);
    free(x);
    free(y);
    free(plain);
    jt_model_free(merged.model);
    remove(path);
    jt_adapter_free(a);
    golden_close(&g);
}

/* ---- several as one ---- */

static jt_adapter *join(const jt_adapter_mix *mix, jt_join_options o)
{
    jt_adapter *a;
    jt_err err = {0};
    adapted_must(jt_adapter_join(&a, mix, &o, &err), &err);
    return a;
}

static void check_joined(void **state)
{
    adapted a, b;
    const float scales[] = {0.6f, -0.5f};
    (void)state;
    adapted_open(&a, "llama", "llama-lora");
    adapted_open(&b, "llama", "llama-rslora");
    jt_adapter *const both[] = {a.adapter, b.adapter};
    jt_adapter_mix mix = {both, scales, 2};
    float *wanted = adapted_run(&a.g, &exact, both, scales, 2);
    static const jt_join_options exactly[] = {
        {.how = JT_JOIN_CAT},
        {.how = JT_JOIN_SVD, .rank = 8},
        {.how = JT_JOIN_DARE, .rank = 32, .density = 1.0f}};
    for (int i = 0; i < 3; i++) {
        jt_adapter *sum = join(&mix, exactly[i]);
        float *got = adapted_run(&a.g, &exact, &sum, &one, 1);
        double error = apart(&a.g, got, wanted);
        if (!(error < 1e-4))
            fail_msg("way %d: error %g", i, error);
        free(got);
        jt_adapter_free(sum);
    }
    free(wanted);
    adapted_close(&a);
    adapted_close(&b);
}

/* One matrix: TIES by hand. */
static jt_adapter *matrix(const float *d)
{
    jt_adapter *a;
    jt_adapter_slot *slot;
    jt_err err = {0};
    const size_t shape[] = {1, 2, 2};
    adapted_must(jt_adapter_new(&a, &jt_adapter_lora, "x", &err), &err);
    adapted_must(jt_adapter_add(a, &slot, (jt_str){"w", 1}, shape, 2, 2.0f, &err),
                 &err);
    memcpy(slot->part[JT_LOW_B].data, d, 4 * sizeof *d);
    memcpy(slot->part[JT_LOW_A].data, (float[]){1, 0, 0, 1}, 4 * sizeof *d);
    return a;
}

static void check_matrix(const jt_adapter *a, const float wanted[4])
{
    for (size_t r = 0; r < 2; r++) {
        float row[2] = {0};
        a->kind->merge_row(&a->slot[0], a->slot[0].scale, r, row);
        for (size_t c = 0; c < 2; c++)
            assert_true(fabsf(row[c] - wanted[2 * r + c]) < 1e-5f);
    }
}

static void check_ties(void **state)
{
    (void)state;
    jt_adapter *const two[] = {matrix((float[]){4, -3, 0.5f, 0.1f}),
                               matrix((float[]){2, 5, 1, -0.2f})};
    const float ones[] = {1.0f, 1.0f};
    jt_adapter_mix mix = {two, ones, 2};
    /* trimmed to half: {4, -3, 0, 0} and {2, 5, 0, 0}; signs +, + */
    jt_adapter *ties = join(&mix, (jt_join_options){.how = JT_JOIN_TIES, .rank = 2});
    check_matrix(ties, (float[]){3, 5, 0, 0});
    /* sums of the square roots of what is to be added, so that products have it */
    jt_adapter *linear = join(&mix, (jt_join_options){.how = JT_JOIN_LINEAR});
    check_matrix(linear, (float[]){12, 4, 3, -0.2f}); /* (B1 + B2) (A1 + A2) */
    jt_adapter_free(ties);
    jt_adapter_free(linear);
    jt_adapter_free(two[0]);
    jt_adapter_free(two[1]);
}

static void check_refused(void **state)
{
    adapted a, b;
    jt_adapter *out;
    jt_err err = {0};
    const float ones[] = {1.0f, 1.0f};
    (void)state;
    adapted_open(&a, "llama", "llama-dora");
    adapted_open(&b, "llama", "llama-shira");
    jt_adapter_mix dora = {&a.adapter, ones, 1}, none = {NULL, NULL, 0};
    jt_adapter_mix sparse = {&b.adapter, ones, 1};
    jt_join_options cat = {.how = JT_JOIN_CAT}, svd = {.how = JT_JOIN_SVD};
    assert_int_equal(jt_adapter_join(&out, &dora, &cat, &err), JT_E_ARG);
    assert_int_equal(jt_adapter_join(&out, &none, &cat, &err), JT_E_ARG);
    assert_int_equal(jt_adapter_join(&out, &sparse, &svd, &err), JT_E_ARG);
    jt_adapter *const twice[] = {b.adapter, b.adapter};
    jt_adapter_mix two = {twice, (float[]){0.25f, 0.75f}, 2};
    jt_adapter *sum = join(&two, cat); /* 1/4 + 3/4 of the same is the same */
    float *got = adapted_run(&b.g, &exact, &sum, &one, 1);
    assert_true(apart(&b.g, got, b.g.logits) < 1e-4);
    free(got);
    jt_adapter_free(sum);
    adapted_close(&a);
    adapted_close(&b);
}

/* ---- out of two models ---- */

static void check_extracted(void **state)
{
    adapted a;
    char path[256];
    jt_model *tuned;
    jt_adapter *found;
    jt_err err = {0};
    double lost;
    (void)state;
    adapted_open(&a, "mixtral", "mixtral-lora");
    snprintf(path, sizeof path, "%s/merged.gguf", scratch_dir.dir);
    jt_adapter_mix mix = {&a.adapter, &one, 1};
    adapted_must(jt_adapter_merge(path, a.g.model, &mix, NULL, &err), &err);
    adapted_must(jt_model_load(&tuned, path, &err), &err);
    adapted_must(
        jt_adapter_extract(&found, a.g.model, tuned, NULL, 2, &lost, NULL, &err), &err);
    jt_adapter_info info;
    jt_adapter_describe(found, &info);
    assert_int_equal(info.n_targets, 12);
    assert_true(lost < 0.01); /* what BF16 rounded off */
    jt_adapter_difference d;
    adapted_must(jt_adapter_compare(found, a.adapter, 0, &d, &err), &err);
    assert_true(d.cosine > 0.99);
    jt_adapter_free(found);
    assert_int_equal(
        jt_adapter_extract(&found, a.g.model, a.g.model, NULL, 2, &lost, NULL, &err),
        JT_E_ARG);
    assert_int_equal(
        jt_adapter_extract(&found, a.g.model, tuned, "attn_k", 2, &lost, NULL, &err),
        JT_E_ARG);
    jt_model_free(tuned);
    remove(path);
    adapted_close(&a);
}

/* ---- the decomposition ---- */

static void check_decomposition(void **state)
{
    enum { ROWS = 40, COLS = 23, RANK = 5 };
    static float d[ROWS * COLS], b[ROWS * COLS], a[COLS * COLS];
    jt_rng rng = {.seed = 8};
    double lost[2], all = 0.0;
    jt_err err = {0};
    (void)state;
    for (size_t i = 0; i < ROWS * RANK; i++)
        b[i] = jt_rng_normal(&rng);
    for (size_t i = 0; i < RANK * COLS; i++)
        a[i] = jt_rng_normal(&rng);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < COLS; c++) {
            for (size_t k = 0; k < RANK; k++)
                d[r * COLS + c] += b[r * RANK + k] * a[k * COLS + c];
            all += pow((double)d[r * COLS + c], 2.0);
        }
    }
    adapted_must(jt_low_rank(b, a, d, ROWS, COLS, RANK, 1, &lost[0], &err), &err);
    assert_true(lost[0] < 1e-9 * all);
    adapted_must(jt_low_rank(b, a, d, ROWS, COLS, RANK - 1, 1, &lost[1], &err), &err);
    double error = 0.0;
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < COLS; c++) {
            double x = (double)d[r * COLS + c];
            for (size_t k = 0; k < RANK - 1; k++)
                x -= (double)b[r * (RANK - 1) + k] * (double)a[k * COLS + c];
            error += x * x;
        }
    }
    assert_true(lost[1] > 1e-3 * all);
    assert_true(fabs(error - lost[1]) < 1e-4 * error);
}

int main(void)
{
    static const char *cases[][2] = {
        {"llama", "llama-lora"}, {"llama", "llama-dora"},     {"llama", "llama-shira"},
        {"llama", "llama-ends"}, {"mixtral", "mixtral-lora"}, {"phi3", "phi3-lora"}};
    struct CMUnitTest tests[] = {
        {"lora", check_merged, NULL, NULL, cases[0]},
        {"dora", check_merged, NULL, NULL, cases[1]},
        {"shira", check_merged, NULL, NULL, cases[2]},
        {"ends", check_merged, NULL, NULL, cases[3]},
        {"experts", check_merged, NULL, NULL, cases[4]},
        {"fused", check_merged, NULL, NULL, cases[5]},
        cmocka_unit_test(check_merged_exactly),
        cmocka_unit_test(check_joined),
        cmocka_unit_test(check_ties),
        cmocka_unit_test(check_refused),
        cmocka_unit_test(check_extracted),
        cmocka_unit_test(check_decomposition),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
