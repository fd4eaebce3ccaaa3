#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "junto/generate.h"

enum { VOCAB = 8, DRAWS = 20000 };

static const float logits[VOCAB] = {0.0f, 1.0f, 2.0f, 3.0f, -1.0f, 2.5f, -2.0f, 0.5f};

static jt_sampling all_off(void)
{
    return (jt_sampling){
        .temperature = 1.0f, .top_p = 1.0f, .typical_p = 1.0f, .repeat_penalty = 1.0f};
}

/* How often each token is drawn. */
static void draw(const jt_sampling *sampling, const float *values, double share[VOCAB])
{
    jt_sampler *s;
    memset(share, 0, VOCAB * sizeof *share);
    assert_int_equal(jt_sampler_new(&s, sampling, VOCAB, NULL), JT_OK);
    for (int i = 0; i < DRAWS; i++)
        share[jt_sampler_next(s, values)] += 1.0 / DRAWS;
    jt_sampler_free(s);
}

/* Expected shares: softmax at temperature `t` over the tokens in `keep`. */
static void expect(const double share[VOCAB], const int *keep, int n, double t)
{
    double sum = 0.0, expected[VOCAB] = {0};
    for (int i = 0; i < n; i++)
        sum += expected[keep[i]] = exp(logits[keep[i]] / t);
    for (int i = 0; i < VOCAB; i++) {
        expected[i] /= sum;
        double error = 5.0 * sqrt(expected[i] * (1 - expected[i]) / DRAWS);
        if (fabs(share[i] - expected[i]) > error)
            fail_msg("token %d: drawn %.4f, expected %.4f", i, share[i], expected[i]);
    }
}

static void plain_draw_follows_the_softmax(void **state)
{
    (void)state;
    double share[VOCAB];
    jt_sampling s = all_off();
    draw(&s, logits, share);
    expect(share, (int[]){0, 1, 2, 3, 4, 5, 6, 7}, 8, 1.0);
    s.temperature = 0.5f;
    draw(&s, logits, share);
    expect(share, (int[]){0, 1, 2, 3, 4, 5, 6, 7}, 8, 0.5);
}

static void top_k_keeps_the_best(void **state)
{
    (void)state;
    double share[VOCAB];
    jt_sampling s = all_off();
    s.top_k = 3;
    draw(&s, logits, share);
    expect(share, (int[]){2, 3, 5}, 3, 1.0);
    s.top_k = 1;
    draw(&s, logits, share);
    assert_true(share[3] > 0.99999);
}

static void top_p_keeps_the_nucleus(void **state)
{
    (void)state;
    double share[VOCAB]; /* softmax of the best: 0.46, 0.28, 0.17, 0.06 */
    jt_sampling s = all_off();
    s.top_p = 0.7f;
    draw(&s, logits, share);
    expect(share, (int[]){3, 5}, 2, 1.0);
    s.top_p = 0.0f; /* never empty */
    draw(&s, logits, share);
    assert_true(share[3] > 0.99999);
}

static void min_p_is_relative_to_the_best(void **state)
{
    (void)state;
    double share[VOCAB];
    jt_sampling s = all_off();
    s.min_p = 0.3f; /* logit >= 3 + ln 0.3 = 1.796 */
    draw(&s, logits, share);
    expect(share, (int[]){2, 3, 5}, 3, 1.0);
}

static void typical_drops_the_too_certain(void **state)
{
    (void)state;
    /* p = 0.6 and eight smaller ones: information 0.51 against an entropy of 1.2: the
     * second token (0.25, 1.39 nats) is the most typical */
    const float values[VOCAB] = {logf(0.6f),  logf(0.25f), logf(0.05f), logf(0.05f),
                                 logf(0.02f), logf(0.01f), logf(0.01f), logf(0.01f)};
    double share[VOCAB];
    jt_sampling s = all_off();
    s.typical_p = 0.2f;
    draw(&s, values, share);
    assert_true(share[1] > 0.99999);
}

static void greedy_takes_the_first_best(void **state)
{
    (void)state;
    const float ties[VOCAB] = {1.0f, NAN, 3.0f, 3.0f, -INFINITY, 0.0f, 0.0f, 0.0f};
    jt_sampling s = all_off();
    jt_sampler *sampler;
    s.temperature = 0.0f;
    assert_int_equal(jt_sampler_new(&sampler, &s, VOCAB, NULL), JT_OK);
    assert_int_equal(jt_sampler_next(sampler, ties), 2);
    jt_sampler_free(sampler);
}

static void penalties_look_at_the_window(void **state)
{
    (void)state;
    jt_sampling s = all_off();
    jt_sampler *sampler;
    s.temperature = 0.0f;
    s.repeat_penalty = 2.0f;
    s.repeat_last_n = 2;
    assert_int_equal(jt_sampler_new(&sampler, &s, VOCAB, NULL), JT_OK);
    assert_int_equal(jt_sampler_next(sampler, logits), 3);
    jt_sampler_accept(sampler, 3, NULL); /* 3.0 / 2 = 1.5 */
    assert_int_equal(jt_sampler_next(sampler, logits), 5);
    jt_sampler_accept(sampler, 5, NULL); /* 2.5 / 2 */
    assert_int_equal(jt_sampler_next(sampler, logits), 2);
    jt_sampler_accept(sampler, 2, NULL); /* 3 has left the window */
    assert_int_equal(jt_sampler_next(sampler, logits), 3);
    jt_sampler_free(sampler);

    s = all_off();
    s.temperature = 0.0f;
    s.presence_penalty = 0.4f;
    s.frequency_penalty = 0.2f;
    s.repeat_last_n = -1;
    assert_int_equal(jt_sampler_new(&sampler, &s, VOCAB, NULL), JT_OK);
    jt_sampler_accept(sampler, 3, NULL); /* 3.0 - 0.4 - 0.2 = 2.4 < 2.5 */
    assert_int_equal(jt_sampler_next(sampler, logits), 5);
    jt_sampler_free(sampler);
}

static void same_seed_same_draws(void **state)
{
    (void)state;
    jt_sampling s = jt_sampling_default();
    jt_sampler *a, *b;
    s.seed = 99;
    assert_int_equal(jt_sampler_new(&a, &s, VOCAB, NULL), JT_OK);
    assert_int_equal(jt_sampler_new(&b, &s, VOCAB, NULL), JT_OK);
    for (int i = 0; i < 200; i++)
        assert_int_equal(jt_sampler_next(a, logits), jt_sampler_next(b, logits));
    jt_sampler_free(a);
    jt_sampler_free(b);
}

static void wrong_numbers_are_named(void **state)
{
    (void)state;
    jt_err err;
    jt_sampler *sampler;
    jt_sampling s = all_off();
    s.top_p = 1.5f;
    assert_int_equal(jt_sampler_new(&sampler, &s, VOCAB, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "top-p"));
    s = all_off();
    s.temperature = NAN;
    assert_int_equal(jt_sampler_new(&sampler, &s, VOCAB, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "temperature"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_draw_follows_the_softmax),
        cmocka_unit_test(top_k_keeps_the_best),
        cmocka_unit_test(top_p_keeps_the_nucleus),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(typical_drops_the_too_certain),
        cmocka_unit_test(greedy_takes_the_first_best),
        cmocka_unit_test(penalties_look_at_the_window),
        cmocka_unit_test(same_seed_same_draws),
        cmocka_unit_test(wrong_numbers_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
