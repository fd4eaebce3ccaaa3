/* Every selector against its definition, written as plain loops, on random logits with
 * ties, with experts that a policy took out, with a selection bias; and the weights,
 * null experts and the capacity that come after it. */
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

enum { MAX_ROWS = 64, MAX_TOKENS = 300 };

static jt_rng rng = {.seed = 7};
static jt_context ctx;

static int setup(void **state)
{
    (void)state;
    return jt_context_init(&ctx, 2, "scalar", NULL) == JT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    jt_context_free(&ctx);
    return 0;
}

/* A call of jt_router_select and all that it looks at. */
typedef struct trial {
    jt_router router;
    jt_route_site site;
    size_t tokens, rows;
    float bias[MAX_ROWS];
    jt_tensor logits, scores;
    jt_route route;
} trial;

/* Half of the trials have whole numbers as logits, so that many are equal; some have
 * experts taken out, now and then all of a token. */
static void random_logits(trial *t)
{
    bool ties = jt_rng_below(&rng, 2), masked = jt_rng_below(&rng, 2);
    t->logits = jt_new(&ctx, t->tokens, t->rows);
    t->scores = jt_new(&ctx, t->tokens, t->rows);
    for (size_t i = 0; i < t->tokens; i++) {
        bool none = masked && jt_rng_below(&rng, 8) == 0;
        float *row = jt_row(&t->logits, i);
        for (size_t e = 0; e < t->rows; e++) {
            float value = 1.5f * jt_rng_normal(&rng);
            row[e] = ties ? roundf(value) : value;
            if (none || (masked && jt_rng_below(&rng, 4) == 0))
                row[e] = -INFINITY;
        }
    }
    if (jt_rng_below(&rng, 2)) {
        for (size_t e = 0; e < t->rows; e++)
            t->bias[e] =
                ties ? 0.25f * roundf(jt_rng_normal(&rng)) : 0.1f * jt_rng_normal(&rng);
        t->router.selection_bias = (jt_tensor){
            .data = t->bias, .dtype = JT_F32, .n_dims = 1, .shape = {t->rows}};
    }
}

static void run(trial *t)
{
    static const jt_hooks none;
    jt_err err;
    if (jt_router_check(&t->router, &err) != JT_OK)
        fail_msg("%s", err.msg);
    t->route = jt_route_new(&ctx, (int)t->tokens, t->router.n_experts, t->router.k);
    jt_router_select(&ctx, &t->router, &none, &t->site, &t->logits, &t->scores,
                     &t->route);
    assert_int_equal(ctx.err.code, JT_OK);
}

static trial start(const char *selector, size_t tokens, int experts, int null, int k)
{
    trial t = {.router = {.scorer = jt_scorer_find("linear"),
                          .selector = jt_selector_find(selector),
                          .n_experts = experts,
                          .n_null = null,
                          .k = k,
                          .scale = 1.0f,
                          .top_p = 0.6f},
               .tokens = tokens,
               .rows = (size_t)(experts + null)};
    assert_non_null(t.router.selector);
    t.router.gating = jt_rng_below(&rng, 2) ? JT_GATE_SIGMOID : JT_GATE_SOFTMAX;
    t.router.gate_after = jt_rng_below(&rng, 2);
    t.router.renormalise = jt_rng_below(&rng, 2);
    return t;
}

/* ---- definitions ---- */

/* What is compared; -infinity for an expert that is out. The same float arithmetic, so
 * that ties are ties. */
static float value_of(const trial *t, size_t token, size_t row)
{
    float logit = jt_row(&t->logits, token)[row];
    float value = t->router.gate_after ? logit : jt_row(&t->scores, token)[row];
    return logit == -INFINITY
               ? -INFINITY
               : value + (t->router.selection_bias.data ? t->bias[row] : 0.0f);
}

