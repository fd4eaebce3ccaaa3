/* GGUF files: read (versions 2 and 3, mapped, also split into several files) and
 * written (version 3).
 *
 * Nothing in a file is trusted: every count, length, offset and type is checked before
 * use, and opening touches no tensor data. The byte layout is in docs/formats.md.
 *
 *     jt_gguf *f;
 *     if (jt_gguf_open(&f, "model.gguf", &err) == JT_OK) {
 *         uint32_t layers;
 *         jt_gguf_get_u32(f, "llama.block_count", &layers);
 *         const jt_gguf_tensor *t = jt_gguf_find(f, "output.weight");
 *         jt_gguf_close(f);
 *     }
 */
#ifndef JUNTO_GGUF_H
#define JUNTO_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/dtype.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JT_MAX_DIMS 4

/* Value types, with the ids of the file format. */
typedef enum jt_gguf_type {
    JT_GGUF_U8 = 0,
    JT_GGUF_I8 = 1,
    JT_GGUF_U16 = 2,
    JT_GGUF_I16 = 3,
    JT_GGUF_U32 = 4,
    JT_GGUF_I32 = 5,
    JT_GGUF_F32 = 6,
    JT_GGUF_BOOL = 7,
    JT_GGUF_STRING = 8,
    JT_GGUF_ARRAY = 9,
    JT_GGUF_U64 = 10,
    JT_GGUF_I64 = 11,
    JT_GGUF_F64 = 12
} jt_gguf_type;

/* Bytes that lie in the file: not terminated, not checked for UTF-8. */
typedef struct jt_str {
    const char *data;
    size_t len;
} jt_str;

/* One tensor. `shape` is in PyTorch's order: the last index is contiguous, so a linear
 * layer is [out, in] and stacked experts are [experts, out, in]. */
typedef struct jt_gguf_tensor {
    jt_str name;
    jt_dtype dtype;
    int n_dims;
    uint64_t shape[JT_MAX_DIMS];
    const void *data; /* mapped, read only, valid until jt_gguf_close */
    size_t bytes;
    /* Only in files that were made in memory: where each index of the first dimension
     * lies; `data` is NULL then. NULL otherwise. */
    const void *const *pieces;
    /* And of which type each is, where they differ (experts of different widths); NULL:
     * all are of `dtype`, which is that of the first otherwise. */
    const jt_dtype *types;
} jt_gguf_tensor;

/* One key. Scalars and strings are read with the getters below; `raw` is the encoded
 * value as it lies in the file (for copying keys to another file). */
typedef struct jt_gguf_kv {
    jt_str key;
    jt_gguf_type type;
    jt_gguf_type item_type; /* of an array */
    uint64_t count;         /* of an array; 1 otherwise */
    const void *raw;
    size_t raw_bytes;
} jt_gguf_kv;

typedef struct jt_gguf jt_gguf;

/* Open and map a file. A first part named "NAME-00001-of-000NN.gguf" opens all its
 * parts. Errors: JT_E_IO (cannot open or map), JT_E_FORMAT (anything wrong inside),
 * JT_E_UNSUPPORTED (version 1, big-endian, tensor types that Junto does not read),
 * JT_E_MEMORY. On success the caller owns *out. */
JT_API jt_status jt_gguf_open(jt_gguf **out, const char *path, jt_err *err);

/* The same from memory; `data` must stay valid and unchanged until jt_gguf_close.
 * For tests and embedded models; split files cannot be opened this way. */
JT_API jt_status jt_gguf_open_memory(jt_gguf **out, const void *data, size_t bytes,
                                     jt_err *err);

/* NULL is fine. */
JT_API void jt_gguf_close(jt_gguf *file);

/* Path as given to jt_gguf_open ("(memory)" otherwise), bytes of all parts together. */
JT_API const char *jt_gguf_path(const jt_gguf *file);
JT_API uint64_t jt_gguf_file_bytes(const jt_gguf *file);

/* Tensors and keys in the order of the file. Returned pointers are borrowed. */
JT_API size_t jt_gguf_tensor_count(const jt_gguf *file);
JT_API const jt_gguf_tensor *jt_gguf_tensor_at(const jt_gguf *file, size_t i);
JT_API const jt_gguf_tensor *jt_gguf_find(const jt_gguf *file, const char *name);
JT_API size_t jt_gguf_kv_count(const jt_gguf *file);
JT_API const jt_gguf_kv *jt_gguf_kv_at(const jt_gguf *file, size_t i);
JT_API const jt_gguf_kv *jt_gguf_kv_find(const jt_gguf *file, const char *key);

/* The `i`-th row (last dimension) of a tensor, counted over all other dimensions. */
JT_API const void *jt_gguf_row(const jt_gguf_tensor *t, uint64_t i);
/* Its values, as jt_dequantize gives them. */
JT_API void jt_gguf_read_row(const jt_gguf_tensor *t, uint64_t i, float *values);

/* Typed getters. true and *value set when the key exists and its value fits the asked
 * type without loss (any integer type to u32/i64 in range; any number to f32); false,
 * *value unchanged, otherwise. */
