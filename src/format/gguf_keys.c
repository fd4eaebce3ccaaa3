/* Typed access to the keys of an open file. */
#include "format/gguf_file.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { ARRAY_HEAD = 4 + 8 }; /* item type and count, before the items */

const jt_gguf_kv *jt_gguf_keys_find(const jt_gguf_keys *keys, const char *key)
{
    size_t i = jt_names_find(&keys->names, (jt_str){key, strlen(key)});
    return i == JT_NAMES_NONE ? NULL : &keys->list[i].pub;
}

const jt_gguf_kv *jt_gguf_kv_find(const jt_gguf *file, const char *key)
{
    return jt_gguf_keys_find(&file->parts[0].keys, key);
}

size_t jt_gguf_kv_count(const jt_gguf *file)
{
    return file->parts[0].keys.count;
}

const jt_gguf_kv *jt_gguf_kv_at(const jt_gguf *file, size_t i)
{
    const jt_gguf_keys *keys = &file->parts[0].keys;
    return i < keys->count ? &keys->list[i].pub : NULL;
}

/* Values in a file have no alignment. */
#define READ_AS(ctype, at) \
    ctype v;               \
    memcpy(&v, at, sizeof v)

static bool read_integer(jt_gguf_type type, const unsigned char *at, int64_t *value)
{
    switch (type) {
#define CASE(id, ctype)     \
    case id: {              \
        READ_AS(ctype, at); \
        *value = v;         \
        return true;        \
    }
        CASE(JT_GGUF_U8, uint8_t)
        CASE(JT_GGUF_I8, int8_t)
        CASE(JT_GGUF_U16, uint16_t)
        CASE(JT_GGUF_I16, int16_t)
        CASE(JT_GGUF_U32, uint32_t)
        CASE(JT_GGUF_I32, int32_t)
        CASE(JT_GGUF_I64, int64_t)
#undef CASE
    case JT_GGUF_BOOL:
        *value = *at != 0;
        return true;
    case JT_GGUF_U64: {
        READ_AS(uint64_t, at);
        if (v > INT64_MAX)
            return false;
        *value = (int64_t)v;
        return true;
    }
    default:
        return false;
    }
}

static bool read_float(jt_gguf_type type, const unsigned char *at, float *value)
{
    if (type == JT_GGUF_F32) {
        memcpy(value, at, sizeof *value);
        return true;
    }
    if (type == JT_GGUF_F64) {
        READ_AS(double, at);
        if (isfinite(v) && fabs(v) > FLT_MAX)
            return false;
        *value = (float)v;
        return true;
    }
    if (type == JT_GGUF_U64) {
        READ_AS(uint64_t, at);
        *value = (float)v;
        return true;
    }
    int64_t integer;
    if (type == JT_GGUF_BOOL || !read_integer(type, at, &integer))
        return false;
    *value = (float)integer;
    return true;
}

bool jt_gguf_integer(const jt_gguf_kv *kv, int64_t *value)
{
    return read_integer(kv->type, kv->raw, value);
}

bool jt_gguf_number(const jt_gguf_kv *kv, float *value)
{
    return read_float(kv->type, kv->raw, value);
}

bool jt_gguf_get_i64(const jt_gguf *file, const char *key, int64_t *value)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    return kv && jt_gguf_integer(kv, value);
}

bool jt_gguf_get_u32(const jt_gguf *file, const char *key, uint32_t *value)
{
    int64_t integer;
    if (!jt_gguf_get_i64(file, key, &integer) || integer < 0 || integer > UINT32_MAX)
        return false;
    *value = (uint32_t)integer;
    return true;
}

bool jt_gguf_get_f32(const jt_gguf *file, const char *key, float *value)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    return kv && read_float(kv->type, kv->raw, value);
}

bool jt_gguf_get_bool(const jt_gguf *file, const char *key, bool *value)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    if (!kv || kv->type != JT_GGUF_BOOL)
        return false;
    *value = *(const unsigned char *)kv->raw != 0;
    return true;
}

bool jt_gguf_get_str(const jt_gguf *file, const char *key, jt_str *value)
{
    enum { HEAD = 8 }; /* the length */
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, key);
    if (!kv || kv->type != JT_GGUF_STRING)
        return false;
    *value = (jt_str){(const char *)kv->raw + HEAD, kv->raw_bytes - HEAD};
    return true;
}

/* Where item `i` of an array of fixed-size values lies; NULL when there is none. */
static const unsigned char *item_at(const jt_gguf_kv *kv, uint64_t i)
{
    if (kv->type != JT_GGUF_ARRAY || kv->item_type == JT_GGUF_STRING || i >= kv->count)
        return NULL;
    return (const unsigned char *)kv->raw + ARRAY_HEAD +
           (size_t)i * jt_gguf_type_bytes(kv->item_type);
}

bool jt_gguf_item_str(const jt_gguf_kv *kv, uint64_t i, jt_str *value)
{
    if (kv->type != JT_GGUF_ARRAY || kv->item_type != JT_GGUF_STRING || i >= kv->count)
        return false;
    *value = ((const jt_gguf_key *)kv)->items[i];
    return true;
}

bool jt_gguf_item_i64(const jt_gguf_kv *kv, uint64_t i, int64_t *value)
{
    const unsigned char *at = item_at(kv, i);
    return at && read_integer(kv->item_type, at, value);
}

bool jt_gguf_item_f32(const jt_gguf_kv *kv, uint64_t i, float *value)
{
    const unsigned char *at = item_at(kv, i);
    return at && read_float(kv->item_type, at, value);
}
