/* Writing version 3: keys and tensors are collected, then the head is written in one
 * go before the first data. */
#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_file.h"

#include <stdlib.h>
#include <string.h>

typedef struct written_key {
    char *name;
    uint32_t type;
    unsigned char *raw; /* the encoded value */
    size_t raw_bytes;
} written_key;

typedef struct written_tensor {
    char *name;
    jt_dtype dtype;
    int n_dims;
    uint64_t shape[JT_MAX_DIMS];
    uint64_t bytes;
} written_tensor;

struct jt_gguf_writer {
    jt_output out;
    written_key *keys;
    size_t n_keys, keys_room;
    written_tensor *tensors;
    size_t n_tensors, tensors_room;
    jt_names names; /* of tensors */
    size_t alignment;
    size_t current;      /* the tensor whose data comes next */
    uint64_t done;       /* bytes of it that are written */
    uint64_t data_bytes; /* of all tensors, without padding */
    bool head_written, failed;
};

/* ---- life ----------------------------------------------------------------------- */

jt_status jt_gguf_writer_new(jt_gguf_writer **out, const char *path, jt_err *err)
{
    jt_gguf_writer *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "opening an output file");
    w->alignment = JT_GGUF_ALIGNMENT;
    jt_status status = jt_output_open(&w->out, path, err);
    if (status != JT_OK) {
        free(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

static void free_key(written_key *key)
{
    free(key->name);
    free(key->raw);
}

/* Free all but the output. */
static void free_writer(jt_gguf_writer *w)
{
    for (size_t i = 0; i < w->n_keys; i++)
        free_key(&w->keys[i]);
    for (size_t i = 0; i < w->n_tensors; i++)
        free(w->tensors[i].name);
    free(w->keys);
    free(w->tensors);
    jt_names_free(&w->names);
    free(w);
}

void jt_gguf_writer_abort(jt_gguf_writer *w)
{
    if (!w)
        return;
    jt_output_abort(&w->out);
    free_writer(w);
}

/* ---- keys ----------------------------------------------------------------------- */

static written_key *find_key(const jt_gguf_writer *w, jt_str name)
{
    for (size_t i = 0; i < w->n_keys; i++) {
        written_key *key = &w->keys[i];
        if (strlen(key->name) == name.len &&
            memcmp(key->name, name.data, name.len) == 0)
            return key;
    }
    return NULL;
}

static jt_status check_name(const jt_gguf_writer *w, const char *what, jt_str name,
                            jt_err *err)
{
    if (w->head_written)
        return jt_fail(err, JT_E_ARG, "%s '%.*s' comes after the first data", what,
                       JT_GGUF_SHOW(name));
    if (name.len == 0 || name.len > JT_GGUF_NAME_MOST)
        return jt_fail(err, JT_E_ARG,
                       "the name of a %s has %zu bytes, expected 1 to %d", what,
                       name.len, JT_GGUF_NAME_MOST);
    return JT_OK;
}

static jt_status take_alignment(jt_gguf_writer *w, uint32_t type, const void *value,
                                jt_err *err)
{
    uint32_t alignment = 0;
    if (type == JT_GGUF_U32)
        memcpy(&alignment, value, sizeof alignment);
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        return jt_fail(err, JT_E_ARG,
                       "key 'general.alignment' must be a u32 and a power of two");
    w->alignment = alignment;
    return JT_OK;
}

/* Give a key its encoded value; takes over `raw`, also on failure. */
static jt_status put_key(jt_gguf_writer *w, jt_str name, uint32_t type, void *raw,
                         size_t raw_bytes, jt_err *err)
{
    written_key fresh = {.type = type, .raw = raw, .raw_bytes = raw_bytes};
    jt_status status =
        raw ? check_name(w, "key", name, err) : jt_fail_memory(err, "setting a key");
    if (status == JT_OK && name.len == strlen("general.alignment") &&
        memcmp(name.data, "general.alignment", name.len) == 0)
        status = take_alignment(w, type, raw, err);
    if (status != JT_OK) {
        free(raw);
        return status;
    }
    written_key *old = find_key(w, name);
    if (old) {
        free(old->raw);
        fresh.name = old->name;
        *old = fresh;
        return JT_OK;
    }
    fresh.name = jt_strndup(name.data, name.len);
    if (!fresh.name ||
        !jt_grow((void **)&w->keys, &w->keys_room, w->n_keys + 1, sizeof *w->keys)) {
        free_key(&fresh);
        return jt_fail_memory(err, "setting a key");
    }
    w->keys[w->n_keys++] = fresh;
    return JT_OK;
}

static jt_str c_string(const char *text)
{
    return (jt_str){text, strlen(text)};
}

static jt_status put_copy(jt_gguf_writer *w, jt_str name, uint32_t type,
                          const void *value, size_t bytes, jt_err *err)
{
    void *raw = jt_alloc(bytes, 1);
    if (raw)
        memcpy(raw, value, bytes);
    return put_key(w, name, type, raw, bytes, err);
}

jt_status jt_gguf_set_u32(jt_gguf_writer *w, const char *key, uint32_t value,
                          jt_err *err)
{
    return put_copy(w, c_string(key), JT_GGUF_U32, &value, sizeof value, err);
}

jt_status jt_gguf_set_u64(jt_gguf_writer *w, const char *key, uint64_t value,
                          jt_err *err)
{
    return put_copy(w, c_string(key), JT_GGUF_U64, &value, sizeof value, err);
}

jt_status jt_gguf_set_f32(jt_gguf_writer *w, const char *key, float value, jt_err *err)
{
    return put_copy(w, c_string(key), JT_GGUF_F32, &value, sizeof value, err);
}

jt_status jt_gguf_set_bool(jt_gguf_writer *w, const char *key, bool value, jt_err *err)
{
    unsigned char byte = value;
    return put_copy(w, c_string(key), JT_GGUF_BOOL, &byte, sizeof byte, err);
}

/* Encode at `to`, which has room; returns the place after it. */
static unsigned char *encode(unsigned char *to, const void *value, size_t bytes)
{
    if (bytes)
        memcpy(to, value, bytes);
    return to + bytes;
}

static unsigned char *encode_str(unsigned char *to, jt_str text)
{
    uint64_t len = text.len;
    to = encode(to, &len, sizeof len);
    return encode(to, text.data, text.len);
}

jt_status jt_gguf_set_str(jt_gguf_writer *w, const char *key, const char *value,
                          jt_err *err)
{
    jt_str text = c_string(value);
    unsigned char *raw = jt_alloc(sizeof(uint64_t) + text.len, 1);
    if (raw)
        encode_str(raw, text);
    return put_key(w, c_string(key), JT_GGUF_STRING, raw, sizeof(uint64_t) + text.len,
                   err);
}

/* Room for the encoding of an array whose items take `bytes`, with its head filled in;
 * *items is where they go. NULL: out of memory. */
static unsigned char *new_array(jt_gguf_type item_type, uint64_t count, size_t bytes,
                                size_t *raw_bytes, unsigned char **items)
{
    enum { HEAD = sizeof(uint32_t) + sizeof(uint64_t) };
    uint32_t type = item_type;
    if (bytes > SIZE_MAX - HEAD)
        return NULL;
    unsigned char *raw = jt_alloc(HEAD + bytes, 1);
    if (!raw)
        return NULL;
    *raw_bytes = HEAD + bytes;
    *items = encode(encode(raw, &type, sizeof type), &count, sizeof count);
    return raw;
}

jt_status jt_gguf_set_strs(jt_gguf_writer *w, const char *key, const jt_str *values,
                           uint64_t count, jt_err *err)
{
    size_t bytes = 0, raw_bytes = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (values[i].len > SIZE_MAX - bytes - sizeof(uint64_t))
            return jt_fail_memory(err, "setting a key");
        bytes += sizeof(uint64_t) + values[i].len;
    }
    unsigned char *at;
    unsigned char *raw = new_array(JT_GGUF_STRING, count, bytes, &raw_bytes, &at);
    for (uint64_t i = 0; i < count && raw; i++)
        at = encode_str(at, values[i]);
    return put_key(w, c_string(key), JT_GGUF_ARRAY, raw, raw_bytes, err);
}

/* Arrays of 4-byte values. */
static jt_status set_words(jt_gguf_writer *w, const char *key, jt_gguf_type item_type,
                           const void *values, uint64_t count, jt_err *err)
{
    size_t bytes, raw_bytes = 0;
    unsigned char *at, *raw = NULL;
    if (count <= SIZE_MAX && jt_mul((size_t)count, 4, &bytes))
        raw = new_array(item_type, count, bytes, &raw_bytes, &at);
    if (raw)
        encode(at, values, bytes);
    return put_key(w, c_string(key), JT_GGUF_ARRAY, raw, raw_bytes, err);
}

jt_status jt_gguf_set_i32s(jt_gguf_writer *w, const char *key, const int32_t *values,
                           uint64_t count, jt_err *err)
{
    return set_words(w, key, JT_GGUF_I32, values, count, err);
}

jt_status jt_gguf_set_f32s(jt_gguf_writer *w, const char *key, const float *values,
                           uint64_t count, jt_err *err)
{
    return set_words(w, key, JT_GGUF_F32, values, count, err);
}

jt_status jt_gguf_set_kv(jt_gguf_writer *w, const char *key, const jt_gguf_kv *kv,
                         jt_err *err)
{
    return put_copy(w, key ? c_string(key) : kv->key, kv->type, kv->raw, kv->raw_bytes,
                    err);
}

void jt_gguf_unset(jt_gguf_writer *w, const char *key)
{
    written_key *found = find_key(w, c_string(key));
    if (!found || w->head_written)
        return;
    if (strcmp(key, "general.alignment") == 0)
        w->alignment = JT_GGUF_ALIGNMENT;
    free_key(found);
    w->n_keys--;
    memmove(found, found + 1, (size_t)(w->keys + w->n_keys - found) * sizeof *found);
}

/* ---- tensors -------------------------------------------------------------------- */

static jt_status measure(written_tensor *t, const uint64_t *shape, jt_err *err)
{
    for (int i = 0; i < t->n_dims; i++) {
        if (shape[i] == 0 || shape[i] > PTRDIFF_MAX)
            return jt_fail(err, JT_E_ARG, "tensor '%s': a dimension of %llu", t->name,
                           (unsigned long long)shape[i]);
        t->shape[i] = shape[i];
    }
    size_t bytes = jt_dtype_row_bytes(t->dtype, (size_t)shape[t->n_dims - 1]);
    if (bytes == 0)
        return jt_fail(
            err, JT_E_ARG, "tensor '%s': rows of %llu values are no whole blocks of %s",
            t->name, (unsigned long long)shape[t->n_dims - 1], jt_dtype_name(t->dtype));
    for (int i = 0; i < t->n_dims - 1; i++) {
        if (!jt_mul(bytes, (size_t)shape[i], &bytes) || bytes > PTRDIFF_MAX)
            return jt_fail(err, JT_E_ARG, "tensor '%s': its size overflows", t->name);
    }
    t->bytes = bytes;
    return JT_OK;
}

jt_status jt_gguf_add_tensor(jt_gguf_writer *w, const char *name, jt_dtype dtype,
                             int n_dims, const uint64_t *shape, jt_err *err)
{
    JT_TRY(check_name(w, "tensor", c_string(name), err));
    if (n_dims < 1 || n_dims > JT_MAX_DIMS)
        return jt_fail(err, JT_E_ARG, "tensor '%s': %d dimensions, expected 1 to %d",
                       name, n_dims, JT_MAX_DIMS);
    if ((unsigned)dtype >= JT_DTYPE_COUNT)
        return jt_fail(err, JT_E_ARG, "tensor '%s': unknown type %d", name, (int)dtype);
    if (jt_names_find(&w->names, c_string(name)) != JT_NAMES_NONE)
        return jt_fail(err, JT_E_ARG, "tensor '%s' is described twice", name);
    written_tensor t = {jt_strndup(name, strlen(name)), dtype, n_dims, {0}, 0};
    if (!t.name)
        return jt_fail_memory(err, "describing a tensor");
    jt_status status = measure(&t, shape, err);
    if (status == JT_OK && t.bytes > INT64_MAX / 2 - w->data_bytes)
        status =
            jt_fail(err, JT_E_ARG, "tensor '%s': the file would be too large", name);
    if (status == JT_OK &&
        (!jt_grow((void **)&w->tensors, &w->tensors_room, w->n_tensors + 1, sizeof t) ||
         !jt_names_add(&w->names, c_string(t.name), w->n_tensors)))
        status = jt_fail_memory(err, "describing a tensor");
    if (status != JT_OK) {
        free(t.name);
        return status;
    }
    w->tensors[w->n_tensors++] = t;
    w->data_bytes += t.bytes;
    return JT_OK;
}

/* ---- bytes ---------------------------------------------------------------------- */

/* Everything that follows writes through here: after one failure the file is lost, and
 * finish must not take it for whole. */
static jt_status emit(jt_gguf_writer *w, const void *data, size_t bytes, jt_err *err)
{
    jt_status status = jt_output_write(&w->out, data, bytes, err);
    w->failed |= status != JT_OK;
    return status;
}

static jt_status emit_str(jt_gguf_writer *w, const char *text, jt_err *err)
{
    uint64_t len = strlen(text);
    JT_TRY(emit(w, &len, sizeof len, err));
    return emit(w, text, (size_t)len, err);
}

/* Zeros up to the next multiple of the alignment after `position`. */
static jt_status emit_padding(jt_gguf_writer *w, uint64_t position, jt_err *err)
{
    static const unsigned char zeros[4096];
    size_t left = (size_t)(-position & (w->alignment - 1));
    while (left) {
        size_t now = left < sizeof zeros ? left : sizeof zeros;
        JT_TRY(emit(w, zeros, now, err));
        left -= now;
    }
    return JT_OK;
}

static jt_status emit_keys(jt_gguf_writer *w, uint64_t *position, jt_err *err)
{
    for (size_t i = 0; i < w->n_keys; i++) {
        const written_key *key = &w->keys[i];
        JT_TRY(emit_str(w, key->name, err));
        JT_TRY(emit(w, &key->type, sizeof key->type, err));
        JT_TRY(emit(w, key->raw, key->raw_bytes, err));
        *position +=
            sizeof(uint64_t) + strlen(key->name) + sizeof key->type + key->raw_bytes;
    }
    return JT_OK;
}

static jt_status emit_tensors(jt_gguf_writer *w, uint64_t *position, jt_err *err)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const written_tensor *t = &w->tensors[i];
        uint32_t n_dims = (uint32_t)t->n_dims, id = jt_dtype_gguf_id(t->dtype);
        JT_TRY(emit_str(w, t->name, err));
        JT_TRY(emit(w, &n_dims, sizeof n_dims, err));
        for (int d = t->n_dims - 1; d >= 0; d--)
            JT_TRY(emit(w, &t->shape[d], sizeof t->shape[d], err));
        JT_TRY(emit(w, &id, sizeof id, err));
        JT_TRY(emit(w, &offset, sizeof offset, err));
        *position += sizeof(uint64_t) + strlen(t->name) + sizeof n_dims +
                     n_dims * sizeof *t->shape + sizeof id + sizeof offset;
        offset = (offset + t->bytes + w->alignment - 1) & ~(uint64_t)(w->alignment - 1);
    }
    return JT_OK;
}

