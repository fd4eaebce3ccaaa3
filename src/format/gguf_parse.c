/* One GGUF file in memory -> lists of keys and tensors. Every number is checked against
 * the bytes that are left before it is believed. */
#include "format/gguf_file.h"

#include <stdlib.h>
#include <string.h>

typedef struct cursor {
    const unsigned char *at;
    size_t left;
} cursor;

static bool take(cursor *c, size_t bytes, const void **out)
{
    if (bytes > c->left)
        return false;
    *out = c->at;
    c->at += bytes;
    c->left -= bytes;
    return true;
}

static bool take_u32(cursor *c, uint32_t *value)
{
    const void *p;
    if (!take(c, sizeof *value, &p))
        return false;
    memcpy(value, p, sizeof *value);
    return true;
}

static bool take_u64(cursor *c, uint64_t *value)
{
    const void *p;
    if (!take(c, sizeof *value, &p))
        return false;
    memcpy(value, p, sizeof *value);
    return true;
}

static bool take_str(cursor *c, jt_str *value)
{
    uint64_t len;
    const void *p;
    if (!take_u64(c, &len) || len > c->left || !take(c, (size_t)len, &p))
        return false;
    *value = (jt_str){p, (size_t)len};
    return true;
}

/* ---- header --------------------------------------------------------------------- */

static jt_status check_version(uint32_t version, jt_err *err)
{
    if (version == 2 || version == 3)
        return JT_OK;
    if (version && (version & 0xffff) == 0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "a big-endian GGUF file; only little-endian ones are read");
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "GGUF version %u; only versions 2 and 3 are read", version);
}

