/* Setting the keys of a file that is being written. */
#include "format/gguf_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static jt_written_key *find_key(const jt_gguf_writer *w, jt_str name)
{
    for (size_t i = 0; i < w->n_keys; i++) {
        jt_written_key *key = &w->keys[i];
        if (strlen(key->name) == name.len &&
            memcmp(key->name, name.data, name.len) == 0)
            return key;
    }
    return NULL;
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
    jt_written_key fresh = {.type = type, .raw = raw, .raw_bytes = raw_bytes};
    jt_status status = raw ? jt_gguf_writer_check_name(w, "key", name, err)
                           : jt_fail_memory(err, "setting a key");
    if (status == JT_OK && name.len == strlen("general.alignment") &&
        memcmp(name.data, "general.alignment", name.len) == 0)
        status = take_alignment(w, type, raw, err);
    if (status != JT_OK) {
        free(raw);
        return status;
    }
    jt_written_key *old = find_key(w, name);
    if (old) {
        free(old->raw);
        fresh.name = old->name;
        *old = fresh;
        return JT_OK;
    }
    fresh.name = jt_strndup(name.data, name.len);
    if (!fresh.name ||
        !jt_grow((void **)&w->keys, &w->keys_room, w->n_keys + 1, sizeof *w->keys)) {
        free(fresh.name);
        free(fresh.raw);
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

jt_status jt_gguf_set_bools(jt_gguf_writer *w, const char *key, const bool *values,
                            uint64_t count, jt_err *err)
{
    size_t raw_bytes = 0;
    unsigned char *at, *raw = NULL;
    if (count <= SIZE_MAX)
        raw = new_array(JT_GGUF_BOOL, count, (size_t)count, &raw_bytes, &at);
    for (uint64_t i = 0; i < count && raw; i++)
        at[i] = values[i];
    return put_key(w, c_string(key), JT_GGUF_ARRAY, raw, raw_bytes, err);
}

jt_status jt_gguf_set_kv(jt_gguf_writer *w, const char *key, const jt_gguf_kv *kv,
                         jt_err *err)
{
    return put_copy(w, key ? c_string(key) : kv->key, kv->type, kv->raw, kv->raw_bytes,
                    err);
}

bool jt_gguf_written(const jt_gguf_writer *w, const char *key, jt_gguf_kv *kv)
{
    const jt_written_key *found = find_key(w, c_string(key));
    if (!found)
        return false;
    *kv = (jt_gguf_kv){.key = c_string(found->name),
                       .type = (jt_gguf_type)found->type,
                       .count = 1,
                       .raw = found->raw,
                       .raw_bytes = found->raw_bytes};
    if (kv->type == JT_GGUF_ARRAY) { /* its type and count come first */
        uint32_t item;
        memcpy(&item, found->raw, sizeof item);
        memcpy(&kv->count, (const char *)found->raw + sizeof item, sizeof kv->count);
        kv->item_type = (jt_gguf_type)item;
    }
    return true;
}

void jt_gguf_unset(jt_gguf_writer *w, const char *key)
{
    jt_written_key *found = find_key(w, c_string(key));
    if (!found || w->head_written)
        return;
    if (strcmp(key, "general.alignment") == 0)
        w->alignment = JT_GGUF_ALIGNMENT;
    free(found->name);
    free(found->raw);
    w->n_keys--;
    memmove(found, found + 1, (size_t)(w->keys + w->n_keys - found) * sizeof *found);
}
