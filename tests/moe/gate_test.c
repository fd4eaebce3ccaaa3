/* Gates against their formulas, and experts of every form: with biases, gate and up in
 * one tensor, no gate, weights on the input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "moe/gate.h"
#include "moe/mixture.h"
#include "store/mapped.h"

enum { TOKENS = 19, EXPERTS = 6, K = 3, D = 24, WIDTH = 20 };

static jt_rng rng = {.seed = 9};

static int setup(void **state)
{
    jt_context *ctx = malloc(sizeof *ctx);
    *state = ctx;
    return jt_context_init(ctx, 2, "scalar", NULL) == JT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    jt_context_free(*state);
    free(*state);
    return 0;
}

/* ---- gates ---- */

static void sqrt_softplus_is_its_formula(void **state)
{
    jt_context *ctx = *state;
    const float logits[] = {-INFINITY, -90.0f, -3.0f, 0.0f, 2.0f, 19.9f, 20.1f, 1e30f};
    float scores[8];
    jt_gate(ctx->kernels, JT_GATE_SQRT_SOFTPLUS, scores, logits, 8);
    assert_true(scores[0] == 0.0f);
    for (int i = 1; i < 8; i++) {
        double x = (double)logits[i], softplus = x > 700 ? x : log1p(exp(x));
        assert_true(fabs((double)scores[i] / sqrt(softplus) - 1.0) < 1e-6);
    }
}

static void gates_are_undone(void **state)
{
    jt_context *ctx = *state;
    for (int gating = 0; gating < JT_GATE_COUNT; gating++) {
        float logits[D], scores[D], back[D];
        jt_rng_normals(&rng, logits, D);
        jt_gate(ctx->kernels, (jt_gating)gating, scores, logits, D);
        jt_gate_inverse((jt_gating)gating, back, scores, D);
        for (int i = 0; i < D; i++) /* of a softmax up to a constant */
            assert_true(fabsf(back[i] - back[0] - (logits[i] - logits[0])) < 1e-3f);
        memset(scores, 0, sizeof scores);
        scores[0] = 1.0f;
        jt_gate_inverse((jt_gating)gating, back, scores, D);
        for (int i = 1; i < D; i++)
            assert_true(isfinite(back[i]) && back[i] < back[0]);
    }
}

/* The j-th weight as in the paper: a softmax of what is left and near, with masks. */
static double sparse_weight(const float *logits, const int32_t *chosen, int j)
{
    bool in[EXPERTS];
    double max = -INFINITY, sum = 0.0;
    for (int e = 0; e < EXPERTS; e++) {
        in[e] = logits[e] != -INFINITY;
        for (int before = 0; before < j; before++)
            in[e] = in[e] && chosen[before] != e;
        max = in[e] ? fmax(max, (double)logits[e]) : max;
    }
    for (int e = 0; e < EXPERTS; e++) {
        double s = (double)logits[e];
        in[e] = in[e] && (max - s) / fmax(fabs(s), max) <= 0.02;
        sum += in[e] ? exp(s - max) : 0.0;
    }
    return in[chosen[j]] ? exp((double)logits[chosen[j]] - max) / sum : 0.0;
}

static void sparsemixer_is_its_formula(void **state)
{
    (void)state;
    for (int trial = 0; trial < 200; trial++) {
        float logits[EXPERTS], weight[K];
        const int32_t chosen[K] = {4, 1, trial % 3 ? 2 : -1};
        for (int e = 0; e < EXPERTS; e++) /* all near, so that masks matter */
            logits[e] = (trial % 2 ? 5.0f : -5.0f) + 0.06f * jt_rng_normal(&rng);
        if (trial % 5 == 0)
            logits[0] = -INFINITY;
        jt_sparsemixer(logits, EXPERTS, chosen, K, weight);
        for (int j = 0; j < K; j++) {
            double truth = chosen[j] < 0 ? 0.0 : sparse_weight(logits, chosen, j);
            assert_true(fabs((double)weight[j] - truth) < 1e-5);
        }
    }
}

/* ---- experts ---- */

static jt_tensor stack(jt_context *ctx, size_t rows, size_t cols)
{
    jt_tensor t = jt_new(ctx, EXPERTS * rows, cols);
    jt_rng_normals(&rng, t.data, EXPERTS * rows * cols);
    t.n_dims = 3;
    memcpy(t.shape, (size_t[]){EXPERTS, rows, cols}, 3 * sizeof(size_t));
    return t;
}

static jt_tensor biases(jt_context *ctx, size_t n)
{
    jt_tensor t = jt_new(ctx, EXPERTS, n);
    jt_rng_normals(&rng, t.data, EXPERTS * n);
    return t;
}

static double inner(const jt_bank *bank, int part, int e, size_t row, const double *x)
{
    jt_tensor w = jt_slice(&bank->part[part], (size_t)e);
    double sum = 0.0;
    for (size_t i = 0; i < jt_cols(&w); i++)
        sum += (double)jt_row(&w, row)[i] * x[i];
    if (jt_has(&bank->bias[part]))
        sum += (double)jt_row(&bank->bias[part], (size_t)e)[row];
    return sum;
}

