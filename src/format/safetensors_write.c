/* Writing safetensors: descriptions are collected and cut into shards; each shard is a
 * header and its data, and the index comes last. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors_file.h"

typedef struct written {
    char *name;
    jt_safetensor_type type;
    int n_dims;
    uint64_t shape[JT_SAFETENSOR_DIMS];
    uint64_t bytes;
    size_t shard;
} written;

typedef struct text {
    char *data;
    size_t len, room;
    bool failed; /* out of memory */
} text;

struct jt_safetensors_writer {
    char *folder, *name; /* name NULL: the usual one */
    text notes;          /* ,"key":"value" */
    uint64_t shard_bytes;
    written *list;
    size_t count, room;
    jt_names names;
    size_t n_shards;
    uint64_t in_shard; /* bytes of the last shard so far */
    jt_output out;     /* the shard that is open; {0}: none */
    size_t current;    /* the tensor whose data comes next */
    uint64_t done;     /* bytes of it that are written */
    uint64_t total;
    bool started, failed;
};

/* ---- life ----------------------------------------------------------------------- */

jt_status jt_safetensors_writer_new(jt_safetensors_writer **out, const char *folder,
                                    uint64_t shard_bytes, jt_err *err)
{
    jt_safetensors_writer *w = jt_calloc(1, sizeof *w);
    char *copy = jt_strndup(folder, strlen(folder));
    if (!w || !copy) {
        free(w);
        free(copy);
        return jt_fail_memory(err, "opening an output folder");
    }
    w->folder = copy;
    w->shard_bytes = shard_bytes;
    *out = w;
    return JT_OK;
}

void jt_safetensors_writer_abort(jt_safetensors_writer *w)
{
    if (!w)
        return;
    jt_output_abort(&w->out);
    for (size_t i = 0; i < w->count; i++)
        free(w->list[i].name);
    free(w->list);
    free(w->folder);
    free(w->name);
    free(w->notes.data);
    jt_names_free(&w->names);
    free(w);
}

jt_status jt_safetensors_set_name(jt_safetensors_writer *w, const char *name,
                                  jt_err *err)
{
    if (strlen(name) >= JT_SHARD_NAME)
        return jt_fail(err, JT_E_ARG, "'%s' is too long a name", name);
    free(w->name);
    w->name = jt_strndup(name, strlen(name));
    return w->name ? JT_OK : jt_fail_memory(err, "opening an output file");
}

/* ---- descriptions --------------------------------------------------------------- */

/* Tensors fill one shard after the other; a tensor is never cut. */
static void take_shard(jt_safetensors_writer *w, written *t)
{
    if (w->n_shards == 0 ||
        (w->in_shard > 0 &&
         (w->in_shard > w->shard_bytes || t->bytes > w->shard_bytes - w->in_shard))) {
        w->n_shards++;
        w->in_shard = 0;
    }
    t->shard = w->n_shards - 1;
    w->in_shard += t->bytes;
    w->total += t->bytes;
}

jt_status jt_safetensors_add(jt_safetensors_writer *w, const char *name,
                             jt_safetensor_type type, int n_dims, const uint64_t *shape,
                             jt_err *err)
{
    written t = {.type = type, .n_dims = n_dims};
    size_t bytes = jt_safetensor_type_bytes(type);
    if (w->started)
        return jt_fail(err, JT_E_ARG, "tensor '%s' comes after the first data", name);
    if (!bytes || n_dims < 0 || n_dims > JT_SAFETENSOR_DIMS)
        return jt_fail(err, JT_E_ARG, "tensor '%s': unknown type or %d dimensions",
                       name, n_dims);
    if (jt_names_find(&w->names, (jt_str){name, strlen(name)}) != JT_NAMES_NONE)
        return jt_fail(err, JT_E_ARG, "tensor '%s' is described twice", name);
    for (int i = 0; i < n_dims; i++) {
        t.shape[i] = shape[i];
        if (shape[i] > PTRDIFF_MAX || !jt_mul(bytes, (size_t)shape[i], &bytes) ||
            bytes > PTRDIFF_MAX)
            return jt_fail(err, JT_E_ARG, "tensor '%s': its size overflows", name);
    }
    t.bytes = bytes;
    t.name = jt_strndup(name, strlen(name));
    if (!t.name || !jt_grow((void **)&w->list, &w->room, w->count + 1, sizeof t) ||
        !jt_names_add(&w->names, (jt_str){t.name, strlen(t.name)}, w->count)) {
        free(t.name);
        return jt_fail_memory(err, "describing a tensor");
    }
    take_shard(w, &t);
    w->list[w->count++] = t;
    return JT_OK;
}

