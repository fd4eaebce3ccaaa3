#include "learn/variables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/parameters.h"

static size_t values_of(const jt_tensor *t)
{
    return jt_rows(t) * jt_cols(t);
}

static void count_one(void *user, const char *name, jt_tensor *t)
{
    jt_variables *v = user;
    (void)name;
    v->count++;
    v->values += values_of(t);
}

/* A matrix, a stack of them, or a vector (one row). */
static jt_param describe(const jt_tensor *t)
{
    jt_param p = {.count = 1, .rows = 1, .cols = jt_cols(t)};
    if (t->n_dims >= 2)
        p.rows = t->shape[t->n_dims - 2];
    if (t->n_dims >= 3)
        p.count = t->shape[0];
    return p;
}

static void list_one(void *user, const char *name, jt_tensor *t)
{
    jt_variables *v = user;
    size_t i = v->count++;
    snprintf(v->name[i], sizeof v->name[i], "%s", name);
    v->list[i] = describe(t);
    v->list[i].name = v->name[i];
}

typedef struct check {
    jt_err *err;
    jt_status status;
} check;

/* What is written later are parameters: a factor beside one would count again. */
static void refuse_factor(void *user, const char *name, jt_tensor *t)
{
    check *c = user;
    if (t->factor && c->status == JT_OK)
        c->status = jt_fail(c->err, JT_E_UNSUPPORTED,
                            "training is not supported where a factor stands beside "
                            "a matrix, as beside '%s'",
                            name);
}

jt_status jt_variables_list(jt_variables *out, jt_model *model, jt_err *err)
{
    check factors = {err, JT_OK};
    jt_model_each_parameter(model, refuse_factor, &factors);
    JT_TRY(factors.status);
    jt_variables v = {0};
    jt_model_each_parameter(model, count_one, &v);
    v.list = jt_alloc(v.count, sizeof *v.list);
    v.name = jt_alloc(v.count, sizeof *v.name);
    if (!v.list || !v.name) {
        jt_variables_free(&v);
        return jt_fail_memory(err, "listing a model's parameters");
    }
    v.count = 0;
    jt_model_each_parameter(model, list_one, &v);
    *out = v;
    return JT_OK;
}

static void take_one(void *user, const char *name, jt_tensor *t)
{
    jt_variables *v = user;
    jt_param *p = &v->list[v->count++];
    size_t rows = jt_rows(t), cols = jt_cols(t);
    size_t row_bytes = jt_dtype_row_bytes(t->dtype, cols);
    (void)name;
    p->value = v->value + v->values;
    p->grad = v->grad + v->values;
    for (size_t r = 0; r < rows; r++)
        jt_dequantize(t->types ? t->types[r / (rows / t->shape[0])] : t->dtype,
                      p->value + r * cols, jt_weight_row(t, r), cols);
    if (t->data)
        jt_map_forget(t->data, rows * row_bytes);
    t->data = p->value;
    t->pieces = NULL;
    t->types = NULL;
    t->grad = p->grad;
    t->dtype = JT_F32;
    v->values += values_of(t);
}

jt_status jt_variables_take(jt_variables *out, jt_model *model, jt_err *err)
{
    jt_variables v;
    JT_TRY(jt_variables_list(&v, model, err));
    size_t bytes = v.values * sizeof(float);
    v.value = jt_alloc_large(bytes);
    v.grad = jt_alloc_large(bytes);
    if (!v.value || !v.grad) {
        jt_variables_free(&v);
        return jt_fail_memory(err, "taking a model's parameters into memory");
    }
    memset(v.grad, 0, bytes);
    v.count = v.values = 0;
    jt_model_each_parameter(model, take_one, &v);
    jt_tiles_free(model->tiles); /* they will change */
    model->tiles = NULL;
    *out = v;
    return JT_OK;
}

void jt_variables_free(jt_variables *v)
{
    free(v->list);
    free(v->name);
    free(v->value);
    free(v->grad);
    *v = (jt_variables){0};
}

enum { ZERO_RUN = 1 << 16 };

static void zero_run(void *arg, size_t i)
{
    const jt_variables *v = arg;
    size_t first = i * ZERO_RUN, left = v->values - first;
    memset(v->grad + first, 0, (left < ZERO_RUN ? left : ZERO_RUN) * sizeof *v->grad);
}

void jt_variables_zero_grad(jt_variables *v, jt_pool *pool)
{
    jt_pool_run(pool, zero_run, v, (v->values + ZERO_RUN - 1) / ZERO_RUN);
}

const jt_param *jt_variables_find(const jt_variables *v, const char *name)
{
    for (size_t i = 0; i < v->count; i++) {
        if (strcmp(v->name[i], name) == 0)
            return &v->list[i];
    }
    return NULL;
}
