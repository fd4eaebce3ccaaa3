/* Each optimiser against PyTorch and transformers (optim.gguf, see make_optim.py), and
 * the promises that hold for all of them. */
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
#include "base/random.h"
#include "junto/gguf.h"
#include "learn/optim.h"

enum { PARAMS = 6, MAX_CASES = 16 };

static const char *const param_names[PARAMS] = {
    "tall", "wide", "stack_tall", "stack_wide", "vector", "stack_vector",
};

/* The file, two pools and the best kernels, for all tests. */
typedef struct fixture {
    jt_gguf *file;
    jt_pool *one, *two;
    const jt_kernels *kernels;
    const float *lr;
    size_t steps;
    float grad_scale;
    char cases[MAX_CASES][32];
    size_t n_cases;
} fixture;

/* Parameters with their own memory. */
typedef struct model {
    jt_param params[PARAMS];
    size_t n;
} model;

static size_t values(const jt_param *p)
{
    return p->count * p->rows * p->cols;
}

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static jt_optim *make(const fixture *f, const model *m, const jt_optim_group *groups,
                      size_t n_groups)
{
    jt_optim *optim = NULL;
    jt_err err = {0};
    must(jt_optim_new(&optim, f->kernels, m->params, m->n, groups, n_groups, &err),
         &err);
    return optim;
}

/* ---- the file -----------------------------------------------------------------------
 */

static int setup(void **state)
{
    static fixture f;
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/learn/optim.gguf", data ? data : "tests");
    if (jt_gguf_open(&f.file, path, NULL) != JT_OK ||
        jt_pool_new(&f.one, 1, NULL) != JT_OK ||
        jt_pool_new(&f.two, 2, NULL) != JT_OK ||
        jt_kernels_choose(&f.kernels, NULL, NULL) != JT_OK)
        return -1;
    f.lr = jt_gguf_find(f.file, "lr")->data;
    f.steps = jt_gguf_find(f.file, "lr")->shape[0];
    jt_gguf_get_f32(f.file, "grad_scale", &f.grad_scale);
    const jt_gguf_kv *cases = jt_gguf_kv_find(f.file, "cases");
    for (jt_str name; jt_gguf_item_str(cases, f.n_cases, &name); f.n_cases++)
        snprintf(f.cases[f.n_cases], 32, "%.*s", (int)name.len, name.data);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    jt_gguf_close(f->file);
    jt_pool_free(f->one);
    jt_pool_free(f->two);
    return 0;
}

static const float *find(const fixture *f, const char *prefix, const char *name)
{
    char full[80];
    snprintf(full, sizeof full, "%s/%s", prefix, name);
    const jt_gguf_tensor *t = jt_gguf_find(f->file, full);
    assert_non_null(t);
    return t->data;
}

static float setting(const fixture *f, const char *name, const char *key)
{
    char full[80];
    float value = 0.0f;
    snprintf(full, sizeof full, "%s.%s", name, key);
    jt_gguf_get_f32(f->file, full, &value);
    return value;
}

static jt_optim_group group_of(const fixture *f, const char *name)
{
    jt_optim_group group = {
        .pattern = "*",
        .lr_scale = setting(f, name, "lr_scale"),
        .weight_decay = setting(f, name, "weight_decay"),
        .beta1 = setting(f, name, "beta1"),
        .beta2 = setting(f, name, "beta2"),
        .eps = setting(f, name, "eps"),
        .momentum = setting(f, name, "momentum"),
    };
    char key[80], kind[32];
    jt_str text = {0};
    snprintf(key, sizeof key, "%s.nesterov", name);
    jt_gguf_get_bool(f->file, key, &group.nesterov);
    snprintf(key, sizeof key, "%s.kind", name);
    assert_true(jt_gguf_get_str(f->file, key, &text));
    snprintf(kind, sizeof kind, "%.*s", (int)text.len, text.data);
    assert_true(jt_optim_kind_named(kind, &group.kind));
    return group;
}

/* The parameters of the file, each matrix repeated `times` down and across, each vector
 * as often altogether. */
static model load(const fixture *f, size_t times)
{
    model m = {.n = PARAMS};
    for (size_t i = 0; i < PARAMS; i++) {
        jt_param *p = &m.params[i];
        char full[80];
        snprintf(full, sizeof full, "value/%s", param_names[i]);
        const jt_gguf_tensor *t = jt_gguf_find(f->file, full);
        assert_non_null(t);
        assert_int_equal(t->n_dims, 3);
        *p = (jt_param){.name = param_names[i],
                        .count = t->shape[0],
                        .rows = t->shape[1],
                        .cols = t->shape[2]};
        p->cols *= p->rows > 1 ? times : times * times;
        p->rows *= p->rows > 1 ? times : 1;
        p->value = malloc(values(p) * sizeof(float));
        p->grad = malloc(values(p) * sizeof(float));
    }
    return m;
}

static void unload(model *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->params[i].value);
        free(m->params[i].grad);
    }
}