static jt_status parse_header(cursor *c, uint64_t *n_tensors, uint64_t *n_kv,
                              jt_err *err)
{
    /* A name is 8 bytes of length; a key adds a type and a value, a tensor its number
     * of dimensions, one dimension, type and offset. */
    enum { LEAST_KEY = 8 + 4 + 1, LEAST_TENSOR = 8 + 4 + 8 + 4 + 8 };
    const void *magic;
    uint32_t version;
    if (c->left == 0)
        return jt_fail(err, JT_E_FORMAT, "not a GGUF file: it is empty");
    if (!take(c, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return jt_fail(err, JT_E_FORMAT,
                       "not a GGUF file: it does not start with GGUF");
    if (!take_u32(c, &version))
        return jt_fail(err, JT_E_FORMAT, "the file ends inside its header");
    JT_TRY(check_version(version, err));
    if (!take_u64(c, n_tensors) || !take_u64(c, n_kv))
        return jt_fail(err, JT_E_FORMAT, "the file ends inside its header");
    if (*n_kv > c->left / LEAST_KEY)
        return jt_fail(err, JT_E_FORMAT,
                       "the header counts %llu keys, more than fit into the file",
                       (unsigned long long)*n_kv);
    if (*n_tensors > c->left / LEAST_TENSOR)
        return jt_fail(err, JT_E_FORMAT,
                       "the header counts %llu tensors, more than fit into the file",
                       (unsigned long long)*n_tensors);
    return JT_OK;
}

/* Names are looked up as C strings, so they must be able to be one. */
static jt_status parse_name(cursor *c, const char *what, size_t i, jt_str *name,
                            jt_err *err)
{
    if (!take_str(c, name))
        return jt_fail(err, JT_E_FORMAT, "the file ends inside the name of %s %zu",
                       what, i);
    if (name->len == 0 || name->len > JT_GGUF_NAME_MOST)
        return jt_fail(err, JT_E_FORMAT,
                       "the name of %s %zu has %zu bytes, expected 1 "
                       "to %d",
                       what, i, name->len, JT_GGUF_NAME_MOST);
    if (memchr(name->data, '\0', name->len))
        return jt_fail(err, JT_E_FORMAT, "the name of %s %zu contains a NUL byte", what,
                       i);
    return JT_OK;
}

/* ---- keys ----------------------------------------------------------------------- */

size_t jt_gguf_type_bytes(uint32_t type)
{
    static const unsigned char bytes[] = {
        [JT_GGUF_U8] = 1,  [JT_GGUF_I8] = 1,  [JT_GGUF_U16] = 2, [JT_GGUF_I16] = 2,
        [JT_GGUF_U32] = 4, [JT_GGUF_I32] = 4, [JT_GGUF_F32] = 4, [JT_GGUF_BOOL] = 1,
        [JT_GGUF_U64] = 8, [JT_GGUF_I64] = 8, [JT_GGUF_F64] = 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static jt_status fail_key_end(const jt_gguf_key *key, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT, "the file ends inside key '%.*s'",
                   JT_GGUF_SHOW(key->pub.key));
}

static jt_status fail_key_type(const jt_gguf_key *key, uint32_t type, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT, "key '%.*s' has the unknown type %u",
                   JT_GGUF_SHOW(key->pub.key), type);
}

/* One walk over the strings of an array, so that items are found in one step later. */
static jt_status index_strings(jt_gguf_key *key, cursor *c, jt_arena *arena,
                               jt_err *err)
{
    uint64_t count = key->pub.count;
    if (count > c->left / 8)
        return fail_key_end(key, err);
    jt_str *items = jt_arena_alloc(arena, (size_t)count, sizeof *items);
    if (!items)
        return jt_fail_memory(err, "indexing an array of strings");
    for (size_t i = 0; i < count; i++) {
        if (!take_str(c, &items[i]))
            return fail_key_end(key, err);
    }
    key->items = items;
    return JT_OK;
}

static jt_status parse_array(jt_gguf_key *key, cursor *c, jt_arena *arena, jt_err *err)
{
    uint32_t type;
    if (!take_u32(c, &type) || !take_u64(c, &key->pub.count))
        return fail_key_end(key, err);
    if (type == JT_GGUF_ARRAY)
        return jt_fail(err, JT_E_UNSUPPORTED, "key '%.*s' is an array of arrays",
                       JT_GGUF_SHOW(key->pub.key));
    size_t item_bytes = jt_gguf_type_bytes(type);
    if (type != JT_GGUF_STRING && !item_bytes)
        return fail_key_type(key, type, err);
    key->pub.item_type = (jt_gguf_type)type;
    if (type == JT_GGUF_STRING)
        return index_strings(key, c, arena, err);
    const void *items;
    if (key->pub.count > c->left / item_bytes ||
        !take(c, (size_t)key->pub.count * item_bytes, &items))
        return fail_key_end(key, err);
    return JT_OK;
}

static jt_status parse_key(jt_gguf_key *key, size_t i, cursor *c, jt_arena *arena,
                           jt_err *err)
{
    *key = (jt_gguf_key){.pub.count = 1};
    JT_TRY(parse_name(c, "key", i, &key->pub.key, err));
    uint32_t type;
    if (!take_u32(c, &type))
        return fail_key_end(key, err);
    key->pub.type = key->pub.item_type = (jt_gguf_type)type;
    key->pub.raw = c->at;
    if (type == JT_GGUF_ARRAY) {
        JT_TRY(parse_array(key, c, arena, err));
    } else if (type == JT_GGUF_STRING) {
        jt_str text;
        if (!take_str(c, &text))
            return fail_key_end(key, err);
    } else {
        size_t bytes = jt_gguf_type_bytes(type);
        const void *value;
        if (!bytes)
            return fail_key_type(key, type, err);
        if (!take(c, bytes, &value))
            return fail_key_end(key, err);
    }
    key->pub.raw_bytes = (size_t)(c->at - (const unsigned char *)key->pub.raw);
    return JT_OK;
}

static jt_status parse_keys(jt_gguf_keys *keys, uint64_t count, cursor *c,
                            jt_arena *arena, jt_err *err)
{
    keys->list = jt_arena_alloc(arena, (size_t)count, sizeof *keys->list);
    if (!keys->list)
        return jt_fail_memory(err, "reading keys");
    for (size_t i = 0; i < count; i++) {
        jt_gguf_key *key = &keys->list[i];
        JT_TRY(parse_key(key, i, c, arena, err));
        if (jt_names_find(&keys->names, key->pub.key) != JT_NAMES_NONE)
            return jt_fail(err, JT_E_FORMAT, "key '%.*s' appears twice",
                           JT_GGUF_SHOW(key->pub.key));
        if (!jt_names_add(&keys->names, key->pub.key, i))
            return jt_fail_memory(err, "reading keys");
        keys->count = i + 1;
    }
    return JT_OK;
}

static jt_status find_alignment(const jt_gguf_keys *keys, size_t *alignment,
                                jt_err *err)
{
    const jt_gguf_kv *kv = jt_gguf_keys_find(keys, "general.alignment");
    int64_t value = JT_GGUF_ALIGNMENT;
    if (kv && (kv->type != JT_GGUF_U32 || !jt_gguf_integer(kv, &value)))
        return jt_fail(err, JT_E_FORMAT, "key 'general.alignment' is not a u32");
    if (value == 0 || (value & (value - 1)) != 0)
        return jt_fail(err, JT_E_FORMAT,
                       "key 'general.alignment' is %lld, expected a power of two",
                       (long long)value);
    *alignment = (size_t)value;
    return JT_OK;
}

/* ---- tensors -------------------------------------------------------------------- */

/* Activations of ggml: no file should have them. */
static const char *foreign_type_name(uint32_t id)
{
    return id == 9 ? "Q8_1" : id == 15 ? "Q8_K" : "unknown";
}

static jt_status parse_dims(jt_gguf_tensor *t, cursor *c, jt_err *err)
{
    uint32_t n_dims;
    if (!take_u32(c, &n_dims))
        return jt_fail(err, JT_E_FORMAT, "the file ends inside its description");
    if (n_dims < 1 || n_dims > JT_MAX_DIMS)
        return jt_fail(err, JT_E_FORMAT, "%u dimensions, expected 1 to %d", n_dims,
                       JT_MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (int i = 0; i < JT_MAX_DIMS; i++)
        t->shape[i] = 1;
    for (int i = t->n_dims - 1; i >= 0;
         i--) { /* the file has the contiguous one first */
        if (!take_u64(c, &t->shape[i]))
            return jt_fail(err, JT_E_FORMAT, "the file ends inside its description");
        if (t->shape[i] == 0 || t->shape[i] > INT64_MAX)
            return jt_fail(err, JT_E_FORMAT, "a dimension of %lld",
                           (long long)t->shape[i]);
    }
    return JT_OK;
}

static jt_status parse_dtype(jt_gguf_tensor *t, cursor *c, jt_err *err)
{
    uint32_t id;
    if (!take_u32(c, &id))
        return jt_fail(err, JT_E_FORMAT, "the file ends inside its description");
    if (!jt_dtype_from_gguf(id, &t->dtype))
        return jt_fail(err, JT_E_UNSUPPORTED, "type %s (id %u) is not supported",
                       foreign_type_name(id), id);
    uint64_t row = t->shape[t->n_dims - 1];
    size_t block = jt_dtype_block_values(t->dtype);
    if (row % block != 0)
        return jt_fail(err, JT_E_FORMAT,
                       "rows of %llu values are no whole blocks of %s (%zu values)",
                       (unsigned long long)row, jt_dtype_name(t->dtype), block);
    size_t bytes = row <= SIZE_MAX ? jt_dtype_row_bytes(t->dtype, (size_t)row) : 0;
    for (int i = 0; i < t->n_dims - 1 && bytes; i++) {
        if (t->shape[i] > SIZE_MAX || !jt_mul(bytes, (size_t)t->shape[i], &bytes))
            bytes = 0;
    }
    if (bytes == 0)
        return jt_fail(err, JT_E_FORMAT, "its size overflows");
    t->bytes = bytes;
    return JT_OK;
}

/* A tensor and where it lies in the data section. */
typedef struct extent {
    const jt_gguf_tensor *tensor;
    uint64_t offset;
} extent;

static jt_status parse_tensor(jt_gguf_tensor *t, extent *e, size_t i, cursor *c,
                              size_t alignment, jt_err *err)
{
    jt_err why = {0};
    *t = (jt_gguf_tensor){0};
    *e = (extent){.tensor = t};
    JT_TRY(parse_name(c, "tensor", i, &t->name, err));
    jt_status status = parse_dims(t, c, &why);
    if (status == JT_OK)
        status = parse_dtype(t, c, &why);
    if (status == JT_OK && !take_u64(c, &e->offset))
        status = jt_fail(&why, JT_E_FORMAT, "the file ends inside its description");
    if (status == JT_OK && e->offset % alignment != 0)
        status = jt_fail(&why, JT_E_FORMAT,
                         "offset %llu is not a multiple of the alignment %zu",
                         (unsigned long long)e->offset, alignment);
    if (status != JT_OK)
        return jt_fail(err, status, "tensor '%.*s': %s", JT_GGUF_SHOW(t->name),
                       why.msg);
    return JT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* No two tensors may share bytes; sorts `list`. */
static jt_status check_overlap(extent *list, size_t count, jt_err *err)
{
    if (count)
        qsort(list, count, sizeof *list, by_offset);
    for (size_t i = 1; i < count; i++) {
        const jt_gguf_tensor *before = list[i - 1].tensor, *after = list[i].tensor;
        if (list[i].offset - list[i - 1].offset < before->bytes)
            return jt_fail(err, JT_E_FORMAT, "tensors '%.*s' and '%.*s' overlap",
                           JT_GGUF_SHOW(before->name), JT_GGUF_SHOW(after->name));
    }
    return JT_OK;
}

/* Point the tensors into the data section, which starts at the next multiple of the
 * alignment after the descriptions. */
static jt_status place_tensors(jt_gguf_part *part, extent *list, size_t described,
                               size_t alignment, jt_err *err)
{
    size_t start = (described + (alignment - 1)) & ~(alignment - 1);
    size_t room = start < part->bytes ? part->bytes - start : 0;
    for (size_t i = 0; i < part->n_tensors; i++) {
        jt_gguf_tensor *t = &part->tensors[i];
        if (list[i].offset > room || t->bytes > room - list[i].offset)
            return jt_fail(err, JT_E_FORMAT,
                           "tensor '%.*s' lies beyond the end of the file (%zu bytes); "
                           "is the file complete?",
                           JT_GGUF_SHOW(t->name), part->bytes);
        t->data = part->data + start + (size_t)list[i].offset;
    }
    return check_overlap(list, part->n_tensors, err);
}

jt_status jt_gguf_parse(jt_gguf_part *part, jt_arena *arena, jt_err *err)
{
    cursor c = {part->data, part->bytes};
    uint64_t n_tensors = 0, n_kv = 0;
    size_t alignment = JT_GGUF_ALIGNMENT;
    JT_TRY(parse_header(&c, &n_tensors, &n_kv, err));
    JT_TRY(parse_keys(&part->keys, n_kv, &c, arena, err));
    JT_TRY(find_alignment(&part->keys, &alignment, err));

    part->n_tensors = (size_t)n_tensors;
    part->tensors = jt_arena_alloc(arena, part->n_tensors, sizeof *part->tensors);
    jt_arena_mark mark = jt_arena_save(arena);
    extent *list = jt_arena_alloc(arena, part->n_tensors, sizeof *list);
    if (!part->tensors || !list)
        return jt_fail_memory(err, "reading tensor descriptions");
    for (size_t i = 0; i < part->n_tensors; i++)
        JT_TRY(parse_tensor(&part->tensors[i], &list[i], i, &c, alignment, err));
    JT_TRY(place_tensors(part, list, part->bytes - c.left, alignment, err));
    jt_arena_rewind(arena, mark);
    return JT_OK;
}