static double activation(jt_activation f, double v)
{
    if (f == JT_RELU2)
        return v < 0.0 ? 0.0 : v * v;
    return v / (1.0 + exp(-(f == JT_SWIGLU_OAI ? 1.702 : 1.0) * v));
}

/* y += weight * expert(x) */
static void reference(const jt_bank *bank, int e, const double *x, double weight,
                      double *y)
{
    double h[WIDTH];
    bool oai = bank->activation == JT_SWIGLU_OAI;
    for (size_t j = 0; j < WIDTH; j++) {
        bool plain = !jt_has(&bank->part[JT_PART_GATE]);
        double g = inner(bank, plain ? JT_PART_UP : JT_PART_GATE, e, j, x);
        double u = plain         ? 1.0
                   : bank->fused ? inner(bank, JT_PART_GATE, e, WIDTH + j, x)
                                 : inner(bank, JT_PART_UP, e, j, x);
        g = oai ? fmin(g, 7.0) : g;
        u = oai ? fmax(fmin(u, 7.0), -7.0) + 1.0 : u;
        h[j] = activation(bank->activation, g) * u;
    }
    for (size_t i = 0; i < D; i++)
        y[i] += weight * inner(bank, JT_PART_DOWN, e, i, h);
}

typedef struct seen {
    int32_t expert[TOKENS * K];
    float weight[TOKENS * K];
} seen;

static void watch(void *self, const jt_route_site *site, const jt_route *route)
{
    seen *s = self;
    (void)site;
    memcpy(s->expert, route->expert, sizeof s->expert);
    memcpy(s->weight, route->weight, sizeof s->weight);
}

static void check(jt_context *ctx, const jt_mixture *m)
{
    seen s;
    jt_hooks hooks = {.watcher = {{.name = "watch", .self = &s, .on_route = watch}},
                      .n_watchers = 1};
    jt_route_site site = {0};
    jt_tensor tokens = jt_new(ctx, TOKENS, D);
    jt_rng_normals(&rng, tokens.data, TOKENS * D);
    jt_input x = jt_input_of(tokens);
    jt_tensor y = jt_mixture_forward(ctx, m, &jt_store_mapped, &hooks, &site, &x);
    assert_int_equal(ctx->err.code, JT_OK);
    for (size_t t = 0; t < TOKENS; t++) {
        double expected[D] = {0}, error = 0.0, size = 0.0;
        for (size_t slot = t * K; slot < (t + 1) * K; slot++) {
            double row[D], weight = (double)s.weight[slot];
            for (size_t i = 0; i < D; i++)
                row[i] = (double)jt_row(&tokens, t)[i] *
                         (m->router.weigh_input ? weight : 1.0);
            reference(&m->experts, s.expert[slot], row,
                      m->router.weigh_input ? 1.0 : weight, expected);
        }
        for (size_t i = 0; i < D; i++) {
            double scale = m->scale > 0.0f ? (double)m->scale : 1.0;
            error = fmax(error, fabs((double)jt_row(&y, t)[i] - scale * expected[i]));
            size = fmax(size, fabs(scale * expected[i]));
        }
        assert_true(error <= 1e-5 * size + 1e-6);
    }
}

static void every_form_of_expert(void **state)
{
    jt_context *ctx = *state;
    jt_mixture m = {.router = {.scorer = jt_scorer_find("linear"),
                               .selector = jt_selector_find("topk"),
                               .n_experts = EXPERTS,
                               .k = K,
                               .weight = jt_new(ctx, EXPERTS, D),
                               .scale = 1.0f}};
    jt_rng_normals(&rng, m.router.weight.data, EXPERTS * D);
    m.experts = (jt_bank){
        .kind = jt_expert_kind_find("ffn"),
        .n_experts = EXPERTS,
        .d = D,
        .width = WIDTH,
        .activation = JT_SWIGLU_OAI,
        .part = {stack(ctx, WIDTH, D), stack(ctx, WIDTH, D), stack(ctx, D, WIDTH)},
        .bias = {biases(ctx, WIDTH), biases(ctx, WIDTH), biases(ctx, D)}};
    check(ctx, &m);
    m.router.weigh_input = true;
    m.scale = 0.7f;
    check(ctx, &m);
    m.experts.activation = JT_SILU;
    m.experts.fused = true;
    m.experts.part[JT_PART_GATE] = stack(ctx, 2 * WIDTH, D);
    m.experts.bias[JT_PART_GATE] = biases(ctx, 2 * WIDTH);
    m.experts.part[JT_PART_UP] = m.experts.bias[JT_PART_UP] = (jt_tensor){0};
    check(ctx, &m);
    m.experts.activation = JT_RELU2;
    m.experts.fused = false;
    m.experts.part[JT_PART_UP] = stack(ctx, WIDTH, D);
    m.experts.part[JT_PART_GATE] = m.experts.bias[JT_PART_GATE] = (jt_tensor){0};
    check(ctx, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sqrt_softplus_is_its_formula, setup, teardown),
        cmocka_unit_test_setup_teardown(gates_are_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(sparsemixer_is_its_formula, setup, teardown),
        cmocka_unit_test_setup_teardown(every_form_of_expert, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
