/* Specialisation, from made-up routes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "watch/special.h"

enum { EXPERTS = 8, DOMAINS = 4, TOKENS = 4000, K = 2 };

static jt_layer layers[3] = {
    {.is_mixture = true, .mixture.router.n_experts = EXPERTS},
    {.is_mixture = false},
    {.is_mixture = true, .mixture.router.n_experts = EXPERTS},
};
static jt_model model = {.params.n_layers = 3, .layers = layers};

static int32_t expert[TOKENS * K], domain[TOKENS];

static void feed(jt_special *s, int layer)
{
    jt_watcher w = jt_special_watcher(s);
    jt_route_site site = {.layer = layer};
    jt_route route = {
        .n_tokens = TOKENS, .n_experts = EXPERTS, .k = K, .expert = expert};
    jt_special_domains(s, domain);
    w.on_route(w.self, &site, &route);
}

static jt_special *new_special(void)
{
    jt_special *s = NULL;
    assert_int_equal(jt_special_new(&s, &model, DOMAINS, NULL), JT_OK);
    return s;
}

/* Experts 2 d and 2 d + 1 for domain d; or any. */
static void draw(jt_rng *rng, bool split)
{
    for (int t = 0; t < TOKENS; t++) {
        domain[t] = (int32_t)jt_rng_below(rng, DOMAINS);
        for (int j = 0; j < K; j++)
            expert[t * K + j] =
                split ? 2 * domain[t] + j : (int32_t)jt_rng_below(rng, EXPERTS);
    }
}

static void split_and_random(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 1};
    jt_special *s = new_special();
    draw(&rng, true);
    feed(s, 0);
    draw(&rng, false);
    feed(s, 2);
    assert_int_equal(jt_special_layers(s), 2);
    assert_int_equal(jt_special_layer(s, 1), 2);
    jt_special_report split = jt_special_of_layer(s, 0, 5);
    jt_special_report any = jt_special_of_layer(s, 1, 5);
    /* by chance: (domains - 1) (experts - 1) / (2 picks) nats of log(domains) */
    double chance =
        (DOMAINS - 1.0) * (EXPERTS - 1.0) / (2.0 * TOKENS * K) / log(DOMAINS);
    assert_true(fabs(split.information - 1.0) < 1e-9);
    assert_true(split.shuffled > 0.3 * chance && split.shuffled < 3.0 * chance);
    assert_true(any.information < 3.0 * chance);
    assert_true(any.shuffled > 0.3 * chance && any.shuffled < 3.0 * chance);
    jt_special_report again = jt_special_of_layer(s, 0, 5);
    assert_memory_equal(&again, &split, sizeof split);
    jt_special_report mean = jt_special_mean(s, 5);
    assert_true(fabs(mean.information - (split.information + any.information) / 2.0) <
                1e-12);
    jt_special_reset(s);
    assert_true(jt_special_mean(s, 5).information == 0.0);
    jt_special_free(s);
}

/* Two domains, two experts, a share of 3/4: I = H - h(1/4). */
static void known_value(void **state)
{
    (void)state;
    jt_special *s = new_special();
    for (int t = 0; t < TOKENS; t++) {
        domain[t] = t % 2;
        expert[t * K] = t / 2 % 4 == 0 ? 1 - t % 2 : t % 2;
        expert[t * K + 1] = -1;
    }
    feed(s, 0);
    double h = -(0.25 * log(0.25) + 0.75 * log(0.75)) / log(2.0);
    assert_true(fabs(jt_special_of_layer(s, 0, 1).information - (1.0 - h)) < 1e-9);
    jt_special_free(s);
}

static void what_does_not_count(void **state)
{
    (void)state;
    jt_special *s = new_special();
    jt_rng rng = {.seed = 2};
    draw(&rng, true);
    feed(s, 1); /* dense */
    feed(s, 9);
    for (int t = 0; t < TOKENS; t++)
        domain[t] = t % 2 ? -1 : DOMAINS;
    feed(s, 0);
    draw(&rng, true);
    for (int slot = 0; slot < TOKENS * K; slot++)
        expert[slot] = slot % 2 ? -1 : EXPERTS;
    feed(s, 0);
    jt_watcher w = jt_special_watcher(s);
    jt_special_domains(s, NULL);
    draw(&rng, true);
    jt_route route = {
        .n_tokens = TOKENS, .n_experts = EXPERTS, .k = K, .expert = expert};
    w.on_route(w.self, &(jt_route_site){.layer = 0}, &route);
    assert_true(jt_special_mean(s, 1).information == 0.0);
    for (int t = 0; t < TOKENS; t++)
        domain[t] = 3; /* one domain has nothing to tell */
    feed(s, 0);
    jt_special_report r = jt_special_mean(s, 1);
    assert_true(r.information == 0.0 && r.shuffled == 0.0);
    jt_special_free(s);
}

static void failures(void **state)
{
    (void)state;
    jt_special *s = NULL;
    jt_err err = {0};
    assert_int_equal(jt_special_new(&s, &model, 0, &err), JT_E_ARG);
    jt_status status = JT_E_MEMORY;
    int failed = 0;
    for (long n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_special_new(&s, &model, DOMAINS, &err);
        jt_fault_after(-1);
        failed += status == JT_E_MEMORY;
        assert_true((s != NULL) == (status == JT_OK));
    }
    assert_int_equal(failed, 6);
    jt_special_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_and_random),
        cmocka_unit_test(known_value),
        cmocka_unit_test(what_does_not_count),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