static jt_status emit_head(jt_gguf_writer *w, jt_err *err)
{
    const uint32_t version = 3;
    const uint64_t counts[2] = {w->n_tensors, w->n_keys};
    uint64_t position = 4 + sizeof version + sizeof counts;
    if (w->head_written)
        return JT_OK;
    w->head_written = true;
    JT_TRY(emit(w, "GGUF", 4, err));
    JT_TRY(emit(w, &version, sizeof version, err));
    JT_TRY(emit(w, counts, sizeof counts, err));
    JT_TRY(emit_keys(w, &position, err));
    JT_TRY(emit_tensors(w, &position, err));
    return emit_padding(w, position, err);
}

jt_status jt_gguf_write(jt_gguf_writer *w, const void *data, size_t bytes, jt_err *err)
{
    JT_TRY(emit_head(w, err));
    if (bytes == 0)
        return JT_OK;
    if (w->current == w->n_tensors)
        return jt_fail(err, JT_E_ARG, "%zu bytes of data after the last tensor", bytes);
    const written_tensor *t = &w->tensors[w->current];
    if (bytes > t->bytes - w->done)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%s': %zu bytes of data where %llu are "
                       "missing",
                       t->name, bytes, (unsigned long long)(t->bytes - w->done));
    JT_TRY(emit(w, data, bytes, err));
    w->done += bytes;
    if (w->done < t->bytes)
        return JT_OK;
    w->current++;
    w->done = 0;
    return emit_padding(w, t->bytes, err);
}

static jt_status check_complete(const jt_gguf_writer *w, jt_err *err)
{
    if (w->failed)
        return jt_fail(err, JT_E_IO, "cannot write '%s': an earlier write failed",
                       w->out.path);
    if (w->current < w->n_tensors) {
        const written_tensor *t = &w->tensors[w->current];
        return jt_fail(err, JT_E_ARG, "tensor '%s': %llu of %llu bytes written",
                       t->name, (unsigned long long)w->done,
                       (unsigned long long)t->bytes);
    }
    return JT_OK;
}

jt_status jt_gguf_writer_finish(jt_gguf_writer *w, jt_err *err)
{
    jt_status status = emit_head(w, err);
    if (status == JT_OK)
        status = check_complete(w, err);
    if (status == JT_OK)
        status = jt_output_commit(&w->out, err);
    else
        jt_output_abort(&w->out);
    free_writer(w);
    return status;
}