/* The k best of `values` [n] that are not -infinity, one after the other; then -1. */
static void best_of(const float *values, size_t n, int k, int32_t *out)
{
    bool used[MAX_TOKENS] = {0};
    for (int j = 0; j < k; j++) {
        out[j] = -1;
        for (size_t i = 0; i < n; i++) {
            if (!used[i] && values[i] > -INFINITY &&
                (out[j] < 0 || values[i] > values[out[j]]))
                out[j] = (int32_t)i;
        }
        if (out[j] >= 0)
            used[out[j]] = true;
    }
}

static void values_of_token(const trial *t, size_t token, float *values)
{
    for (size_t e = 0; e < t->rows; e++)
        values[e] = value_of(t, token, e);
}

static void define_topk(const trial *t, size_t token, int32_t *out)
{
    float values[MAX_ROWS];
    values_of_token(t, token, values);
    best_of(values, t->rows, t->router.k, out);
}

static void define_top_p(const trial *t, size_t token, int32_t *out)
{
    float sum = 0.0f;
    define_topk(t, token, out);
    for (int j = 0; j < t->router.k; j++) {
        bool enough = sum >= t->router.top_p;
        if (out[j] >= 0)
            sum += jt_row(&t->scores, token)[out[j]];
        if (enough)
            out[j] = -1;
    }
}

static void define_grouped(const trial *t, size_t token, int32_t *out)
{
    float values[MAX_ROWS];
    int groups = t->router.n_groups, k = t->router.k / groups;
    size_t size = t->rows / (size_t)groups;
    values_of_token(t, token, values);
    for (int g = 0; g < groups; g++) {
        size_t first = (size_t)g * size;
        best_of(values + first, size, k, out + g * k);
        for (int j = 0; j < k; j++)
            out[g * k + j] += out[g * k + j] >= 0 ? (int32_t)first : 0;
    }
}

static void define_group_limited(const trial *t, size_t token, int32_t *out)
{
    float values[MAX_ROWS], group[MAX_ROWS], inside[MAX_ROWS];
    int32_t best[2], kept[MAX_ROWS];
    int groups = t->router.n_groups, sum_of = t->router.group_best == 1 ? 1 : 2;
    size_t size = t->rows / (size_t)groups;
    values_of_token(t, token, values);
    for (int g = 0; g < groups; g++) {
        const float *of_group = values + (size_t)g * size;
        best_of(of_group, size, sum_of, best);
        group[g] = best[0] < 0 ? -INFINITY : of_group[best[0]];
        if (sum_of == 2 && best[1] >= 0)
            group[g] += of_group[best[1]];
    }
    best_of(group, (size_t)groups, t->router.groups_used, kept);
    for (size_t e = 0; e < t->rows; e++) {
        inside[e] = -INFINITY;
        for (int j = 0; j < t->router.groups_used; j++) {
            if (kept[j] == (int32_t)(e / size))
                inside[e] = values[e];
        }
    }
    best_of(inside, t->rows, t->router.k, out);
}

static void define_expert_choice(const trial *t, size_t token, int32_t *out)
{
    float values[MAX_ROWS], of_tokens[MAX_TOKENS];
    int32_t taken[MAX_TOKENS];
    size_t k = (size_t)t->router.k, places = (k * t->tokens + t->rows - 1) / t->rows;
    for (size_t e = 0; e < t->rows; e++) {
        values[e] = -INFINITY;
        for (size_t i = 0; i < t->tokens; i++)
            of_tokens[i] = value_of(t, i, e);
        best_of(of_tokens, t->tokens, (int)places, taken);
        for (size_t j = 0; j < places; j++) {
            if (taken[j] == (int32_t)token)
                values[e] = of_tokens[token];
        }
    }
    best_of(values, t->rows, (int)k, out);
}

/* ---- the comparison ---- */

typedef void define_fn(const trial *t, size_t token, int32_t *out);

static void assert_close(double a, double b)
{
    if (fabs(a - b) > 1e-5 * fmax(1.0, fabs(b)))
        fail_msg("%.9g is not %.9g", a, b);
}

