#include "junto/npy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

struct jt_npy_writer {
    jt_output out;
    uint64_t rows, cols; /* cols: values in a row, 4 bytes each */
    uint64_t done;       /* rows written */
    bool failed;
};

/* "(3,)", "(3, 2)" */
static void show_shape(char text[80], const uint64_t *shape, int n_dims)
{
    int len = 0;
    for (int i = 0; i < n_dims; i++)
        len += snprintf(text + len, 80 - (size_t)len, "%s%llu", i ? ", " : "(",
                        (unsigned long long)shape[i]);
    snprintf(text + len, 80 - (size_t)len, n_dims == 1 ? ",)" : ")");
}

/* Magic, version 1.0, length of the text; then the text, padded with blanks so that
 * the data starts at a multiple of 64, with a line end as its last byte. */
static jt_status write_head(jt_npy_writer *w, jt_npy_type type, const char *shape,
                            jt_err *err)
{
    enum { PREFIX = 10, HEAD = 192 };
    char head[HEAD + 1];
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    int len = snprintf(head + PREFIX, HEAD - PREFIX,
                       "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                       type == JT_NPY_F32 ? "<f4" : "<i4", shape);
    int end = (PREFIX + len + 64) / 64 * 64;
    memset(head + PREFIX + len, ' ', (size_t)(end - PREFIX - len));
    head[8] = (char)(end - PREFIX); /* little-endian, 16 bits */
    head[9] = 0;
    head[end - 1] = '\n';
    return jt_output_write(&w->out, head, (size_t)end, err);
}

/* Values of a row; false where those of all rows would not fit into memory. */
static bool count_values(uint64_t *cols, const uint64_t *shape, int n_dims)
{
    size_t all = 1;
    *cols = 1;
    for (int i = n_dims; i-- > 0;) {
        *cols = i ? *cols * shape[i] : *cols;
        if (shape[i] > SIZE_MAX || !jt_mul(all, (size_t)shape[i], &all))
            return false;
    }
    return all <= PTRDIFF_MAX / sizeof(float);
}

jt_status jt_npy_writer_new(jt_npy_writer **out, const char *path, jt_npy_type type,
                            const uint64_t *shape, int n_dims, jt_err *err)
{
    uint64_t cols;
    char text[80];
    if (n_dims < 1 || n_dims > 3)
        return jt_fail(err, JT_E_ARG, "'%s': %d dimensions, expected 1 to 3", path,
                       n_dims);
    show_shape(text, shape, n_dims);
    if (!count_values(&cols, shape, n_dims))
        return jt_fail(err, JT_E_ARG, "'%s': an array of shape %s is too large", path,
                       text);
    jt_npy_writer *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "opening an output file");
    w->rows = shape[0];
    w->cols = cols;
    jt_status status = jt_output_open(&w->out, path, err);
    if (status == JT_OK)
        status = write_head(w, type, text, err);
    if (status != JT_OK) {
        jt_npy_writer_abort(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

jt_status jt_npy_writer_append(jt_npy_writer *w, const void *values, uint64_t rows,
                               jt_err *err)
{
    if (rows > w->rows - w->done)
        return jt_fail(err, JT_E_ARG, "'%s': %llu more rows than the %llu promised",
                       w->out.path, (unsigned long long)(rows - (w->rows - w->done)),
                       (unsigned long long)w->rows);
    size_t bytes = (size_t)(rows * w->cols) * sizeof(float);
    jt_status status = jt_output_write(&w->out, values, bytes, err);
    if (status == JT_OK)
        w->done += rows;
    else
        w->failed = true;
    return status;
}

jt_status jt_npy_writer_finish(jt_npy_writer *w, jt_err *err)
{
    jt_status status = JT_OK;
    if (w->failed)
        status = jt_fail(err, JT_E_IO, "cannot write '%s': an earlier write failed",
                         w->out.path);
    else if (w->done < w->rows)
        status = jt_fail(err, JT_E_ARG, "'%s': %llu of %llu rows written", w->out.path,
                         (unsigned long long)w->done, (unsigned long long)w->rows);
    if (status == JT_OK)
        status = jt_output_commit(&w->out, err);
    else
        jt_output_abort(&w->out);
    free(w);
    return status;
}

void jt_npy_writer_abort(jt_npy_writer *w)
{
    if (!w)
        return;
    jt_output_abort(&w->out);
    free(w);
}
