/* Policies against their formulas, written as plain loops, on random mixtures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "mixtures.h"
#include "steer/policy.h"

enum { ROUNDS = 12, MAX_TOKENS = 20 };

static jt_rng rng = {.seed = 7};

/* ---- a route under policies, as it is and as it should be ---- */

typedef struct seen {
    int32_t expert[MAX_TOKENS * MIX_EXPERTS];
    float weight[MAX_TOKENS * MIX_EXPERTS];
    int k;
    bool read[MIX_EXPERTS]; /* whose weights were asked for */
} seen;

static void keep_route(void *self, const jt_route_site *site, const jt_route *route)
{
    seen *s = self;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    (void)site;
    s->k = route->k;
    memcpy(s->expert, route->expert, slots * sizeof *s->expert);
    memcpy(s->weight, route->weight, slots * sizeof *s->weight);
}

static jt_status acquire(void *self, const jt_bank *bank, const jt_plan *plan,
                         jt_lease *lease, jt_err *err)
{
    seen *s = self;
    for (int e = 0; e < bank->n_experts; e++)
        s->read[e] = plan->start[e + 1] > plan->start[e];
    return jt_store_mapped.acquire(NULL, bank, plan, lease, err);
}

static void release(void *self, jt_lease *lease)
{
    (void)self;
    jt_store_mapped.release(NULL, lease);
}

static void run(seen *out, test_mixtures *m, const char *const *policies, float *x,
                int tokens, int threads)
{
    jt_context ctx = {0};
    jt_steering *s;
    jt_err err = {0};
    jt_hooks hooks = {
        .n_watchers = 1,
        .watcher = {{.name = "keep", .self = out, .on_route = keep_route}}};
    jt_store store = {"seen", out, acquire, release};
    jt_route_site site = {.layer = 1};
    memset(out, 0, sizeof *out);
    assert_int_equal(jt_context_init(&ctx, threads, "scalar", NULL), JT_OK);
    assert_int_equal(jt_steering_new(&s, &m->model, NULL), JT_OK);
    for (size_t i = 0; policies[i]; i++) {
        if (jt_steering_add(s, policies[i], &err) != JT_OK)
            fail_msg("%s", err.msg);
    }
    assert_int_equal(jt_steering_hooks(s, &hooks, NULL), JT_OK);
    jt_tensor in = {
        .data = x, .dtype = JT_F32, .n_dims = 2, .shape = {(size_t)tokens, MIX_D}};
    jt_input input = jt_input_of(in);
    jt_tensor y =
        jt_mixture_forward(&ctx, &m->layer[1].mixture, &store, &hooks, &site, &input);
    assert_int_equal(ctx.err.code, JT_OK);
    assert_int_equal(jt_rows(&y), tokens);
    for (int i = 0; i < tokens * MIX_D; i++)
        assert_true(isfinite(jt_row(&y, 0)[i]));
    jt_steering_free(s);
    jt_context_free(&ctx);
}

/* One token in doubles: what a policy's formula is applied to. */
typedef struct token {
    int n, k;
    double logit[MIX_EXPERTS], score[MIX_EXPERTS], bias[MIX_EXPERTS];
    int expert[MIX_EXPERTS]; /* chosen, -1: none */
    double weight[MIX_EXPERTS];
} token;

static void token_logits(token *t, const test_mixtures *m, const float *x)
{
    *t = (token){.n = m->layer[1].mixture.router.n_experts,
                 .k = m->layer[1].mixture.router.k};
    for (int e = 0; e < t->n; e++) {
        for (int i = 0; i < MIX_D; i++)
            t->logit[e] += (double)m->router[e * MIX_D + i] * (double)x[i];
    }
}

static void token_select(token *t, const jt_router *r)
{
    double sum = 0.0, best = -INFINITY;
    bool taken[MIX_EXPERTS] = {false};
    for (int e = 0; e < t->n; e++)
        best = fmax(best, t->logit[e]);
    for (int e = 0; e < t->n; e++) {
        bool soft = r->gating == JT_GATE_SOFTMAX;
        t->score[e] = soft ? exp(t->logit[e] - best) : 1 / (1 + exp(-t->logit[e]));
        sum += soft ? t->score[e] : 0.0;
    }
    for (int e = 0; sum > 0.0 && e < t->n; e++)
        t->score[e] /= sum;
    double chosen = 0.0;
    for (int j = 0; j < t->k; j++) {
        int at = -1;
        for (int e = 0; e < t->n; e++) {
            bool out = taken[e] || t->logit[e] == -INFINITY;
            if (!out &&
                (at < 0 || t->score[e] + t->bias[e] > t->score[at] + t->bias[at]))
                at = e;
        }
        t->expert[j] = at;
        t->weight[j] = at < 0 ? 0.0 : t->score[at];
        chosen += t->weight[j];
        if (at >= 0)
            taken[at] = true;
    }
    for (int j = 0; r->renormalise && chosen > 0.0 && j < t->k; j++)
        t->weight[j] /= chosen;
}

