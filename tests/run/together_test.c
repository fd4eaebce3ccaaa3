/* Sessions in one pass: each gets the bits that it would have got alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../golden/model.h"
#include "base/memory.h"
#include "companion.h"
#include "junto/junto.h"
#include "run/session.h"

enum { SESSIONS = 5, LENGTH = 40 };

static int32_t text[SESSIONS][LENGTH];

static jt_model *open_model(const char *name)
{
    jt_model *model = golden_model(name);
    jt_model_info info;
    assert_non_null(model);
    jt_model_describe(model, &info);
    for (int s = 0; s < SESSIONS; s++) {
        for (int t = 0; t < LENGTH; t++)
            text[s][t] = (t * (31 + s) + 7 * s) % info.n_vocab;
    }
    return model;
}

static jt_session *open_session(const jt_model *model, int chunk, jt_session *beside)
{
    jt_session *s;
    jt_session_options options = {.chunk = chunk, .threads = 2, .beside = beside};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    return s;
}

static size_t vocab_of(const jt_model *model)
{
    jt_model_info info;
    jt_model_describe(model, &info);
    return (size_t)info.n_vocab;
}

/* Prompts of different lengths, then tokens one at a time, some sessions resting. */
static void same_bits(void **state)
{
    jt_model *model = open_model(*state);
    jt_session *alone[SESSIONS], *group[SESSIONS];
    size_t bytes = vocab_of(model) * sizeof(float), at[SESSIONS] = {0};
    for (int s = 0; s < SESSIONS; s++) {
        alone[s] = open_session(model, 0, NULL);
        group[s] = open_session(model, 24, s ? group[0] : NULL);
    }
    for (int round = 0; round < 8; round++) {
        jt_part part[SESSIONS];
        size_t n = 0;
        for (int s = 0; s < SESSIONS; s++) {
            size_t count = round ? (size_t)((round + s) % 3) : 3 + 5 * (size_t)s;
            if (count == 0)
                continue;
            part[n++] = (jt_part){group[s], text[s] + at[s], count};
            assert_int_equal(
                jt_session_eval(alone[s], text[s] + at[s], count, NULL, NULL), JT_OK);
            at[s] += count;
        }
        assert_int_equal(jt_session_eval_together(part, n, NULL, NULL), JT_OK);
        for (int s = 0; s < SESSIONS; s++) {
            assert_int_equal(jt_session_length(group[s]), at[s]);
            assert_memory_equal(jt_session_logits(group[s]),
                                jt_session_logits(alone[s]), bytes);
        }
    }
    for (int s = SESSIONS - 1; s >= 0; s--) {
        jt_session_free(alone[s]);
        jt_session_free(group[s]);
    }
    jt_model_free(model);
}

/* A prompt whose pass is interrupted for another session: both get the bits that they
 * would have got alone. */