/* ---- text ----------------------------------------------------------------------- */

static void put_bytes(text *t, const char *bytes, size_t len)
{
    if (len == 0)
        return;
    if (t->failed || !jt_grow((void **)&t->data, &t->room, t->len + len, 1)) {
        t->failed = true;
        return;
    }
    memcpy(t->data + t->len, bytes, len);
    t->len += len;
}

static void put(text *t, const char *fmt, ...) JT_PRINTF(2, 3);

static void put(text *t, const char *fmt, ...)
{
    char line[128];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    put_bytes(t, line, (size_t)len);
}

/* A JSON string; names are UTF-8. */
static void put_string(text *t, const char *s)
{
    put_bytes(t, "\"", 1);
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20)
            put(t, "\\u%04x", (unsigned char)*s);
        else if (*s == '"' || *s == '\\')
            put(t, "\\%c", *s);
        else
            put_bytes(t, s, 1);
    }
    put_bytes(t, "\"", 1);
}

static void put_tensor(text *head, const written *t, uint64_t start)
{
    put_string(head, t->name);
    put(head, ":{\"dtype\":\"%s\",\"shape\":[", jt_safetensor_type_name(t->type));
    for (int d = 0; d < t->n_dims; d++)
        put(head, "%s%" PRIu64, d ? "," : "", t->shape[d]);
    put(head, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", start, start + t->bytes);
}

jt_status jt_safetensors_set_metadata(jt_safetensors_writer *w, const char *key,
                                      const char *value, jt_err *err)
{
    put_bytes(&w->notes, ",", 1);
    put_string(&w->notes, key);
    put_bytes(&w->notes, ":", 1);
    put_string(&w->notes, value);
    return w->notes.failed ? jt_fail_memory(err, "describing a file") : JT_OK;
}

/* ---- shards --------------------------------------------------------------------- */

static void shard_name(const jt_safetensors_writer *w, size_t shard,
                       char name[JT_SHARD_NAME])
{
    if (w->n_shards <= 1)
        snprintf(name, JT_SHARD_NAME, "%s", w->name ? w->name : JT_SHARD_WHOLE);
    else
        snprintf(name, JT_SHARD_NAME, JT_SHARD_FORMAT, shard + 1, w->n_shards);
}

/* A file of the folder, to be written. */
static jt_status open_file(jt_safetensors_writer *w, jt_output *out, const char *name,
                           jt_err *err)
{
    char *path = jt_safetensors_path(w->folder, name, strlen(name));
    if (!path)
        return jt_fail_memory(err, "opening an output file");
    jt_status status = jt_output_open(out, path, err);
    free(path);
    return status;
}

/* The header is padded with blanks so that the data begins at a multiple of 8. */
static jt_status write_header(jt_safetensors_writer *w, size_t shard, jt_err *err)
{
    text head = {0};
    uint64_t start = 0;
    put(&head, "{\"__metadata__\":{\"format\":\"pt\"");
    put_bytes(&head, w->notes.data, w->notes.len);
    put(&head, "}");
    for (size_t i = w->current; i < w->count && w->list[i].shard == shard; i++) {
        put_bytes(&head, ",", 1);
        put_tensor(&head, &w->list[i], start);
        start += w->list[i].bytes;
    }
    put_bytes(&head, "}", 1);
    while (head.len % 8 && !head.failed)
        put_bytes(&head, " ", 1);
    uint64_t length = head.len;
    jt_status status = head.failed ? jt_fail_memory(err, "describing tensors")
                                   : jt_output_write(&w->out, &length, 8, err);
    if (status == JT_OK)
        status = jt_output_write(&w->out, head.data, head.len, err);
    free(head.data);
    return status;
}

static jt_status open_shard(jt_safetensors_writer *w, size_t shard, jt_err *err)
{
    char name[JT_SHARD_NAME];
    shard_name(w, shard, name);
    JT_TRY(open_file(w, &w->out, name, err));
    return write_header(w, shard, err);
}

/* Everything up to the next tensor that has data: files that are full are closed, the
 * one that it belongs to is opened. */
static jt_status advance(jt_safetensors_writer *w, jt_err *err)
{
    while (w->current < w->count) {
        if (!w->out.stream)
            JT_TRY(open_shard(w, w->list[w->current].shard, err));
        if (w->done < w->list[w->current].bytes)
            return JT_OK;
        w->done = 0;
        w->current++;
        if (w->current == w->count ||
            w->list[w->current].shard != w->list[w->current - 1].shard)
            JT_TRY(jt_output_commit(&w->out, err));
    }
    return JT_OK;
}

static jt_status start(jt_safetensors_writer *w, jt_err *err)
{
    if (w->started)
        return JT_OK;
    w->started = true;
    return advance(w, err);
}

static jt_status write_some(jt_safetensors_writer *w, const void *data, size_t bytes,
                            jt_err *err)
{
    JT_TRY(start(w, err));
    if (bytes == 0)
        return JT_OK;
    if (w->current == w->count)
        return jt_fail(err, JT_E_ARG, "%zu bytes of data after the last tensor", bytes);
    const written *t = &w->list[w->current];
    if (bytes > t->bytes - w->done)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%s': %zu bytes of data where %" PRIu64 " are missing",
                       t->name, bytes, t->bytes - w->done);
    JT_TRY(jt_output_write(&w->out, data, bytes, err));
    w->done += bytes;
    return advance(w, err);
}