static void drop(token *t, int j)
{
    t->expert[j] = -1;
    t->weight[j] = 0.0;
}

static double sum_of(const double *x, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

static void rescale(token *t, double whole)
{
    double kept = sum_of(t->weight, t->k);
    for (int j = 0; kept > 0.0 && j < t->k; j++)
        t->weight[j] *= whole / kept;
}

/* ---- the formulas ---- */

typedef struct formula {
    const char *text;
    int experts, k; /* at least, for the policy to have sense */
    void (*before)(token *t);
    void (*after)(token *t, bool renormalises);
} formula;

static void f_mask(token *t)
{
    t->logit[0] = t->logit[2] = t->logit[3] = -INFINITY;
}

static void f_keep(token *t)
{
    for (int e = 0; e < t->n; e++)
        t->logit[e] = e == 1 || e == 4 ? t->logit[e] : -INFINITY;
}

static void f_zero(token *t, bool renormalises)
{
    (void)renormalises;
    for (int j = 0; j < t->k; j++) {
        if (t->expert[j] == 0 || t->expert[j] == 2)
            drop(t, j);
    }
}

static void f_bias(token *t)
{
    t->logit[1] += 1.5;
}

static void f_selection(token *t)
{
    t->bias[3] = 0.75;
}

static void f_temperature(token *t)
{
    for (int e = 0; e < t->n; e++)
        t->logit[e] /= 0.5;
}

static void f_one(token *t)
{
    t->k = 1;
}

static void f_five(token *t)
{
    t->k = 5;
}

static void f_top_p(token *t, bool renormalises)
{
    double whole = sum_of(t->weight, t->k), all = sum_of(t->score, t->n), mass = 0.0;
    for (int j = 0; j < t->k; j++) {
        double own = t->score[t->expert[j]] / all;
        if (j > 0 && !(mass < 0.4))
            drop(t, j);
        mass += own;
    }
    if (renormalises)
        rescale(t, whole);
}

static void f_min_weight(token *t, bool renormalises)
{
    double whole = sum_of(t->weight, t->k);
    (void)renormalises;
    for (int j = 0; j < t->k; j++) {
        if (t->weight[j] / whole < 0.3)
            drop(t, j);
    }
}

static void f_ser(token *t, bool renormalises)
{
    double whole = sum_of(t->weight, t->k), best = t->weight[0];
    (void)renormalises;
    for (int j = 1; j < t->k; j++) {
        if (!(t->weight[j] > 0.6 * best))
            drop(t, j);
    }
    rescale(t, whole);
}

static void f_ranks_k(token *t)
{
    t->k = 4;
}

static void f_ranks(token *t, bool renormalises)
{
    double whole = sum_of(t->weight, t->k);
    drop(t, 0);
    drop(t, 2);
    if (renormalises)
        rescale(t, whole);
}

static void f_together_k(token *t)
{
    f_temperature(t);
    t->logit[0] = -INFINITY;
    t->k = 3;
}

static const formula formulas[] = {
    {"mask:experts=0+2-3", 5, 1, f_mask, NULL},
    {"keep:experts=1+4", 5, 1, f_keep, NULL},
    {"mask:experts=0+2,mode=zero", 3, 1, NULL, f_zero},
    {"bias:experts=1,value=1.5", 2, 1, f_bias, NULL},
    {"bias:experts=3,value=0.75,at=selection", 4, 1, f_selection, NULL},
    {"temperature:t=0.5", 1, 1, f_temperature, NULL},
    {"topk:k=1", 1, 1, f_one, NULL},
    {"topk:k=5", 5, 1, f_five, NULL},
    {"top_p:p=0.4", 1, 1, NULL, f_top_p},
    {"min_weight:w=0.3,least=0,renormalise=no", 1, 1, NULL, f_min_weight},
    {"ser:least=1,t=0.6,renormalise=yes", 1, 1, NULL, f_ser},
    {"ranks:take=1+3", 4, 1, f_ranks_k, f_ranks},
    {"temperature:t=0.5;mask:experts=0,layers=1;topk:k=3", 4, 1, f_together_k, NULL},
};

/* Of two that are nearly even, either may be chosen, or stay. */
static void compare(const seen *got, const token *want, int t, const char *text)
{
    assert_int_equal(got->k, want->k);
    for (int j = 0; j < got->k; j++) {
        int at = t * got->k + j;
        if (got->expert[at] != want->expert[j] ||
            fabs((double)got->weight[at] - want->weight[j]) > 2e-5)
            fail_msg("%s: token %d, slot %d: expert %d with %.7g, not %d with %.7g",
                     text, t, j, (int)got->expert[at], (double)got->weight[at],
                     want->expert[j], want->weight[j]);
    }
}

/* "A;B" as two policies. */
static void split(char *text, const char *list[4])
{
    size_t n = 0;
    for (char *at = strtok(text, ";"); at; at = strtok(NULL, ";"))
        list[n++] = at;
    list[n] = NULL;
}

static void check_formula(const formula *f)
{
    char text[120];
    const char *policies[4];
    float x[MAX_TOKENS * MIX_D];
    seen got, again;
    test_mixtures m;
    snprintf(text, sizeof text, "%s", f->text);
    split(text, policies);
    for (int round = 0; round < ROUNDS; round++) {
        int experts = f->experts +
                      (int)jt_rng_below(&rng, (uint32_t)(MIX_EXPERTS - f->experts) + 1);
        int k = 1 + (int)jt_rng_below(&rng, (uint32_t)(experts < 6 ? experts : 6));
        int tokens = 1 + (int)jt_rng_below(&rng, MAX_TOKENS);
        bool renormalise = round % 2;
        mix_init(&m, &rng, experts, k, round % 3 ? JT_GATE_SOFTMAX : JT_GATE_SIGMOID,
                 renormalise);
        jt_rng_normals(&rng, x, (size_t)tokens * MIX_D);
        run(&got, &m, policies, x, tokens, 1);
        run(&again, &m, policies, x, tokens, 2);
        assert_memory_equal(&got, &again, sizeof got);
        bool used[MIX_EXPERTS] = {false};
        for (int t = 0; t < tokens; t++) {
            token want;
            token_logits(&want, &m, x + t * MIX_D);
            if (f->before)
                f->before(&want);
            token_select(&want, &m.layer[1].mixture.router);
            if (f->after)
                f->after(&want, renormalise);
            compare(&got, &want, t, f->text);
            for (int j = 0; j < want.k; j++) {
                if (want.expert[j] >= 0)
                    used[want.expert[j]] = true;
            }
        }
        assert_memory_equal(got.read, used, sizeof used); /* and no other is read */
    }
}

static void policies_do_what_their_formulas_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++)
        check_formula(&formulas[i]);
}