static void same_bits_in_interludes(void **state)
{
    jt_model *model = open_model(*state);
    size_t bytes = vocab_of(model) * sizeof(float);
    jt_session *prompt = open_session(model, 0, NULL);
    jt_session *other = open_session(model, 0, prompt);
    jt_session *alone = open_session(model, 0, NULL);
    companion b = {.session = other, .text = text[1], .length = LENGTH, .every = 20};
    const jt_interlude interlude = {companion_is_due, companion_goes_on, &b};
    jt_part part = {prompt, text[0], LENGTH};
    jt_pool_interlude(prompt->ctx->pool, &interlude);
    assert_int_equal(jt_session_eval_together(&part, 1, NULL, NULL), JT_OK);
    jt_pool_interlude(prompt->ctx->pool, NULL);
    assert_true(b.at > 0);
    assert_int_equal(jt_session_eval(alone, text[0], LENGTH, NULL, NULL), JT_OK);
    assert_memory_equal(jt_session_logits(prompt), jt_session_logits(alone), bytes);
    jt_session_truncate(alone, 0);
    for (size_t i = 0; i < b.at; i++)
        assert_int_equal(jt_session_eval(alone, &text[1][i], 1, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_length(other), b.at);
    assert_memory_equal(jt_session_logits(other), jt_session_logits(alone), bytes);
    jt_session_free(alone);
    jt_session_free(other);
    jt_session_free(prompt);
    jt_model_free(model);
}

/* Scores of every expert, doubled. */
static void sharpen(void *self, const jt_route_site *site, float *logits, int tokens,
                    int n)
{
    (void)site;
    *(int *)self += tokens;
    for (int i = 0; i < tokens * n; i++)
        logits[i] *= 2.0f;
}

/* A policy steers its own session only. */
static void policies_stay_at_home(void **state)
{
    (void)state;
    jt_model *model = open_model("mixtral");
    size_t bytes = vocab_of(model) * sizeof(float);
    int seen = 0, seen_alone = 0;
    jt_policy policy = {.self = &seen, .on_logits = sharpen};
    jt_session *group[2] = {open_session(model, 0, NULL)}, *alone[2];
    group[1] = open_session(model, 0, group[0]);
    for (int s = 0; s < 2; s++)
        alone[s] = open_session(model, 0, NULL);
    assert_int_equal(jt_session_add_policy(group[1], &policy, NULL), JT_OK);
    policy.self = &seen_alone;
    assert_int_equal(jt_session_add_policy(alone[1], &policy, NULL), JT_OK);
    jt_part part[2];
    for (int s = 0; s < 2; s++) {
        part[s] = (jt_part){group[s], text[0], 9};
        assert_int_equal(jt_session_eval(alone[s], text[0], 9, NULL, NULL), JT_OK);
    }
    assert_int_equal(jt_session_eval_together(part, 2, NULL, NULL), JT_OK);
    assert_int_equal(seen, seen_alone);
    for (int s = 0; s < 2; s++)
        assert_memory_equal(jt_session_logits(group[s]), jt_session_logits(alone[s]),
                            bytes);
    assert_memory_not_equal(jt_session_logits(group[0]), jt_session_logits(group[1]),
                            bytes);
    for (int s = 1; s >= 0; s--) {
        jt_session_free(alone[s]);
        jt_session_free(group[s]);
    }
    jt_model_free(model);
}

/* What a watcher saw, in the order in which it came. */
typedef struct sight {
    int tokens, most; /* of all passes, of the largest */
    double sum;       /* of places, experts and weights */
} sight;

static void look(void *self, const jt_route_site *site, const jt_route *route)
{
    sight *s = self;
    s->tokens += route->n_tokens;
    s->most = route->n_tokens > s->most ? route->n_tokens : s->most;
    for (int t = 0; t < route->n_tokens; t++) {
        double token = site->token_ids[t] + 0.1 * site->positions[t];
        for (int j = 0; j < route->k; j++)
            s->sum += token * (route->expert[t * route->k + j] + 1.0) *
                      (double)route->weight[t * route->k + j];
    }
}

static int one_slot(void *self, const jt_route_site *site, int k)
{
    (void)self;
    (void)site;
    (void)k;
    return 1;
}

/* The first two share a watcher, the third has one expert per token, too. */
static void watched(jt_session *const *s, sight *seen)
{
    jt_watcher both = {.self = &seen[0], .on_route = look};
    jt_watcher other = {.self = &seen[1], .on_route = look};
    jt_policy policy = {.on_k = one_slot};
    for (int i = 0; i < 3; i++)
        assert_int_equal(jt_session_add_watcher(s[i], i < 2 ? &both : &other, NULL),
                         JT_OK);
    assert_int_equal(jt_session_add_policy(s[2], &policy, NULL), JT_OK);
}

/* Watchers see their own sessions, which share passes all the same. */
static void watchers_see_their_own(void **state)
{
    (void)state;
    jt_model *model = open_model("mixtral");
    size_t bytes = vocab_of(model) * sizeof(float);
    sight seen[2] = {0}, alone_seen[2] = {0};
    jt_session *group[3], *alone[3];
    for (int s = 0; s < 3; s++) {
        group[s] = open_session(model, 0, s ? group[0] : NULL);
        alone[s] = open_session(model, 0, NULL);
    }
    watched(group, seen);
    watched(alone, alone_seen);
    jt_part part[3];
    for (int s = 0; s < 3; s++) {
        part[s] = (jt_part){group[s], text[s], 5 + (size_t)s};
        assert_int_equal(jt_session_eval(alone[s], text[s], 5 + (size_t)s, NULL, NULL),
                         JT_OK);
    }
    assert_int_equal(jt_session_eval_together(part, 3, NULL, NULL), JT_OK);
    for (int s = 0; s < 3; s++)
        assert_memory_equal(jt_session_logits(group[s]), jt_session_logits(alone[s]),
                            bytes);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(seen[i].tokens, alone_seen[i].tokens);
        assert_true(fabs(seen[i].sum - alone_seen[i].sum) < 1e-6 * seen[i].sum);
    }
    assert_int_equal(seen[0].most, 5 + 6);
    assert_int_equal(alone_seen[0].most, 6);
    for (int s = 2; s >= 0; s--) {
        jt_session_free(alone[s]);
        jt_session_free(group[s]);
    }
    jt_model_free(model);
}

