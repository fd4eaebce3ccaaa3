/* Gradients of the router against central differences, for every scorer and gate; and
 * what training adds to it. Selection is fixed: which expert was chosen has no
 * gradient. The loss is a fixed random sum of the weights and of the scores. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "moe/mixture.h"
#include "moe/plan.h"
#include "tensor/tape.h"

enum { TOKENS = 23, D = 17, EXPERTS = 5, NULLS = 3, ROWS = EXPERTS + NULLS, K = 4 };

/* Distinct rows of the router and free slots: another mix in each token, one with free
 * slots only, one with null experts only. */
static void choose_fixed(jt_context *ctx, const jt_choice *choice)
{
    (void)ctx;
    for (int t = 0; t < TOKENS; t++) {
        for (int j = 0; j < K; j++) {
            int32_t row = (t + (t % 3 + 1) * j * 3) % ROWS;
            bool empty = t == 4 || (t + j) % 5 == 0;
            row = t == 6 ? EXPERTS + j % NULLS : row;
            choice->route->expert[t * K + j] = empty ? -1 : row;
        }
    }
}

static const jt_selector fixed = {"fixed", NULL, choose_fixed};

typedef struct setting {
    jt_context ctx;
    jt_router router;
    jt_tensor x;
    jt_route_site site;
    bool with_scores; /* the loss has them */
} setting;