/* Fill `to`, shaped like `p`, from values of the file's shape. */
static void repeat(float *to, const float *from, const jt_param *p, size_t times)
{
    bool matrix = p->rows > 1;
    size_t rows = matrix ? p->rows / times : 1;
    size_t cols = p->cols / (matrix ? times : times * times);
    for (size_t i = 0; i < p->count * p->rows; i++) {
        size_t row = i / p->rows * rows + i % p->rows % rows;
        for (size_t j = 0; j < p->cols; j++)
            to[i * p->cols + j] = from[row * cols + j % cols];
    }
}

static void start(const fixture *f, model *m, size_t times)
{
    for (size_t i = 0; i < m->n; i++) {
        jt_param *p = &m->params[i];
        repeat(p->value, find(f, "value", p->name), p, times);
    }
}

/* Steps first .. last - 1 of the file. */
static void train(const fixture *f, model *m, size_t times, jt_optim *optim,
                  jt_pool *pool, size_t first, size_t last, float lr_scale)
{
    for (size_t step = first; step < last; step++) {
        for (size_t i = 0; i < m->n; i++) {
            jt_param *p = &m->params[i];
            size_t n = values(p) / (times * times);
            repeat(p->grad, find(f, "grad", p->name) + step * n, p, times);
        }
        jt_optim_step(optim, pool, lr_scale * f->lr[step], f->grad_scale);
    }
    assert_int_equal(jt_optim_steps(optim), last);
}

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
        const float *after = find(f, name, p->name) + half * values(p);
        assert_near(p->value, after, values(p), 1e-5, name, p->name);
    }
}

static void every_case_is_that_of_the_references(void **state)
{
    fixture f = *(fixture *)*state;
    model m = load(&f, 1);
    assert_int_equal(f.n_cases, 9);
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        f.kernels = jt_kernels_level((jt_cpu_level)level);
        for (size_t c = 0; c < f.n_cases && f.kernels; c++) {
            jt_optim_group group = group_of(&f, f.cases[c]);
            jt_optim *optim = make(&f, &m, &group, 1);
            start(&f, &m, 1);
            train(&f, &m, 1, optim, f.two, 0, f.steps / 2, 1.0f);
            compare(&f, &m, f.cases[c], 0);
            train(&f, &m, 1, optim, f.two, f.steps / 2, f.steps, 1.0f);
            compare(&f, &m, f.cases[c], 1);
            jt_optim_free(optim);
        }
    }
    unload(&m);
}

/* A matrix that repeats a small one has its means, and its rms: it moves as the small
 * one does. Only the singular directions are spread over as many times the values,
 * which the rate of Muon's matrices makes good. The large ones cross all borders
 * between items. */
static void repeated_matrices_move_like_one(void **state)
{
    enum { TIMES = 21, STEPS = 3 };
    fixture *f = *state;
    model small = load(f, 1), large = load(f, TIMES);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = group_of(f, f->cases[c]);
        /* vectors of Muon's group are AdamW's: only the matrices are compared there */
        bool muon = group.kind == JT_MUON;
        float spread = muon ? TIMES : 1.0f;
        /* it also magnifies the rounding errors in the directions that are empty */
        double limit = muon ? 5e-5 : 1e-5;
        jt_optim *one = make(f, &small, &group, 1);
        group.weight_decay /= spread;
        jt_optim *many = make(f, &large, &group, 1);
        start(f, &small, 1);
        start(f, &large, TIMES);
        train(f, &small, 1, one, f->two, 0, STEPS, 1.0f);
        train(f, &large, TIMES, many, f->two, 0, STEPS, spread);
        for (size_t i = 0; i < (muon ? 4 : PARAMS); i++) {
            const jt_param *p = &large.params[i];
            float *expected = malloc(values(p) * sizeof(float));
            repeat(expected, small.params[i].value, p, TIMES);
            assert_near(p->value, expected, values(p), limit, f->cases[c], p->name);
            free(expected);
        }
        jt_optim_free(one);
        jt_optim_free(many);
    }
    unload(&small);
    unload(&large);
}

/* More experts than Muon takes at a time. */
static void each_matrix_of_a_long_stack_moves_by_itself(void **state)
{
    enum { COPIES = 6000, STACK = 3 }; /* of stack_wide */
    fixture *f = *state;
    model small = load(f, 1);
    jt_param one = small.params[STACK], many = one;
    size_t n = values(&one);
    many.count *= COPIES;
    many.value = malloc(values(&many) * sizeof(float));
    many.grad = malloc(values(&many) * sizeof(float));
    jt_optim_group group = group_of(f, "muon");
    const model a = {{one}, 1}, b = {{many}, 1};
    jt_optim *of_one = make(f, &a, &group, 1), *of_many = make(f, &b, &group, 1);
    memcpy(one.value, find(f, "value", one.name), n * sizeof(float));
    memcpy(one.grad, find(f, "grad", one.name), n * sizeof(float));
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
    unload(&small);
}

