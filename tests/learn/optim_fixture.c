#include "optim_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const param_names[PARAMS] = {
    "tall", "wide", "stack_tall", "stack_wide", "vector", "stack_vector",
};

int fixture_setup(void **state)
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

int fixture_teardown(void **state)
{
    fixture *f = *state;
    jt_gguf_close(f->file);
    jt_pool_free(f->one);
    jt_pool_free(f->two);
    return 0;
}

const float *fixture_find(const fixture *f, const char *prefix, const char *name)
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

jt_optim_group fixture_group(const fixture *f, const char *name)
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

jt_optim *fixture_optim(const fixture *f, const model *m, const jt_optim_group *groups,
                        size_t n_groups)
{
    jt_optim *optim = NULL;
    jt_err err = {0};
    if (jt_optim_new(&optim, f->kernels, m->params, m->n, groups, n_groups, &err) !=
        JT_OK)
        fail_msg("%s", err.msg);
    return optim;
}

model model_load(const fixture *f, size_t times)
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

void model_unload(model *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->params[i].value);
        free(m->params[i].grad);
    }
}

void model_repeat(float *to, const float *from, const jt_param *p, size_t times)
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

void model_start(const fixture *f, model *m, size_t times)
{
    for (size_t i = 0; i < m->n; i++) {
        jt_param *p = &m->params[i];
        model_repeat(p->value, fixture_find(f, "value", p->name), p, times);
    }
}

void model_train(const fixture *f, model *m, size_t times, jt_optim *optim,
                 jt_pool *pool, size_t first, size_t last, float lr_scale)
{
    for (size_t step = first; step < last; step++) {
        for (size_t i = 0; i < m->n; i++) {
            jt_param *p = &m->params[i];
            size_t n = values(p) / (times * times);
            model_repeat(p->grad, fixture_find(f, "grad", p->name) + step * n, p,
                         times);
        }
        jt_optim_step(optim, pool, lr_scale * f->lr[step], f->grad_scale);
    }
    assert_int_equal(jt_optim_steps(optim), last);
}
