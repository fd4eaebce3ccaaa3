/* Each optimiser against PyTorch and transformers (optim.gguf, see make_optim.py), and
 * the promises that hold for all of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "optim_fixture.h"

/* ---- comparing ----------------------------------------------------------------------
 */

/* Largest difference over largest value. */
static double error(const float *a, const float *b, size_t n)
{
    double most = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]))
            return INFINITY;
        most = fmax(most, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return most / largest;
}

static void assert_near(const float *a, const float *b, size_t n, double limit,
                        const char *what, const char *name)
{
    double e = error(a, b, n);
    if (!(e <= limit))
        fail_msg("%s, %s: relative error %g", what, name, e);
}

static void assert_same(const model *a, const model *b, const char *what)
{
    for (size_t i = 0; i < a->n; i++) {
        const jt_param *p = &a->params[i];
        if (memcmp(p->value, b->params[i].value, values(p) * sizeof(float)) != 0)
            fail_msg("%s: the bits of '%s' differ", what, p->name);
    }
}

/* ---- against the references ---------------------------------------------------------
 */

static void compare(const fixture *f, const model *m, const char *name, size_t half)
{
    for (size_t i = 0; i < m->n; i++) {
        const jt_param *p = &m->params[i];
        const float *after = fixture_find(f, name, p->name) + half * values(p);
        assert_near(p->value, after, values(p), 1e-5, name, p->name);
    }
}

static void every_case_is_that_of_the_references(void **state)
{
    fixture f = *(fixture *)*state;
    model m = model_load(&f, 1);
    assert_int_equal(f.n_cases, 9);
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        f.kernels = jt_kernels_level((jt_cpu_level)level);
        for (size_t c = 0; c < f.n_cases && f.kernels; c++) {
            jt_optim_group group = fixture_group(&f, f.cases[c]);
            jt_optim *optim = fixture_optim(&f, &m, &group, 1);
            model_start(&f, &m, 1);
            model_train(&f, &m, 1, optim, f.two, 0, f.steps / 2, 1.0f);
            compare(&f, &m, f.cases[c], 0);
            model_train(&f, &m, 1, optim, f.two, f.steps / 2, f.steps, 1.0f);
            compare(&f, &m, f.cases[c], 1);
            jt_optim_free(optim);
        }
    }
    model_unload(&m);
}

/* How often a parameter of the file must be repeated to cross all borders between the
 * items of a loop. Muon, whose work grows with the third power, cuts finer. */
static size_t enough(const jt_optim_group *group)
{
    return group->kind == JT_MUON ? 11 : 21;
}

static void check_repeated(const fixture *f, const char *name, jt_optim_group group)
{
    enum { STEPS = 3, MATRICES = 4 };
    /* vectors of Muon's group are AdamW's: only the matrices are compared there */
    bool muon = group.kind == JT_MUON;
    size_t times = enough(&group), n = muon ? MATRICES : PARAMS;
    float spread = muon ? (float)times : 1.0f;
    /* it also magnifies the rounding errors in the directions that are empty */
    double limit = muon ? 5e-5 : 1e-5;
    model small = model_load(f, 1), large = model_load(f, times);
    jt_optim *one = fixture_optim(f, &small, &group, 1);
    group.weight_decay /= spread;
    jt_optim *many = fixture_optim(f, &large, &group, 1);
    model_start(f, &small, 1);
    model_start(f, &large, times);
    model_train(f, &small, 1, one, f->two, 0, STEPS, 1.0f);
    model_train(f, &large, times, many, f->two, 0, STEPS, spread);
    for (size_t i = 0; i < n; i++) {
        const jt_param *p = &large.params[i];
        float *expected = malloc(values(p) * sizeof(float));
        model_repeat(expected, small.params[i].value, p, times);
        assert_near(p->value, expected, values(p), limit, name, p->name);
        free(expected);
    }
    jt_optim_free(one);
    jt_optim_free(many);
    model_unload(&small);
    model_unload(&large);
}

/* A matrix that repeats a small one has its means, and its rms: it moves as the small
 * one does. Only the singular directions are spread over as many times the values,
 * which the rate of Muon's matrices makes good. */
static void repeated_matrices_move_like_one(void **state)
{
    const fixture *f = *state;
    for (size_t c = 0; c < f->n_cases; c++)
        check_repeated(f, f->cases[c], fixture_group(f, f->cases[c]));
}

