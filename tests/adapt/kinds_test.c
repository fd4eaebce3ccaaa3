/* Kinds whose parts are made of others, and those that depend on the token: what makes
 * them what they are. Gradients are in grad_test.c but for those of bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/made.h"
#include "adapted.h"
#include "base/random.h"
#include "learn/tuning.h"
#include "model/model.h"
#include "scratch.h"

enum { RANK = 3 };

/* ---- adapters as tuning makes them, with values everywhere ---- */

static jt_config config_of(const char *kind)
{
    return (jt_config){.adapter = {.kind = kind,
                                   .init = "",
                                   .target = "attn_(q|k|v|output)[.]|ffn_down",
                                   .place = "attn.after|ffn.beside",
                                   .activation = "gelu",
                                   .rank = RANK,
                                   .alpha = 8.0,
                                   .shards = 2,
                                   .budget = 2,
                                   .own = 1,
                                   .tables = "apart",
                                   .skills = 3,
                                   .heads = 2,
                                   .bits = 2,
                                   .active = 2,
                                   .grow = true,
                                   .heat = 0.3,
                                   .threshold = 0.1},
                       .data = {.n_sources = 2},
                       .train = {.seed = 7}};
}

typedef struct tuned {
    golden g;
    jt_context ctx;
    jt_tuning *tuning;
    jt_variables v;
} tuned;

static void tune(tuned *t, const char *model, const jt_config *config)
{
    jt_err err = {0};
    jt_rng rng = {.seed = 5};
    golden_open(&t->g, model);
    assert_int_equal(jt_context_init(&t->ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&t->tuning, config, t->g.model, &t->ctx, &err), &err);
    adapted_must(jt_tuning_variables(t->tuning, &t->v, &err), &err);
    for (size_t i = 0; i < t->v.count; i++) {
        const jt_param *p = &t->v.list[i];
        jt_rng_normals(&rng, p->value, p->count * p->rows * p->cols);
        for (size_t j = 0; j < p->count * p->rows * p->cols; j++)
            p->value[j] *= 0.1f;
    }
    jt_tuning_begin(t->tuning, JT_ADAPTER_NO_TASK, 0);
}

static void end(tuned *t)
{
    jt_variables_free(&t->v);
    jt_tuning_free(t->tuning);
    jt_context_free(&t->ctx);
    golden_close(&t->g);
}

static jt_adapter *adapter_of(const tuned *t)
{
    return t->tuning->adapter;
}

static const float *values(const jt_adapter *a, size_t slot, int part)
{
    return a->slot[slot].part[part].data;
}

/* ---- files ---- */

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", scratch_dir.dir, name);
    return path;
}

static jt_adapter *reopened(const tuned *t, const char *name)
{
    jt_adapter *a;
    jt_err err = {0};
    adapted_must(
        jt_adapter_save(adapter_of(t), path_of(name), JT_ADAPTER_JUNTO, NULL, &err),
        &err);
    adapted_must(jt_adapter_open(&a, path_of(name), t->g.model, &err), &err);
    return a;
}