static jt_tensor parameter(jt_rng *rng, size_t rows, size_t cols, float size)
{
    jt_tensor t = {.dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
    t.data = malloc(rows * cols * sizeof(float));
    t.grad = calloc(rows * cols, sizeof(float));
    jt_rng_normals(rng, t.data, rows * cols);
    for (size_t i = 0; i < rows * cols; i++)
        ((float *)t.data)[i] *= size;
    return t;
}

/* The fixed sum, in double, and its gradients into the route and the scores. */
static double sum_up(setting *s, jt_route *route, jt_tensor *scores)
{
    jt_rng rng = {.seed = 77};
    double sum = 0.0;
    for (int i = 0; i < TOKENS * K; i++) {
        float c = jt_rng_normal(&rng);
        sum += route->expert[i] >= 0 ? (double)c * (double)route->weight[i] : 0.0;
        if (route->weight_grad && route->expert[i] >= 0)
            route->weight_grad[i] = c;
    }
    for (int i = 0; i < TOKENS * ROWS && s->with_scores; i++) {
        float c = jt_rng_normal(&rng);
        sum += (double)c * (double)((float *)scores->data)[i];
        if (scores->grad)
            scores->grad[i] = c;
    }
    return sum;
}

static double loss_of(setting *s, bool gradients)
{
    static const jt_hooks none;
    jt_context *ctx = &s->ctx;
    jt_tape tape = {0};
    ctx->tape = gradients ? &tape : NULL;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_input x = jt_input_of(s->x);
    jt_tensor logits, scores = jt_new(ctx, TOKENS, ROWS);
    jt_route route = jt_route_new(ctx, TOKENS, EXPERTS, K);
    jt_router_score(ctx, &s->router, &s->site, &x, &logits);
    jt_router_select(ctx, &s->router, &none, &s->site, &logits, &scores, &route);
    assert_int_equal(ctx->err.code, JT_OK);
    double sum = sum_up(s, &route, &scores);
    for (int i = 0; i < TOKENS * K; i++) { /* as a policy might */
        route.expert[i] = 0;
        route.weight[i] = 9.0f;
    }
    if (gradients)
        jt_tape_backward(ctx);
    assert_int_equal(ctx->err.code, JT_OK);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return sum;
}

/* Slope along a random direction against the gradient's. */
static void check_input(setting *s, jt_tensor *t, jt_rng *rng, const char *what)
{
    const float step = 2e-3f;
    size_t n = jt_rows(t) * jt_cols(t);
    float *x = t->data, *origin = malloc(n * sizeof *x), *way = malloc(n * sizeof *x);
    double slope = 0.0, size = 0.0, loss[2];
    memcpy(origin, x, n * sizeof *x);
    jt_rng_normals(rng, way, n);
    for (size_t i = 0; i < n; i++) {
        slope += (double)t->grad[i] * (double)way[i];
        size += pow((double)t->grad[i], 2.0);
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            x[i] = origin[i] + (side ? -step : step) * way[i];
        loss[side] = loss_of(s, false);
    }
    memcpy(x, origin, n * sizeof *x);
    double measured = (loss[0] - loss[1]) / (2.0 * (double)step);
    /* two F32 sums of about 1e-6 each, and the third derivative */
    if (fabs(measured - slope) > 2e-3 * sqrt(size) + 1e-3)
        fail_msg("%s of %s: gradient says %.6g, difference %.6g (norm %.3g)", what,
                 s->router.scorer->name, slope, measured, sqrt(size));
    assert_true(size > 0.0);
    free(origin);
    free(way);
}

static void clear(jt_tensor *t)
{
    memset(t->grad, 0, jt_rows(t) * jt_cols(t) * sizeof(float));
}

static void check_setting(setting *s, jt_rng *rng)
{
    jt_tensor *inputs[] = {&s->x, &s->router.weight, &s->router.bias};
    static const char *const names[] = {"x", "weight", "bias"};
    for (int i = 0; i < 3; i++)
        clear(inputs[i]);
    loss_of(s, true);
    for (int i = 0; i < 3; i++) {
        for (int trial = 0; trial < 2; trial++)
            check_input(s, inputs[i], rng, names[i]);
    }
}

static int setup(void **state)
{
    jt_rng rng = {.seed = 3};
    setting *s = calloc(1, sizeof *s);
    *state = s;
    s->x = parameter(&rng, TOKENS, D, 1.0f);
    s->router = (jt_router){.scorer = jt_scorer_find("linear"),
                            .selector = &fixed,
                            .n_experts = EXPERTS,
                            .n_null = NULLS,
                            .k = K,
                            .weight = parameter(&rng, ROWS, D, 0.3f),
                            .bias = parameter(&rng, 1, ROWS, 0.3f),
                            .scale = 1.5f,
                            .temperature = 0.5f};
    s->with_scores = true;
    return jt_context_init(&s->ctx, 2, NULL, NULL) == JT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    setting *s = *state;
    jt_tensor *inputs[] = {&s->x, &s->router.weight, &s->router.bias};
    for (int i = 0; i < 3; i++) {
        free(inputs[i]->data);
        free(inputs[i]->grad);
    }
    jt_context_free(&s->ctx);
    free(s);
    return 0;
}

static void every_scorer_and_gate(void **state)
{
    setting *s = *state;
    jt_rng rng = {.seed = 4};
    for (int form = 0; form < 48; form++) {
        s->router.scorer = jt_scorer_find(form & 1 ? "cosine" : "linear");
        s->router.renormalise = form & 2;
        s->router.gate_after = form & 4;
        s->with_scores = form & 8;
        s->router.gating = (jt_gating)(form / 16); /* SparseMixer: in phimoe */
        check_setting(s, &rng);
    }
}

static void with_caps_and_scales(void **state)
{
    setting *s = *state;
    jt_rng rng = {.seed = 7};
    s->router.softcap = 0.7f;
    s->router.sum_eps = 0.2f;
    s->router.renormalise = true;
    s->router.expert_scale = parameter(&rng, 1, EXPERTS, 1.0f);
    ((float *)s->router.expert_scale.data)[1] = 0.0f; /* has a slope, too */
    check_setting(s, &rng);
    clear(&s->router.expert_scale);
    loss_of(s, true);
    check_input(s, &s->router.expert_scale, &rng, "expert scale");
    free(s->router.expert_scale.data);
    free(s->router.expert_scale.grad);
}

static void with_jitter_noise_and_capacity(void **state)
{
    setting *s = *state;
    jt_rng rng = {.seed = 5};
    s->router.jitter = 0.3f;
    s->router.noise = 0.5f;
    s->router.capacity = 0.5f;
    s->router.drop_position = true; /* the lowest score may change on the way */
    s->router.renormalise = true;
    s->site = (jt_route_site){.layer = 3, .draw = 99};
    check_setting(s, &rng);
    s->router.scorer = jt_scorer_find("cosine");
    check_setting(s, &rng);
}

/* A router that is not trained (SMoE-Dropout) passes gradients on to its input. */
static void frozen_router(void **state)
{
    setting *s = *state;
    float *weight_grad = s->router.weight.grad, *bias_grad = s->router.bias.grad;
    jt_rng rng = {.seed = 6};
    for (int cosine = 0; cosine < 2; cosine++) {
        s->router.scorer = jt_scorer_find(cosine ? "cosine" : "linear");
        s->router.weight.grad = s->router.bias.grad = NULL;
        clear(&s->x);
        loss_of(s, true);
        check_input(s, &s->x, &rng, "x");
        s->router.weight.grad = weight_grad;
        s->router.bias.grad = bias_grad;
    }
}

/* ---- scores, forward ---- */

static jt_tensor score(setting *s, uint64_t draw, int layer)
{
    jt_input x = jt_input_of(s->x);
    jt_tensor logits;
    jt_route_site site = {.layer = layer, .draw = draw};
    jt_router_score(&s->ctx, &s->router, &site, &x, &logits);
    assert_int_equal(s->ctx.err.code, JT_OK);
    return logits;
}

static void cosine_is_the_cosine(void **state)
{
    setting *s = *state;
    s->router.scorer = jt_scorer_find("cosine");
    jt_tensor logits = score(s, 0, 0);
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t e = 0; e < ROWS; e++) {
            const float *x = jt_row(&s->x, t), *w = jt_row(&s->router.weight, e);
            double dot = 0.0, xx = 0.0, ww = 0.0;
            for (size_t i = 0; i < D; i++) {
                dot += (double)x[i] * (double)w[i];
                xx += (double)x[i] * (double)x[i];
                ww += (double)w[i] * (double)w[i];
            }
            double expected =
                dot / sqrt(xx * ww) / 0.5 + (double)jt_row(&s->router.bias, 0)[e];
            assert_true(fabs((double)jt_row(&logits, t)[e] - expected) < 1e-5);
        }
    }
}

