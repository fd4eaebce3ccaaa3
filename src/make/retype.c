#include "make/retype.h"

#include <stdlib.h>

#include "base/memory.h"
#include "model/hf.h"

enum { RUN_ROWS = 256 };

/* Some rows of a tensor on their way from one type to another. */
typedef struct run {
    const jt_retype *how;
    const jt_gguf_tensor *from;
    size_t n, row_bytes, matrix_rows, first;
    float *values; /* [RUN_ROWS, n] */
    char *out;     /* [RUN_ROWS] rows */
} run;

static void change_row(void *arg, size_t i)
{
    const run *r = arg;
    size_t row = r->first + i;
    float *x = r->values + i * r->n;
    const float *w = r->how->weights;
    jt_gguf_read_row(r->from, row, x);
    if (r->how->change)
        r->how->change(r->how->user, row, x);
    jt_quantize_weighted(r->how->to, r->out + i * r->row_bytes, x,
                         w ? w + row / r->matrix_rows * r->n : NULL, r->n);
}

static jt_status write_rows(run *r, size_t rows, jt_err *err)
{
    for (r->first = 0; r->first < rows; r->first += RUN_ROWS) {
        size_t count = rows - r->first < RUN_ROWS ? rows - r->first : RUN_ROWS;
        jt_pool_run(r->how->pool, change_row, r, count);
        JT_TRY(jt_gguf_write(r->how->writer, r->out, count * r->row_bytes, err));
        JT_TRY(r->how->written(r->how->user, count * r->row_bytes));
    }
    return JT_OK;
}

static jt_status change_tensor(const jt_gguf_tensor *t, const jt_retype *how,
                               jt_err *err)
{
    run r = {.how = how, .from = t, .n = (size_t)t->shape[t->n_dims - 1]};
    size_t rows = jt_hf_values(t) / r.n;
    r.matrix_rows = t->n_dims > 1 ? (size_t)t->shape[t->n_dims - 2] : 1;
    r.row_bytes = jt_dtype_row_bytes(how->to, r.n);
    r.values = jt_alloc(RUN_ROWS * r.n, sizeof *r.values);
    r.out = jt_alloc(RUN_ROWS, r.row_bytes);
    jt_status status = r.values && r.out ? write_rows(&r, rows, err)
                                         : jt_fail_memory(err, "changing a tensor");
    free(r.values);
    free(r.out);
    return status;
}

jt_status jt_retype_tensor(const jt_gguf_tensor *t, const jt_retype *how, jt_err *err)
{
    if (how->to != t->dtype || t->types || how->change)
        return change_tensor(t, how, err);
    jt_gguf_tensor whole = *t;
    whole.bytes = jt_hf_values(t) / jt_dtype_block_values(t->dtype) *
                  jt_dtype_block_bytes(t->dtype);
    JT_TRY(jt_gguf_write_tensor(how->writer, &whole, err));
    return how->written(how->user, whole.bytes);
}