/* More experts than Muon takes at a time. */
static void each_matrix_of_a_long_stack_moves_by_itself(void **state)
{
    enum { COPIES = 6000, STACK = 3 }; /* of stack_wide */
    fixture *f = *state;
    model small = model_load(f, 1);
    jt_param one = small.params[STACK], many = one;
    size_t n = values(&one);
    many.count *= COPIES;
    many.value = malloc(values(&many) * sizeof(float));
    many.grad = malloc(values(&many) * sizeof(float));
    jt_optim_group group = fixture_group(f, "muon");
    const model a = {{one}, 1}, b = {{many}, 1};
    jt_optim *of_one = fixture_optim(f, &a, &group, 1),
             *of_many = fixture_optim(f, &b, &group, 1);
    memcpy(one.value, fixture_find(f, "value", one.name), n * sizeof(float));
    memcpy(one.grad, fixture_find(f, "grad", one.name), n * sizeof(float));
    for (size_t i = 0; i < COPIES; i++) {
        memcpy(many.value + i * n, one.value, n * sizeof(float));
        memcpy(many.grad + i * n, one.grad, n * sizeof(float));
    }
    for (int step = 0; step < 2; step++) {
        jt_optim_step(of_one, f->two, 0.1f, 1.0f);
        jt_optim_step(of_many, f->two, 0.1f, 1.0f);
    }
    for (size_t i = 0; i < COPIES; i++)
        assert_memory_equal(many.value + i * n, one.value, n * sizeof(float));
    jt_optim_free(of_one);
    jt_optim_free(of_many);
    free(many.value);
    free(many.grad);
    model_unload(&small);
}

/* Its first step is the same for gradients of any size above the root of eps. */
static void adafactor_sees_tiny_gradients(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 1);
    jt_optim_group group = {.pattern = "*", .kind = JT_ADAFACTOR};
    for (size_t i = 0; i < m.n; i++) {
        jt_param *p = &m.params[i];
        float *expected = malloc(values(p) * sizeof(float));
        model only = {{*p}, 1};
        for (int tiny = 0; tiny < 2; tiny++) {
            jt_optim *optim = fixture_optim(f, &only, &group, 1);
            memcpy(p->value, fixture_find(f, "value", p->name),
                   values(p) * sizeof(float));
            memcpy(p->grad, fixture_find(f, "grad", p->name),
                   values(p) * sizeof(float));
            jt_optim_step(optim, f->one, 0.1f, tiny ? 1e-11f : 1.0f);
            if (!tiny)
                memcpy(expected, p->value, values(p) * sizeof(float));
            jt_optim_free(optim);
        }
        assert_near(p->value, expected, values(p), 1e-5, "tiny", p->name);
        free(expected);
    }
    model_unload(&m);
}

/* ---- bits ---------------------------------------------------------------------------
 */

static void any_number_of_threads_gives_the_same_bits(void **state)
{
    const fixture *f = *state;
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = fixture_group(f, f->cases[c]);
        size_t times = enough(&group);
        model a = model_load(f, times), b = model_load(f, times);
        jt_optim *one = fixture_optim(f, &a, &group, 1);
        jt_optim *two = fixture_optim(f, &b, &group, 1);
        model_start(f, &a, times);
        model_start(f, &b, times);
        model_train(f, &a, times, one, f->one, 0, 1, 1.0f);
        model_train(f, &b, times, two, f->two, 0, 1, 1.0f);
        assert_same(&a, &b, f->cases[c]);
        assert_true(jt_optim_grad_norm(one, f->one, NULL) ==
                    jt_optim_grad_norm(two, f->two, NULL));
        jt_optim_free(one);
        jt_optim_free(two);
        model_unload(&a);
        model_unload(&b);
    }
}

/* Copy all state through its names, as a checkpoint does; the bytes that it took. */
static size_t copy_state(jt_optim *to, jt_optim *from)
{
    jt_optim_state a, b;
    size_t i = 0, bytes = 0;
    for (; jt_optim_state_at(from, i, &a); i++) {
        assert_true(jt_optim_state_at(to, i, &b));
        assert_string_equal(a.name, b.name);
        assert_int_equal(a.n, b.n);
        memcpy(b.data, a.data, a.n * sizeof(float));
        bytes += a.n * sizeof(float);
    }
    assert_false(jt_optim_state_at(to, i, &b));
    jt_optim_set_steps(to, jt_optim_steps(from));
    return bytes;
}

