/* Cache policies on sequences whose outcome is known, and playback against the live
 * store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "families.h"
#include "junto/junto.h"
#include "store/playback.h"

enum { EXPERTS = 8 };
static const int first[] = {0, EXPERTS}, k[] = {1};
static const jt_experts_map map = {1, first, k};

/* Misses of a sequence of single experts. */
static uint64_t misses(const char *policy, int slots, const int32_t *uses, size_t count,
                       const jt_foreknowledge *known)
{
    jt_playback p;
    assert_int_equal(
        jt_playback_start(&p, jt_cache_policy_find(policy), &map, slots, known, NULL),
        JT_OK);
    for (size_t i = 0; i < count; i++)
        jt_playback_pass(&p, 0, uses + i, 1, NULL);
    uint64_t n = p.misses;
    assert_int_equal(p.uses, count);
    jt_playback_stop(&p);
    return n;
}

static void recency_and_frequency(void **state)
{
    (void)state;
    /* 0 is used often, then 1 2 3 come once each: with two slots lru forgets 0. */
    static const int32_t uses[] = {0, 0, 0, 1, 2, 3, 0};
    assert_int_equal(misses("lru", 2, uses, 7, NULL), 5);
    assert_int_equal(misses("lfu", 2, uses, 7, NULL), 4);
    assert_int_equal(misses("lfru", 2, uses, 7, NULL), 4);
    /* A cycle of three through two slots: lru never hits. */
    static const int32_t cycle[] = {0, 1, 2, 0, 1, 2, 0, 1, 2};
    assert_int_equal(misses("lru", 2, cycle, 9, NULL), 9);
}

static void old_uses_fade(void **state)
{
    (void)state;
    /* 0 was the favourite long ago, 1 is now: lfu never believes it, lfru does. */
    enum { LONG = 400 };
    int32_t uses[3 * LONG];
    for (int i = 0; i < LONG; i++)
        uses[i] = 0;
    for (int i = 0; i < LONG; i++) { /* 1 2 1 3 1 4 .. */
        uses[LONG + 2 * i] = 1;
        uses[LONG + 2 * i + 1] = 2 + i % 6;
    }
    uint64_t lfu = misses("lfu", 2, uses, 3 * LONG, NULL);
    uint64_t lfru = misses("lfru", 2, uses, 3 * LONG, NULL);
    assert_true(lfru + LONG / 2 < lfu);
}

static void scores_decide(void **state)
{
    (void)state;
    jt_playback p;
    assert_int_equal(
        jt_playback_start(&p, jt_cache_policy_find("score"), &map, 2, NULL, NULL),
        JT_OK);
    /* The router likes 0 and 1 of those that are there; 2k = 2 scores count. */
    const float likes[EXPERTS] = {0.5f, 0.3f, 0.1f, 0.1f};
    for (int32_t e = 0; e < 4; e++)
        jt_playback_pass(&p, 0, &e, 1, likes);
    assert_true(p.slots.where[0] >= 0); /* 1 left for 2, 2 for 3: 0 is liked most */
    assert_true(p.slots.where[3] >= 0);
    assert_true(p.ranking.value[0] > p.ranking.value[1]);
    assert_true(p.ranking.value[2] == 0.0); /* not among the first two */
    /* S after n updates is score (1 - 0.5^n). */
    double diff = p.ranking.value[0] - 0.5 * (1.0 - 0.0625);
    assert_true(diff > -1e-6 && diff < 1e-6);
    jt_playback_stop(&p);
}

/* Misses of experts that come in a circle, which now and then begins elsewhere; the
 * router is sure. */
static uint64_t misses_of_a_circle(const char *policy)
{
    enum { LONG = 4000 };
    jt_playback p;
    jt_rng random = {3, 0, 0};
    assert_int_equal(
        jt_playback_start(&p, jt_cache_policy_find(policy), &map, 4, NULL, NULL),
        JT_OK);
    int32_t e = 0;
    for (int i = 0; i < LONG; i++) {
        float scores[EXPERTS] = {0.0f};
        e = jt_rng_below(&random, 10) ? e + 1 : (int32_t)jt_rng_below(&random, EXPERTS);
        e %= EXPERTS;
        scores[e] = 1.0f;
        jt_playback_pass(&p, 0, &e, 1, scores);
    }
    uint64_t n = p.misses;
    jt_playback_stop(&p);
    return n;
}

static void what_follows_is_learnt(void **state)
{
    (void)state;
    uint64_t learned = misses_of_a_circle("learned");
    assert_true(4 * learned < 3 * misses_of_a_circle("lru"));
    assert_true(4 * learned < 3 * misses_of_a_circle("lfru"));
    assert_true(4 * learned < 3 * misses_of_a_circle("score"));
}

static void pins_stay(void **state)
{
    (void)state;
    const double used[EXPERTS] = {1, 9, 0, 0, 0, 0, 0, 0};
    jt_foreknowledge known = {.uses = used};
    static const int32_t uses[] = {1, 0, 2, 3, 4, 5, 1, 0, 1};
    assert_int_equal(misses("pin", 2, uses, 9, &known), 7); /* 1 once, the others all */
}

