/* The congestion game against its definition, and the watcher on a real mixture layer.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "store/mapped.h"
#include "watch/congestion.h"

enum { M = 64 };

static void draw(double *q, size_t n, double deviation, uint64_t seed)
{
    jt_rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++)
        q[i] = deviation * (double)jt_rng_normal(&rng);
}

static void loads_are_at_rest(void **state)
{
    (void)state;
    static const double gammas[] = {0.0, 1e-6, 0.3, 14.0, 200.0};
    static const double deviations[] = {0.0, 0.5, 5.0, 100.0};
    for (size_t g = 0; g < 5; g++) {
        for (size_t d = 0; d < 4; d++) {
            double q[M], m[M], sum = 0.0;
            draw(q, M, deviations[d], 1);
            jt_congestion_rest(m, q, M, gammas[g]);
            double lambda = NAN;
            for (size_t i = 0; i < M; i++) {
                sum += m[i];
                if (m[i] < 1e-200)
                    continue;
                double here = q[i] - log(m[i]) - gammas[g] * m[i];
                lambda = isnan(lambda) ? here : lambda;
                assert_true(fabs(here - lambda) < 1e-9 * (1.0 + fabs(lambda)));
            }
            assert_true(fabs(sum - 1.0) < 1e-10);
        }
    }
    double m = 0.0, q = -3.0;
    jt_congestion_rest(&m, &q, 1, 7.0);
    assert_true(fabs(m - 1.0) < 1e-12);
}

static void without_congestion_it_is_softmax(void **state)
{
    (void)state;
    double q[M], rest[M], soft[M];
    draw(q, M, 0.5, 2);
    jt_congestion_rest(rest, q, M, 0.0);
    jt_congestion_softmax(soft, q, M, 1.0);
    assert_true(jt_congestion_distance(rest, soft, M) < 1e-10);
}

/* Near an even load, gamma is a temperature of 1 + gamma / M: at the strengths seen in
 * practice the two differ by about 0.02. */
static void gamma_is_a_temperature(void **state)
{
    (void)state;
    static const double gammas[] = {14.0, 36.0};
    for (size_t g = 0; g < 2; g++) {
        double mean = 0.0;
        for (uint64_t seed = 0; seed < 20; seed++) {
            double q[M], rest[M], soft[M];
            draw(q, M, 0.5, seed);
            jt_congestion_rest(rest, q, M, gammas[g]);
            jt_congestion_softmax(soft, q, M, 1.0 + gammas[g] / M);
            mean += jt_congestion_distance(rest, soft, M) / 20;
        }
        assert_true(mean > 0.01 && mean < 0.03);
    }
}

/* Loads counted from `samples` picks at rest. */
static void sample(double *seen, const double *m, size_t n, int samples, uint64_t seed)
{
    jt_rng rng = {.seed = seed, .stream = 1};
    memset(seen, 0, n * sizeof *seen);
    for (int s = 0; s < samples; s++) {
        double left = jt_rng_double(&rng);
        size_t i = 0;
        while (i + 1 < n && left >= m[i])
            left -= m[i++];
        seen[i] += 1.0 / samples;
    }
}

static void gamma_is_recovered(void **state)
{
    (void)state;
    static const double gammas[] = {14.0, 27.0, 39.0, 120.0};
    for (size_t g = 0; g < 4; g++) {
        double q[M], m[M], seen[M], room[M];
        draw(q, M, 0.5, 7 + g);
        jt_congestion_rest(m, q, M, gammas[g]);
        double exact = jt_congestion_fit_gamma(q, m, M, room);
        assert_true(fabs(exact - gammas[g]) < 1e-4 * gammas[g]);
        sample(seen, m, M, 1000000, g);
        double counted = jt_congestion_fit_gamma(q, seen, M, room);
        assert_true(fabs(counted - gammas[g]) < 0.02 * gammas[g]);
    }
    double q[M], m[M], room[M];
    draw(q, M, 0.5, 3);
    jt_congestion_softmax(m, q, M, 1.0);
    assert_true(jt_congestion_fit_gamma(q, m, M, room) < 1e-4);
    jt_congestion_softmax(m, q, M, 1.7);
    assert_true(fabs(jt_congestion_fit_temperature(q, m, M, room) - 1.7) < 1e-4);
    for (size_t i = 0; i < M; i++)
        m[i] = 1.0 / M;
    assert_true(jt_congestion_fit_gamma(q, m, M, room) == 200.0);
}

