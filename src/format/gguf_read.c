/* Opening: one file, or all parts of a split one, joined to a single list of tensors.
 */
#include "format/gguf_file.h"

#include <stdlib.h>
#include <string.h>

/* ---- split files ---------------------------------------------------------------- */

/* "-00001-of-00002.gguf" at the end of a path. */
enum { SPLIT_NAME_LEN = 20, SPLIT_DIGITS = 5, SPLIT_MOST = 65535 };

typedef struct split {
    int64_t part; /* 0-based */
    int64_t parts;
    int64_t tensors; /* of all parts; -1: not said */
} split;

static bool take_number(const char **text, int64_t *value)
{
    *value = 0;
    for (int i = 0; i < SPLIT_DIGITS; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return false;
        *value = *value * 10 + (**text - '0');
    }
    return true;
}

static bool take_text(const char **text, const char *wanted)
{
    size_t len = strlen(wanted);
    if (strncmp(*text, wanted, len) != 0)
        return false;
    *text += len;
    return true;
}

/* Make `path`, which has a split name, that of part `part` (1-based). */
static void put_part(char *path, size_t part)
{
    char *digit = path + strlen(path) - SPLIT_NAME_LEN + 1 + SPLIT_DIGITS;
    for (int i = 0; i < SPLIT_DIGITS; i++, part /= 10)
        *--digit = (char)('0' + part % 10);
}

/* What the name of a file says; {0, 1} for the name of a whole file. */
static split split_from_path(const char *path)
{
    split s = {0, 1, -1}, named = s;
    size_t len = strlen(path);
    if (len < SPLIT_NAME_LEN)
        return s;
    const char *at = path + len - SPLIT_NAME_LEN;
    if (take_text(&at, "-") && take_number(&at, &named.part) &&
        take_text(&at, "-of-") && take_number(&at, &named.parts) &&
        take_text(&at, ".gguf") && named.part >= 1 && named.part <= named.parts) {
        named.part--;
        s = named;
    }
    return s;
}

/* A key that, when present, must be an integer from `least` to `most`. */
static jt_status split_key(const jt_gguf_keys *keys, const char *name, int64_t least,
                           int64_t most, int64_t *value, jt_err *err)
{
    const jt_gguf_kv *kv = jt_gguf_keys_find(keys, name);
    if (kv && (!jt_gguf_integer(kv, value) || *value < least || *value > most))
        return jt_fail(err, JT_E_FORMAT, "key '%s' is not an integer from %lld to %lld",
                       name, (long long)least, (long long)most);
    return JT_OK;
}

/* What the keys of a file say. */
static jt_status split_from_keys(const jt_gguf_keys *keys, split *s, jt_err *err)
{
    *s = (split){0, 1, -1};
    JT_TRY(split_key(keys, "split.count", 0, SPLIT_MOST, &s->parts, err));
    if (s->parts == 0) /* written by some tools for a whole file */
        s->parts = 1;
    JT_TRY(split_key(keys, "split.no", 0, s->parts - 1, &s->part, err));
    return split_key(keys, "split.tensors.count", 0, INT64_MAX, &s->tensors, err);
}

/* ---- parts ---------------------------------------------------------------------- */

/* Say in an error which file it is about. */
static jt_status name_file(const char *path, jt_status status, jt_err *err)
{
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", path);
}

static const char *copy_path(jt_arena *arena, const char *path)
{
    size_t bytes = strlen(path) + 1;
    char *copy = jt_arena_alloc(arena, bytes, 1);
    return copy ? memcpy(copy, path, bytes) : NULL;
}

static jt_status open_part(jt_gguf *file, size_t i, const char *path, split *found,
                           jt_err *err)
{
    jt_gguf_part *part = &file->parts[i];
    JT_TRY(jt_map_open(&part->map, path, err));
    part->path = copy_path(&file->arena, path);
    if (!part->path)
        return jt_fail_memory(err, "opening a GGUF file");
    part->data = part->map.data;
    part->bytes = part->map.bytes;
    file->bytes += part->bytes;
    jt_status status = jt_gguf_parse(part, &file->arena, err);
    if (status == JT_OK)
        status = split_from_keys(&part->keys, found, err);
    return name_file(path, status, err);
}

/* Room for `count` parts; those that are there already are kept. */
static jt_status reserve_parts(jt_gguf *file, size_t count, jt_err *err)
{
    jt_gguf_part *parts = jt_calloc(count, sizeof *parts);
    if (!parts)
        return jt_fail_memory(err, "opening a GGUF file");
    memcpy(parts, file->parts, file->n_parts * sizeof *parts);
    free(file->parts);
    file->parts = parts;
    file->n_parts = count;
    return JT_OK;
}

