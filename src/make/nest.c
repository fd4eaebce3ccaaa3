#include "make/nest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/nested.h"
#include "model/hf.h"

enum { RUN_ROWS = 256, NAME_BYTES = 256 };
static const char ending[] = "_exps.weight";

bool jt_nest_can(const jt_gguf_tensor *t)
{
    size_t n = sizeof ending - 1;
    return t->n_dims == 3 && t->name.len > n && t->name.len < NAME_BYTES &&
           memcmp(t->name.data + t->name.len - n, ending, n) == 0 &&
           t->shape[2] % jt_dtype_block_values(JT_Q2_K) == 0;
}

static size_t one_plane(const jt_gguf_tensor *t)
{
    return jt_nested_plane_bytes((size_t)jt_hf_values(t));
}

uint64_t jt_nest_plane_bytes(const jt_gguf_tensor *t, int bits)
{
    return (uint64_t)(bits - JT_NESTED_LEAST) * one_plane(t);
}

jt_status jt_nest_describe(jt_gguf_writer *writer, const jt_gguf_tensor *t, int bits,
                           jt_err *err)
{
    uint64_t shape[3] = {t->shape[0], t->shape[1],
                         jt_nested_plane_bytes((size_t)t->shape[2])};
    for (int b = JT_NESTED_LEAST + 1; b <= bits; b++) {
        char name[NAME_BYTES + 8];
        int stem = (int)(t->name.len - (sizeof ending - 1));
        snprintf(name, sizeof name, "%.*s_exps.plane%d", stem, t->name.data, b);
        JT_TRY(jt_gguf_add_tensor(writer, name, JT_I8, 3, shape, err));
    }
    return JT_OK;
}

/* ---- data ---- */

/* Some rows on their way. */
typedef struct run {
    const jt_nest *how;
    const jt_gguf_tensor *from;
    size_t n, matrix_rows, first;
    float *values;                    /* [RUN_ROWS, n] */
    jt_q2_k *base;                    /* [RUN_ROWS] rows */
    uint8_t *plane[JT_NESTED_PLANES]; /* of the whole tensor */
} run;

static void nest_row(void *arg, size_t i)
{
    const run *r = arg;
    size_t row = r->first + i, blocks = r->n / jt_dtype_block_values(JT_Q2_K);
    const float *w = r->how->weights;
    float *x = r->values + i * r->n;
    uint8_t *plane[JT_NESTED_PLANES];
    for (int k = 0; k < r->how->bits - JT_NESTED_LEAST; k++)
        plane[k] = r->plane[k] + row * jt_nested_plane_bytes(r->n);
    jt_gguf_read_row(r->from, row, x);
    jt_quantize_nested(r->base + i * blocks, plane, x,
                       w ? w + row / r->matrix_rows * r->n : NULL, r->n, r->how->bits);
}

static jt_status put(const run *r, const void *data, size_t bytes, jt_err *err)
{
    JT_TRY(jt_gguf_write(r->how->writer, data, bytes, err));
    return r->how->written(r->how->user, bytes);
}

static jt_status write_all(run *r, size_t rows, jt_err *err)
{
    size_t row_bytes = jt_dtype_row_bytes(JT_Q2_K, r->n);
    for (r->first = 0; r->first < rows; r->first += RUN_ROWS) {
        size_t count = rows - r->first < RUN_ROWS ? rows - r->first : RUN_ROWS;
        jt_pool_run(r->how->pool, nest_row, r, count);
        JT_TRY(put(r, r->base, count * row_bytes, err));
    }
    for (int k = 0; k < r->how->bits - JT_NESTED_LEAST; k++)
        JT_TRY(put(r, r->plane[k], one_plane(r->from), err));
    return JT_OK;
}

jt_status jt_nest_tensor(const jt_gguf_tensor *t, const jt_nest *how, jt_err *err)
{
    run r = {.how = how,
             .from = t,
             .n = (size_t)t->shape[2],
             .matrix_rows = (size_t)t->shape[1]};
    size_t rows = (size_t)jt_hf_values(t) / r.n;
    r.values = jt_alloc(RUN_ROWS * r.n, sizeof *r.values);
    r.base = jt_alloc(RUN_ROWS, jt_dtype_row_bytes(JT_Q2_K, r.n));
    bool there = r.values && r.base;
    for (int k = 0; k < how->bits - JT_NESTED_LEAST && there; k++) {
        r.plane[k] = jt_alloc(one_plane(t), 1);
        there = r.plane[k] != NULL;
    }
    jt_status status =
        there ? write_all(&r, rows, err) : jt_fail_memory(err, "nesting a tensor");
    for (int k = 0; k < JT_NESTED_PLANES; k++)
        free(r.plane[k]);
    free(r.values);
    free(r.base);
    return status;
}
