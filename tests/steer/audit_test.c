/* The audit of a model whose behaviour sits in one expert by construction. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/file.h"
#include "base/random.h"
#include "junto/audit.h"
#include "watch/concentration.h"

/* ---- a model that is planted ----
 *
 * The golden mixture (2 layers, 8 experts, 2 for each token, width 32) with weights of
 * its own. Tokens 0 .. 15 are those of text A, 16 .. 31 those of text B: embeddings are
 * 4 along dimension 0 or 1, and noise in dimensions 8 .. 31. Attention gives nothing.
 * In layer 1 expert 5 alone is drawn by dimension 0, and it alone gives something:
 * along dimension 2, from which the head takes the tokens of A. Those of B the head
 * takes from dimension 1 itself. */
enum {
    TOKENS = 16,
    D = 32,
    WIDTH = 24,
    EXPERTS = 8,
    VOCAB = 272,
    LAYER = 1,
    PLANTED = 5
};

static float *tensor(jt_gguf *file, unsigned char *bytes, const char *name)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, name);
    assert_non_null(t);
    return (float *)(bytes + ((const unsigned char *)t->data - bytes));
}

static void plant(unsigned char *bytes, size_t size)
{
    jt_gguf *file;
    jt_rng rng = {.seed = 3};
    assert_int_equal(jt_gguf_open_memory(&file, bytes, size, NULL), JT_OK);
    float *embed = tensor(file, bytes, "token_embd.weight");
    float *head = tensor(file, bytes, "output.weight");
    memset(embed, 0, VOCAB * D * sizeof *embed);
    memset(head, 0, VOCAB * D * sizeof *head);
    for (int t = 0; t < 2 * TOKENS; t++) {
        embed[t * D + t / TOKENS] = 4.0f;
        head[t * D + (t < TOKENS ? 2 : 1)] = 4.0f;
        jt_rng_normals(&rng, embed + t * D + 8, D - 8);
    }
    for (int l = 0; l < 2; l++) {
        static const char *const zeros[] = {"attn_output", "ffn_gate_exps",
                                            "ffn_up_exps", "ffn_down_exps"};
        static const int sizes[] = {D * D, EXPERTS * WIDTH * D, EXPERTS * WIDTH * D,
                                    EXPERTS * WIDTH * D};
        char name[64];
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, zeros[i]);
            memset(tensor(file, bytes, name), 0, (size_t)sizes[i] * sizeof(float));
        }
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", l);
        float *router = tensor(file, bytes, name);
        jt_rng_normals(&rng, router, EXPERTS * D);
        for (int e = 0; e < EXPERTS; e++)
            memset(router + e * D, 0, 8 * sizeof *router);
        if (l == LAYER)
            router[PLANTED * D] = 8.0f;
        snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", l);
        for (int i = 0; i < D; i++)
            tensor(file, bytes, name)[i] = 1.0f;
    }
    size_t first = PLANTED * WIDTH * D;
    tensor(file, bytes, "blk.1.ffn_gate_exps.weight")[first] = 4.0f;
    tensor(file, bytes, "blk.1.ffn_up_exps.weight")[first] = 1.0f;
    tensor(file, bytes, "blk.1.ffn_down_exps.weight")[first + 2 * WIDTH] = 4.0f;
    for (int i = 0; i < D; i++)
        tensor(file, bytes, "output_norm.weight")[i] = 1.0f;
    jt_gguf_close(file);
}

typedef struct planted {
    unsigned char *bytes;
    jt_model *model;
    int32_t text[2][4096];
    size_t count;
} planted;

static int open_planted(void **state)
{
    planted *p = calloc(1, sizeof *p);
    char path[512], *bytes;
    size_t size;
    jt_rng rng = {.seed = 9};
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", getenv("JUNTO_TEST_DATA"));
    assert_int_equal(jt_read_file(&bytes, &size, path, 1 << 24, NULL), JT_OK);
    p->bytes = jt_alloc(size, 1); /* aligned as a file that is mapped */
    memcpy(p->bytes, bytes, size);
    free(bytes);
    plant(p->bytes, size);
    assert_int_equal(jt_model_load_memory(&p->model, p->bytes, size, NULL), JT_OK);
    p->count = sizeof p->text[0] / sizeof *p->text[0];
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < p->count; i++)
            p->text[t][i] = (int32_t)(jt_rng_below(&rng, TOKENS) + t * TOKENS);
    *state = p;
    return 0;
}

static int close_planted(void **state)
{
    planted *p = *state;
    jt_model_free(p->model);
    free(p->bytes);
    free(p);
    return 0;
}