/* ---- several types ---- */

enum { TYPES = 5 };

/* Every type is at rest where the loads of all make the prices. */
static void types_are_at_rest(void **state)
{
    (void)state;
    static const double gammas[] = {0.0, 0.3, 14.0, 200.0};
    static const double share[TYPES] = {0.4, 0.3, 0.0, 0.2, 0.1};
    for (size_t g = 0; g < 8; g++) {
        double q[TYPES * M], m[M], again[M] = {0}, room[4 * M], gamma = gammas[g / 2];
        draw(q, (size_t)TYPES * M, g % 2 ? 0.5 : 5.0, g);
        jt_congestion_types t = {q, share, TYPES, M};
        jt_congestion_rest_types(m, &t, gamma, room);
        for (size_t j = 0; j < TYPES; j++) {
            double net[M], own[M];
            for (size_t i = 0; i < M; i++)
                net[i] = q[j * M + i] - gamma * m[i];
            jt_congestion_softmax(own, net, M, 1.0);
            for (size_t i = 0; i < M; i++)
                again[i] += share[j] * own[i];
        }
        assert_true(jt_congestion_distance(m, again, M) < 1e-8);
    }
}

static void types_that_are_alike_are_one(void **state)
{
    (void)state;
    static const double share[2] = {0.3, 0.7}, gammas[] = {0.0, 14.0, 200.0};
    for (size_t g = 0; g < 3; g++) {
        double q[2 * M], m[M], one[M], room[4 * M];
        draw(q, M, 2.0, g);
        for (size_t i = 0; i < M; i++)
            q[M + i] = q[i] + 3.0; /* a number that is the same for all is not seen */
        jt_congestion_rest_types(m, &(jt_congestion_types){q, share, 2, M}, gammas[g],
                                 room);
        jt_congestion_rest(one, q, M, gammas[g]);
        assert_true(jt_congestion_distance(m, one, M) < 1e-7);
    }
}

static void gamma_of_types_is_recovered(void **state)
{
    (void)state;
    static const double share[TYPES] = {0.4, 0.2, 0.1, 0.2, 0.1};
    static const double gammas[] = {14.0, 39.0};
    for (size_t g = 0; g < 2; g++) {
        double q[TYPES * M], m[M], room[5 * M];
        draw(q, (size_t)TYPES * M, 2.0, 11 + g);
        jt_congestion_types t = {q, share, TYPES, M};
        jt_congestion_rest_types(m, &t, gammas[g], room);
        double found = jt_congestion_fit_gamma_types(&t, m, room);
        assert_true(fabs(found - gammas[g]) < 1e-4 * gammas[g]);
    }
}

static void kinds_of_rows_are_told_apart(void **state)
{
    (void)state;
    enum { ROWS = 30, N = 3 };
    double x[ROWS * N], centre[4 * N], room[4 * (N + 1)];
    draw(x, (size_t)ROWS * N, 0.01, 5);
    for (size_t r = 0; r < ROWS; r++)
        x[r * N + r % N] += 1.0;
    assert_int_equal(jt_congestion_centres(centre, 3, x, ROWS, N, room), 3);
    for (size_t r = 0; r < ROWS; r++)
        assert_int_equal(jt_congestion_type(centre, 3, x + r * N, N),
                         jt_congestion_type(centre, 3, x + r % N * N, N));
    assert_int_not_equal(jt_congestion_type(centre, 3, x, N),
                         jt_congestion_type(centre, 3, x + N, N));
    memset(x, 0, sizeof x); /* no more types than rows that differ */
    assert_int_equal(jt_congestion_centres(centre, 4, x, ROWS, N, room), 1);
}