/* ---- what is not possible ---- */

static void assert_refused(const char *text, const char *says)
{
    test_mixtures m;
    jt_steering *s;
    jt_err err = {0};
    mix_init(&m, &rng, 6, 2, JT_GATE_SOFTMAX, true);
    assert_int_equal(jt_steering_new(&s, &m.model, NULL), JT_OK);
    assert_int_equal(jt_steering_add(s, "mask:experts=0-2", NULL), JT_OK);
    assert_int_equal(jt_steering_add(s, text, &err), JT_E_ARG);
    if (!strstr(err.msg, says))
        fail_msg("'%s' gives '%s', not '%s'", text, err.msg, says);
    /* nothing has changed */
    assert_int_equal(jt_steering_add(s, "topk:k=3", NULL), JT_OK);
    jt_steering_free(s);
}

static void what_cannot_be_is_named(void **state)
{
    (void)state;
    assert_refused("", "begins with its name");
    assert_refused("maks:experts=1", "policy 'maks': there is no such policy");
    assert_refused("mask", "experts=IDS is missing");
    assert_refused("mask:experts", "'experts' is not KEY=VALUE");
    assert_refused("mask:experts=", "experts is ''");
    assert_refused("mask:experts=3-", "experts is '3-'");
    assert_refused("mask:experts=5-4", "experts is '5-4'");
    assert_refused("mask:experts=3+", "experts is '3+'");
    assert_refused("mask:experts=99999999999", "0 to 65535");
    assert_refused("mask:experts=3,", "'' is not KEY=VALUE");
    assert_refused("mask:experts=3,experts=4", "experts is given twice");
    assert_refused("mask:expert=3", "no key 'expert'");
    assert_refused("mask:experts=3,mode=soft", "expected reroute|zero");
    assert_refused("mask:experts=3+6", "no expert 6: layer 1 has experts 0 to 5");
    assert_refused("mask:experts=3,layers=7", "no layer 7: the model has 0 to 2");
    assert_refused("mask:experts=3,layers=0-1", "layer 0 has no experts");
    assert_refused("mask:experts=3-5", "no expert of layer 1 would be left");
    assert_refused("keep:experts=2,layers=2", "no expert of layer 2 would be left");
    assert_refused("topk:k=7", "cannot use 7 of 6 experts");
    assert_refused("topk:k=0", "k is '0', expected 1 to 65535");
    assert_refused("topk:k=1.5", "k is '1.5'");
    assert_refused("ranks:take=6", "cannot use 7 of 6 experts");
    assert_refused("temperature:t=nan", "t is 'nan'");
    assert_refused("temperature:t=1e9", "expected 0.001 to 1000");
}