/* The weights of a token's experts, in double. */
static void check_weights(const trial *t, size_t token)
{
    const jt_router *r = &t->router;
    size_t k = (size_t)r->k;
    const int32_t *expert = t->route.expert + token * k;
    double gated[MAX_ROWS], sum = 0.0;
    for (size_t j = 0; j < k; j++) {
        int32_t e = expert[j];
        double logit = e < 0 ? -INFINITY : (double)jt_row(&t->logits, token)[e];
        bool soft = r->gating == JT_GATE_SOFTMAX;
        gated[j] = soft ? exp(logit) : 1.0 / (1.0 + exp(-logit));
        sum += gated[j];
    }
    double all = 0.0;
    for (size_t e = 0; e < t->rows; e++)
        all += exp((double)jt_row(&t->logits, token)[e]);
    if (!r->renormalise && r->gating == JT_GATE_SIGMOID)
        sum = 1.0;
    else if (!r->renormalise && !r->gate_after)
        sum = all;
    for (size_t j = 0; j < k; j++) {
        double weight = gated[j] > 0.0 ? r->scale * gated[j] / sum : 0.0;
        assert_close((double)t->route.weight[token * k + j], weight);
    }
}

static void check_trial(const trial *t, define_fn *define)
{
    size_t k = (size_t)t->router.k;
    for (size_t i = 0; i < t->tokens; i++) {
        int32_t expected[MAX_ROWS];
        define(t, i, expected);
        assert_memory_equal(t->route.picked + i * k, expected, k * sizeof *expected);
        for (size_t j = 0; j < k; j++) {
            bool is_null = expected[j] >= t->router.n_experts;
            assert_int_equal(t->route.expert[i * k + j], is_null ? -1 : expected[j]);
        }
        check_weights(t, i);
    }
    assert_int_equal(t->route.n_rows, t->rows);
}

typedef struct shape {
    size_t tokens;
    int experts, null, k, groups, used;
} shape;

static void check_selector(const char *name, define_fn *define, const shape *shapes,
                           size_t count)
{
    for (size_t s = 0; s < count; s++) {
        for (int repeat = 0; repeat < 12; repeat++) {
            const shape *h = &shapes[s];
            jt_arena_mark mark = jt_arena_save(&ctx.scratch);
            trial t = start(name, h->tokens, h->experts, h->null, h->k);
            t.router.n_groups = h->groups;
            t.router.groups_used = h->used;
            t.router.group_best = repeat % 3;
            t.router.scale = repeat % 2 ? 2.5f : 1.0f;
            random_logits(&t);
            run(&t);
            check_trial(&t, define);
            jt_arena_rewind(&ctx.scratch, mark);
        }
    }
}

#define CHECK(name, define, shapes) \
    check_selector(name, define, shapes, sizeof(shapes) / sizeof *(shapes))

static void topk_and_top_p(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {.tokens = 37, .experts = 12, .k = 3},
        {.tokens = 300, .experts = 64, .k = 8}, /* over the threads */
        {.tokens = 9, .experts = 5, .k = 5},
        {.tokens = 4, .experts = 1, .k = 1},
        {.tokens = 1, .experts = 8, .k = 2},
        {.tokens = 50, .experts = 8, .null = 16, .k = 4},
        {.tokens = 20, .experts = 2, .null = 3, .k = 5},
    };
    CHECK("topk", define_topk, shapes);
    CHECK("top_p", define_top_p, shapes);
}

static void groups(void **state)
{
    (void)state;
    static const shape grouped[] = {
        {.tokens = 300, .experts = 64, .k = 8, .groups = 8},
        {.tokens = 21, .experts = 12, .k = 6, .groups = 3},
        {.tokens = 7, .experts = 6, .k = 6, .groups = 6},
        {.tokens = 1, .experts = 1, .k = 1, .groups = 1},
    };
    static const shape limited[] = {
        {.tokens = 300, .experts = 64, .k = 6, .groups = 8, .used = 4},
        {.tokens = 33, .experts = 12, .k = 4, .groups = 4, .used = 2},
        {.tokens = 12, .experts = 6, .k = 2, .groups = 6, .used = 3},
        {.tokens = 12, .experts = 8, .k = 8, .groups = 2, .used = 2},
        {.tokens = 1, .experts = 1, .k = 1, .groups = 1, .used = 1},
    };
    CHECK("grouped", define_grouped, grouped);
    CHECK("group_limited", define_group_limited, limited);
}

