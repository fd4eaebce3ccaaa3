/* Reads everything that an open GGUF file offers and checks what must hold for any file
 * that was opened. Used by the tests and by the fuzzer. */
#ifndef TEST_WALK_H
#define TEST_WALK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "junto/gguf.h"

#define WALK_CHECK(condition)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static inline unsigned walk_bytes(const void *data, size_t bytes)
{
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = sum * 31 + ((const unsigned char *)data)[i];
    return sum;
}

static inline char *walk_c_string(jt_str text)
{
    char *copy = malloc(text.len + 1);
    WALK_CHECK(copy);
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

static inline unsigned walk_key(const jt_gguf *file, const jt_gguf_kv *kv)
{
    unsigned sum = walk_bytes(kv->raw, kv->raw_bytes);
    char *key = walk_c_string(kv->key);
    WALK_CHECK(jt_gguf_kv_find(file, key) == kv);
    uint32_t u32;
    int64_t i64;
    float f32;
    bool flag;
    jt_str text;
    bool integer = jt_gguf_get_i64(file, key, &i64);
    if (jt_gguf_get_u32(file, key, &u32))
        WALK_CHECK(integer && i64 == u32);
    sum += jt_gguf_get_f32(file, key, &f32) + jt_gguf_get_bool(file, key, &flag);
    if (jt_gguf_get_str(file, key, &text))
        sum += walk_bytes(text.data, text.len);
    for (uint64_t i = 0; i < kv->count; i++) {
        if (jt_gguf_item_str(kv, i, &text))
            sum += walk_bytes(text.data, text.len);
        sum += jt_gguf_item_i64(kv, i, &i64) + jt_gguf_item_f32(kv, i, &f32);
    }
    WALK_CHECK(!jt_gguf_item_str(kv, kv->count, &text));
    WALK_CHECK(!jt_gguf_item_i64(kv, kv->count, &i64));
    WALK_CHECK(!jt_gguf_item_f32(kv, kv->count, &f32));
    free(key);
    return sum;
}

static inline unsigned walk_tensor(const jt_gguf *file, const jt_gguf_tensor *t)
{
    char *name = walk_c_string(t->name);
    WALK_CHECK(jt_gguf_find(file, name) == t);
    free(name);
    WALK_CHECK(t->n_dims >= 1 && t->n_dims <= JT_MAX_DIMS);
    size_t bytes = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[t->n_dims - 1]);
    for (int i = 0; i < t->n_dims - 1; i++)
        bytes *= (size_t)t->shape[i];
    WALK_CHECK(bytes == t->bytes && bytes > 0);
    WALK_CHECK(!t->data != !t->pieces);
    unsigned sum = 0;
    size_t row = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[t->n_dims - 1]);
    for (size_t i = 0; i < bytes / row; i++)
        sum += walk_bytes(jt_gguf_row(t, i), row);
    return sum;
}

static inline unsigned walk_file(const jt_gguf *file)
{
    unsigned sum = 0;
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++)
        sum += walk_key(file, jt_gguf_kv_at(file, i));
    WALK_CHECK(!jt_gguf_kv_at(file, jt_gguf_kv_count(file)));
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++)
        sum += walk_tensor(file, jt_gguf_tensor_at(file, i));
    WALK_CHECK(!jt_gguf_tensor_at(file, jt_gguf_tensor_count(file)));
    return sum;
}

#endif