static void a_resumed_run_gives_the_same_bits(void **state)
{
    fixture *f = *state;
    model a = model_load(f, 1), b = model_load(f, 1);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = fixture_group(f, f->cases[c]);
        jt_optim *whole = fixture_optim(f, &a, &group, 1),
                 *resumed = fixture_optim(f, &b, &group, 1);
        model_start(f, &a, 1);
        model_train(f, &a, 1, whole, f->one, 0, f->steps / 2, 1.0f);
        jt_optim_size size;
        assert_int_equal(jt_optim_measure(b.params, PARAMS, &group, 1, &size, NULL),
                         JT_OK);
        assert_true(copy_state(resumed, whole) <= size.bytes);
        for (size_t i = 0; i < PARAMS; i++)
            memcpy(b.params[i].value, a.params[i].value,
                   values(&a.params[i]) * sizeof(float));
        model_train(f, &a, 1, whole, f->one, f->steps / 2, f->steps, 1.0f);
        model_train(f, &b, 1, resumed, f->one, f->steps / 2, f->steps, 1.0f);
        assert_same(&a, &b, f->cases[c]);
        jt_optim_free(whole);
        jt_optim_free(resumed);
    }
    model_unload(&a);
    model_unload(&b);
}

/* ---- groups -------------------------------------------------------------------------
 */

static void first_matching_group_counts_and_frozen_ones_stay(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 1);
    const jt_optim_group groups[] = {
        {.pattern = "stack_*", .frozen = true},
        {.pattern = "*vector", .kind = JT_SGD, .momentum = 0.5f},
        {.pattern = "t?ll", .kind = JT_ADAFACTOR},
        {.pattern = "*", .kind = JT_MUON},
    };
    free(m.params[2].grad);
    m.params[2].grad = NULL; /* frozen: not needed */
    jt_optim *optim = fixture_optim(f, &m, groups, 4);
    const char *const expected[] = {"adafactor.row/tall", "adafactor.col/tall",
                                    "muon.m/wide", "sgd.m/vector"};
    const size_t lengths[] = {19, 6, 7 * 16, 13};
    jt_optim_state s;
    for (size_t i = 0; i < 4; i++) {
        assert_true(jt_optim_state_at(optim, i, &s));
        assert_string_equal(s.name, expected[i]);
        assert_int_equal(s.n, lengths[i]);
    }
    assert_false(jt_optim_state_at(optim, 4, &s));

    model_start(f, &m, 1);
    for (size_t i = 0; i < PARAMS; i++) {
        for (size_t j = 0; m.params[i].grad && j < values(&m.params[i]); j++)
            m.params[i].grad[j] = 1.0f;
    }
    /* only what is not frozen counts */
    double norm = jt_optim_grad_norm(optim, f->two, NULL);
    assert_true(fabs(norm - sqrt(19 * 6 + 7 * 16 + 13)) < 1e-12);
    jt_optim_step(optim, f->two, 0.1f, 1.0f);
    for (size_t i = 0; i < PARAMS; i++) {
        const jt_param *p = &m.params[i];
        bool frozen = strncmp(p->name, "stack_", 6) == 0;
        const float *before = fixture_find(f, "value", p->name);
        for (size_t j = 0; j < values(p); j++)
            assert_true((p->value[j] == before[j]) == frozen);
    }
    jt_optim_free(optim);
    model_unload(&m);
}

static void refused(const fixture *f, const model *m, jt_optim_group group,
                    const char *message)
{
    jt_optim *optim = NULL;
    jt_err err = {0};
    assert_int_equal(jt_optim_new(&optim, f->kernels, m->params, m->n, &group, 1, &err),
                     JT_E_ARG);
    assert_string_equal(err.msg, message);
    assert_null(optim);
}

static void wrong_groups_are_named(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 1);
    refused(f, &m, (jt_optim_group){.pattern = "*tall"},
            "no group matches parameter 'wide'");
    refused(f, &m, (jt_optim_group){.pattern = "*", .beta2 = 1.0f},
            "group '*': beta2 is 1, expected 0 or more and less than 1");
    refused(f, &m, (jt_optim_group){.pattern = "*", .weight_decay = -1.0f},
            "group '*': weight decay is -1, expected 0 or more");
    refused(f, &m, (jt_optim_group){.pattern = "*", .lr_scale = NAN},
            "group '*': lr scale is nan, expected 0 or more");
    refused(f, &m, (jt_optim_group){.pattern = "*", .kind = (jt_optim_kind)9},
            "group '*': unknown optimiser 9");
    refused(f, &m, (jt_optim_group){.pattern = "*", .kind = JT_SGD, .nesterov = true},
            "group '*': nesterov needs a momentum");
    m.params[3].count = SIZE_MAX / 8;
    refused(f, &m, (jt_optim_group){.pattern = "*"},
            "parameter 'stack_wide' is too large");
    free(m.params[1].grad);
    m.params[1].grad = NULL;
    refused(f, &m, (jt_optim_group){.pattern = "*"},
            "parameter 'wide' has no gradient");
    model_unload(&m);
}