/* The fewest misses possible, by trying every choice. */
static uint64_t fewest(const int32_t *uses, size_t count, unsigned there, int slots)
{
    if (!count)
        return 0;
    unsigned bit = 1u << *uses;
    if (there & bit)
        return fewest(uses + 1, count - 1, there, slots);
    if (__builtin_popcount(there) < slots)
        return 1 + fewest(uses + 1, count - 1, there | bit, slots);
    uint64_t best = UINT64_MAX;
    for (int e = 0; e < EXPERTS; e++) {
        if (!(there >> e & 1))
            continue;
        uint64_t n = 1 + fewest(uses + 1, count - 1, (there & ~(1u << e)) | bit, slots);
        best = n < best ? n : best;
    }
    return best;
}

static void belady_is_the_best(void **state)
{
    (void)state;
    enum { LENGTH = 14 };
    jt_rng random = {7, 0, 0};
    for (int round = 0; round < 60; round++) {
        int32_t uses[LENGTH];
        for (int i = 0; i < LENGTH; i++)
            uses[i] = (int32_t)jt_rng_below(&random, 5);
        jt_foreknowledge known = {.next = uses, .n_next = LENGTH};
        uint64_t best = misses("belady", 3, uses, LENGTH, &known);
        assert_int_equal(best, fewest(uses, LENGTH, 0, 3));
        assert_true(misses("lru", 3, uses, LENGTH, NULL) >= best);
        assert_true(misses("lfru", 3, uses, LENGTH, NULL) >= best);
    }
}

static void a_pass_may_ask_for_more_than_fits(void **state)
{
    (void)state;
    jt_playback p;
    int32_t all[EXPERTS] = {0, 1, 2, 3, 4, 5, 6, 7};
    assert_int_equal(
        jt_playback_start(&p, jt_cache_policy_find("lru"), &map, 3, NULL, NULL), JT_OK);
    for (int i = 0; i < 3; i++)
        jt_playback_pass(&p, 0, all, EXPERTS, NULL);
    /* What is there from the pass before is used first: it need not come again. */
    assert_int_equal(p.misses, EXPERTS + 2 * (EXPERTS - 3));
    jt_playback_stop(&p);
}

/* ---- the live store does the same ---- */

static void playback_is_what_happened(void **state)
{
    (void)state;
    static const char *const policies[] = {"lru", "lfu", "lfru"};
    char model_path[600], trace_path[] = "/tmp/junto-policy-XXXXXX";
    snprintf(model_path, sizeof model_path, "%s/qwen3moe.gguf", golden_dir());
    close(mkstemp(trace_path));
    jt_err err = {0};
    jt_model *model;
    assert_int_equal(jt_model_load_apart(&model, model_path, &err), JT_OK);
    for (int i = 0; i < 6; i++) {
        jt_session_options options = {.threads = 1,
                                      .n_ctx = 64,
                                      .store = {.slots = 6 + 2 * i,
                                                .policy = policies[i % 3],
                                                .prefetch = "off"}};
        jt_session *s;
        jt_trace_writer *writer;
        jt_trace *trace;
        jt_store_stats stats;
        jt_simulated played;
        if (jt_session_new(&s, model, &options, &err) != JT_OK)
            fail_msg("%s", err.msg);
        unlink(trace_path);
        assert_int_equal(jt_trace_writer_new(&writer, trace_path, model, NULL, &err),
                         JT_OK);
        jt_watcher watcher = jt_trace_watcher(writer);
        assert_int_equal(jt_session_add_watcher(s, &watcher, &err), JT_OK);
        for (int32_t t = 0; t < 50; t++) {
            int32_t token = (t * 37 + 11) % 64;
            assert_int_equal(jt_session_eval(s, &token, 1, NULL, &err), JT_OK);
        }
        assert_true(jt_session_store_stats(s, &stats));
        jt_session_free(s);
        assert_int_equal(jt_trace_finish(writer, &err), JT_OK);
        assert_int_equal(jt_trace_open(&trace, trace_path, &err), JT_OK);
        jt_simulate_options play = {.policy = policies[i % 3], .slots = 6 + 2 * i};
        assert_int_equal(jt_simulate(trace, &play, &played, &err), JT_OK);
        assert_int_equal(played.tokens, 50);
        assert_int_equal(played.uses, stats.hits + stats.misses);
        assert_int_equal(played.misses, stats.misses);
        play.policy = "belady";
        jt_simulated best;
        assert_int_equal(jt_simulate(trace, &play, &best, &err), JT_OK);
        assert_true(best.misses <= played.misses && best.misses >= best.first);
        jt_trace_close(trace);
    }
    jt_model_free(model);
    unlink(trace_path);
}

static void traces_pin_and_refuse(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_ranking r;
    const jt_cache_policy *pin = jt_cache_policy_find("pin");
    assert_int_equal(jt_ranking_start(&r, pin, &map, 2, NULL, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "needs a trace"));
    const jt_cache_policy *belady = jt_cache_policy_find("belady");
    assert_int_equal(jt_ranking_start(&r, belady, &map, 2, NULL, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "simulation"));
    assert_null(jt_cache_policy_find("fifo"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recency_and_frequency),
        cmocka_unit_test(old_uses_fade),
        cmocka_unit_test(scores_decide),
        cmocka_unit_test(what_follows_is_learnt),
        cmocka_unit_test(pins_stay),
        cmocka_unit_test(belady_is_the_best),
        cmocka_unit_test(a_pass_may_ask_for_more_than_fits),
        cmocka_unit_test(playback_is_what_happened),
        cmocka_unit_test(traces_pin_and_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
