/* Reading one safetensors file: a length, a JSON object that describes the tensors, and
 * their bytes without gaps. Format: huggingface.co/docs/safetensors. */
#include "format/safetensors_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/gguf_file.h"
#include "format/json.h"

/* ---- types ---------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t bytes;
} types[JT_ST_COUNT] = {
#define X(name, bytes) {#name, bytes},
    JT_SAFETENSOR_TYPES(X)
#undef X
};

const char *jt_safetensor_type_name(jt_safetensor_type type)
{
    return (unsigned)type < JT_ST_COUNT ? types[type].name : "?";
}

size_t jt_safetensor_type_bytes(jt_safetensor_type type)
{
    return (unsigned)type < JT_ST_COUNT ? types[type].bytes : 0;
}

/* ---- the header ----------------------------------------------------------------- */

enum { HEADER_MOST = 100000000 }; /* the limit of the reference implementation */

static void read_type(jt_json *j, jt_safetensor *t)
{
    jt_str name = jt_json_str(j);
    for (size_t i = 0; i < JT_ST_COUNT; i++) {
        if (strlen(types[i].name) == name.len &&
            memcmp(types[i].name, name.data, name.len) == 0) {
            t->type = (jt_safetensor_type)i;
            return;
        }
    }
    jt_json_fail(j, JT_E_UNSUPPORTED, "type '%.*s' is not known", JT_GGUF_SHOW(name));
}

static void read_shape(jt_json *j, jt_safetensor *t)
{
    t->n_dims = 0;
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        int64_t n = jt_json_int(j);
        if (t->n_dims == JT_SAFETENSOR_DIMS) {
            jt_json_fail(j, JT_E_UNSUPPORTED, "more than %d dimensions",
                         JT_SAFETENSOR_DIMS);
            return;
        }
        if (n < 0)
            jt_json_fail(j, JT_E_FORMAT, "a dimension of %lld", (long long)n);
        t->shape[t->n_dims++] = (uint64_t)n;
    }
}

static void read_place(jt_json *j, int64_t place[2])
{
    int count = 0;
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        int64_t at = jt_json_int(j);
        if (count < 2)
            place[count] = at;
        count++;
    }
    if (count != 2 || place[0] < 0 || place[1] < place[0])
        jt_json_fail(j, JT_E_FORMAT, "'data_offsets' are no two places in order");
}

/* Bytes that type and shape ask for; false when they are too many. */
static bool measure(const jt_safetensor *t, size_t *bytes)
{
    *bytes = types[t->type].bytes;
    for (int i = 0; i < t->n_dims; i++) {
        if (t->shape[i] > PTRDIFF_MAX || !jt_mul(*bytes, (size_t)t->shape[i], bytes) ||
            *bytes > PTRDIFF_MAX)
            return false;
    }
    return true;
}

/* One description; `data` holds `room` bytes. */
static void read_tensor(jt_json *j, jt_safetensor *t, const unsigned char *data,
                        size_t room)
{
    enum { TYPE = 1, SHAPE = 2, PLACE = 4 };
    int seen = 0;
    int64_t place[2] = {-1, -1};
    *t = (jt_safetensor){.name = j->key};
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "dtype")) {
            read_type(j, t);
            seen |= TYPE;
        } else if (jt_json_key_is(j, "shape")) {
            read_shape(j, t);
            seen |= SHAPE;
        } else if (jt_json_key_is(j, "data_offsets")) {
            read_place(j, place);
            seen |= PLACE;
        }
    }
    if (j->status != JT_OK)
        return;
    if (seen != (TYPE | SHAPE | PLACE))
        jt_json_fail(j, JT_E_FORMAT, "dtype, shape or data_offsets are missing");
    else if ((uint64_t)place[1] > room)
        jt_json_fail(j, JT_E_FORMAT,
                     "it lies beyond the end of the file; is the file complete?");
    else if (!measure(t, &t->bytes) || t->bytes != (size_t)(place[1] - place[0]))
        jt_json_fail(j, JT_E_FORMAT, "its %lld bytes do not fit its type and shape",
                     (long long)(place[1] - place[0]));
    else
        t->data = data + place[0];
}

