/* The five stages by themselves, against their definitions written as plain loops. */
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
#include "store/mapped.h"
#include "tensor/tape.h"

enum { TOKENS = 37, EXPERTS = 12, K = 3, D = 24, WIDTH = 20 };

static jt_rng rng = {.seed = 42};

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

static jt_tensor random_tensor(jt_context *ctx, size_t a, size_t b, size_t c)
{
    jt_tensor t = jt_new(ctx, a * b, c);
    jt_rng_normals(&rng, t.data, a * b * c);
    t.n_dims = a > 1 ? 3 : 2;
    if (a > 1)
        memcpy(t.shape, (size_t[]){a, b, c}, 3 * sizeof(size_t));
    return t;
}

static void random_route(jt_route *route)
{
    for (int s = 0; s < route->n_tokens * route->k; s++) {
        route->expert[s] =
            (int32_t)jt_rng_below(&rng, (uint32_t)route->n_experts + 1) - 1;
        route->weight[s] = jt_rng_float(&rng);
    }
}

/* ---- plan --------------------------------------------------------------------------
 */

static void plan_holds_every_used_slot_once(void **state)
{
    jt_context *ctx = *state;
    jt_route route = jt_route_new(ctx, TOKENS, EXPERTS, K);
    random_route(&route);
    route.expert[5] = EXPERTS + 3; /* out of range, as a careless policy may leave it */
    jt_plan plan = jt_plan_build(ctx, &route);
    int used = 0;
    for (int s = 0; s < TOKENS * K; s++) {
        int32_t e = route.expert[s], row = plan.row[s];
        if (e < 0 || e >= EXPERTS) {
            assert_int_equal(row, -1);
            continue;
        }
        used++;
        assert_in_range(row, plan.start[e], plan.start[e + 1] - 1);
        assert_int_equal(plan.token[row], s / K);
        assert_true(plan.weight[row] == route.weight[s]);
    }
    assert_int_equal(plan.n_rows, used);
    assert_int_equal(plan.start[0], 0);
    for (int e = 0; e < EXPERTS; e++) {
        for (int r = plan.start[e] + 1; r < plan.start[e + 1]; r++)
            assert_true(plan.token[r - 1] <= plan.token[r]);
    }
}

static void plan_of_everyone(void **state)
{
    jt_plan plan = jt_plan_everyone(*state, 4);
    assert_int_equal(plan.n_rows, 4);
    for (int t = 0; t < 4; t++) {
        assert_int_equal(plan.token[t], t);
        assert_int_equal(plan.row[t], t);
        assert_true(plan.weight[t] == 1.0f);
    }
}

/* ---- select ------------------------------------------------------------------------
 */

static jt_route select_one(jt_context *ctx, const jt_router *router, float *logits)
{
    jt_tensor in = {.data = logits,
                    .dtype = JT_F32,
                    .n_dims = 2,
                    .shape = {1, (size_t)router->n_experts}};
    jt_tensor scores = jt_new(ctx, 1, (size_t)router->n_experts);
    jt_route route = jt_route_new(ctx, 1, router->n_experts, router->k);
    static const jt_hooks none;
    jt_route_site site = {0};
    jt_router topk = *router;
    topk.selector = jt_selector_find("topk");
    jt_router_select(ctx, &topk, &none, &site, &in, &scores, &route);
    assert_int_equal(ctx->err.code, JT_OK);
    return route;
}

static void assert_near(double a, double b)
{
    if (fabs(a - b) > 1e-6)
        fail_msg("%.9g is not %.9g", a, b);
}

static void softmax_with_and_without_renormalising(void **state)
{
    float logits[4] = {1.0f, 3.0f, 2.0f, -1.0f};
    jt_router router = {.n_experts = 4, .k = 2, .scale = 2.0f};
    double e1 = exp(3.0), e2 = exp(2.0), sum = exp(1.0) + e1 + e2 + exp(-1.0);
    jt_route plain = select_one(*state, &router, logits);
    assert_int_equal(plain.expert[0], 1);
    assert_int_equal(plain.expert[1], 2);
    assert_near(plain.weight[0], 2.0 * e1 / sum);
    assert_near(plain.weight[1], 2.0 * e2 / sum);
    assert_near(plain.scores[0], exp(1.0) / sum);
    router.renormalise = true;
    jt_route whole = select_one(*state, &router, logits);
    assert_near(whole.weight[0], 2.0 * e1 / (e1 + e2));
    assert_near(whole.weight[1], 2.0 * e2 / (e1 + e2));
}

