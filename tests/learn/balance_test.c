/* Balance losses through a real mixture layer: values and gradients against the
 * formulas in double, the gradients as central differences of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "learn/balance.h"
#include "store/mapped.h"
#include "tensor/tape.h"

enum {
    TOKENS = 24,
    SEQ = 8,
    EXPERTS = 5,
    MAX_NULL = 3,
    MAX_ROWS = EXPERTS + MAX_NULL,
    K = 2,
    D = 6,
    WIDTH = 4,
    MAX_MICROS = 3
};

typedef struct setting {
    jt_balance_options options;
    jt_gating gating;
    int n_null, micros;
} setting;

/* A model of one mixture layer, and what its training sees. */
typedef struct world {
    setting s;
    jt_context ctx;
    jt_layer layer;
    jt_model model;
    jt_hooks hooks;
    jt_balance *balance;
    float weight[MAX_ROWS * D], grad[MAX_ROWS * D], bias[MAX_ROWS];
    float part[JT_PARTS][EXPERTS * WIDTH * D];
    float x[MAX_MICROS][TOKENS * D];
    int32_t picked[MAX_MICROS][TOKENS * K];
    int micro;
} world;

static jt_tensor view(float *data, size_t a, size_t b, size_t c)
{
    return (jt_tensor){.data = data, .dtype = JT_F32, .n_dims = 3, .shape = {a, b, c}};
}

static void note_picks(void *self, const jt_route_site *site, jt_route *route)
{
    world *w = self;
    (void)site;
    memcpy(w->picked[w->micro], route->picked, sizeof w->picked[0]);
}

static void fill_mixture(world *w)
{
    size_t rows = EXPERTS + (size_t)w->s.n_null;
    jt_mixture *m = &w->layer.mixture;
    m->router = (jt_router){.scorer = jt_scorer_find("linear"),
                            .selector = jt_selector_find("topk"),
                            .n_experts = EXPERTS,
                            .n_null = w->s.n_null,
                            .k = K,
                            .weight = view(w->weight, 1, rows, D),
                            .selection_bias = view(w->bias, 1, 1, rows),
                            .gating = w->s.gating,
                            .scale = 1.0f};
    m->router.weight.grad = w->grad;
    m->experts = (jt_bank){.kind = jt_expert_kind_find("ffn"),
                           .n_experts = EXPERTS,
                           .d = D,
                           .width = WIDTH,
                           .part = {view(w->part[0], EXPERTS, WIDTH, D),
                                    view(w->part[1], EXPERTS, WIDTH, D),
                                    view(w->part[2], EXPERTS, D, WIDTH)}};
}

