/* Transforms that change shapes for state-space layers, and rows in another order. */
#include <string.h>

#include "model/hf.h"

static jt_status fail_shape(jt_hf_job *job, const char *wanted)
{
    return jt_fail(job->err, JT_E_FORMAT, "its shape is not %s", wanted);
}

/* ---- columns, groups ---- */

static jt_status column_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    if (t->n_dims != 1)
        return fail_shape(job, "[n]");
    t->n_dims = 2;
    t->shape[1] = 1;
    return JT_OK;
}

static jt_status column_export(jt_hf_job *job, const jt_gguf_tensor *t,
                               jt_gguf_tensor *hf)
{
    if (t->n_dims != 2 || t->shape[1] != 1)
        return fail_shape(job, "[n, 1]");
    *hf = *t;
    hf->n_dims = 1;
    return JT_OK;
}

static jt_status minus_exp_column_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    JT_TRY(jt_hf_minus_exp.import(job, t));
    return column_import(job, t);
}

static jt_status minus_exp_column_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                         jt_gguf_tensor *hf)
{
    jt_gguf_tensor flat;
    JT_TRY(column_export(job, t, &flat));
    return jt_hf_minus_exp.export(job, &flat, hf);
}

static jt_status groups_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    int64_t groups = 1;
    jt_hf_get_int(job, "ssm.group_count", &groups);
    if (t->n_dims != 1 || groups < 1 || t->shape[0] % (uint64_t)groups != 0)
        return fail_shape(job, "that of whole groups");
    t->n_dims = 2;
    t->shape[1] = t->shape[0] / (uint64_t)groups;
    t->shape[0] = (uint64_t)groups;
    return JT_OK;
}

static jt_status groups_export(jt_hf_job *job, const jt_gguf_tensor *t,
                               jt_gguf_tensor *hf)
{
    if (t->n_dims != 2)
        return fail_shape(job, "[groups, n]");
    *hf = *t;
    hf->n_dims = 1;
    hf->shape[0] = t->shape[0] * t->shape[1];
    return JT_OK;
}

const jt_hf_transform jt_hf_column = {column_import, column_export};
const jt_hf_transform jt_hf_minus_exp_column = {minus_exp_column_import,
                                                minus_exp_column_export};
const jt_hf_transform jt_hf_groups = {groups_import, groups_export};

/* ---- rows in another order ----
 * A vector is a matrix of one column. */

static size_t row_bytes(const jt_gguf_tensor *t)
{
    return jt_dtype_row_bytes(t->dtype, t->n_dims > 1 ? (size_t)t->shape[1] : 1);
}

jt_status jt_hf_pick_rows(jt_hf_job *job, jt_gguf_tensor *t, const uint64_t *order,
                          uint64_t count)
{
    if (t->n_dims > 2 || t->pieces || jt_dtype_block_values(t->dtype) != 1)
        return fail_shape(job, "that of a matrix");
    const char *from = t->data;
    size_t bytes = row_bytes(t);
    jt_status status;
    t->shape[0] = count;
    char *to = jt_hf_room(job, t, &status);
    for (uint64_t r = 0; r < count && to; r++)
        memcpy(to + r * bytes, from + order[r] * bytes, bytes);
    return status;
}

jt_status jt_hf_place_rows(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf,
                           const uint64_t *order, uint64_t rows)
{
    jt_status status = JT_OK;
    if (t->n_dims > 2)
        return fail_shape(job, "that of a matrix");
    if (hf->n_dims == 0) {
        *hf = *t;
        hf->shape[0] = rows;
        jt_hf_room(job, hf, &status);
    } else if (hf->dtype != t->dtype || hf->shape[1] != t->shape[1]) {
        return fail_shape(job, "that of its other parts");
    }
    char *to = (char *)(uintptr_t)hf->data;
    const char *from = t->data;
    size_t bytes = row_bytes(t);
    for (uint64_t r = 0; r < t->shape[0] && to && status == JT_OK; r++)
        memcpy(to + order[r] * bytes, from + r * bytes, bytes);
    return status;
}
