#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "junto/model.h"
#include "junto/shrink.h"
#include "model/hf.h"

enum { NAME_BYTES = 256, RUN_ROWS = 256 };

typedef struct comparison {
    const jt_diff_options *o;
    jt_gguf *a, *b;
    jt_pool *pool;
    jt_err *err;
} comparison;

/* Some rows of two tensors, and what is summed over each row. */
typedef struct row_sums {
    double error, size, worst;
} row_sums;
typedef struct run {
    const jt_gguf_tensor *a, *b;
    size_t n, first;
    float *x, *y; /* [RUN_ROWS, n] */
    row_sums sums[RUN_ROWS];
} run;

static void compare_row(void *arg, size_t i)
{
    run *r = arg;
    float *x = r->x + i * r->n, *y = r->y + i * r->n;
    row_sums s = {0, 0, 0};
    jt_gguf_read_row(r->a, r->first + i, x);
    jt_gguf_read_row(r->b, r->first + i, y);
    for (size_t c = 0; c < r->n; c++) {
        double off = (double)x[c] - (double)y[c];
        s.error += off * off;
        s.size += (double)x[c] * (double)x[c];
        s.worst = fabs(off) > s.worst ? fabs(off) : s.worst;
    }
    r->sums[i] = s;
}

static void compare_rows(const comparison *c, run *r, size_t rows, row_sums *total)
{
    for (r->first = 0; r->first < rows; r->first += RUN_ROWS) {
        size_t count = rows - r->first < RUN_ROWS ? rows - r->first : RUN_ROWS;
        jt_pool_run(c->pool, compare_row, r, count);
        for (size_t i = 0; i < count; i++) {
            total->error += r->sums[i].error;
            total->size += r->sums[i].size;
            total->worst = fmax(total->worst, r->sums[i].worst);
        }
    }
}

static jt_status compare_pair(const comparison *c, const char *name,
                              const jt_gguf_tensor *a, const jt_gguf_tensor *b)
{
    size_t n = (size_t)a->shape[a->n_dims - 1];
    row_sums total = {0, 0, 0};
    run *r = jt_calloc(1, sizeof *r);
    float *values = jt_alloc(2 * RUN_ROWS, n * sizeof *values);
    jt_status status = JT_OK;
    if (r && values) {
        *r = (run){.a = a, .b = b, .n = n, .x = values, .y = values + RUN_ROWS * n};
        compare_rows(c, r, jt_hf_values(a) / n, &total);
    } else {
        status = jt_fail_memory(c->err, "comparing tensors");
    }
    free(r);
    free(values);
    if (status != JT_OK || !c->o->on_tensor)
        return status;
    jt_tensor_diff diff = {.name = name,
                           .a = a->dtype,
                           .b = b->dtype,
                           .values = jt_hf_values(a),
                           .worst = total.worst};
    diff.error = total.error > 0 ? sqrt(total.error / total.size) : 0;
    c->o->on_tensor(c->o->user, &diff);
    return JT_OK;
}

static void tell_other(const comparison *c, const char *name, const char *what)
{
    if (c->o->on_other)
        c->o->on_other(c->o->user, name, what);
}

static bool same_shape(const jt_gguf_tensor *a, const jt_gguf_tensor *b)
{
    return a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;
}

static jt_status name_of(const comparison *c, const jt_gguf_tensor *t,
                         char name[NAME_BYTES])
{
    if (t->name.len >= NAME_BYTES)
        return jt_fail(c->err, JT_E_UNSUPPORTED, "tensor name '%.*s' is too long",
                       NAME_BYTES, t->name.data);
    snprintf(name, NAME_BYTES, "%.*s", (int)t->name.len, t->name.data);
    return JT_OK;
}

static jt_status compare_files(const comparison *c)
{
    size_t count = jt_gguf_tensor_count(c->a);
    char name[NAME_BYTES];
    for (size_t i = 0; i < count; i++) {
        const jt_gguf_tensor *a = jt_gguf_tensor_at(c->a, i);
        JT_TRY(jt_progress_report(&c->o->progress, "tensors", i, count, c->err));
        JT_TRY(name_of(c, a, name));
        const jt_gguf_tensor *b = jt_gguf_find(c->b, name);
        if (b && same_shape(a, b))
            JT_TRY(compare_pair(c, name, a, b));
        else
            tell_other(c, name, b ? "of another shape" : "only in the first");
    }
    for (size_t i = 0; i < jt_gguf_tensor_count(c->b); i++) {
        JT_TRY(name_of(c, jt_gguf_tensor_at(c->b, i), name));
        if (!jt_gguf_find(c->a, name))
            tell_other(c, name, "only in the second");
    }
    return jt_progress_report(&c->o->progress, "tensors", count, count, c->err);
}

jt_status jt_diff_tensors(const char *path_a, const char *path_b,
                          const jt_diff_options *options, jt_err *err)
{
    comparison c = {.o = options, .err = err};
    jt_status status = jt_model_open_file(&c.a, path_a, err);
    if (status == JT_OK)
        status = jt_model_open_file(&c.b, path_b, err);
    if (status == JT_OK)
        status = jt_pool_new(&c.pool, options->threads, err);
    if (status == JT_OK)
        status = compare_files(&c);
    jt_pool_free(c.pool);
    jt_gguf_close(c.a);
    jt_gguf_close(c.b);
    return status;
}
