#include "junto/npy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

struct jt_npy_writer {
    jt_output out;
    uint64_t rows, cols;
    uint64_t done; /* rows written */
    bool failed;
};

/* Magic, version 1.0, length of the text; then the text, padded with blanks so that
 * the data starts at a multiple of 64, with a line end as its last byte. */
static jt_status write_head(jt_npy_writer *w, jt_err *err)
{
    enum { PREFIX = 10, HEAD = 128 };
    char head[HEAD + 1];
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = HEAD - PREFIX; /* little-endian, 16 bits */
    head[9] = 0;
    int len =
        snprintf(head + PREFIX, HEAD - PREFIX,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                 (unsigned long long)w->rows, (unsigned long long)w->cols);
    memset(head + PREFIX + len, ' ', (size_t)(HEAD - PREFIX - len));
    head[HEAD - 1] = '\n';
    return jt_output_write(&w->out, head, HEAD, err);
}

jt_status jt_npy_writer_new(jt_npy_writer **out, const char *path, uint64_t rows,
                            uint64_t cols, jt_err *err)
{
    size_t bytes;
    if (rows > SIZE_MAX || cols > SIZE_MAX ||
        !jt_mul((size_t)rows, (size_t)cols, &bytes) ||
        bytes > PTRDIFF_MAX / sizeof(float))
        return jt_fail(err, JT_E_ARG, "'%s': %llu rows of %llu values are too many",
                       path, (unsigned long long)rows, (unsigned long long)cols);
    jt_npy_writer *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "opening an output file");
    w->rows = rows;
    w->cols = cols;
    jt_status status = jt_output_open(&w->out, path, err);
    if (status == JT_OK)
        status = write_head(w, err);
    if (status != JT_OK) {
        jt_npy_writer_abort(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

jt_status jt_npy_writer_append(jt_npy_writer *w, const float *values, uint64_t rows,
                               jt_err *err)
{
    if (rows > w->rows - w->done)
        return jt_fail(err, JT_E_ARG, "'%s': %llu more rows than the %llu promised",
                       w->out.path, (unsigned long long)(rows - (w->rows - w->done)),
                       (unsigned long long)w->rows);
    size_t bytes = (size_t)(rows * w->cols) * sizeof *values;
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