static size_t read_file(const char *name, char *out, size_t most)
{
    FILE *f = fopen(path_of(name), "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, most, f);
    fclose(f);
    return n;
}

/* Written, read and written again: the same bytes, and the same logits. */
static void check_files(void **state)
{
    enum { MOST = 1 << 21 };
    tuned t = {0};
    jt_config config = config_of(*state);
    jt_err err = {0};
    const float one = 1.0f;
    tune(&t, "mixtral", &config);
    jt_adapter *a = adapter_of(&t), *b = reopened(&t, "first.safetensors");
    adapted_must(
        jt_adapter_save(b, path_of("second.safetensors"), JT_ADAPTER_JUNTO, NULL, &err),
        &err);
    char *first = malloc(MOST), *second = malloc(MOST);
    size_t n = read_file("first.safetensors", first, MOST);
    assert_in_range(n, 1000, MOST - 1);
    assert_int_equal(n, read_file("second.safetensors", second, MOST));
    assert_memory_equal(first, second, n);
    float *x = adapted_run(&t.g, NULL, &a, &one, 1);
    float *y = adapted_run(&t.g, NULL, &b, &one, 1);
    float *plain = adapted_run(&t.g, NULL, NULL, NULL, 0);
    size_t bytes = t.g.count * t.g.vocab * sizeof *x;
    assert_memory_equal(x, y, bytes);
    assert_true(memcmp(x, plain, bytes) != 0);
    jt_adapter_free(b);
    free(first);
    free(second);
    free(x);
    free(y);
    free(plain);
    end(&t);
}

/* A model with the adapter merged gives what the adapter gives, but for rounding: the
 * model has 16 bits. */
static void check_merged(void **state)
{
    tuned t = {0};
    jt_config config = config_of(*state);
    jt_model *merged;
    jt_err err = {0};
    const float half = 0.5f;
    const jt_progress none = {0};
    tune(&t, "llama", &config);
    jt_adapter *a = adapter_of(&t);
    jt_adapter_mix mix = {&a, &half, 1};
    float *x = adapted_run(&t.g, NULL, &a, &half, 1);
    jt_status status =
        jt_adapter_merge(path_of("merged.gguf"), t.g.model, &mix, &none, &err);
    if (a->kind->by_token) {
        assert_int_equal(status, JT_E_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "depends on the token"));
    } else {
        adapted_must(status, &err);
        adapted_must(jt_model_load(&merged, path_of("merged.gguf"), &err), &err);
        golden g = t.g;
        g.model = merged;
        float *y = adapted_run(&g, NULL, NULL, NULL, 0), largest = 0.0f;
        for (size_t i = 0; i < g.count * g.vocab; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        for (size_t i = 0; i < g.count * g.vocab; i++)
            assert_true(fabsf(x[i] - y[i]) < 2e-2f * largest);
        free(y);
        jt_model_free(merged);
        remove(path_of("merged.gguf"));
    }
    free(x);
    end(&t);
}

/* Fresh ones change nothing, to the bit; bits cannot have a B of zeros. */
static void check_fresh(void **state)
{
    tuned t = {0};
    jt_config config = config_of(*state);
    jt_err err = {0};
    jt_context ctx;
    jt_tuning *fresh;
    const float one = 1.0f;
    tune(&t, "mixtral", &config);
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&fresh, &config, t.g.model, &ctx, &err), &err);
    float *x = adapted_run(&t.g, NULL, &fresh->adapter, &one, 1);
    float *plain = adapted_run(&t.g, NULL, NULL, NULL, 0);
    bool same = memcmp(x, plain, t.g.count * t.g.vocab * sizeof *x) == 0;
    assert_true(same == (strcmp(*state, "bits") != 0));
    free(x);
    free(plain);
    jt_tuning_free(fresh);
    jt_context_free(&ctx);
    end(&t);
}

/* ---- mos ---- */

/* As many values as LoRA of the budget's rank; p = e = r is LoRA. */
static void check_mos_budget(void **state)
{
    tuned t = {0};
    jt_config config = config_of("mos");
    jt_adapter_info info;
    uint64_t expected = 0;
    (void)state;
    tune(&t, "llama", &config);
    jt_adapter_describe(adapter_of(&t), &info);
    for (size_t i = 0; i < info.n_targets; i++) {
        jt_adapter_target_info target;
        jt_adapter_target_at(adapter_of(&t), i, &target);
        expected += target.count * (uint64_t)config.adapter.budget *
                    (target.rows + target.cols);
    }
    assert_int_equal(info.n_params, expected);
    assert_int_equal(t.v.values, expected);
    end(&t);
    config.adapter.budget = config.adapter.own = RANK;
    t = (tuned){0};
    tune(&t, "llama", &config);
    const jt_adapter_slot *s = &adapter_of(&t)->slot[0];
    const jt_tensor *pool = jt_slot_source(adapter_of(&t), s, 0);
    const int32_t *table = jt_slot_source(adapter_of(&t), s, 2)->data;
    for (int i = 0; i < RANK * config.adapter.shards; i++) /* all are its own */
        assert_int_equal(table[i], table[0] + i);
    assert_memory_equal(values(adapter_of(&t), 0, JT_LOW_A),
                        jt_row(pool, (size_t)table[0]), RANK * s->cols * sizeof(float));
    end(&t);
}

static bool shares(const int32_t *a, const int32_t *b, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            any |= a[i] == b[j];
    }
    return any;
}