static void expert_choice(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {.tokens = 40, .experts = 8, .k = 2}, {.tokens = 37, .experts = 12, .k = 3},
        {.tokens = 9, .experts = 5, .k = 5},  {.tokens = 6, .experts = 1, .k = 1},
        {.tokens = 1, .experts = 8, .k = 2},
    };
    CHECK("expert_choice", define_expert_choice, shapes);
}

/* All experts in a call are equally loaded, unless tokens have too few slots. */
static void expert_choice_balances(void **state)
{
    (void)state;
    trial t = start("expert_choice", 64, 4, 0, 2);
    t.logits = jt_new(&ctx, 64, 4);
    t.scores = jt_new(&ctx, 64, 4);
    jt_rng_normals(&rng, t.logits.data, 64 * 4);
    for (size_t i = 0; i < 64; i++) {
        jt_row(&t.logits, i)[0] += 3.0f; /* everyone's favourite */
        jt_row(&t.logits, i)[3] -= 3.0f;
    }
    t.router.gating = JT_GATE_SIGMOID;
    run(&t);
    int load[4] = {0};
    for (size_t s = 0; s < 64 * 2; s++) {
        if (t.route.expert[s] >= 0)
            load[t.route.expert[s]]++;
    }
    for (int e = 0; e < 4; e++) /* 32 places each */
        assert_in_range(load[e], 1, 32);
    assert_int_equal(load[0], 32);
}

/* ---- capacity ---- */

/* Take the worst out, one after the other, until no expert has too many. */
static void define_capacity(const trial *t, int32_t *expert)
{
    size_t k = (size_t)t->router.k, slots = t->tokens * k;
    double share = (double)t->router.capacity * (double)slots / t->router.n_experts;
    for (int e = 0; e < t->router.n_experts; e++) {
        for (;;) {
            size_t count = 0, worst = slots;
            for (size_t s = 0; s < slots; s++) {
                if (expert[s] != e)
                    continue;
                count++;
                const float *now = jt_row(&t->scores, s / k);
                if (worst == slots || t->router.drop_position ||
                    now[e] <= jt_row(&t->scores, worst / k)[e])
                    worst = s;
            }
            if ((double)count <= ceil(share))
                break;
            expert[worst] = -1;
        }
    }
}

static void capacity_drops_the_rest(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {.tokens = 200, .experts = 8, .k = 2},
        {.tokens = 50, .experts = 4, .null = 4, .k = 3},
        {.tokens = 1, .experts = 3, .k = 2},
        {.tokens = 30, .experts = 1, .k = 1},
    };
    static const float capacities[] = {0.25f, 1.0f, 1.25f, 100.0f};
    for (int i = 0; i < 4 * 4 * 6; i++) {
        const shape *h = &shapes[i % 4];
        jt_arena_mark mark = jt_arena_save(&ctx.scratch);
        trial t = start("topk", h->tokens, h->experts, h->null, h->k);
        t.router.capacity = capacities[i / 4 % 4];
        t.router.drop_position = i / 16 % 2;
        t.site.draw = 1;
        random_logits(&t);
        run(&t);
        size_t slots = t.tokens * (size_t)t.router.k;
        int32_t *expected = malloc(slots * sizeof *expected);
        for (size_t s = 0; s < slots; s++)
            expected[s] = t.route.picked[s] < h->experts ? t.route.picked[s] : -1;
        define_capacity(&t, expected);
        assert_memory_equal(t.route.expert, expected, slots * sizeof *expected);
        for (size_t token = 0; token < t.tokens; token++)
            check_weights(&t, token);
        free(expected);
        jt_arena_rewind(&ctx.scratch, mark);
    }
}