/* ---- the watcher ---- */

enum { EXPERTS = 8, D = 8, WIDTH = 2, TOKENS = 512, K = 1 };

typedef struct world {
    jt_context ctx;
    jt_layer layer[2];
    jt_model model;
    jt_hooks hooks;
    float weight[EXPERTS * D], bias[EXPERTS], part[EXPERTS * WIDTH * D];
} world;

static jt_tensor view(float *data, size_t a, size_t b, size_t c)
{
    return (jt_tensor){.data = data, .dtype = JT_F32, .n_dims = 3, .shape = {a, b, c}};
}

/* A dense layer and a mixture whose experts differ in how much they are liked. */
static world *new_world(void)
{
    world *w = calloc(1, sizeof *w);
    jt_rng rng = {.seed = 3};
    jt_rng_normals(&rng, w->weight, EXPERTS * D);
    for (int i = 0; i < EXPERTS; i++)
        w->bias[i] = 0.2f * (float)i;
    assert_int_equal(jt_context_init(&w->ctx, 1, NULL, NULL), JT_OK);
    jt_mixture *m = &w->layer[1].mixture;
    m->router = (jt_router){.scorer = jt_scorer_find("linear"),
                            .selector = jt_selector_find("topk"),
                            .n_experts = EXPERTS,
                            .k = K,
                            .weight = view(w->weight, 1, EXPERTS, D),
                            .bias = view(w->bias, 1, 1, EXPERTS),
                            .scale = 1.0f};
    m->experts = (jt_bank){.kind = jt_expert_kind_find("ffn"),
                           .n_experts = EXPERTS,
                           .d = D,
                           .width = WIDTH,
                           .part = {view(w->part, EXPERTS, WIDTH, D),
                                    view(w->part, EXPERTS, WIDTH, D),
                                    view(w->part, EXPERTS, D, WIDTH)}};
    w->layer[1].is_mixture = true;
    w->model = (jt_model){.params.n_layers = 2, .layers = w->layer};
    return w;
}

static void pass(world *w, uint64_t seed, bool replay)
{
    jt_arena_mark mark = jt_arena_save(&w->ctx.scratch);
    jt_rng rng = {.seed = seed};
    jt_input x = jt_input_of(jt_new(&w->ctx, TOKENS, D));
    jt_rng_normals(&rng, x.x.data, TOKENS * D);
    jt_route_site site = {.layer = 1, .replay = replay};
    jt_mixture_forward(&w->ctx, &w->layer[1].mixture, &jt_store_mapped, &w->hooks,
                       &site, &x);
    assert_int_equal(w->ctx.err.code, JT_OK);
    jt_arena_rewind(&w->ctx.scratch, mark);
}

static void free_world(world *w)
{
    jt_context_free(&w->ctx);
    free(w);
}