/* Nobody has a shard twice; own ones are nobody else's; A and B differ. */
static void check_mos_tables(void **state)
{
    static const char *const tables[] = {"apart", "paired", "same"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        tuned t = {0};
        jt_config config = config_of("mos");
        config.adapter.tables = tables[i];
        tune(&t, "llama", &config);
        const jt_adapter *a = adapter_of(&t);
        const jt_adapter_slot *x =
            jt_adapter_find(a, (jt_str){"blk.0.attn_q.weight", 19});
        const jt_adapter_slot *y =
            jt_adapter_find(a, (jt_str){"blk.1.attn_q.weight", 19});
        size_t n = RANK * 2, own = 2, common = n - own;
        const int32_t *xa = jt_slot_source(a, x, 2)->data;
        const int32_t *xb = jt_slot_source(a, x, 3)->data;
        const int32_t *ya = jt_slot_source(a, y, 2)->data;
        for (size_t j = 0; j < n; j++)
            assert_false(shares(&xa[j], &xa[j + 1], j + 1 < n ? 1 : 0));
        assert_false(shares(xa + common, ya + common, own));
        assert_true((memcmp(xa, xb, n * sizeof *xa) == 0) == (i > 0));
        assert_true((memcmp(xa, ya, common * sizeof *xa) == 0) == (i == 2));
        end(&t);
    }
}

/* ---- poly ---- */

/* With all the weight on one skill a task has that skill's A. */
static void check_poly_tasks(void **state)
{
    tuned t = {0};
    jt_config config = config_of("poly");
    jt_adapter_info info;
    jt_err err = {0};
    (void)state;
    tune(&t, "llama", &config);
    jt_adapter *a = adapter_of(&t);
    jt_adapter_describe(a, &info);
    assert_int_equal(info.n_tasks, 2);
    const jt_adapter_slot *s = &a->slot[0];
    const jt_tensor *skills = jt_slot_source(a, s, 0), *z = jt_slot_source(a, s, 2);
    for (size_t i = 0; i < 2 * 2 * 3; i++) /* task 1: skill 2 of head 0, 0 of head 1 */
        ((float *)z->data)[i] = i == 8 || i == 9 ? 0.0f : -60.0f;
    adapted_must(jt_adapter_set_task(a, 1, &err), &err);
    size_t half = s->cols / 2;
    assert_memory_equal(values(a, 0, JT_LOW_A), jt_row(skills, 2 * RANK),
                        half * sizeof(float));
    assert_memory_equal(values(a, 0, JT_LOW_A) + half, jt_row(skills, 3 * RANK),
                        half * sizeof(float));
    adapted_must(jt_adapter_set_task(a, JT_ADAPTER_NO_TASK, &err), &err);
    float mean =
        (jt_row(skills, 0)[0] + jt_row(skills, RANK)[0] + jt_row(skills, 2 * RANK)[0]) /
        3.0f;
    assert_float_equal(values(a, 0, JT_LOW_A)[0], mean, 1e-6);
    assert_int_equal(jt_adapter_set_task(a, 2, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "tasks 0 to 1"));
    end(&t);
}

/* ---- bits ---- */

/* The levels of the authors' code. */
static void check_levels(void **state)
{
    float level[256];
    (void)state;
    jt_bits_levels(level, 1);
    assert_float_equal(level[1], 0.6745, 1e-4);
    jt_bits_levels(level, 2);
    assert_float_equal(level[2], 0.3778, 1e-4);
    assert_float_equal(level[3], 1.2657, 1e-4);
    jt_bits_levels(level, 4);
    assert_float_equal(level[15], 2.2655, 2e-3);
    for (int i = 0; i < 8; i++)
        assert_float_equal(level[i], -level[15 - i], 1e-5);
}

/* What gradients are taken to be those of: x' moves, the distance from it to its level
 * stays. */
static double surrogate(const float *x, const float *gap, const float *g, size_t n)
{
    double mean = 0.0, square = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += pow((double)x[i] - mean, 2.0);
    double sd = sqrt(square / (double)(n - 1));
    for (size_t i = 0; i < n; i++)
        sum += (double)g[i] *
               ((((double)x[i] - mean) / (sd + 1e-5) + (double)gap[i]) * sd + mean);
    return sum;
}

