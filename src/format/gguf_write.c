/* Writing version 3: keys and tensors are collected, then the head is written in one
 * go before the first data. */
#include "format/gguf_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- life ----------------------------------------------------------------------- */

jt_status jt_gguf_writer_new_memory(jt_gguf_writer **out, jt_err *err)
{
    jt_gguf_writer *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "opening an output file");
    w->alignment = JT_GGUF_ALIGNMENT;
    *out = w;
    return JT_OK;
}

jt_status jt_gguf_writer_new(jt_gguf_writer **out, const char *path, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new_memory(&w, err));
    jt_status status = jt_output_open(&w->out, path, err);
    if (status != JT_OK) {
        free(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

void jt_gguf_writer_free(jt_gguf_writer *w)
{
    for (size_t i = 0; i < w->n_keys; i++) {
        free(w->keys[i].name);
        free(w->keys[i].raw);
    }
    for (size_t i = 0; i < w->n_tensors; i++)
        free(w->tensors[i].name);
    free(w->keys);
    free(w->tensors);
    free(w->head);
    jt_names_free(&w->names);
    free(w);
}

void jt_gguf_writer_abort(jt_gguf_writer *w)
{
    if (!w)
        return;
    jt_output_abort(&w->out);
    jt_gguf_writer_free(w);
}

/* ---- tensors -------------------------------------------------------------------- */

jt_status jt_gguf_writer_check_name(const jt_gguf_writer *w, const char *what,
                                    jt_str name, jt_err *err)
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

/* The size of a tensor whose pieces are of different types; its shape is checked. */
static jt_status measure_pieces(jt_gguf_tensor *t, const char *name, jt_err *err)
{
    size_t n = (size_t)t->shape[t->n_dims - 1], rows = 1;
    for (int d = 1; d < t->n_dims - 1; d++)
        rows *= (size_t)t->shape[d];
    t->bytes = 0;
    for (uint64_t i = 0; i < t->shape[0]; i++) {
        size_t bytes, row = jt_dtype_row_bytes(t->types[i], n);
        if (!row || !jt_mul(row, rows, &bytes) || bytes > PTRDIFF_MAX - t->bytes)
            return jt_fail(err, JT_E_ARG, "tensor '%s': part %llu has no size", name,
                           (unsigned long long)i);
        t->bytes += bytes;
    }
    return JT_OK;
}

/* The size of a tensor whose name, type and shape are set. */
static jt_status measure(jt_gguf_tensor *t, const char *name, jt_err *err)
{
    if (t->n_dims < 1 || t->n_dims > JT_MAX_DIMS)
        return jt_fail(err, JT_E_ARG, "tensor '%s': %d dimensions, expected 1 to %d",
                       name, t->n_dims, JT_MAX_DIMS);
    if ((unsigned)t->dtype >= JT_DTYPE_COUNT)
        return jt_fail(err, JT_E_ARG, "tensor '%s': unknown type %d", name,
                       (int)t->dtype);
    for (int i = 0; i < t->n_dims; i++) {
        if (t->shape[i] == 0 || t->shape[i] > PTRDIFF_MAX)
            return jt_fail(err, JT_E_ARG, "tensor '%s': a dimension of %llu", name,
                           (unsigned long long)t->shape[i]);
    }
    uint64_t row = t->shape[t->n_dims - 1];
    size_t bytes = jt_dtype_row_bytes(t->dtype, (size_t)row);
    if (bytes == 0)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%s': rows of %llu values are no whole blocks of %s",
                       name, (unsigned long long)row, jt_dtype_name(t->dtype));
    for (int i = 0; i < t->n_dims - 1; i++) {
        if (!jt_mul(bytes, (size_t)t->shape[i], &bytes) || bytes > PTRDIFF_MAX)
            return jt_fail(err, JT_E_ARG, "tensor '%s': its size overflows", name);
    }
    t->bytes = bytes;
    return t->types ? measure_pieces(t, name, err) : JT_OK;
}

/* Take over a tensor whose size is known and whose name is the writer's. */
static jt_status add(jt_gguf_writer *w, const jt_written_tensor *t, jt_err *err)
{
    if (t->pub.bytes > INT64_MAX / 2 - w->data_bytes)
        return jt_fail(err, JT_E_ARG, "tensor '%s': the file would be too large",
                       t->name);
    if (!jt_grow((void **)&w->tensors, &w->tensors_room, w->n_tensors + 1, sizeof *t) ||
        !jt_names_add(&w->names, t->pub.name, w->n_tensors))
        return jt_fail_memory(err, "describing a tensor");
    w->tensors[w->n_tensors++] = *t;
    w->data_bytes += t->pub.bytes;
    return JT_OK;
}

/* Describe a tensor by name, type, shape and, in memory, its place. */
static jt_status describe(jt_gguf_writer *w, const jt_gguf_tensor *wanted, jt_err *err)
{
    jt_written_tensor t = {.pub = *wanted};
    JT_TRY(jt_gguf_writer_check_name(w, "tensor", t.pub.name, err));
    if (jt_names_find(&w->names, t.pub.name) != JT_NAMES_NONE)
        return jt_fail(err, JT_E_ARG, "tensor '%.*s' is described twice",
                       JT_GGUF_SHOW(t.pub.name));
    t.name = jt_strndup(t.pub.name.data, t.pub.name.len);
    if (!t.name)
        return jt_fail_memory(err, "describing a tensor");
    t.pub.name.data = t.name;
    jt_status status = measure(&t.pub, t.name, err);
    if (status == JT_OK)
        status = add(w, &t, err);
    if (status != JT_OK)
        free(t.name);
    return status;
}

jt_status jt_gguf_add_tensor(jt_gguf_writer *w, const char *name, jt_dtype dtype,
                             int n_dims, const uint64_t *shape, jt_err *err)
{
    jt_gguf_tensor t = {.name = {name, strlen(name)}, .dtype = dtype, .n_dims = n_dims};
    for (int i = 0; i < n_dims && i < JT_MAX_DIMS; i++)
        t.shape[i] = shape[i];
    return describe(w, &t, err);
}

jt_status jt_gguf_place_tensor(jt_gguf_writer *w, const jt_gguf_tensor *t, jt_err *err)
{
    if (w->out.stream || !t->data == !t->pieces)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%.*s': expected a file in memory and one place",
                       JT_GGUF_SHOW(t->name));
    return describe(w, t, err);
}