static void watcher_fits_a_layer(void **state)
{
    (void)state;
    world *w = new_world();
    jt_congestion *c = NULL;
    jt_congestion_fit fit, again, mean;
    assert_int_equal(jt_congestion_new(&c, &w->model, NULL), JT_OK);
    assert_int_equal(jt_congestion_attach(c, &w->hooks, NULL), JT_OK);
    assert_int_equal(jt_congestion_layers(c), 1);
    assert_int_equal(jt_congestion_layer(c, 0), 1);
    assert_false(jt_congestion_fit_mean(c, JT_QUALITY_LOGIT, &mean));
    pass(w, 1, false);
    assert_false(jt_congestion_fit_layer(c, 0, JT_QUALITY_LOGIT, &fit)); /* one half */
    for (uint64_t seed = 2; seed <= 8; seed++)
        pass(w, seed, false);
    for (int q = 0; q < JT_QUALITIES; q++) {
        assert_true(jt_congestion_fit_layer(c, 0, (jt_quality)q, &fit));
        assert_true(jt_congestion_fit_mean(c, (jt_quality)q, &mean));
        assert_true(fit.error < fit.even_error);
        assert_true(fit.softmax_error < fit.even_error);
        assert_true(fit.free_imbalance > 1.2 && fit.imbalance > 1.2);
        assert_true(mean.gamma == fit.gamma && mean.imbalance == fit.imbalance);
    }
    double gamma, error;
    assert_true(jt_congestion_fit_layer(c, 0, JT_QUALITY_LOGIT, &mean));
    assert_true(jt_congestion_fit_types(c, JT_QUALITY_LOGIT, &gamma, &error));
    assert_true(error < 0.8 * mean.error); /* tokens differ, and types know how */
    pass(w, 9, true);                      /* does not count */
    assert_true(jt_congestion_fit_layer(c, 0, JT_QUALITY_CHOSEN, &again));
    assert_memory_equal(&again, &fit, sizeof fit);
    jt_congestion_reset(c);
    assert_false(jt_congestion_fit_layer(c, 0, JT_QUALITY_LOGIT, &fit));
    assert_false(jt_congestion_fit_types(c, JT_QUALITY_LOGIT, &gamma, &error));
    jt_congestion_free(c);
    free_world(w);
}

/* A selection bias against the liked experts is a congestion. */
static void balancing_raises_gamma(void **state)
{
    (void)state;
    world *w = new_world();
    jt_congestion *c = NULL;
    jt_congestion_fit free_fit, pushed;
    float against[EXPERTS];
    assert_int_equal(jt_congestion_new(&c, &w->model, NULL), JT_OK);
    assert_int_equal(jt_congestion_attach(c, &w->hooks, NULL), JT_OK);
    for (uint64_t seed = 1; seed <= 8; seed++)
        pass(w, seed, false);
    jt_congestion_fit_layer(c, 0, JT_QUALITY_PROBABILITY, &free_fit);
    jt_congestion_reset(c);
    for (int i = 0; i < EXPERTS; i++)
        against[i] = -0.07f * (float)i;
    w->layer[1].mixture.router.selection_bias = view(against, 1, 1, EXPERTS);
    for (uint64_t seed = 1; seed <= 8; seed++)
        pass(w, seed, false);
    jt_congestion_fit_layer(c, 0, JT_QUALITY_PROBABILITY, &pushed);
    assert_true(free_fit.gamma < 1.0 && pushed.gamma > free_fit.gamma + 1.0);
    assert_true(pushed.imbalance < free_fit.imbalance);
    assert_true(fabs(pushed.free_imbalance - free_fit.free_imbalance) < 1e-12);
    jt_congestion_free(c);
    free_world(w);
}

static void out_of_memory(void **state)
{
    (void)state;
    world *w = new_world();
    int failures = 0;
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_congestion *c = NULL;
        jt_fault_after(n);
        status = jt_congestion_new(&c, &w->model, NULL);
        jt_fault_after(-1);
        failures += status == JT_E_MEMORY;
        assert_true((c != NULL) == (status == JT_OK));
        jt_congestion_free(c);
    }
    assert_int_equal(failures, 6);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_are_at_rest),
        cmocka_unit_test(without_congestion_it_is_softmax),
        cmocka_unit_test(gamma_is_a_temperature),
        cmocka_unit_test(gamma_is_recovered),
        cmocka_unit_test(types_are_at_rest),
        cmocka_unit_test(types_that_are_alike_are_one),
        cmocka_unit_test(gamma_of_types_is_recovered),
        cmocka_unit_test(kinds_of_rows_are_told_apart),
        cmocka_unit_test(watcher_fits_a_layer),
        cmocka_unit_test(balancing_raises_gamma),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