static void check_straight_through(void **state)
{
    tuned t = {0};
    jt_config config = config_of("bits");
    jt_rng rng = {.seed = 9};
    (void)state;
    tune(&t, "llama", &config);
    jt_adapter *a = adapter_of(&t);
    jt_adapter_slot *s = &a->slot[0];
    const jt_param *p = &t.v.list[0];
    size_t n = s->rank * s->cols;
    const float *stat = jt_slot_source(a, s, 2)->data;
    float *gap = malloc(n * sizeof *gap), *g = s->part[JT_LOW_A].grad;
    for (size_t i = 0; i < n; i++)
        gap[i] = (values(a, 0, JT_LOW_A)[i] - p->value[i]) / stat[1];
    jt_rng_normals(&rng, g, n);
    float *kept = malloc(n * sizeof *kept);
    memcpy(kept, g, n * sizeof *kept);
    jt_tuning_end(t.tuning);
    for (size_t i = 0; i < n; i += 7) {
        const float step = 1e-3f;
        float x = p->value[i];
        p->value[i] = x + step;
        double above = surrogate(p->value, gap, kept, n);
        p->value[i] = x - step;
        double under = surrogate(p->value, gap, kept, n);
        p->value[i] = x;
        assert_float_equal(p->grad[i], (above - under) / (2.0 * (double)step), 2e-3);
    }
    assert_true(g[0] == 0.0f); /* ready for the next pass */
    free(gap);
    free(kept);
    end(&t);
}

/* ---- mora ---- */

/* What one product gives, computed from the formulas. */
static void check_mora(void **state)
{
    tuned t = {0};
    jt_config config = config_of("mora");
    (void)state;
    tune(&t, "llama", &config);
    const jt_adapter_slot *s = &adapter_of(&t)->slot[0];
    const float *a = s->part[JT_LOW_A].data, *b = s->part[JT_LOW_B].data;
    float x[512], z[RANK], norm = 0.0f, expected = 0.0f, weight[RANK] = {0};
    jt_rng rng = {.seed = 2};
    assert_in_range(s->cols, 1, 512);
    jt_rng_normals(&rng, x, s->cols);
    for (size_t i = 0; i < RANK; i++) {
        z[i] = 0.0f;
        for (size_t c = 0; c < s->cols; c++)
            z[i] += a[i * s->cols + c] * x[c];
        norm += z[i] * z[i];
    }
    norm = sqrtf(norm);
    size_t first = 0, second = RANK;
    for (size_t i = 1; i < RANK; i++)
        first = z[i] > z[first] ? i : first;
    for (size_t i = 0; i < RANK; i++)
        second = i != first && (second == RANK || z[i] > z[second]) ? i : second;
    float ratio = expf((z[second] - z[first]) / norm / 0.3f);
    weight[first] = z[first] / norm < 0.1f ? 0.0f : 1.0f / (1.0f + ratio);
    weight[second] = z[second] / norm < 0.1f ? 0.0f : ratio / (1.0f + ratio);
    for (size_t i = 0; i < RANK; i++)
        expected += b[i] * weight[i] * z[i];
    /* The change by hand: W x is 0. */
    float y[8] = {0};
    jt_tensor input = {.data = x, .dtype = JT_F32, .n_dims = 2, .shape = {1, s->cols}};
    jt_tensor low = {.data = z, .dtype = JT_F32, .n_dims = 2, .shape = {1, RANK}};
    jt_tensor rows = {.data = (void *)(uintptr_t)b,
                      .dtype = JT_F32,
                      .n_dims = 2,
                      .shape = {8, s->cols}};
    jt_use use = {.slot = s,
                  .p = {.y = y, .ldy = 8, .w = rows, .tokens = 1},
                  .x = input,
                  .scale = s->scale,
                  .low = jt_input_of(low)};
    jt_adapter_mora.change(&t.ctx, &use, 1);
    assert_false(jt_failed(&t.ctx));
    assert_float_equal(y[0], expected, 1e-5);
    end(&t);
}

/* Ranks of a task before stay, and have no gradient; fresh ones change nothing but
 * the weights. */