static void kinds_have_names(void **state)
{
    const char *const names[] = {"adamw", "adafactor", "sgd", "muon"};
    const jt_optim_kind kinds[] = {JT_ADAMW, JT_ADAFACTOR, JT_SGD, JT_MUON};
    jt_optim_kind kind = JT_MUON;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_true(jt_optim_kind_named(names[i], &kind));
        assert_int_equal(kind, kinds[i]);
    }
    assert_false(jt_optim_kind_named("adam", &kind));
    assert_int_equal(kind, JT_MUON);
}

/* ---- gradients and memory -----------------------------------------------------------
 */

static void gradients_that_are_not_finite_are_named(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 60);
    jt_optim_group group = {.pattern = "*"};
    jt_optim *optim = fixture_optim(f, &m, &group, 1);
    jt_rng rng = {.seed = 3};
    const char *culprit = "none";
    double squares = 0.0;
    for (size_t i = 0; i < m.n; i++) {
        jt_rng_normals(&rng, m.params[i].grad, values(&m.params[i]));
        for (size_t j = 0; j < values(&m.params[i]); j++)
            squares += (double)m.params[i].grad[j] * m.params[i].grad[j];
    }
    double norm = jt_optim_grad_norm(optim, f->two, &culprit);
    assert_true(fabs(norm / sqrt(squares) - 1.0) < 1e-12);
    assert_null(culprit);

    m.params[0].grad[0] = 3e38f; /* large, but a number: its square fits a double */
    assert_true(isfinite(jt_optim_grad_norm(optim, f->two, &culprit)));
    m.params[3].grad[values(&m.params[3]) - 1] = NAN;
    m.params[4].grad[0] = INFINITY;
    assert_false(isfinite(jt_optim_grad_norm(optim, f->two, &culprit)));
    assert_string_equal(culprit, "stack_wide");
    m.params[3].grad[values(&m.params[3]) - 1] = 0.0f;
    assert_false(isfinite(jt_optim_grad_norm(optim, f->two, &culprit)));
    assert_string_equal(culprit, "vector");
    jt_optim_free(optim);
    model_unload(&m);
}

/* A step without any gradient: an expert that no token chose. */
static void zero_gradients_move_nothing(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 1);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = fixture_group(f, f->cases[c]);
        group.weight_decay = 0.0f;
        jt_optim *optim = fixture_optim(f, &m, &group, 1);
        model_start(f, &m, 1);
        for (size_t i = 0; i < m.n; i++)
            memset(m.params[i].grad, 0, values(&m.params[i]) * sizeof(float));
        assert_true(jt_optim_grad_norm(optim, f->one, NULL) == 0.0);
        for (int step = 0; step < 3; step++)
            jt_optim_step(optim, f->one, 0.1f, 1.0f);
        for (size_t i = 0; i < m.n; i++) {
            const jt_param *p = &m.params[i];
            assert_memory_equal(p->value, fixture_find(f, "value", p->name),
                                values(p) * sizeof(float));
        }
        jt_optim_free(optim);
    }
    model_unload(&m);
}

static void no_memory_is_an_error(void **state)
{
    fixture *f = *state;
    model m = model_load(f, 1);
    const jt_optim_group groups[] = {
        {.pattern = "t*", .kind = JT_ADAFACTOR},
        {.pattern = "*", .kind = JT_MUON},
    };
    jt_optim *optim = NULL;
    jt_err err = {0};
    long n = 0;
    for (jt_status status = JT_E_MEMORY; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_optim_new(&optim, f->kernels, m.params, m.n, groups, 2, &err);
        jt_fault_after(-1);
        assert_int_equal(status, optim ? JT_OK : JT_E_MEMORY);
        assert_true(optim || strstr(err.msg, "out of memory"));
    }
    /* the optimiser, its slots, nine arrays with names, scratch and parts */
    assert_int_equal(n - 1, 2 + 2 * 9 + 2);
    jt_optim_free(optim);
    model_unload(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_that_of_the_references),
        cmocka_unit_test(repeated_matrices_move_like_one),
        cmocka_unit_test(each_matrix_of_a_long_stack_moves_by_itself),
        cmocka_unit_test(adafactor_sees_tiny_gradients),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_resumed_run_gives_the_same_bits),
        cmocka_unit_test(first_matching_group_counts_and_frozen_ones_stay),
        cmocka_unit_test(wrong_groups_are_named),
        cmocka_unit_test(kinds_have_names),
        cmocka_unit_test(gradients_that_are_not_finite_are_named),
        cmocka_unit_test(zero_gradients_move_nothing),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