static jt_status check_first(split named, split first, jt_err *err)
{
    if (first.parts != named.parts || first.part != named.part)
        return jt_fail(
            err, JT_E_FORMAT,
            "its keys say part %lld of %lld, its name part %lld of %lld; was "
            "it renamed?",
            (long long)first.part + 1, (long long)first.parts,
            (long long)named.part + 1, (long long)named.parts);
    if (first.part != 0)
        return jt_fail(err, JT_E_FORMAT, "part %lld of a split file; open part 1",
                       (long long)first.part + 1);
    return JT_OK;
}

static jt_status check_other(split found, split first, size_t i, jt_err *err)
{
    if ((size_t)found.part != i || found.parts != first.parts ||
        found.tensors != first.tensors)
        return jt_fail(err, JT_E_FORMAT, "its split.* keys do not agree with part 1");
    return JT_OK;
}

/* Open parts 2 and on of the split file whose first part is open. */
static jt_status open_others(jt_gguf *file, split first, jt_err *err)
{
    char *path = jt_strndup(file->path, strlen(file->path));
    if (!path)
        return jt_fail_memory(err, "opening a GGUF file");
    jt_status status = reserve_parts(file, (size_t)first.parts, err);
    for (size_t i = 1; i < file->n_parts && status == JT_OK; i++) {
        split found;
        put_part(path, i + 1);
        status = open_part(file, i, path, &found, err);
        if (status == JT_OK)
            status = name_file(path, check_other(found, first, i, err), err);
    }
    free(path);
    return status;
}

/* ---- joining -------------------------------------------------------------------- */

static bool is_split_key(jt_str key)
{
    static const char *const known[] = {"split.no", "split.count",
                                        "split.tensors.count"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (key.len == strlen(known[i]) && memcmp(key.data, known[i], key.len) == 0)
            return true;
    }
    return false;
}

/* The joined file is whole: keys that call it a part would be wrong in a copy. */
static jt_status drop_split_keys(jt_gguf_keys *keys, jt_err *err)
{
    size_t count = keys->count;
    keys->count = 0;
    jt_names_free(&keys->names);
    for (size_t i = 0; i < count; i++) {
        jt_str key = keys->list[i].pub.key;
        if (is_split_key(key))
            continue;
        if (!jt_names_add(&keys->names, key, keys->count))
            return jt_fail_memory(err, "joining a split GGUF file");
        keys->list[keys->count++] = keys->list[i];
    }
    return JT_OK;
}

/* One list of tensors after the other. */
static jt_status join_tensors(jt_gguf *file, jt_err *err)
{
    for (size_t p = 0; p < file->n_parts; p++)
        file->n_tensors += file->parts[p].n_tensors;
    file->tensors =
        jt_arena_alloc(&file->arena, file->n_tensors, sizeof *file->tensors);
    if (!file->tensors)
        return jt_fail_memory(err, "joining a split GGUF file");
    jt_gguf_tensor *to = file->tensors;
    for (size_t p = 0; p < file->n_parts; p++) {
        const jt_gguf_part *part = &file->parts[p];
        memcpy(to, part->tensors, part->n_tensors * sizeof *to);
        to += part->n_tensors;
    }
    return JT_OK;
}

static jt_status join_parts(jt_gguf *file, split first, jt_err *err)
{
    JT_TRY(join_tensors(file, err));
    if (first.tensors >= 0 && (uint64_t)first.tensors != file->n_tensors)
        return jt_fail(err, JT_E_FORMAT,
                       "key split.tensors.count says %lld, the %zu parts hold %zu "
                       "tensors",
                       (long long)first.tensors, file->n_parts, file->n_tensors);
    return drop_split_keys(&file->parts[0].keys, err);
}

jt_status jt_gguf_index(jt_gguf *file, jt_err *err)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        jt_str name = file->tensors[i].name;
        if (jt_names_find(&file->names, name) != JT_NAMES_NONE)
            return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' appears twice",
                           JT_GGUF_SHOW(name));
        if (!jt_names_add(&file->names, name, i))
            return jt_fail_memory(err, "reading tensor descriptions");
    }
    return JT_OK;
}

/* ---- opening -------------------------------------------------------------------- */

jt_status jt_gguf_new(jt_gguf **out, const char *path, jt_err *err)
{
    jt_gguf *file = jt_calloc(1, sizeof *file);
    if (!file)
        return jt_fail_memory(err, "opening a GGUF file");
    file->path = jt_strndup(path, strlen(path));
    file->parts = jt_calloc(1, sizeof *file->parts);
    file->n_parts = 1;
    if (!file->path || !file->parts) {
        file->n_parts = 0;
        jt_gguf_close(file);
        return jt_fail_memory(err, "opening a GGUF file");
    }
    *out = file;
    return JT_OK;
}

/* All parts are open: one list of tensors, one list of keys. */
static jt_status join(jt_gguf *file, split first, jt_err *err)
{
    if (file->n_parts > 1) {
        JT_TRY(join_parts(file, first, err));
    } else {
        file->tensors = file->parts[0].tensors;
        file->n_tensors = file->parts[0].n_tensors;
    }
    return jt_gguf_index(file, err);
}