static void a_masked_token_makes_do_with_what_is_left(void **state)
{
    (void)state;
    test_mixtures m;
    float x[MIX_D];
    seen got;
    mix_init(&m, &rng, 6, 3, JT_GATE_SOFTMAX, true);
    jt_rng_normals(&rng, x, MIX_D);
    run(&got, &m, (const char *[]){"keep:experts=4", NULL}, x, 1, 1);
    assert_int_equal(got.expert[0], 4);
    assert_true(got.weight[0] == 1.0f);
    assert_int_equal(got.expert[1], -1);
    assert_int_equal(got.expert[2], -1);
    run(&got, &m, (const char *[]){"mask:experts=0-5,mode=zero", NULL}, x, 1, 1);
    for (int e = 0; e < 6; e++)
        assert_false(got.read[e]);
}

static void a_dense_model_has_nothing_to_steer(void **state)
{
    (void)state;
    jt_layer layer = {0};
    jt_model model = {.params.n_layers = 1, .layers = &layer};
    jt_steering *s;
    assert_int_equal(jt_steering_new(&s, &model, NULL), JT_E_UNSUPPORTED);
}

static void the_list_ends(void **state)
{
    (void)state;
    test_mixtures m;
    jt_steering *s;
    jt_err err;
    mix_init(&m, &rng, 6, 2, JT_GATE_SOFTMAX, true);
    assert_int_equal(jt_steering_new(&s, &m.model, NULL), JT_OK);
    for (int i = 0; i < JT_MAX_HOOKS - 1; i++)
        assert_int_equal(jt_steering_add(s, "topk:k=3", NULL), JT_OK);
    assert_int_equal(jt_steering_add(s, "topk:k=3", &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "more than 15 policies"));
    jt_steering_free(s);
}

static void without_memory_it_fails(void **state)
{
    (void)state;
    test_mixtures m;
    mix_init(&m, &rng, 6, 2, JT_GATE_SOFTMAX, true);
    for (long n = 0;; n++) {
        jt_steering *s = NULL;
        jt_fault_after(n);
        jt_status status = jt_steering_new(&s, &m.model, NULL);
        if (status == JT_OK)
            status = jt_steering_add(s, "mask:experts=0+2,layers=1", NULL);
        jt_fault_after(-1);
        jt_steering_free(s);
        if (status == JT_OK) {
            assert_true(n > 3);
            return;
        }
        assert_int_equal(status, JT_E_MEMORY);
    }
}

static void every_policy_describes_itself(void **state)
{
    (void)state;
    jt_policy_info info;
    jt_policy_key key;
    size_t n = 0;
    for (; jt_policy_describe(n, &info); n++) {
        assert_true(*info.name && *info.summary);
        assert_true(info.n_keys > 0);
        for (size_t i = 0; i < info.n_keys; i++) {
            assert_true(jt_policy_describe_key(n, i, &key));
            assert_true(*key.name && *key.value && *key.help);
        }
        assert_false(jt_policy_describe_key(n, info.n_keys, &key));
    }
    assert_true(n >= 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_do_what_their_formulas_say),
        cmocka_unit_test(what_cannot_be_is_named),
        cmocka_unit_test(a_masked_token_makes_do_with_what_is_left),
        cmocka_unit_test(a_dense_model_has_nothing_to_steer),
        cmocka_unit_test(the_list_ends),
        cmocka_unit_test(without_memory_it_fails),
        cmocka_unit_test(every_policy_describes_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