/* ---- bytes ---------------------------------------------------------------------- */

/* The head of a file in memory. */
static jt_status gather(jt_gguf_writer *w, const void *data, size_t bytes, jt_err *err)
{
    if (bytes > SIZE_MAX - w->head_bytes ||
        !jt_grow((void **)&w->head, &w->head_room, w->head_bytes + bytes, 1))
        return jt_fail_memory(err, "encoding keys");
    if (bytes)
        memcpy(w->head + w->head_bytes, data, bytes);
    w->head_bytes += bytes;
    return JT_OK;
}

/* Everything that follows writes through here: after one failure the file is lost, and
 * finish must not take it for whole. */
static jt_status emit(jt_gguf_writer *w, const void *data, size_t bytes, jt_err *err)
{
    jt_status status = w->out.stream ? jt_output_write(&w->out, data, bytes, err)
                                     : gather(w, data, bytes, err);
    w->failed |= status != JT_OK;
    if (w->tap.seen)
        w->tap.seen(w->tap.user, data, bytes);
    return status;
}

void jt_gguf_writer_tap(jt_gguf_writer *w, jt_gguf_tap tap)
{
    w->tap = tap;
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
        const jt_written_key *key = &w->keys[i];
        JT_TRY(emit_str(w, key->name, err));
        JT_TRY(emit(w, &key->type, sizeof key->type, err));
        JT_TRY(emit(w, key->raw, key->raw_bytes, err));
        *position +=
            sizeof(uint64_t) + strlen(key->name) + sizeof key->type + key->raw_bytes;
    }
    return JT_OK;
}