static world *new_world(const setting *s)
{
    world *w = calloc(1, sizeof *w);
    jt_rng rng = {.seed = 31};
    jt_err err = {0};
    w->s = *s;
    jt_rng_normals(&rng, w->weight, MAX_ROWS * D);
    jt_rng_normals(&rng, &w->part[0][0], sizeof w->part / sizeof(float));
    jt_rng_normals(&rng, &w->x[0][0], sizeof w->x / sizeof(float));
    for (int i = 0; i < MAX_MICROS * TOKENS; i++) /* some experts suit all tokens */
        (&w->x[0][0])[i * D] += 1.0f;
    assert_int_equal(jt_context_init(&w->ctx, 1, "scalar", NULL), JT_OK);
    fill_mixture(w);
    w->layer.is_mixture = true;
    w->model = (jt_model){.params.n_layers = 1, .layers = &w->layer};
    w->hooks.policy[w->hooks.n_policies++] =
        (jt_policy){.name = "picks", .self = w, .on_route = note_picks};
    if (jt_balance_new(&w->balance, &w->model, &s->options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(jt_balance_attach(w->balance, &w->hooks, NULL), JT_OK);
    return w;
}

static void free_world(world *w)
{
    jt_balance_free(w->balance);
    jt_context_free(&w->ctx);
    free(w);
}

/* ---- the program under test ---- */

static void pass(world *w, bool gradients, bool replay)
{
    jt_tape tape = {0};
    jt_context *ctx = &w->ctx;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = gradients ? &tape : NULL;
    jt_tensor t = view(w->x[w->micro], 1, TOKENS, D);
    t.n_dims = 2;
    t.shape[0] = TOKENS;
    t.shape[1] = D;
    jt_input x = jt_input_of(t);
    jt_route_site site = {.layer = 0, .replay = replay};
    jt_mixture_forward(ctx, &w->layer.mixture, &jt_store_mapped, &w->hooks, &site, &x);
    if (gradients)
        jt_tape_backward(ctx);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
}

/* A step; with `twice`, each micro-batch as activation checkpointing runs it. */
static void step(world *w, float scale, bool twice)
{
    memset(w->grad, 0, sizeof w->grad);
    jt_balance_begin(w->balance);
    for (w->micro = 0; w->micro < w->s.micros; w->micro++) {
        jt_balance_micro(w->balance, scale);
        if (twice)
            pass(w, false, false);
        pass(w, true, twice);
    }
    jt_balance_end(w->balance);
}

/* ---- the formulas ---- */

static int rows_of(const world *w)
{
    return EXPERTS + w->s.n_null;
}

static void shares(const world *w, int first, int last, int from, int to, double *f)
{
    int n = rows_of(w);
    double total = (double)(last - first + 1) * (to - from) * K, null = 0.0;
    memset(f, 0, (size_t)n * sizeof *f);
    for (int m = first; m <= last; m++) {
        for (int s = from * K; s < to * K; s++)
            f[w->picked[m][s]] += 1.0 / total;
    }
    for (int i = EXPERTS; i < n; i++)
        null += f[i] / w->s.n_null;
    for (int i = EXPERTS; i < n && w->s.options.null_mean; i++)
        f[i] = null;
}

/* Shares of the scores [TOKENS][rows], and the z-loss. */
static double score(const world *w, int micro, const double *weight, double *p)
{
    int n = rows_of(w);
    double z = 0.0;
    for (int t = 0; t < TOKENS; t++) {
        double sum = 0.0, sum_exp = 0.0;
        for (int i = 0; i < n; i++) {
            double logit = 0.0;
            for (int d = 0; d < D; d++)
                logit += weight[i * D + d] * w->x[micro][t * D + d];
            sum_exp += exp(logit);
            p[t * n + i] =
                w->s.gating == JT_GATE_SOFTMAX ? exp(logit) : 1.0 / (1.0 + exp(-logit));
            sum += p[t * n + i];
        }
        for (int i = 0; i < n; i++)
            p[t * n + i] /= sum;
        z += pow(log(sum_exp), 2.0) / TOKENS;
    }
    return z * (double)w->s.options.z_loss;
}

static double balance_of(const world *w, int micro, const double *p, double alpha,
                         jt_balance_scope scope)
{
    int n = rows_of(w), group = scope == JT_SCOPE_SEQUENCE ? SEQ : TOKENS;
    double f[MAX_ROWS], sum = 0.0;
    for (int from = 0; from < TOKENS; from += group) {
        shares(w, scope == JT_SCOPE_GLOBAL ? 0 : micro, micro, from, from + group, f);
        for (int t = from; t < from + group; t++) {
            for (int i = 0; i < n; i++)
                sum += alpha * n * f[i] * p[t * n + i] / TOKENS;
        }
    }
    return sum;
}

/* All of a step: the sum over its micro-batches. */
static double formula(const world *w, const double *weight)
{
    const jt_balance_options *o = &w->s.options;
    double sum = 0.0, p[TOKENS * MAX_ROWS];
    for (int m = 0; m < w->s.micros; m++) {
        sum += score(w, m, weight, p);
        sum += balance_of(w, m, p, (double)o->loss, o->scope);
        sum += balance_of(w, m, p, (double)o->micro_loss, JT_SCOPE_MICRO);
    }
    return sum;
}

static void assert_near(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%.9g is not %.9g", got, expected);
}

static void check(const setting *s)
{
    const double delta = 1e-5;
    const float scale = 0.75f;
    world *w = new_world(s);
    double weight[MAX_ROWS * D];
    step(w, scale, false);
    for (int i = 0; i < MAX_ROWS * D; i++)
        weight[i] = w->weight[i];
    jt_balance_report r = jt_balance_last(w->balance);
    double expected = formula(w, weight);
    assert_near((r.loss + r.z_loss) * s->micros, expected, 1e-5 * fabs(expected));
    double size = 0.0;
    for (int i = 0; i < rows_of(w) * D; i++) {
        double origin = weight[i];
        weight[i] = origin + delta;
        double slope = formula(w, weight);
        weight[i] = origin - delta;
        slope = (double)scale * (slope - formula(w, weight)) / (2.0 * delta);
        weight[i] = origin;
        assert_near((double)w->grad[i], slope, 2e-6);
        size = fmax(size, fabs(slope));
    }
    assert_true(size > 1e-3);
    float grad[MAX_ROWS * D];
    memcpy(grad, w->grad, sizeof grad);
    step(w, scale, true);
    assert_memory_equal(grad, w->grad, sizeof grad);
    jt_balance_report again = jt_balance_last(w->balance);
    assert_memory_equal(&r, &again, sizeof r);
    free_world(w);
}

static void each_scope(void **state)
{
    (void)state;
    for (int scope = JT_SCOPE_SEQUENCE; scope <= JT_SCOPE_GLOBAL; scope++) {
        for (int micros = 1; micros <= MAX_MICROS; micros += MAX_MICROS - 1) {
            check(&(setting){.options = {.loss = 0.5f,
                                         .scope = (jt_balance_scope)scope,
                                         .seq_len = SEQ},
                             .micros = micros});
        }
    }
}

static void mixed_scopes_and_z_loss(void **state)
{
    (void)state;
    check(&(setting){.options = {.z_loss = 0.1f}, .micros = 2});
    check(&(setting){.options = {.loss = 0.3f,
                                 .scope = JT_SCOPE_GLOBAL,
                                 .micro_loss = 0.1f,
                                 .z_loss = 0.1f},
                     .micros = 2});
}

static void sigmoid_scores(void **state)
{
    (void)state;
    check(&(setting){.options = {.loss = 0.5f, .scope = JT_SCOPE_GLOBAL},
                     .gating = JT_GATE_SIGMOID,
                     .micros = 2});
}

static void null_experts(void **state)
{
    (void)state;
    for (int mean = 0; mean < 2; mean++) {
        check(&(setting){.options = {.loss = 0.5f,
                                     .scope = JT_SCOPE_MICRO,
                                     .null_mean = mean != 0,
                                     .z_loss = 0.1f},
                         .n_null = MAX_NULL,
                         .micros = 1});
    }
}

/* With one micro-batch a step, the global batch is the micro-batch. */
static void micro_equals_global_for_one(void **state)
{
    (void)state;
    float grad[2][MAX_ROWS * D];
    double loss[2];
    for (int global = 0; global < 2; global++) {
        setting s = {.options = {.loss = 0.5f,
                                 .scope = global ? JT_SCOPE_GLOBAL : JT_SCOPE_MICRO},
                     .micros = 1};
        world *w = new_world(&s);
        step(w, 1.0f, false);
        step(w, 1.0f, false); /* the counts of a step end with it */
        memcpy(grad[global], w->grad, sizeof w->grad);
        loss[global] = jt_balance_last(w->balance).loss;
        free_world(w);
    }
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(grad[0], grad[1], sizeof grad[0]);
}

/* ---- counts, bias, BIP ---- */

static void count(const world *w, int n_micros, int *counts)
{
    memset(counts, 0, MAX_ROWS * sizeof *counts);
    for (int m = 0; m < n_micros; m++) {
        for (int s = 0; s < TOKENS * K; s++)
            counts[w->picked[m][s]]++;
    }
}

static void bias_steps_towards_even(void **state)
{
    (void)state;
    for (int null_mean = 0; null_mean < 2; null_mean++) {
        setting s = {.options = {.bias_rate = 0.01f, .null_mean = null_mean != 0},
                     .n_null = MAX_NULL,
                     .micros = 2};
        world *w = new_world(&s);
        float before[MAX_ROWS] = {0};
        for (int round = 0; round < 3; round++) {
            int counts[MAX_ROWS], null = 0;
            memcpy(before, w->bias, sizeof before);
            step(w, 1.0f, round == 1);
            count(w, s.micros, counts);
            for (int i = EXPERTS; i < MAX_ROWS; i++)
                null += counts[i];
            for (int i = 0; i < MAX_ROWS; i++) {
                double mine = null_mean && i >= EXPERTS ? (double)null / MAX_NULL
                                                        : (double)counts[i];
                double off = (double)s.micros * TOKENS * K / MAX_ROWS - mine;
                float move = off > 0 ? 0.01f : off < 0 ? -0.01f : 0.0f;
                assert_true(w->bias[i] == before[i] + move);
            }
        }
        free_world(w);
    }
}

/* Steps of the bias in the end balance a fixed batch. */
static void bias_balances(void **state)
{
    (void)state;
    setting s = {.options = {.bias_rate = 0.002f}, .micros = MAX_MICROS};
    world *w = new_world(&s);
    step(w, 1.0f, false);
    double first = jt_balance_last(w->balance).max_violation;
    for (int i = 0; i < 300; i++)
        step(w, 1.0f, false);
    jt_balance_report r = jt_balance_last(w->balance);
    assert_true(first > 0.3);
    assert_true(r.max_violation < 0.1);
    assert_true(r.max_violation == r.worst_violation);
    free_world(w);
}

static void report_counts_picks(void **state)
{
    (void)state;
    setting s = {
        .options = {.loss = 0.1f, .scope = JT_SCOPE_MICRO}, .n_null = 2, .micros = 2};
    world *w = new_world(&s);
    step(w, 1.0f, true);
    int counts[MAX_ROWS], most = 0, total = 0;
    count(w, s.micros, counts);
    for (int i = 0; i < EXPERTS; i++) {
        most = counts[i] > most ? counts[i] : most;
        total += counts[i];
    }
    jt_balance_report r = jt_balance_last(w->balance);
    assert_in_range(total, 1, 2 * TOKENS * K - 1); /* some picks are null */
    assert_near(r.max_violation, (double)most * EXPERTS / total - 1.0, 1e-12);
    assert_near(r.experts_used, (double)total / (2 * TOKENS), 1e-12);
    assert_true(r.dropped == 0.0);
    free_world(w);
}

static void drop_first_slot(void *self, const jt_route_site *site, jt_route *route)
{
    (void)self;
    (void)site;
    for (int t = 0; t < route->n_tokens; t += 2)
        route->expert[t * route->k] = -1;
}

/* What went nowhere is seen, and the loss still counts it. */
static void report_sees_drops(void **state)
{
    (void)state;
    setting s = {.options = {.loss = 0.1f, .scope = JT_SCOPE_MICRO}, .micros = 1};
    world *w = new_world(&s);
    step(w, 1.0f, false);
    jt_balance_report whole = jt_balance_last(w->balance);
    w->hooks.policy[w->hooks.n_policies++] =
        (jt_policy){.name = "drop", .on_route = drop_first_slot};
    step(w, 1.0f, false);
    jt_balance_report r = jt_balance_last(w->balance);
    assert_near(r.dropped, 0.5 / K, 1e-12);
    assert_near(r.experts_used, K - 0.5, 1e-12);
    assert_true(r.loss == whole.loss);
    assert_true(r.max_violation == whole.max_violation);
    free_world(w);
}

static void bip_keeps_its_prices(void **state)
{
    (void)state;
    setting s = {.options = {.bip_rounds = 8}, .micros = 1};
    world *plain = new_world(&(setting){.micros = 1}), *w = new_world(&s);
    step(plain, 1.0f, false);
    step(w, 1.0f, false);
    float kept[MAX_ROWS];
    memcpy(kept, w->bias, sizeof kept);
    assert_true(jt_balance_last(w->balance).max_violation <
                0.5 * jt_balance_last(plain->balance).max_violation);
    float highest = -INFINITY, lowest = 0.0f;
    for (int i = 0; i < EXPERTS; i++) {
        highest = fmaxf(highest, kept[i]);
        lowest = fminf(lowest, kept[i]);
    }
    assert_true(highest <= 0.0f && lowest < 0.0f); /* -q */
    /* a replay chooses the same and leaves the prices alone */
    int32_t first[TOKENS * K];
    memcpy(first, w->picked[0], sizeof first);
    memset(w->picked[0], -1, sizeof first);
    w->micro = 0;
    pass(w, true, true);
    assert_memory_equal(kept, w->bias, sizeof kept);
    assert_memory_equal(first, w->picked[0], sizeof first);
    free_world(plain);
    free_world(w);
}

static void options_are_checked(void **state)
{
    (void)state;
    world *w = new_world(&(setting){.micros = 1});
    jt_balance *b = NULL;
    jt_err err = {0};
    jt_balance_options both = {.bias_rate = 0.1f, .bip_rounds = 2};
    assert_int_equal(jt_balance_new(&b, &w->model, &both, &err), JT_E_ARG);
    jt_balance_options no_length = {.loss = 0.1f, .scope = JT_SCOPE_SEQUENCE};
    assert_int_equal(jt_balance_new(&b, &w->model, &no_length, &err), JT_E_ARG);
    jt_balance_options bip = {.bip_rounds = 2};
    w->layer.mixture.router.gate_after = true;
    assert_int_equal(jt_balance_new(&b, &w->model, &bip, &err), JT_E_ARG);
    jt_balance_options bias = {.bias_rate = 0.1f};
    w->layer.mixture.router.selection_bias = (jt_tensor){0};
    assert_int_equal(jt_balance_new(&b, &w->model, &bias, &err), JT_E_ARG);
    assert_null(b);
    w->hooks.n_terms = JT_MAX_HOOKS;
    assert_int_equal(jt_balance_attach(w->balance, &w->hooks, &err), JT_E_LIMIT);
    free_world(w);
    jt_balance_scope scope = JT_SCOPE_MICRO;
    assert_true(jt_balance_scope_named("global", &scope));
    assert_int_equal(scope, JT_SCOPE_GLOBAL);
    assert_false(jt_balance_scope_named("galaxy", &scope));
    assert_int_equal(scope, JT_SCOPE_GLOBAL);
}

static void out_of_memory(void **state)
{
    (void)state;
    world *w = new_world(&(setting){.options = {.bip_rounds = 1}, .micros = 1});
    jt_err err = {0};
    jt_status status = JT_E_MEMORY;
    int failures = 0;
    for (long n = 0; status != JT_OK; n++) {
        jt_balance *b = NULL;
        jt_fault_after(n);
        status = jt_balance_new(&b, &w->model, &w->s.options, &err);
        jt_fault_after(-1);
        failures += status == JT_E_MEMORY;
        assert_true((b != NULL) == (status == JT_OK));
        jt_balance_free(b);
    }
    assert_true(failures >= 3);
    /* room for prices that is not there fails the pass */
    jt_policy *bip = &w->hooks.policy[1];
    float scores[TOKENS * EXPERTS] = {0}, bias[EXPERTS] = {0};
    jt_fault_after(0);
    bip->on_scores(bip->self, &(jt_route_site){0}, scores, TOKENS, EXPERTS, bias);
    jt_fault_after(-1);
    jt_tensor t = {.data = scores, .n_dims = 2, .shape = {TOKENS, EXPERTS}};
    jt_route route = {.n_tokens = TOKENS, .k = K};
    jt_route_term *term = &w->hooks.term[0];
    term->add(term->self, &w->ctx, &(jt_route_site){0}, &w->layer.mixture.router, &t,
              &t, &route);
    assert_int_equal(w->ctx.err.code, JT_E_MEMORY);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_scope),
        cmocka_unit_test(mixed_scopes_and_z_loss),
        cmocka_unit_test(sigmoid_scores),
        cmocka_unit_test(null_experts),
        cmocka_unit_test(micro_equals_global_for_one),
        cmocka_unit_test(bias_steps_towards_even),
        cmocka_unit_test(bias_balances),
        cmocka_unit_test(report_counts_picks),
        cmocka_unit_test(report_sees_drops),
        cmocka_unit_test(bip_keeps_its_prices),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