/* The name with the ending of its file. */
static jt_status name_part(jt_safetensors *s, jt_safetensor *t, jt_err *err)
{
    size_t more = strlen(s->ending);
    char *name = more ? jt_arena_alloc(&s->arena, t->name.len + more, 1) : NULL;
    if (!more)
        return JT_OK;
    if (!name)
        return jt_fail_memory(err, "reading tensor descriptions");
    memcpy(name, t->name.data, t->name.len);
    memcpy(name + t->name.len, s->ending, more);
    t->name = (jt_str){name, t->name.len + more};
    return JT_OK;
}

static jt_status append(jt_safetensors *s, const jt_safetensor *t, jt_err *err)
{
    if (t->name.len == 0 || memchr(t->name.data, '\0', t->name.len))
        return jt_fail(err, JT_E_FORMAT, "a tensor name is empty or contains a NUL");
    if (jt_names_find(&s->names, t->name) != JT_NAMES_NONE)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' appears twice",
                       JT_GGUF_SHOW(t->name));
    if (!jt_grow((void **)&s->list, &s->room, s->count + 1, sizeof *t) ||
        !jt_names_add(&s->names, t->name, s->count))
        return jt_fail_memory(err, "reading tensor descriptions");
    s->list[s->count++] = *t;
    return JT_OK;
}

/* All descriptions of a header. */
/* Free text; what is no text is passed over. */
static jt_status read_notes(jt_safetensors *s, jt_json *j, jt_err *err)
{
    if (jt_json_peek(j) != JT_JSON_OBJECT)
        return JT_OK;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        jt_str key = j->key;
        if (jt_json_peek(j) != JT_JSON_STRING)
            continue;
        if (!jt_grow((void **)&s->notes, &s->notes_room, s->n_notes + 1,
                     sizeof *s->notes))
            return jt_fail_memory(err, "reading metadata");
        s->notes[s->n_notes++] = (jt_safetensors_note){key, jt_json_str(j)};
    }
    return j->status;
}

static jt_status read_header(jt_safetensors *s, jt_str text, const unsigned char *data,
                             size_t room, jt_err *err)
{
    jt_json j;
    jt_json_open(&j, text.data, text.len, &s->arena, err);
    jt_json_enter(&j, JT_JSON_OBJECT);
    while (jt_json_next(&j)) {
        jt_safetensor t;
        if (jt_json_key_is(&j, "__metadata__")) {
            JT_TRY(read_notes(s, &j, err));
            continue;
        }
        read_tensor(&j, &t, data, room);
        if (j.status != JT_OK)
            return jt_fail_within(err, j.status, "tensor '%.*s'", JT_GGUF_SHOW(t.name));
        JT_TRY(name_part(s, &t, err));
        JT_TRY(append(s, &t, err));
    }
    return jt_json_finish(&j);
}

/* ---- places --------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const jt_safetensor *x = *(const jt_safetensor *const *)a;
    const jt_safetensor *y = *(const jt_safetensor *const *)b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors from `first` on fill the `room` bytes at `data`: no gap, no overlap. */
static jt_status check_places(const jt_safetensors *s, size_t first,
                              const unsigned char *data, size_t room, jt_err *err)
{
    size_t count = s->count - first;
    const unsigned char *end = data;
    const jt_safetensor **list = jt_alloc(count, sizeof *list);
    if (!list)
        return jt_fail_memory(err, "reading tensor descriptions");
    for (size_t i = 0; i < count; i++)
        list[i] = &s->list[first + i];
    if (count)
        qsort(list, count, sizeof *list, by_place);
    jt_status status = JT_OK;
    for (size_t i = 0; i < count && status == JT_OK; i++) {
        const unsigned char *start = list[i]->data;
        if (start != end)
            status = jt_fail(err, JT_E_FORMAT, "tensor '%.*s': %s",
                             JT_GGUF_SHOW(list[i]->name),
                             start < end ? "it overlaps another tensor"
                                         : "there is a gap before its data");
        end = start + list[i]->bytes;
    }
    free(list);
    if (status == JT_OK && (size_t)(end - data) != room)
        status = jt_fail(err, JT_E_FORMAT, "%zu bytes after the last tensor",
                         room - (size_t)(end - data));
    return status;
}