static void sigmoid_and_selection_bias(void **state)
{
    float logits[4] = {0.5f, 1.0f, -0.5f, 0.0f}, bias[4] = {0.0f, -1.0f, 0.9f, 0.0f};
    jt_router router = {
        .n_experts = 4,
        .k = 2,
        .scale = 1.0f,
        .gating = JT_GATE_SIGMOID,
        .selection_bias = {.data = bias, .dtype = JT_F32, .n_dims = 1, .shape = {4}}};
    jt_route route = select_one(*state, &router, logits);
    /* the bias decides who is chosen, the unbiased score is the weight */
    assert_int_equal(route.expert[0], 2);
    assert_int_equal(route.expert[1], 0);
    assert_near(route.weight[0], 1.0 / (1.0 + exp(0.5)));
    assert_near(route.weight[1], 1.0 / (1.0 + exp(-0.5)));
}

static void gating_after_the_choice(void **state)
{
    float logits[3] = {2.0f, 1.0f, 4.0f};
    jt_router router = {.n_experts = 3, .k = 2, .scale = 1.0f, .gate_after = true};
    jt_route soft = select_one(*state, &router, logits);
    assert_int_equal(soft.expert[0], 2);
    assert_near(soft.weight[0], exp(4.0) / (exp(4.0) + exp(2.0)));
    router.gating = JT_GATE_SIGMOID;
    jt_route sigmoid = select_one(*state, &router, logits);
    assert_near(sigmoid.weight[1], 1.0 / (1.0 + exp(-2.0)));
}