static void capacity_is_for_training_only(void **state)
{
    (void)state;
    trial t = start("topk", 100, 4, 0, 2);
    t.router.capacity = 0.25f;
    random_logits(&t);
    run(&t);
    check_trial(&t, define_topk);
}

/* ---- what does not go together ---- */

static void expect_refusal(jt_router router, const char *why)
{
    jt_err err;
    assert_int_equal(jt_router_check(&router, &err), JT_E_ARG);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void impossible_routers_are_refused(void **state)
{
    (void)state;
    trial t = start("topk", 1, 12, 0, 4);
    jt_router good = t.router;
    assert_int_equal(jt_router_check(&good, NULL), JT_OK);
    static const struct {
        const char *select;
        int null, k, groups, used, best;
        float top_p;
        const char *why;
    } cases[] = {
        {"topk", 0, 0, 0, 0, 0, 1, "cannot use 0 of 12"},
        {"topk", 2, 15, 0, 0, 0, 1, "cannot use 15 of 14"},
        {"topk", -1, 4, 0, 0, 0, 1, "-1 null experts"},
        {"top_p", 0, 4, 0, 0, 0, 0, "top_p is 0"},
        {"top_p", 0, 4, 0, 0, 0, 1.5f, "top_p is 1.5"},
        {"top_p", 0, 4, 0, 0, 0, NAN, "top_p is"},
        {"grouped", 0, 4, 0, 0, 0, 1, "0 equal groups"},
        {"grouped", 0, 4, 5, 0, 0, 1, "5 equal groups"},
        {"grouped", 0, 4, 3, 0, 0, 1, "evenly"},
        {"grouped", 4, 4, 4, 0, 0, 1, "null experts"},
        {"group_limited", 0, 4, 4, 0, 0, 1, "0 groups used"},
        {"group_limited", 0, 4, 4, 5, 0, 1, "expected 1 to 4"},
        {"group_limited", 0, 4, 4, 1, 0, 1, "do not fit"},
        {"group_limited", 0, 4, 4, 2, -1, 1, "group_best"},
        {"group_limited", 1, 4, 4, 2, 0, 1, "null experts"},
        {"expert_choice", 1, 4, 0, 0, 0, 1, "null experts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_router r = good;
        r.selector = jt_selector_find(cases[i].select);
        r.n_null = cases[i].null;
        r.k = cases[i].k;
        r.n_groups = cases[i].groups;
        r.groups_used = cases[i].used;
        r.group_best = cases[i].best;
        r.top_p = cases[i].top_p;
        expect_refusal(r, cases[i].why);
    }
    jt_router r = good;
    r.scorer = NULL;
    expect_refusal(r, "needs a scorer");
    r = good;
    r.scorer = jt_scorer_find("cosine");
    expect_refusal(r, "temperature is 0");
    r = good;
    r.jitter = 1.0f;
    expect_refusal(r, "jitter");
    r = good;
    r.noise = -1.0f;
    expect_refusal(r, "noise");
    r = good;
    r.capacity = INFINITY;
    expect_refusal(r, "capacity");
    r = good;
    r.scale = NAN;
    expect_refusal(r, "scale");
}

static void every_name_is_found(void **state)
{
    (void)state;
    size_t scorers = 0, selectors = 0;
    for (; jt_scorer_name(scorers); scorers++) {
        const char *name = jt_scorer_name(scorers);
        assert_string_equal(jt_scorer_find(name)->name, name);
    }
    for (; jt_selector_name(selectors); selectors++) {
        const char *name = jt_selector_name(selectors);
        assert_string_equal(jt_selector_find(name)->name, name);
    }
    assert_int_equal(scorers, 2);
    assert_int_equal(selectors, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topk_and_top_p),
        cmocka_unit_test(groups),
        cmocka_unit_test(expert_choice),
        cmocka_unit_test(expert_choice_balances),
        cmocka_unit_test(capacity_drops_the_rest),
        cmocka_unit_test(capacity_is_for_training_only),
        cmocka_unit_test(impossible_routers_are_refused),
        cmocka_unit_test(every_name_is_found),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
