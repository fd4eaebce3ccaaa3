/* Two workers and a ring of sections, in simulation: against all divisions, and against
 * what can be said without simulating. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "store/hybrid.h"
#include "store/planes.h"
#include "store/ring.h"

static void by_hand(void **state)
{
    /* One expert is here (4 tokens, fast 2), one is not (1 token): moving it takes 5,
     * the slow worker 1 + 3. */
    (void)state;
    jt_hybrid_costs costs = {.slow_each = 1, .slow = 3, .fast = 0.5, .move = 5};
    jt_hybrid_expert e[] = {{.tokens = 1}, {.tokens = 4, .here = true}};
    assert_true(jt_hybrid_schedule(e, 2, &costs) == 4.0);
    assert_true(e[0].here && e[0].fast && !e[1].fast);
    /* a quick link: the fast worker does both, 2 + 0.5 */
    costs.move = 1;
    assert_true(jt_hybrid_schedule(e, 2, &costs) == 2.5);
    assert_true(e[0].fast && e[1].fast);
    assert_true(jt_hybrid_optimum(e, 2, &costs) == 2.5);
}

static int draw(jt_rng *rng, jt_hybrid_expert *e)
{
    int n = 1 + (int)jt_rng_below(rng, 10);
    for (int i = 0; i < n; i++)
        e[i] = (jt_hybrid_expert){.tokens = 1 + (int)jt_rng_below(rng, 8),
                                  .here = jt_rng_below(rng, 2)};
    return n;
}

static void near_the_best(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 7};
    jt_hybrid_costs costs = {.slow_each = 0.79, .slow = 1, .fast = 0.5, .move = 0.42};
    double ratios = 0;
    enum { TIMES = 300 };
    for (int i = 0; i < TIMES; i++) {
        jt_hybrid_expert e[16], apart[16];
        int n = draw(&rng, e);
        double greedy = jt_hybrid_schedule(e, n, &costs);
        assert_true(fabs(jt_hybrid_makespan(e, n, &costs) - greedy) < 1e-12);
        for (int j = 0; j < n; j++) {
            apart[j] = e[j];
            apart[j].fast = e[j].here;
        }
        double best = jt_hybrid_optimum(e, n, &costs);
        assert_true(best <= greedy + 1e-12);
        assert_true(best <= jt_hybrid_makespan(apart, n, &costs) + 1e-12);
        assert_true(fabs(jt_hybrid_makespan(e, n, &costs) - best) < 1e-12);
        ratios += greedy / best;
    }
    assert_true(ratios / TIMES < 1.1); /* what the paper's card asks for */
}

/* Seconds of a ring of 12 equal layers, over those of its computing. */
static double slowdown(size_t sections, double latency, double transfer)
{
    enum { LAYERS = 12, STEPS = 20 * LAYERS };
    double compute[STEPS], seconds;
    for (size_t i = 0; i < STEPS; i++)
        compute[i] = 1.0;
    jt_ring ring = {compute, LAYERS, STEPS, sections, latency, transfer};
    assert_int_equal(jt_ring_seconds(&seconds, &ring, NULL), JT_OK);
    return seconds / (STEPS - LAYERS);
}

static void rings(void **state)
{
    (void)state;
    /* copies beside each other: no waiting from K - 1 = the time of a copy on */
    assert_true(slowdown(4, 3, 0) < 1.001);
    assert_true(slowdown(3, 3, 0) > 1.3);
    /* (compute + copy) / K steps share a round of the ring */
    assert_true(fabs(slowdown(2, 3, 0) - 2.0) < 0.01);
    /* one after the other: the link is the limit, whatever K is */
    assert_true(fabs(slowdown(2, 0, 3) - 3.0) < 0.4);
    assert_true(fabs(slowdown(11, 0, 3) - 3.0) < 0.2);
    assert_true(slowdown(12, 0, 3) == 1.0); /* all are there */
    double seconds;
    jt_ring none = {0};
    assert_int_equal(jt_ring_seconds(&seconds, &none, NULL), JT_E_ARG);
    none.sections = 1;
    jt_fault_after(0);
    assert_int_equal(jt_ring_seconds(&seconds, &none, NULL), JT_E_MEMORY);
    jt_fault_after(-1);
}

/* Two experts: 0 with two planes for one token, 1 with one plane for three. */
static void planes(void **state)
{
    (void)state;
    jt_plane_item items[] = {
        {.expert = 0, .plane = 0, .uses = 1, .load = 2, .compute = 1},
        {.expert = 0, .plane = 1, .uses = 1, .load = 1, .compute = 1},
        {.expert = 1, .plane = 0, .uses = 3, .load = 2, .compute = 4}};
    assert_true(jt_planes_makespan(items, 3) == 9.0); /* 2, 3, 5 loaded; 3, 4, 9 */
    jt_planes_hottest_first(items, 3);
    assert_true(items[0].expert == 1 && items[1].plane == 0 && items[2].plane == 1);
    assert_true(jt_planes_makespan(items, 3) == 8.0); /* 2, 4, 5; 6, 7, 8 */
    assert_int_equal(jt_planes_join(items, 3), 2);
    assert_true(items[1].load == 3.0 && items[1].compute == 2.0);
    assert_true(jt_planes_makespan(items, 2) == 8.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(near_the_best),
        cmocka_unit_test(rings),
        cmocka_unit_test(planes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