/* One bad part, or memory that ends at any moment: every context is as before. */
static void failures_change_nothing(void **state)
{
    (void)state;
    jt_model *model = open_model("mixtral"), *other = open_model("olmoe");
    jt_session *s = open_session(model, 0, NULL), *t = open_session(model, 0, s);
    jt_session *stranger = open_session(other, 0, NULL);
    int32_t bad[] = {1, -1};
    jt_part part[] = {{s, text[0], 4}, {t, text[1], 5}};
    jt_part twice[] = {{s, text[0], 4}, {s, text[1], 5}};
    jt_part foreign[] = {{s, text[0], 4}, {stranger, text[1], 5}};
    jt_part wrong[] = {{s, text[0], 4}, {t, bad, 2}};
    assert_int_equal(jt_session_eval_together(part, 0, NULL, NULL), JT_E_ARG);
    assert_int_equal(jt_session_eval_together(twice, 2, NULL, NULL), JT_E_ARG);
    assert_int_equal(jt_session_eval_together(foreign, 2, NULL, NULL), JT_E_ARG);
    assert_int_equal(jt_session_eval_together(wrong, 2, NULL, NULL), JT_E_ARG);
    assert_int_equal(jt_session_length(s), 0);
    jt_status status = JT_E_MEMORY;
    long failures = 0;
    for (; status == JT_E_MEMORY; failures++) {
        assert_int_equal(jt_session_length(s) + jt_session_length(t), 0);
        jt_fault_after(failures);
        status = jt_session_eval_together(part, 2, NULL, NULL);
        jt_fault_after(-1);
    }
    assert_int_equal(status, JT_OK);
    assert_true(failures > 1);
    assert_int_equal(jt_session_length(t), 5);
    jt_session_free(stranger);
    jt_session_free(t);
    jt_session_free(s);
    jt_model_free(other);
    jt_model_free(model);
}

#define SAME(name)                                                         \
    {                                                                      \
        "same bits: " name, same_bits, NULL, NULL, (void *)(uintptr_t)name \
    }

#define INTERLUDES(name)                                                       \
    {                                                                          \
        "same bits in interludes: " name, same_bits_in_interludes, NULL, NULL, \
            (void *)(uintptr_t)name                                            \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        INTERLUDES("mixtral"),
        INTERLUDES("gpt-oss"),
        INTERLUDES("deepseek2"),
        INTERLUDES("qwen3next"),
        INTERLUDES("llama4"),
        INTERLUDES("falcon-h1"),
        INTERLUDES("gemma4-moe"),
        SAME("mixtral"),
        SAME("gpt-oss"),
        SAME("deepseek2"),
        SAME("lfm2moe"),
        SAME("qwen3next"),
        SAME("llama4"),
        SAME("falcon-h1"),
        SAME("kimi-linear"),
        SAME("minimax-01"),
        SAME("gemma4-moe"),
        SAME("gemma4-e2b"),
        cmocka_unit_test(policies_stay_at_home),
        cmocka_unit_test(watchers_see_their_own),
        cmocka_unit_test(failures_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