jt_status jt_safetensors_write(jt_safetensors_writer *w, const void *data, size_t bytes,
                               jt_err *err)
{
    jt_status status = write_some(w, data, bytes, err);
    w->failed |= status != JT_OK;
    return status;
}

/* ---- the end -------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const written *)a)->name, ((const written *)b)->name);
}

static jt_status write_index(jt_safetensors_writer *w, jt_err *err)
{
    text index = {0};
    jt_output out;
    qsort(w->list, w->count, sizeof *w->list, by_name);
    put(&index, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n",
        w->total);
    put(&index, "  \"weight_map\": {\n");
    for (size_t i = 0; i < w->count; i++) {
        char name[JT_SHARD_NAME];
        shard_name(w, w->list[i].shard, name);
        put(&index, "    ");
        put_string(&index, w->list[i].name);
        put(&index, ": \"%s\"%s\n", name, i + 1 < w->count ? "," : "");
    }
    put(&index, "  }\n}\n");
    jt_status status = index.failed ? jt_fail_memory(err, "writing an index")
                                    : open_file(w, &out, JT_SHARD_INDEX, err);
    if (status == JT_OK) {
        status = jt_output_write(&out, index.data, index.len, err);
        if (status == JT_OK)
            status = jt_output_commit(&out, err);
        else
            jt_output_abort(&out);
    }
    free(index.data);
    return status;
}

static jt_status finish(jt_safetensors_writer *w, jt_err *err)
{
    JT_TRY(start(w, err));
    if (w->failed)
        return jt_fail(err, JT_E_IO, "cannot write to '%s': an earlier write failed",
                       w->folder);
    if (!w->count)
        return jt_fail(err, JT_E_ARG, "'%s': no tensors to write", w->folder);
    if (w->current < w->count)
        return jt_fail(err, JT_E_ARG,
                       "tensor '%s': %" PRIu64 " of %" PRIu64 " bytes written",
                       w->list[w->current].name, w->done, w->list[w->current].bytes);
    return w->n_shards > 1 ? write_index(w, err) : JT_OK;
}

jt_status jt_safetensors_writer_finish(jt_safetensors_writer *w, jt_err *err)
{
    jt_status status = finish(w, err);
    jt_safetensors_writer_abort(w);
    return status;
}