/* Its first step is the same for gradients of any size above the root of eps. */
static void adafactor_sees_tiny_gradients(void **state)
{
    fixture *f = *state;
    model m = load(f, 1);
    jt_optim_group group = {.pattern = "*", .kind = JT_ADAFACTOR};
    for (size_t i = 0; i < m.n; i++) {
        jt_param *p = &m.params[i];
        float *expected = malloc(values(p) * sizeof(float));
        model only = {{*p}, 1};
        for (int tiny = 0; tiny < 2; tiny++) {
            jt_optim *optim = make(f, &only, &group, 1);
            memcpy(p->value, find(f, "value", p->name), values(p) * sizeof(float));
            memcpy(p->grad, find(f, "grad", p->name), values(p) * sizeof(float));
            jt_optim_step(optim, f->one, 0.1f, tiny ? 1e-11f : 1.0f);
            if (!tiny)
                memcpy(expected, p->value, values(p) * sizeof(float));
            jt_optim_free(optim);
        }
        assert_near(p->value, expected, values(p), 1e-5, "tiny", p->name);
        free(expected);
    }
    unload(&m);
}

/* ---- bits ---------------------------------------------------------------------------
 */

static void any_number_of_threads_gives_the_same_bits(void **state)
{
    enum { TIMES = 21, STEPS = 1 };
    fixture *f = *state;
    model a = load(f, TIMES), b = load(f, TIMES);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = group_of(f, f->cases[c]);
        jt_optim *one = make(f, &a, &group, 1), *two = make(f, &b, &group, 1);
        start(f, &a, TIMES);
        start(f, &b, TIMES);
        train(f, &a, TIMES, one, f->one, 0, STEPS, 1.0f);
        train(f, &b, TIMES, two, f->two, 0, STEPS, 1.0f);
        assert_same(&a, &b, f->cases[c]);
        assert_true(jt_optim_grad_norm(one, f->one, NULL) ==
                    jt_optim_grad_norm(two, f->two, NULL));
        jt_optim_free(one);
        jt_optim_free(two);
    }
    unload(&a);
    unload(&b);
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
    model a = load(f, 1), b = load(f, 1);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = group_of(f, f->cases[c]);
        jt_optim *whole = make(f, &a, &group, 1), *resumed = make(f, &b, &group, 1);
        start(f, &a, 1);
        train(f, &a, 1, whole, f->one, 0, f->steps / 2, 1.0f);
        assert_int_equal(copy_state(resumed, whole), jt_optim_state_bytes(whole));
        for (size_t i = 0; i < PARAMS; i++)
            memcpy(b.params[i].value, a.params[i].value,
                   values(&a.params[i]) * sizeof(float));
        train(f, &a, 1, whole, f->one, f->steps / 2, f->steps, 1.0f);
        train(f, &b, 1, resumed, f->one, f->steps / 2, f->steps, 1.0f);
        assert_same(&a, &b, f->cases[c]);
        jt_optim_free(whole);
        jt_optim_free(resumed);
    }
    unload(&a);
    unload(&b);
}

/* ---- groups -------------------------------------------------------------------------
 */

static void first_matching_group_counts_and_frozen_ones_stay(void **state)
{
    fixture *f = *state;
    model m = load(f, 1);
    const jt_optim_group groups[] = {
        {.pattern = "stack_*", .frozen = true},
        {.pattern = "*vector", .kind = JT_SGD, .momentum = 0.5f},
        {.pattern = "t?ll", .kind = JT_ADAFACTOR},
        {.pattern = "*", .kind = JT_MUON},
    };
    free(m.params[2].grad);
    m.params[2].grad = NULL; /* frozen: not needed */
    jt_optim *optim = make(f, &m, groups, 4);
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

    start(f, &m, 1);
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
        const float *before = find(f, "value", p->name);
        for (size_t j = 0; j < values(p); j++)
            assert_true((p->value[j] == before[j]) == frozen);
    }
    jt_optim_free(optim);
    unload(&m);
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
    model m = load(f, 1);
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
    unload(&m);
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
    model m = load(f, 60);
    jt_optim_group group = {.pattern = "*"};
    jt_optim *optim = make(f, &m, &group, 1);
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
    unload(&m);
}

/* A step without any gradient: an expert that no token chose. */
static void zero_gradients_move_nothing(void **state)
{
    fixture *f = *state;
    model m = load(f, 1);
    for (size_t c = 0; c < f->n_cases; c++) {
        jt_optim_group group = group_of(f, f->cases[c]);
        group.weight_decay = 0.0f;
        jt_optim *optim = make(f, &m, &group, 1);
        start(f, &m, 1);
        for (size_t i = 0; i < m.n; i++)
            memset(m.params[i].grad, 0, values(&m.params[i]) * sizeof(float));
        assert_true(jt_optim_grad_norm(optim, f->one, NULL) == 0.0);
        for (int step = 0; step < 3; step++)
            jt_optim_step(optim, f->one, 0.1f, 1.0f);
        for (size_t i = 0; i < m.n; i++) {
            const jt_param *p = &m.params[i];
            assert_memory_equal(p->value, find(f, "value", p->name),
                                values(p) * sizeof(float));
        }
        jt_optim_free(optim);
    }
    unload(&m);
}

static void no_memory_is_an_error(void **state)
{
    fixture *f = *state;
    model m = load(f, 1);
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
    unload(&m);
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