jt_status jt_safetensors_parse(jt_safetensors *s, const void *data, size_t bytes,
                               jt_err *err)
{
    uint64_t length = 0;
    if (bytes < sizeof length)
        return jt_fail(err, JT_E_FORMAT, "%zu bytes are no safetensors file", bytes);
    memcpy(&length, data, sizeof length);
    if (length > HEADER_MOST)
        return jt_fail(err, JT_E_FORMAT,
                       "a header of %llu bytes, at most %d are allowed; is it a "
                       "safetensors file?",
                       (unsigned long long)length, HEADER_MOST);
    if (length > bytes - sizeof length)
        return jt_fail(err, JT_E_FORMAT,
                       "the file ends inside its header; is it complete?");
    jt_str text = {(const char *)data + sizeof length, (size_t)length};
    const unsigned char *first = (const unsigned char *)text.data + text.len;
    size_t room = bytes - sizeof length - text.len, before = s->count;
    jt_status status = read_header(s, text, first, room, err);
    return status == JT_OK ? check_places(s, before, first, room, err) : status;
}

/* ---- opening -------------------------------------------------------------------- */

jt_status jt_safetensors_map(jt_safetensors *s, const char *path, jt_err *err)
{
    if (!jt_grow((void **)&s->maps, &s->maps_room, s->n_maps + 1, sizeof *s->maps))
        return jt_fail_memory(err, "opening a safetensors file");
    jt_map *map = &s->maps[s->n_maps];
    JT_TRY(jt_map_open(map, path, err));
    s->n_maps++;
    jt_status status = jt_safetensors_parse(s, map->data, map->bytes, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", path);
}

static jt_status open_path(jt_safetensors *s, const char *path, jt_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return jt_safetensors_folder(s, path, err);
    return jt_safetensors_map(s, path, err);
}

/* Hand `s` over, or close it when opening failed. */
static jt_status deliver(jt_safetensors **out, jt_safetensors *s, jt_status status)
{
    if (status == JT_OK)
        *out = s;
    else
        jt_safetensors_close(s);
    return status;
}

jt_status jt_safetensors_open(jt_safetensors **out, const char *path, jt_err *err)
{
    jt_safetensors *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "opening a safetensors file");
    return deliver(out, s, open_path(s, path, err));
}

jt_status jt_safetensors_open_memory(jt_safetensors **out, const void *data,
                                     size_t bytes, jt_err *err)
{
    jt_safetensors *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "opening a safetensors file");
    return deliver(out, s, jt_safetensors_parse(s, data, bytes, err));
}

void jt_safetensors_close(jt_safetensors *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_maps; i++)
        jt_map_close(&s->maps[i]);
    free(s->maps);
    free(s->list);
    free(s->notes);
    jt_names_free(&s->names);
    jt_arena_free(&s->arena);
    free(s);
}

/* ---- what is inside ------------------------------------------------------------- */

size_t jt_safetensors_count(const jt_safetensors *s)
{
    return s->count;
}

const jt_safetensor *jt_safetensors_at(const jt_safetensors *s, size_t i)
{
    return i < s->count ? &s->list[i] : NULL;
}

const jt_safetensor *jt_safetensors_find(const jt_safetensors *s, const char *name)
{
    size_t i = jt_names_find(&s->names, (jt_str){name, strlen(name)});
    return i == JT_NAMES_NONE ? NULL : &s->list[i];
}

bool jt_safetensors_metadata(const jt_safetensors *s, const char *key, jt_str *value)
{
    for (size_t i = 0; i < s->n_notes; i++) {
        jt_str k = s->notes[i].key;
        if (k.len == strlen(key) && memcmp(k.data, key, k.len) == 0) {
            *value = s->notes[i].value;
            return true;
        }
    }
    return false;
}