static void masked_experts_and_ties(void **state)
{
    float ties[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    float masked[4] = {-INFINITY, 1.0f, -INFINITY, -INFINITY};
    float broken[4] = {NAN, NAN, NAN, NAN};
    jt_router router = {.n_experts = 4, .k = 2, .scale = 1.0f, .renormalise = true};
    jt_route low_first = select_one(*state, &router, ties);
    assert_int_equal(low_first.expert[0], 0);
    assert_int_equal(low_first.expert[1], 1);
    jt_route one = select_one(*state, &router, masked);
    assert_int_equal(one.expert[0], 1);
    assert_int_equal(one.expert[1], -1);
    assert_near(one.weight[0], 1.0);
    assert_true(one.weight[1] == 0.0f);
    jt_route any = select_one(*state, &router, broken); /* valid ids, whatever else */
    assert_in_range(any.expert[0], 0, 3);
    assert_in_range(any.expert[1], 0, 3);
    assert_true(any.expert[0] != any.expert[1]);
}

/* ---- the whole layer ---------------------------------------------------------------
 */

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

/* y += weight * expert(x), as written in the paper. */
static void reference_expert(const jt_bank *bank, int e, const float *x, double weight,
                             double *y)
{
    jt_tensor gate = jt_slice(&bank->part[JT_PART_GATE], (size_t)e);
    jt_tensor up = jt_slice(&bank->part[JT_PART_UP], (size_t)e);
    jt_tensor down = jt_slice(&bank->part[JT_PART_DOWN], (size_t)e);
    double h[WIDTH];
    for (size_t j = 0; j < WIDTH; j++) {
        double g = 0.0, u = 0.0;
        for (size_t i = 0; i < D; i++) {
            g += (double)jt_row(&gate, j)[i] * x[i];
            u += (double)jt_row(&up, j)[i] * x[i];
        }
        h[j] = silu(g) * u;
    }
    for (size_t i = 0; i < D; i++) {
        for (size_t j = 0; j < WIDTH; j++)
            y[i] += weight * h[j] * jt_row(&down, i)[j];
    }
}

static jt_bank random_bank(jt_context *ctx, size_t experts)
{
    jt_bank bank = {.kind = jt_expert_kind_find("ffn"),
                    .n_experts = (int)experts,
                    .d = D,
                    .width = WIDTH,
                    .part = {random_tensor(ctx, experts, WIDTH, D),
                             random_tensor(ctx, experts, WIDTH, D),
                             random_tensor(ctx, experts, D, WIDTH)}};
    for (int p = 0; p < JT_PARTS; p++) { /* a bank of one is stacked, too */
        size_t shape[3] = {experts, p == JT_PART_DOWN ? D : WIDTH,
                           p == JT_PART_DOWN ? WIDTH : D};
        bank.part[p].n_dims = 3;
        memcpy(bank.part[p].shape, shape, sizeof shape);
    }
    return bank;
}

typedef struct seen {
    int policies, watchers;
    jt_route route;
    int32_t expert[TOKENS * K];
    float weight[TOKENS * K];
} seen;

static void watch(void *self, const jt_route_site *site, const jt_route *route)
{
    seen *s = self;
    assert_int_equal(site->layer, 5);
    assert_non_null(route->picked); /* selection is done */
    s->watchers++;
    s->route = *route;
    memcpy(s->expert, route->expert, sizeof s->expert);
    memcpy(s->weight, route->weight, sizeof s->weight);
}

static void mask_first(void *self, const jt_route_site *site, float *logits,
                       int n_tokens, int n_experts)
{
    (void)site;
    ((seen *)self)->policies++;
    for (int t = 0; t < n_tokens; t++)
        logits[t * n_experts] = -INFINITY;
}

static void drop_last_slot(void *self, const jt_route_site *site, jt_route *route)
{
    (void)site;
    ((seen *)self)->policies++;
    for (int t = 0; t < route->n_tokens; t++)
        route->expert[t * route->k + route->k - 1] = -1;
}

static void check_layer(jt_context *ctx, const jt_mixture *m, const jt_hooks *hooks,
                        const seen *s, size_t tokens)
{
    jt_route_site site = {.layer = 5};
    jt_input x = jt_input_of(random_tensor(ctx, 1, tokens, D));
    jt_tensor y = jt_mixture_forward(ctx, m, &jt_store_mapped, hooks, &site, &x);
    assert_int_equal(ctx->err.code, JT_OK);
    for (size_t t = 0; t < tokens; t++) {
        const float *row = jt_row(&x.x, t);
        double expected[D] = {0}, gate = 0.0, error = 0.0, size = 0.0;
        for (int j = 0; j < K; j++) {
            int32_t e = s->expert[t * K + (size_t)j];
            if (e >= 0)
                reference_expert(&m->experts, e, row, s->weight[t * K + (size_t)j],
                                 expected);
        }
        for (size_t i = 0; i < D && jt_has(&m->shared_gate); i++)
            gate += (double)jt_row(&m->shared_gate, 0)[i] * row[i];
        if (m->shared.n_experts)
            reference_expert(&m->shared, 0, row,
                             jt_has(&m->shared_gate) ? 1.0 / (1.0 + exp(-gate)) : 1.0,
                             expected);
        for (size_t i = 0; i < D; i++) {
            error = fmax(error, fabs(jt_row(&y, t)[i] - expected[i]));
            size = fmax(size, fabs(expected[i]));
        }
        assert_true(error <= 1e-5 * size + 1e-6);
    }
}

static void layer_equals_its_definition(void **state)
{
    jt_context *ctx = *state;
    seen s = {0};
    jt_hooks hooks = {.watcher = {{.name = "watch", .self = &s, .on_route = watch}},
                      .n_watchers = 1};
    jt_mixture m = {.router = {.scorer = jt_scorer_find("linear"),
                               .selector = jt_selector_find("topk"),
                               .n_experts = EXPERTS,
                               .k = K,
                               .weight = random_tensor(ctx, 1, EXPERTS, D),
                               .scale = 1.0f},
                    .experts = random_bank(ctx, EXPERTS)};
    check_layer(ctx, &m, &hooks, &s, TOKENS);
    assert_int_equal(s.watchers, 1);
    m.shared = random_bank(ctx, 1);
    check_layer(ctx, &m, &hooks, &s, TOKENS);
    m.shared_gate = random_tensor(ctx, 1, 1, D);
    m.router.renormalise = true;
    check_layer(ctx, &m, &hooks, &s, 1);
}

static void policies_change_the_route(void **state)
{
    jt_context *ctx = *state;
    seen s = {0};
    jt_hooks hooks = {
        .policy = {{.name = "mask", .self = &s, .on_logits = mask_first},
                   {.name = "drop", .self = &s, .on_route = drop_last_slot}},
        .watcher = {{.name = "watch", .self = &s, .on_route = watch}},
        .n_policies = 2,
        .n_watchers = 1};
    jt_mixture m = {.router = {.scorer = jt_scorer_find("linear"),
                               .selector = jt_selector_find("topk"),
                               .n_experts = EXPERTS,
                               .k = K,
                               .weight = random_tensor(ctx, 1, EXPERTS, D),
                               .scale = 1.0f},
                    .experts = random_bank(ctx, EXPERTS)};
    check_layer(ctx, &m, &hooks, &s, TOKENS);
    assert_int_equal(s.policies, 2);
    for (int slot = 0; slot < TOKENS * K; slot++) {
        assert_true(s.expert[slot] != 0);
        if (slot % K == K - 1)
            assert_int_equal(s.expert[slot], -1);
    }
}

/* Nobody outside the router meets a null expert, and weights are of the true ones. */
static void null_experts_reach_nobody(void **state)
{
    enum { NULLS = 7 };
    jt_context *ctx = *state;
    seen s = {0};
    jt_hooks hooks = {.watcher = {{.name = "watch", .self = &s, .on_route = watch}},
                      .n_watchers = 1};
    jt_mixture m = {.router = {.scorer = jt_scorer_find("linear"),
                               .selector = jt_selector_find("topk"),
                               .n_experts = EXPERTS,
                               .n_null = NULLS,
                               .k = K,
                               .weight = random_tensor(ctx, 1, EXPERTS + NULLS, D),
                               .renormalise = true,
                               .scale = 1.0f},
                    .experts = random_bank(ctx, EXPERTS)};
    check_layer(ctx, &m, &hooks, &s, TOKENS);
    int unused = 0, nulls = 0;
    for (int t = 0; t < TOKENS; t++) {
        double sum = 0.0;
        for (int slot = t * K; slot < (t + 1) * K; slot++) {
            assert_in_range(s.expert[slot] + 1, 0, EXPERTS);
            unused += s.expert[slot] < 0;
            nulls += s.route.picked[slot] >= EXPERTS;
            sum += s.weight[slot];
        }
        assert_true(sum == 0.0 || fabs(sum - 1.0) < 1e-6);
    }
    assert_int_equal(unused, nulls);
    assert_in_range(nulls, 1, TOKENS * K - 1);
}

/* A pass that runs out of memory at any place: it ends with the error, and nobody is
 * shown a route that was not made. The last block of scratch memory is filled less and
 * less, and there is none after it. */
static void run_out_of_memory(jt_context *ctx, const jt_mixture *m)
{
    enum { BLOCK = 16 << 20, STEP = 31 * 64 };
    size_t failures = 0;
    jt_status status = JT_E_MEMORY;
    jt_input x = jt_input_of(random_tensor(ctx, 1, TOKENS, D));
    jt_arena_mark start = jt_arena_save(&ctx->scratch);
    assert_non_null(jt_scratch(ctx, BLOCK, 1));
    jt_arena_rewind(&ctx->scratch, start);
    for (size_t filled = BLOCK; status != JT_OK; filled -= STEP) {
        assert_true(filled > BLOCK / 2);
        jt_tape tape = {0};
        seen s = {0};
        jt_hooks hooks = {.watcher = {{.name = "watch", .self = &s, .on_route = watch}},
                          .n_watchers = 1};
        jt_route_site site = {.layer = 5, .draw = 1};
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        jt_fault_after(0);
        if (jt_scratch(ctx, filled, 1)) {
            ctx->tape = &tape;
            jt_mixture_forward(ctx, m, &jt_store_mapped, &hooks, &site, &x);
            ctx->tape = NULL;
        }
        jt_fault_after(-1);
        status = ctx->err.code;
        ctx->err = (jt_err){0};
        jt_arena_rewind(&ctx->scratch, mark);
        failures += status == JT_E_MEMORY;
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_true(s.watchers == 1 || status == JT_E_MEMORY);
    }
    assert_true(failures > 100);
}

static void lack_of_memory_is_an_error(void **state)
{
    jt_context *ctx = *state;
    jt_mixture m = {.router = {.scorer = jt_scorer_find("cosine"),
                               .n_experts = EXPERTS,
                               .k = K,
                               .weight = random_tensor(ctx, 1, EXPERTS, D),
                               .temperature = 1.0f,
                               .n_groups = 3,
                               .groups_used = 2,
                               .top_p = 0.5f,
                               .jitter = 0.1f,
                               .noise = 0.1f,
                               .capacity = 1.0f,
                               .scale = 1.0f},
                    .experts = random_bank(ctx, EXPERTS)};
    for (size_t i = 0; jt_selector_name(i); i++) {
        m.router.selector = jt_selector_find(jt_selector_name(i));
        run_out_of_memory(ctx, &m);
    }
}

static void parts_are_found_by_name(void **state)
{
    (void)state;
    assert_non_null(jt_scorer_find("linear"));
    assert_null(jt_scorer_find("astrology"));
    assert_non_null(jt_selector_find("topk"));
    assert_null(jt_selector_find(""));
    assert_non_null(jt_expert_kind_find("ffn"));
    assert_null(jt_expert_kind_find("oracle"));
}

#define STAGE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGE(plan_holds_every_used_slot_once),
        STAGE(plan_of_everyone),
        STAGE(softmax_with_and_without_renormalising),
        STAGE(sigmoid_and_selection_bias),
        STAGE(gating_after_the_choice),
        STAGE(masked_experts_and_ties),
        STAGE(layer_equals_its_definition),
        STAGE(policies_change_the_route),
        STAGE(null_experts_reach_nobody),
        STAGE(lack_of_memory_is_an_error),
        STAGE(parts_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