/* Noise with the deviation that was asked for, the same again for a replay, another for
 * each draw and layer, none outside training. */
static void noise_is_drawn_for_training(void **state)
{
    setting *s = *state;
    size_t bytes = TOKENS * ROWS * sizeof(float);
    jt_tensor plain = score(s, 0, 1);
    s->router.noise = 0.1f;
    jt_tensor quiet = score(s, 0, 1), noisy = score(s, 8, 1);
    assert_memory_equal(quiet.data, plain.data, bytes);
    assert_memory_equal(score(s, 8, 1).data, noisy.data, bytes);
    assert_memory_not_equal(score(s, 9, 1).data, noisy.data, bytes);
    assert_memory_not_equal(score(s, 8, 2).data, noisy.data, bytes);
    double square = 0.0;
    for (size_t i = 0; i < TOKENS * ROWS; i++)
        square += pow(
            (double)((float *)noisy.data)[i] - (double)((float *)plain.data)[i], 2.0);
    assert_true(fabs(sqrt(square / (TOKENS * ROWS)) - 0.1) < 0.02);
}

/* With a router that looks at one value each, the factors show. */
static void jitter_multiplies_the_input(void **state)
{
    setting *s = *state;
    float low = 2.0f, high = 0.0f;
    memset(s->router.weight.data, 0, ROWS * D * sizeof(float));
    memset(s->router.bias.data, 0, ROWS * sizeof(float));
    for (size_t e = 0; e < ROWS; e++)
        jt_row(&s->router.weight, e)[2 * e] = 1.0f;
    s->router.jitter = 0.2f;
    jt_tensor logits = score(s, 8, 1), again = score(s, 8, 1), plain = score(s, 0, 1);
    assert_memory_equal(again.data, logits.data, TOKENS * ROWS * sizeof(float));
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t e = 0; e < ROWS; e++) {
            float x = jt_row(&s->x, t)[2 * e], factor = jt_row(&logits, t)[e] / x;
            assert_true(fabsf(jt_row(&plain, t)[e] - x) < 1e-6f);
            low = fminf(low, factor);
            high = fmaxf(high, factor);
        }
    }
    assert_true(low > 0.7999f && low < 0.83f);
    assert_true(high < 1.2001f && high > 1.17f);
}

/* A token all of whose experts are out: zeros, and gradients that are numbers. */
static void nothing_to_choose(void **state)
{
    setting *s = *state;
    static const jt_hooks none;
    jt_context *ctx = &s->ctx;
    jt_tape tape = {0};
    s->router.selector = jt_selector_find("topk");
    for (int form = 0; form < 8; form++) {
        s->router.gating = form & 1 ? JT_GATE_SIGMOID : JT_GATE_SOFTMAX;
        s->router.renormalise = form & 2;
        s->router.gate_after = form & 4;
        ctx->tape = &tape;
        jt_tensor logits = jt_new(ctx, 1, ROWS), scores = jt_new(ctx, 1, ROWS);
        jt_route route = jt_route_new(ctx, 1, EXPERTS, K);
        for (size_t e = 0; e < ROWS; e++) {
            jt_row(&logits, 0)[e] = -INFINITY;
            scores.grad[e] = 1.0f;
        }
        jt_router_select(ctx, &s->router, &none, &s->site, &logits, &scores, &route);
        jt_tape_backward(ctx);
        ctx->tape = NULL;
        assert_int_equal(ctx->err.code, JT_OK);
        for (int j = 0; j < K; j++) {
            assert_int_equal(route.expert[j], -1);
            assert_true(route.weight[j] == 0.0f);
        }
        for (size_t e = 0; e < ROWS; e++)
            assert_true(jt_row(&scores, 0)[e] == 0.0f && logits.grad[e] == 0.0f);
    }
}

#define GRAD(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GRAD(every_scorer_and_gate),          GRAD(with_caps_and_scales),
        GRAD(with_jitter_noise_and_capacity), GRAD(frozen_router),
        GRAD(cosine_is_the_cosine),           GRAD(noise_is_drawn_for_training),
        GRAD(jitter_multiplies_the_input),    GRAD(nothing_to_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