static jt_audit audit(const planted *p, const jt_audit_options *options, bool swap)
{
    jt_audit out;
    jt_err err = {0};
    jt_audit_texts texts = {p->text[swap], p->count, p->text[!swap], p->count};
    if (jt_audit_run(&out, p->model, &texts, options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return out;
}

static void test_the_expert_is_found(void **state)
{
    const planted *p = *state;
    const float shares[] = {0.0625f, 0.25f};
    for (int zero = 0; zero < 2; zero++) {
        jt_audit_options how = {.window = 32,
                                .windows = 32,
                                .shares = shares,
                                .n_shares = 2,
                                .zero = zero,
                                .draws = 12,
                                .session = {.threads = 1}};
        jt_audit a = audit(p, &how, false);
        assert_int_equal(a.n_experts, 2 * EXPERTS);
        assert_int_equal(a.experts[0].layer, LAYER);
        assert_int_equal(a.experts[0].expert, PLANTED);
        assert_float_equal(a.experts[0].rate_a, 1.0, 1e-9);
        assert_true(a.experts[0].rate_b < 0.6 && a.experts[0].q < 1e-6);
        assert_true(a.experts[0].mass_a > 0.9);
        assert_true(a.auc > 0.99 && a.shift > 3 * a.shift_chance);
        for (int i = 0; i < 2; i++) {
            const jt_audit_point *point = &a.points[i];
            assert_int_equal(point->masked, i ? 4 : 1);
            assert_true(point->top.kept < 0.2);
            /* B does not need it, and gets nothing from any expert. */
            assert_float_equal(point->top.b, a.whole.b, 1e-3);
            /* Without it the tokens of A are as likely as all others. */
            assert_true(point->top.a > a.whole.a + 1.5);
            assert_true(point->top.kept < point->random.kept);
            assert_float_equal(point->top.kept,
                               exp(a.whole.a - point->top.a + point->top.b - a.whole.b),
                               1e-9);
        }
        jt_audit_free(&a);
    }
}

/* Neuron 0 of the planted expert is all that gives something. */
static void test_the_neuron_is_found(void **state)
{
    const planted *p = *state;
    const float shares[] = {0.02f, 0.25f};
    jt_audit_options how = {.window = 32,
                            .windows = 32,
                            .shares = shares,
                            .n_shares = 2,
                            .draws = 8,
                            .targets = 0.125f,
                            .session = {.threads = 1}};
    jt_audit a = audit(p, &how, false);
    assert_int_equal(a.n_targets, 2);
    assert_int_equal(a.n_neurons, 2 * WIDTH);
    const jt_audit_neuron *first = &a.neurons[0];
    assert_int_equal(first->layer, LAYER);
    assert_int_equal(first->expert, PLANTED);
    assert_int_equal(first->neuron, 0);
    assert_true(first->mean_a > 1.0 && first->d > 2.0);
    assert_float_equal(a.neurons[1].d, 0.0, 1e-9); /* the others are silent anyway */
    assert_int_equal(a.neuron_points[0].masked, 1);
    assert_int_equal(a.neuron_points[1].masked, 12);
    for (int i = 0; i < 2; i++) {
        const jt_audit_point *point = &a.neuron_points[i];
        assert_true(point->top.kept < 0.2);
        assert_float_equal(point->top.b, a.whole.b, 1e-3);
        /* Without it the tokens of A are as likely as without its expert. */
        assert_float_equal(point->top.a, a.points[0].top.a, 0.05);
        assert_true(point->random.kept > point->top.kept);
    }
    jt_audit_free(&a);
    how.targets = -1.0f;
    a = audit(p, &how, false);
    assert_int_equal(a.n_neurons, 0);
    assert_null(a.neuron_points);
    jt_audit_free(&a);
}

/* The ranking of the model itself, and one turned round. */
static void test_a_related_model(void **state)
{
    const planted *p = *state;
    jt_audit_options how = {.window = 32,
                            .windows = 16,
                            .draws = 2,
                            .targets = -1.0f,
                            .session = {.threads = 1}};
    jt_audit_change change;
    jt_audit before = audit(p, &how, false);
    jt_audit other = audit(p, &how, true);
    how.related = &before;
    jt_audit same = audit(p, &how, false);
    for (size_t i = 0; i < same.n_points; i++)
        assert_memory_equal(&same.points[i].related, &same.points[i].top,
                            sizeof same.points[i].top);
    assert_int_equal(jt_audit_compare(&change, &before, &same, 0.05, NULL), JT_OK);
    assert_float_equal(change.correlation, 1.0, 1e-9);
    assert_float_equal(change.overlap, 1.0, 1e-12);
    assert_true(change.loss_a == 0 && change.fragility == 0 && !change.harder);
    /* What tells A from B is turned round, and B hangs on no expert. */
    assert_int_equal(jt_audit_compare(&change, &before, &other, 0.05, NULL), JT_OK);
    assert_float_equal(change.correlation, -1.0, 1e-9);
    assert_true(change.lost < -0.5 && change.fragility < 0);
    assert_true(change.harder ==
                (change.gini < 0 && change.loss_a <= 0.05 && change.loss_b <= 0.05));
    /* What is less fragile by a hair is not harder: masks take as much. */
    same.gini -= 0.001;
    same.points[0].fragility -= 0.001;
    assert_int_equal(jt_audit_compare(&change, &before, &same, 0.05, NULL), JT_OK);
    assert_true(change.gini < 0 && change.fragility < 0 && !change.harder);
    other.layers[0].n_experts++;
    how.related = &other;
    jt_audit out;
    jt_audit_texts texts = {p->text[0], p->count, p->text[1], p->count};
    assert_int_equal(jt_audit_run(&out, p->model, &texts, &how, NULL), JT_E_ARG);
    other.n_layers = 1;
    assert_int_equal(jt_audit_compare(&change, &before, &other, 0.05, NULL), JT_E_ARG);
    jt_audit_free(&before);
    jt_audit_free(&same);
    jt_audit_free(&other);
}

/* Where nothing is to be found: two halves of one text. */
static void test_nothing_is_found_where_nothing_is(void **state)
{
    const planted *p = *state;
    jt_audit out;
    const int32_t *text = p->text[1];
    jt_audit_texts texts = {text, p->count / 2, text + p->count / 2, p->count / 2};
    jt_audit_options how = {.window = 32, .session = {.threads = 1}};
    assert_int_equal(jt_audit_run(&out, p->model, &texts, &how, NULL), JT_OK);
    assert_true(out.auc > 0.3 && out.auc < 0.7);
    assert_true(out.shift < 2 * out.shift_chance);
    assert_true(out.significant <= 2);
    for (size_t i = 0; i < out.n_points; i++)
        assert_float_equal(out.points[i].top.kept, 1.0, 0.05);
    jt_audit_free(&out);
}

static void test_the_same_seed_gives_the_same(void **state)
{
    const planted *p = *state;
    jt_audit_options how = {
        .window = 32, .windows = 8, .draws = 2, .session = {.threads = 1}};
    jt_audit a = audit(p, &how, true), b = audit(p, &how, true);
    assert_int_equal(a.n_points, 5);
    assert_memory_equal(a.points, b.points, a.n_points * sizeof *a.points);
    assert_memory_equal(a.experts, b.experts, a.n_experts * sizeof *a.experts);
    jt_audit_free(&a);
    jt_audit_free(&b);
}

static void test_refusals(void **state)
{
    const planted *p = *state;
    jt_audit out;
    const float falling[] = {0.5f, 0.2f};
    const jt_audit_options wrong[] = {{.window = 1},
                                      {.draws = 1},
                                      {.windows = 7},
                                      {.shares = falling, .n_shares = 2},
                                      {.window = 1000}};
    jt_audit_texts texts = {p->text[0], 1000, p->text[1], 1000};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_err err = {0};
        assert_int_equal(jt_audit_run(&out, p->model, &texts, &wrong[i], &err),
                         JT_E_ARG);
        assert_true(err.msg[0] && !out.experts);
    }
}

/* ---- statistics ---- */

static void test_statistics(void **state)
{
    (void)state;
    double room[4];
    const double one[] = {0, 3, -1, 0}, all[] = {2, 2, 2, 2}, two[] = {1, 0, 1, 0};
    jt_concentration c = jt_concentration_of(one, 4, room);
    assert_float_equal(c.gini, 0.75, 1e-12);
    assert_float_equal(c.effective, 1, 1e-12);
    assert_float_equal(c.score, 1, 1e-12);
    c = jt_concentration_of(all, 4, room);
    assert_float_equal(c.gini, 0, 1e-12);
    assert_float_equal(c.effective, 4, 1e-12);
    assert_float_equal(c.score, 0, 1e-12);
    c = jt_concentration_of(two, 4, room);
    assert_float_equal(c.effective, 2, 1e-12);
    assert_float_equal(c.score, 0.5, 1e-12);

    const double falling[] = {3, 1, 0, -5};
    assert_float_equal(jt_top_share(falling, 4, 1), 0.75, 1e-12);
    assert_float_equal(jt_largest(one, 4, 2, room), 0, 1e-12);

    /* 2 and 5 with variances of 1 and 4 over 3 each. */
    const double x[] = {1, 2, 3}, y[] = {3, 5, 7};
    assert_float_equal(jt_welch(y, 3, x, 3), 3 / sqrt(1.0 / 3 + 4.0 / 3), 1e-12);
    assert_float_equal(jt_welch(x, 3, x, 3), 0, 1e-12);
    assert_true(isinf(jt_welch(all, 4, (const double[]){1, 1}, 2)));
    assert_float_equal(jt_area(x, 3, y, 3), 0.5 / 9, 1e-12);

    /* p of 0.001, 0.2, 0.03 and 0.04: q of 0.004, 0.2, 0.0533.. twice. */
    const double z[] = {3.2905267315, -1.2815515655, 2.1700903776, -2.0537489106};
    size_t order[4];
    jt_discoveries(z, room, order, 4);
    assert_float_equal(room[0], 0.004, 1e-6);
    assert_float_equal(room[1], 0.2, 1e-6);
    assert_float_equal(room[2], 0.16 / 3, 1e-6);
    assert_float_equal(room[3], 0.16 / 3, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_expert_is_found),
        cmocka_unit_test(test_the_neuron_is_found),
        cmocka_unit_test(test_a_related_model),
        cmocka_unit_test(test_nothing_is_found_where_nothing_is),
        cmocka_unit_test(test_the_same_seed_gives_the_same),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_statistics),
    };
    return cmocka_run_group_tests(tests, open_planted, close_planted);
}
