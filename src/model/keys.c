#include "model/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/join.h"

const char *jt_key_name(jt_key_reader *r, const char *name)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->prefix, name);
    return r->key;
}

/* The key's value, or of an array that of the layer or the largest. */
static bool read_value(const jt_key_reader *r, const jt_gguf_kv *kv, int64_t *value)
{
    uint64_t layer = (uint64_t)(r->layer < 0 ? 0 : r->layer);
    if (kv->type != JT_GGUF_ARRAY)
        return jt_gguf_get_i64(r->file, r->key, value);
    if (r->layer >= 0 || kv->count == 0)
        return jt_gguf_item_i64(kv, layer, value);
    *value = INT64_MIN;
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t item;
        if (!jt_gguf_item_i64(kv, i, &item))
            return false;
        *value = item > *value ? item : *value;
    }
    return true;
}

jt_status jt_key_int(jt_key_reader *r, const char *name, int low, int high,
                     int otherwise, int *out)
{
    int64_t value = otherwise;
    *out = low;
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, jt_key_name(r, name));
    if (kv && !read_value(r, kv, &value))
        return jt_fail(r->err, JT_E_FORMAT,
                       "key '%s' is not a whole number, or one per layer", r->key);
    if (!kv && otherwise < low)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is missing", r->key);
    if (value < low || value > high)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %lld, expected %d to %d",
                       r->key, (long long)value, low, high);
    *out = (int)value;
    return JT_OK;
}

jt_status jt_key_float(jt_key_reader *r, const char *name, float low, float otherwise,
                       float *out)
{
    *out = otherwise;
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, jt_key_name(r, name));
    if (kv && !jt_gguf_get_f32(r->file, r->key, out))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not a number", r->key);
    if (!isfinite(*out) || !(*out > low))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is missing or out of range",
                       r->key);
    return JT_OK;
}

jt_status jt_key_bool(jt_key_reader *r, const char *name, bool *out)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, jt_key_name(r, name));
    if (kv && !jt_gguf_get_bool(r->file, r->key, out))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not true or false", r->key);
    return JT_OK;
}

jt_status jt_key_text(jt_key_reader *r, const char *name, const char *otherwise,
                      char *text, size_t room)
{
    jt_str value = {otherwise, strlen(otherwise)};
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, jt_key_name(r, name));
    if (kv && !jt_gguf_get_str(r->file, r->key, &value))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not a text", r->key);
    snprintf(text, room, "%.*s", (int)(value.len < room ? value.len : room),
             value.data);
    return JT_OK;
}

jt_status jt_key_unknown(jt_key_reader *r, const char *name,
                         const char *(*known)(size_t i))
{
    char list[200];
    jt_join_names(list, sizeof list, known);
    return jt_fail(r->err, JT_E_FORMAT, "key '%s' is '%s' (known: %s)", r->key, name,
                   list);
}
