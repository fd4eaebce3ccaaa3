/* NumPy files (.npy, version 1.0): an array, written row by row.
 *
 *     jt_npy_writer *w;
 *     const uint64_t shape[] = {rows, cols};
 *     JT_TRY(jt_npy_writer_new(&w, "states.npy", JT_NPY_F32, shape, 2, err));
 *     for (...) {
 *         status = jt_npy_writer_append(w, values, 1, err);
 *         ...
 *     }
 *     return jt_npy_writer_finish(w, err);
 */
#ifndef JUNTO_NPY_H
#define JUNTO_NPY_H

#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_npy_writer jt_npy_writer;

typedef enum jt_npy_type { JT_NPY_F32, JT_NPY_I32 } jt_npy_type;

/* Begin a file of shape [rows, ..] with 1 to 3 dimensions. It is written beside `path`
 * and renamed by jt_npy_writer_finish. On success the caller owns *out. */
JT_API jt_status jt_npy_writer_new(jt_npy_writer **out, const char *path,
                                   jt_npy_type type, const uint64_t *shape, int n_dims,
                                   jt_err *err);

/* Append `rows` rows: values[rows, ..] of the file's type. JT_E_ARG when there are more
 * than promised. */
JT_API jt_status jt_npy_writer_append(jt_npy_writer *w, const void *values,
                                      uint64_t rows, jt_err *err);

/* Check that every row was written, flush to disk, rename. Frees `w` in every case; on
 * failure nothing of the new file remains. */
JT_API jt_status jt_npy_writer_finish(jt_npy_writer *w, jt_err *err);

/* Give up: remove the unfinished file, free `w`. NULL is fine. */
JT_API void jt_npy_writer_abort(jt_npy_writer *w);

#ifdef __cplusplus
}
#endif
#endif