static jt_status emit_tensors(jt_gguf_writer *w, size_t count, uint64_t *position,
                              jt_err *err)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const jt_gguf_tensor *t = &w->tensors[i].pub;
        uint32_t n_dims = (uint32_t)t->n_dims, id = jt_dtype_gguf_id(t->dtype);
        JT_TRY(emit_str(w, w->tensors[i].name, err));
        JT_TRY(emit(w, &n_dims, sizeof n_dims, err));
        for (int d = t->n_dims - 1; d >= 0; d--)
            JT_TRY(emit(w, &t->shape[d], sizeof t->shape[d], err));
        JT_TRY(emit(w, &id, sizeof id, err));
        JT_TRY(emit(w, &offset, sizeof offset, err));
        *position += sizeof(uint64_t) + t->name.len + sizeof n_dims +
                     n_dims * sizeof *t->shape + sizeof id + sizeof offset;
        offset = (offset + t->bytes + w->alignment - 1) & ~(uint64_t)(w->alignment - 1);
    }
    return JT_OK;
}

jt_status jt_gguf_writer_head(jt_gguf_writer *w, size_t n_tensors, jt_err *err)
{
    const uint32_t version = 3;
    const uint64_t counts[2] = {n_tensors, w->n_keys};
    uint64_t position = 4 + sizeof version + sizeof counts;
    if (w->head_written)
        return JT_OK;
    w->head_written = true;
    JT_TRY(emit(w, "GGUF", 4, err));
    JT_TRY(emit(w, &version, sizeof version, err));
    JT_TRY(emit(w, counts, sizeof counts, err));
    JT_TRY(emit_keys(w, &position, err));
    JT_TRY(emit_tensors(w, n_tensors, &position, err));
    return emit_padding(w, position, err);
}

jt_status jt_gguf_write(jt_gguf_writer *w, const void *data, size_t bytes, jt_err *err)
{
    if (!w->out.stream)
        return jt_fail(err, JT_E_ARG, "data for a file in memory");
    JT_TRY(jt_gguf_writer_head(w, w->n_tensors, err));
    if (bytes == 0)
        return JT_OK;
    if (w->current == w->n_tensors)
        return jt_fail(err, JT_E_ARG, "%zu bytes of data after the last tensor", bytes);
    const jt_gguf_tensor *t = &w->tensors[w->current].pub;
    if (bytes > t->bytes - w->done)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%s': %zu bytes of data where %llu are "
                       "missing",
                       t->name.data, bytes, (unsigned long long)(t->bytes - w->done));
    JT_TRY(emit(w, data, bytes, err));
    w->done += bytes;
    if (w->done < t->bytes)
        return JT_OK;
    w->current++;
    w->done = 0;
    return emit_padding(w, t->bytes, err);
}

jt_status jt_gguf_write_tensor(jt_gguf_writer *w, const jt_gguf_tensor *t, jt_err *err)
{
    if (t->data)
        return jt_gguf_write(w, t->data, t->bytes, err);
    if (t->types)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "tensor '%.*s' has experts of different types, which need the "
                       "layout 'experts'",
                       JT_GGUF_SHOW(t->name));
    for (uint64_t i = 0; i < t->shape[0]; i++)
        JT_TRY(jt_gguf_write(w, t->pieces[i], t->bytes / (size_t)t->shape[0], err));
    return JT_OK;
}

static jt_status check_complete(const jt_gguf_writer *w, jt_err *err)
{
    if (w->failed)
        return jt_fail(err, JT_E_IO, "cannot write '%s': an earlier write failed",
                       w->out.path);
    if (w->current < w->n_tensors) {
        const jt_gguf_tensor *t = &w->tensors[w->current].pub;
        return jt_fail(err, JT_E_ARG, "tensor '%s': %llu of %llu bytes written",
                       t->name.data, (unsigned long long)w->done,
                       (unsigned long long)t->bytes);
    }
    return JT_OK;
}

jt_status jt_gguf_writer_finish(jt_gguf_writer *w, jt_err *err)
{
    jt_status status = JT_OK;
    if (!w->out.stream)
        status = jt_fail(err, JT_E_ARG, "a file in memory has no end to write");
    if (status == JT_OK)
        status = jt_gguf_writer_head(w, w->n_tensors, err);
    if (status == JT_OK)
        status = check_complete(w, err);
    if (status == JT_OK)
        status = jt_output_commit(&w->out, err);
    else
        jt_output_abort(&w->out);
    jt_gguf_writer_free(w);
    return status;
}