static void check_growth(void **state)
{
    tuned t = {0}, u = {0};
    jt_config config = config_of("mora");
    (void)state;
    tune(&t, "llama", &config);
    jt_adapter_free(reopened(&t, "old.safetensors"));
    config.adapter.init = path_of("old.safetensors");
    jt_err err = {0};
    golden_open(&u.g, "llama");
    assert_int_equal(jt_context_init(&u.ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&u.tuning, &config, u.g.model, &u.ctx, &err), &err);
    adapted_must(jt_tuning_variables(u.tuning, &u.v, &err), &err);
    const jt_adapter_slot *old = &adapter_of(&t)->slot[0],
                          *s = &adapter_of(&u)->slot[0];
    assert_int_equal(s->rank, 2 * RANK);
    assert_memory_equal(s->part[JT_LOW_A].data, old->part[JT_LOW_A].data,
                        RANK * s->cols * sizeof(float));
    for (size_t r = 0; r < s->rows; r++) {
        assert_memory_equal(jt_row(&s->part[JT_LOW_B], r),
                            jt_row(&old->part[JT_LOW_B], r), RANK * sizeof(float));
        for (size_t k = RANK; k < 2 * RANK; k++)
            assert_true(jt_row(&s->part[JT_LOW_B], r)[k] == 0.0f);
    }
    for (size_t i = 0; i < u.v.values; i++)
        u.v.grad[i] = 1.0f;
    jt_tuning_end(u.tuning);
    assert_true(s->part[JT_LOW_A].grad[0] == 0.0f);
    assert_true(s->part[JT_LOW_A].grad[RANK * s->cols] == 1.0f);
    assert_true(s->part[JT_LOW_B].grad[RANK - 1] == 0.0f);
    assert_true(s->part[JT_LOW_B].grad[RANK] == 1.0f);
    end(&t);
    end(&u);
}

/* ---- going on, and what is refused ---- */

static void check_continue(void **state)
{
    tuned t = {0};
    jt_config config = config_of("poly");
    jt_adapter_options o = {.tasks = 5, .only_routing = true};
    jt_adapter *a;
    jt_err err = {0};
    (void)state;
    tune(&t, "llama", &config);
    jt_adapter_free(reopened(&t, "skills.safetensors"));
    const char *path = path_of("skills.safetensors");
    adapted_must(jt_adapter_continue(&a, path, &jt_adapter_lora, t.g.model, &o, &err),
                 &err);
    assert_memory_equal(values(a, 0, 0), values(adapter_of(&t), 0, 0),
                        RANK * a->slot[0].cols * sizeof(float));
    assert_true(a->slot[0].scale == adapter_of(&t)->slot[0].scale);
    jt_adapter_free(a);
    adapted_must(jt_adapter_continue(&a, path, &jt_adapter_poly, t.g.model, &o, &err),
                 &err);
    assert_int_equal(jt_poly_tasks(a), 5);
    assert_false(a->source[a->slot[0].source[0]].trained);
    assert_true(a->source[a->slot[0].source[2]].trained);
    jt_adapter_free(a);
    assert_int_equal(
        jt_adapter_continue(&a, path, &jt_adapter_mos, t.g.model, &o, &err), JT_E_ARG);
    end(&t);
}

static void check_refusals(void **state)
{
    static const struct {
        const char *kind, *says;
        int rank, shards, budget, own, heads;
    } cases[] = {{"mos", "adapter.shards: 7", 3, 7, 2, 1, 1},
                 {"mos", "must rise", 3, 2, 1, 2, 1},
                 {"mos", "adapter.budget: the pool", 40, 2, 2, 1, 1},
                 {"poly", "adapter.heads: 7", 3, 2, 2, 1, 7}};
    golden g;
    jt_context ctx;
    (void)state;
    golden_open(&g, "llama");
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_config config = config_of(cases[i].kind);
        jt_tuning *tuning;
        jt_err err = {0};
        config.adapter.rank = cases[i].rank;
        config.adapter.shards = cases[i].shards;
        config.adapter.budget = cases[i].budget;
        config.adapter.own = cases[i].own;
        config.adapter.heads = cases[i].heads;
        assert_int_equal(jt_tuning_new(&tuning, &config, g.model, &ctx, &err),
                         JT_E_ARG);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
    }
    jt_context_free(&ctx);
    golden_close(&g);
}

#define KIND(check, kind)                                           \
    {                                                               \
        kind " " #check, check, NULL, NULL, (void *)(uintptr_t)kind \
    }
#define ALL(check)                                                                     \
    KIND(check, "mos"), KIND(check, "poly"), KIND(check, "bits"), KIND(check, "mora"), \
        KIND(check, "bottleneck")

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(check_files),
        ALL(check_merged),
        ALL(check_fresh),
        cmocka_unit_test(check_mos_budget),
        cmocka_unit_test(check_mos_tables),
        cmocka_unit_test(check_poly_tasks),
        cmocka_unit_test(check_levels),
        cmocka_unit_test(check_straight_through),
        cmocka_unit_test(check_mora),
        cmocka_unit_test(check_growth),
        cmocka_unit_test(check_continue),
        cmocka_unit_test(check_refusals),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
