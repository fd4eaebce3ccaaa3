/* Safetensors files: read (mapped, also split into shards) and written.
 *
 * Nothing in a file is trusted: header, types, shapes and places are checked before
 * use, and opening touches no tensor data. The byte layout is in docs/formats.md.
 *
 *     jt_safetensors *s;
 *     if (jt_safetensors_open(&s, "folder", &err) == JT_OK) {
 *         const jt_safetensor *t = jt_safetensors_find(s, "lm_head.weight");
 *         jt_safetensors_close(s);
 *     }
 */
#ifndef JUNTO_SAFETENSORS_H
#define JUNTO_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JT_SAFETENSOR_DIMS 8

/* X(name in the file, bytes per value) */
#define JT_SAFETENSOR_TYPES(X) \
    X(F64, 8)                  \
    X(F32, 4)                  \
    X(F16, 2)                  \
    X(BF16, 2)                 \
    X(F8_E4M3, 1)              \
    X(F8_E5M2, 1)              \
    X(F8_E8M0, 1)              \
    X(I64, 8)                  \
    X(I32, 4)                  \
    X(I16, 2)                  \
    X(I8, 1)                   \
    X(U64, 8)                  \
    X(U32, 4)                  \
    X(U16, 2)                  \
    X(U8, 1)                   \
    X(BOOL, 1)

typedef enum jt_safetensor_type {
#define X(name, bytes) JT_ST_##name,
    JT_SAFETENSOR_TYPES(X)
#undef X
        JT_ST_COUNT
} jt_safetensor_type;

/* "BF16"; "?" for a value outside the enum. Bytes of one value, 0 likewise. */
JT_API const char *jt_safetensor_type_name(jt_safetensor_type type);
JT_API size_t jt_safetensor_type_bytes(jt_safetensor_type type);

/* One tensor; the last index is contiguous. Scalars have no dimensions, empty tensors a
 * dimension of 0. `data` need not be aligned. */
typedef struct jt_safetensor {
    jt_str name;
    jt_safetensor_type type;
    int n_dims;
    uint64_t shape[JT_SAFETENSOR_DIMS];
    const void *data; /* mapped, read only, valid until jt_safetensors_close */
    size_t bytes;
} jt_safetensor;

typedef struct jt_safetensors jt_safetensors;

/* Open and map a file, or all of a folder: model.safetensors, or the shards that
 * model.safetensors.index.json names, or "*-TP-common.safetensors" and the files of the
 * devices that the others were cut for, "*-TP-003.safetensors", whose tensors are
 * called "NAME.TP-003". Errors: JT_E_IO (cannot open or map, nothing there, a shard is
 * missing), JT_E_FORMAT (anything wrong inside, shards that do not belong together),
 * JT_E_UNSUPPORTED (types that Junto does not know), JT_E_LIMIT, JT_E_MEMORY. On
 * success the caller owns *out. */
JT_API jt_status jt_safetensors_open(jt_safetensors **out, const char *path,
                                     jt_err *err);

/* The same for one file in memory; `data` must stay as it is until
 * jt_safetensors_close. */
JT_API jt_status jt_safetensors_open_memory(jt_safetensors **out, const void *data,
                                            size_t bytes, jt_err *err);

/* NULL is fine. */
JT_API void jt_safetensors_close(jt_safetensors *s);

/* Tensors in the order of the files. Returned pointers are borrowed. */
JT_API size_t jt_safetensors_count(const jt_safetensors *s);
JT_API const jt_safetensor *jt_safetensors_at(const jt_safetensors *s, size_t i);
JT_API const jt_safetensor *jt_safetensors_find(const jt_safetensors *s,
                                                const char *name);

/* A text of the metadata (of the first file that has it), which is borrowed; false,
 * *value unchanged, when there is none. */
JT_API bool jt_safetensors_metadata(const jt_safetensors *s, const char *key,
                                    jt_str *value);

/* ---- writing -----------------------------------------------------------------------
 * Descriptions first, then the data of each tensor in the order in which they were
 * described, then finish. Files go into a folder that exists: "model.safetensors", or
 * shards of at most `shard_bytes` of data and their index when that is not enough. Each
 * file is written beside and renamed. */
typedef struct jt_safetensors_writer jt_safetensors_writer;

JT_API jt_status jt_safetensors_writer_new(jt_safetensors_writer **out,
                                           const char *folder, uint64_t shard_bytes,
                                           jt_err *err);

/* Before anything is written: the name of the file, when it is one, instead of
 * "model.safetensors"; and a text for the metadata of all files. Both are copied. */
JT_API jt_status jt_safetensors_set_name(jt_safetensors_writer *w, const char *name,
                                         jt_err *err);
JT_API jt_status jt_safetensors_set_metadata(jt_safetensors_writer *w, const char *key,
                                             const char *value, jt_err *err);

/* Describe a tensor; name and shape are copied. */
JT_API jt_status jt_safetensors_add(jt_safetensors_writer *w, const char *name,
                                    jt_safetensor_type type, int n_dims,
                                    const uint64_t *shape, jt_err *err);

/* Append data of the described tensors, in order; a tensor may come in several calls
 * and one call must not cross into the next tensor. */
JT_API jt_status jt_safetensors_write(jt_safetensors_writer *w, const void *data,
                                      size_t bytes, jt_err *err);

/* Check that every tensor was written in full and write the index. Frees `w` in every
 * case. */
JT_API jt_status jt_safetensors_writer_finish(jt_safetensors_writer *w, jt_err *err);

/* Give up: remove the unfinished file, free `w`. Finished shards stay. NULL is fine. */
JT_API void jt_safetensors_writer_abort(jt_safetensors_writer *w);

#ifdef __cplusplus
}
#endif
#endif