JT_API bool jt_gguf_get_u32(const jt_gguf *file, const char *key, uint32_t *value);
JT_API bool jt_gguf_get_i64(const jt_gguf *file, const char *key, int64_t *value);
JT_API bool jt_gguf_get_f32(const jt_gguf *file, const char *key, float *value);
JT_API bool jt_gguf_get_bool(const jt_gguf *file, const char *key, bool *value);
JT_API bool jt_gguf_get_str(const jt_gguf *file, const char *key, jt_str *value);

/* Item `i` of an array key; false when out of range or of another kind. Strings in
 * arrays are indexed on open, so access is O(1). */
JT_API bool jt_gguf_item_str(const jt_gguf_kv *kv, uint64_t i, jt_str *value);
JT_API bool jt_gguf_item_i64(const jt_gguf_kv *kv, uint64_t i, int64_t *value);
JT_API bool jt_gguf_item_f32(const jt_gguf_kv *kv, uint64_t i, float *value);

/* ---- writing -----------------------------------------------------------------------
 * Keys and tensor descriptions first, then the data of each tensor in the order in
 * which they were described, then finish. The file is written beside its final name and
 * renamed by jt_gguf_writer_finish, so a reader sees the old file or the whole new one.
 */
typedef struct jt_gguf_writer jt_gguf_writer;

JT_API jt_status jt_gguf_writer_new(jt_gguf_writer **out, const char *path,
                                    jt_err *err);

/* Set a key; a later call with the same key replaces the value, in its place. */
JT_API jt_status jt_gguf_set_u32(jt_gguf_writer *w, const char *key, uint32_t value,
                                 jt_err *err);
JT_API jt_status jt_gguf_set_u64(jt_gguf_writer *w, const char *key, uint64_t value,
                                 jt_err *err);
JT_API jt_status jt_gguf_set_f32(jt_gguf_writer *w, const char *key, float value,
                                 jt_err *err);
JT_API jt_status jt_gguf_set_bool(jt_gguf_writer *w, const char *key, bool value,
                                  jt_err *err);
JT_API jt_status jt_gguf_set_str(jt_gguf_writer *w, const char *key, const char *value,
                                 jt_err *err);
JT_API jt_status jt_gguf_set_strs(jt_gguf_writer *w, const char *key,
                                  const jt_str *values, uint64_t count, jt_err *err);
JT_API jt_status jt_gguf_set_i32s(jt_gguf_writer *w, const char *key,
                                  const int32_t *values, uint64_t count, jt_err *err);
JT_API jt_status jt_gguf_set_f32s(jt_gguf_writer *w, const char *key,
                                  const float *values, uint64_t count, jt_err *err);
JT_API jt_status jt_gguf_set_bools(jt_gguf_writer *w, const char *key,
                                   const bool *values, uint64_t count, jt_err *err);
/* Copy a key of another file under its own name or, when `key` is not NULL, a new one.
 */
JT_API jt_status jt_gguf_set_kv(jt_gguf_writer *w, const char *key,
                                const jt_gguf_kv *kv, jt_err *err);
/* Forget a key; nothing happens when it is not there. */
JT_API void jt_gguf_unset(jt_gguf_writer *w, const char *key);

/* Describe a tensor; `shape` in PyTorch's order (last index contiguous). */
JT_API jt_status jt_gguf_add_tensor(jt_gguf_writer *w, const char *name, jt_dtype dtype,
                                    int n_dims, const uint64_t *shape, jt_err *err);

/* Append data of the described tensors, in order; a tensor may come in several calls
 * and one call must not cross into the next tensor. Padding is written by itself. */
JT_API jt_status jt_gguf_write(jt_gguf_writer *w, const void *data, size_t bytes,
                               jt_err *err);

/* All data of a tensor of an open file, which is the next one described. */
JT_API jt_status jt_gguf_write_tensor(jt_gguf_writer *w, const jt_gguf_tensor *t,
                                      jt_err *err);

/* Check that every tensor was written in full, flush to disk, rename. Frees `w` in
 * every case; on failure nothing of the new file remains. */
JT_API jt_status jt_gguf_writer_finish(jt_gguf_writer *w, jt_err *err);

/* Give up: remove the unfinished file, free `w`. NULL is fine. */
JT_API void jt_gguf_writer_abort(jt_gguf_writer *w);

/* ---- in memory ---------------------------------------------------------------------
 * A writer that writes nothing: keys are set as above, tensors are described together
 * with the place where they lie, and what comes out is an open jt_gguf. This is how
 * models in other formats become files that everything else understands. */
JT_API jt_status jt_gguf_writer_new_memory(jt_gguf_writer **out, jt_err *err);

/* Describe a tensor by name, dtype, shape and either data or pieces; `bytes` is not
 * read. The name is copied; the data and the array of pieces are borrowed and must stay
 * as long as the file is open. */
JT_API jt_status jt_gguf_place_tensor(jt_gguf_writer *w, const jt_gguf_tensor *t,
                                      jt_err *err);

/* Who is told that the data is no longer needed: release(owner); NULL: nobody. */
typedef struct jt_gguf_owner {
    void (*release)(void *owner);
    void *owner;
} jt_gguf_owner;

/* Open what was set and placed; `path` is what jt_gguf_path will say. Frees `w` in
 * every case; after a failure the owner is not told. */
JT_API jt_status jt_gguf_writer_open(jt_gguf **out, jt_gguf_writer *w, const char *path,
                                     jt_gguf_owner owner, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