static jt_status open_path(jt_gguf *file, jt_err *err)
{
    const char *path = file->path;
    split first = {0};
    JT_TRY(open_part(file, 0, path, &first, err));
    JT_TRY(name_file(path, check_first(split_from_path(path), first, err), err));
    if (first.parts > 1)
        JT_TRY(open_others(file, first, err));
    return name_file(path, join(file, first, err), err);
}

static jt_status open_bytes(jt_gguf *file, const void *data, size_t bytes, jt_err *err)
{
    jt_gguf_part *part = &file->parts[0];
    split first;
    part->data = data;
    part->bytes = bytes;
    file->bytes = bytes;
    JT_TRY(jt_gguf_parse(part, &file->arena, err));
    JT_TRY(split_from_keys(&part->keys, &first, err));
    if (first.parts > 1)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "a part of a split file cannot be opened from memory");
    return join(file, first, err);
}

/* Hand `file` over, or close it when opening failed. */
static jt_status deliver(jt_gguf **out, jt_gguf *file, jt_status status)
{
    if (status == JT_OK)
        *out = file;
    else
        jt_gguf_close(file);
    return status;
}

jt_status jt_gguf_open(jt_gguf **out, const char *path, jt_err *err)
{
    jt_gguf *file = NULL;
    JT_TRY(jt_gguf_new(&file, path, err));
    return deliver(out, file, open_path(file, err));
}

jt_status jt_gguf_open_memory(jt_gguf **out, const void *data, size_t bytes,
                              jt_err *err)
{
    jt_gguf *file = NULL;
    JT_TRY(jt_gguf_new(&file, "(memory)", err));
    jt_status status = open_bytes(file, data, bytes, err);
    return deliver(out, file, name_file(file->path, status, err));
}

void jt_gguf_close(jt_gguf *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_parts; i++) {
        jt_map_close(&file->parts[i].map);
        jt_names_free(&file->parts[i].keys.names);
    }
    free(file->parts);
    jt_names_free(&file->names);
    jt_arena_free(&file->arena);
    free(file->head);
    if (file->owner.release)
        file->owner.release(file->owner.owner);
    free(file->path);
    free(file);
}

/* ---- where it lies --------------------------------------------------------------- */

const jt_gguf_part *jt_gguf_locate(const jt_gguf *file, const void *data, size_t bytes,
                                   uint64_t *offset)
{
    for (size_t i = 0; i < file->n_parts; i++) {
        const jt_gguf_part *part = &file->parts[i];
        uintptr_t at = (uintptr_t)data, start = (uintptr_t)part->map.data;
        if (!part->map.data || at < start || at - start > part->map.bytes ||
            bytes > part->map.bytes - (at - start))
            continue;
        *offset = at - start;
        return part;
    }
    return NULL;
}

void jt_gguf_forget(const jt_gguf *file)
{
    for (size_t i = 0; i < file->n_parts; i++)
        jt_map_forget(file->parts[i].map.data, file->parts[i].map.bytes);
}

/* ---- what is inside ------------------------------------------------------------- */

const char *jt_gguf_path(const jt_gguf *file)
{
    return file->path;
}

uint64_t jt_gguf_file_bytes(const jt_gguf *file)
{
    return file->bytes;
}

size_t jt_gguf_tensor_count(const jt_gguf *file)
{
    return file->n_tensors;
}

const jt_gguf_tensor *jt_gguf_tensor_at(const jt_gguf *file, size_t i)
{
    return i < file->n_tensors ? &file->tensors[i] : NULL;
}

const jt_gguf_tensor *jt_gguf_find(const jt_gguf *file, const char *name)
{
    size_t i = jt_names_find(&file->names, (jt_str){name, strlen(name)});
    return i == JT_NAMES_NONE ? NULL : &file->tensors[i];
}

static uint64_t rows_of_piece(const jt_gguf_tensor *t)
{
    uint64_t rows = 1;
    for (int d = 1; d + 1 < t->n_dims; d++)
        rows *= t->shape[d];
    return rows;
}

static jt_dtype type_of_row(const jt_gguf_tensor *t, uint64_t i)
{
    return t->types ? t->types[i / rows_of_piece(t)] : t->dtype;
}

const void *jt_gguf_row(const jt_gguf_tensor *t, uint64_t i)
{
    size_t n = (size_t)t->shape[t->n_dims - 1];
    if (t->data)
        return (const char *)t->data + i * jt_dtype_row_bytes(t->dtype, n);
    uint64_t rows = rows_of_piece(t);
    return (const char *)t->pieces[i / rows] +
           i % rows * jt_dtype_row_bytes(type_of_row(t, i), n);
}

void jt_gguf_read_row(const jt_gguf_tensor *t, uint64_t i, float *values)
{
    jt_dequantize(type_of_row(t, i), values, jt_gguf_row(t, i),
                  (size_t)t->shape[t->n_dims - 1]);
}
