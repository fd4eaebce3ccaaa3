/* Schedules at their borders, against closed formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "learn/schedule.h"

/* 10 steps of warm-up, then 90 more */
static jt_schedule schedule(jt_schedule_kind kind)
{
    return (jt_schedule){kind, 2e-3f, 1e-4f, 10, 100, 20};
}

static void assert_rate(const jt_schedule *s, int64_t step, double expected)
{
    double rate = jt_schedule_lr(s, step);
    if (!(fabs(rate - expected) <= 1e-7 * s->lr))
        fail_msg("step %lld: rate %.9g, expected %.9g", (long long)step, rate,
                 expected);
}

/* Exact: what a run starts from, peaks at and ends with. */
static void assert_exactly(const jt_schedule *s, int64_t step, float expected)
{
    assert_true(jt_schedule_lr(s, step) == expected);
}

static void warm_up_rises_to_the_rate(void **state)
{
    (void)state;
    for (int kind = JT_SCHEDULE_CONSTANT; kind <= JT_SCHEDULE_WSD; kind++) {
        jt_schedule s = schedule((jt_schedule_kind)kind);
        for (int64_t step = 0; step < 10; step++)
            assert_rate(&s, step, 2e-3 * (double)(step + 1) / 10.0);
        assert_exactly(&s, 9, s.lr);
        assert_exactly(&s, 10, s.lr);
        s.warmup_steps = 0;
        assert_exactly(&s, 0, s.lr);
    }
}

static void constant_stays(void **state)
{
    (void)state;
    jt_schedule s = schedule(JT_SCHEDULE_CONSTANT);
    assert_exactly(&s, 50, s.lr);
    assert_exactly(&s, 99, s.lr);
    assert_exactly(&s, 1000, s.lr);
}

static void linear_and_cosine_go_down(void **state)
{
    (void)state;
    jt_schedule line = schedule(JT_SCHEDULE_LINEAR);
    jt_schedule cosine = schedule(JT_SCHEDULE_COSINE);
    for (int64_t step = 10; step < 100; step++) {
        double done = (double)(step - 10) / 89.0;
        assert_rate(&line, step, 2e-3 - 1.9e-3 * done);
        assert_rate(&cosine, step, 1e-4 + 1.9e-3 * (1.0 + cos(acos(-1.0) * done)) / 2);
    }
    assert_exactly(&line, 99, line.final_lr);
    assert_exactly(&cosine, 99, cosine.final_lr);
    assert_exactly(&line, 100, line.final_lr);
    assert_exactly(&cosine, INT64_MAX, cosine.final_lr);
}

static void stable_then_decay(void **state)
{
    (void)state;
    jt_schedule s = schedule(JT_SCHEDULE_WSD);
    for (int64_t step = 10; step < 80; step++)
        assert_exactly(&s, step, s.lr);
    for (int64_t step = 80; step < 100; step++)
        assert_rate(&s, step, 2e-3 - 1.9e-3 * (double)(step - 79) / 20.0);
    assert_exactly(&s, 99, s.final_lr);
    assert_exactly(&s, 100, s.final_lr);
}

/* More decay than there are steps after the warm-up: it starts when that has ended. */
static void decay_waits_for_the_warm_up(void **state)
{
    (void)state;
    jt_schedule s = schedule(JT_SCHEDULE_WSD);
    s.decay_steps = 1000;
    assert_exactly(&s, 9, s.lr);
    assert_exactly(&s, 10, s.lr);
    assert_rate(&s, 11, 2e-3 - 1.9e-3 / 89.0);
    assert_exactly(&s, 99, s.final_lr);
    s.decay_steps = 0;
    assert_exactly(&s, 99, s.lr);
    assert_exactly(&s, 100, s.final_lr);
}

static void a_single_step_has_the_full_rate(void **state)
{
    (void)state;
    for (int kind = JT_SCHEDULE_CONSTANT; kind <= JT_SCHEDULE_WSD; kind++) {
        jt_schedule s = {(jt_schedule_kind)kind, 1.0f, 0.0f, 0, 1, 0};
        assert_exactly(&s, 0, 1.0f);
        s.warmup_steps = 1;
        assert_exactly(&s, 0, 1.0f);
    }
}

static void kinds_have_names(void **state)
{
    (void)state;
    const char *const names[] = {"constant", "linear", "cosine", "wsd"};
    jt_schedule_kind kind = JT_SCHEDULE_WSD;
    for (int i = 0; i < 4; i++) {
        assert_true(jt_schedule_kind_named(names[i], &kind));
        assert_int_equal(kind, i);
    }
    assert_false(jt_schedule_kind_named("Cosine", &kind));
    assert_int_equal(kind, JT_SCHEDULE_WSD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_rises_to_the_rate),
        cmocka_unit_test(constant_stays),
        cmocka_unit_test(linear_and_cosine_go_down),
        cmocka_unit_test(stable_then_decay),
        cmocka_unit_test(decay_waits_for_the_warm_up),
        cmocka_unit_test(a_single_step_has_the_full_rate),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
