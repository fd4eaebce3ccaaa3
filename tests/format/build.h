/* Puts together GGUF files byte by byte, right ones and wrong ones. */
#ifndef TEST_BUILD_H
#define TEST_BUILD_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

typedef struct build {
    unsigned char data[1 << 17];
    size_t len;
} build;

static inline void put(build *b, const void *data, size_t bytes)
{
    assert(bytes <= sizeof b->data - b->len);
    memcpy(b->data + b->len, data, bytes);
    b->len += bytes;
}

static inline void put_u8(build *b, uint8_t value)
{
    put(b, &value, sizeof value);
}

static inline void put_u32(build *b, uint32_t value)
{
    put(b, &value, sizeof value);
}

static inline void put_u64(build *b, uint64_t value)
{
    put(b, &value, sizeof value);
}

static inline void put_str(build *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_head(build *b, uint64_t tensors, uint64_t keys)
{
    b->len = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, keys);
}

/* A key up to its value. */
static inline void put_key(build *b, const char *key, uint32_t type)
{
    put_str(b, key);
    put_u32(b, type);
}

static inline void put_key_u32(build *b, const char *key, uint32_t value)
{
    put_key(b, key, 4);
    put_u32(b, value);
}

/* The description of a tensor of one or two dimensions (ne1 = 0: one). */
static inline void put_tensor(build *b, const char *name, uint64_t ne0, uint64_t ne1,
                              uint32_t type, uint64_t offset)
{
    put_str(b, name);
    put_u32(b, ne1 ? 2 : 1);
    put_u64(b, ne0);
    if (ne1)
        put_u64(b, ne1);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Zeros to the next multiple of 32, then `bytes` of tensor data. */
static inline void put_data(build *b, size_t bytes)
{
    while (b->len % 32)
        put_u8(b, 0);
    for (size_t i = 0; i < bytes; i++)
        put_u8(b, (uint8_t)(i + 1));
}

#endif
