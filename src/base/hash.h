/* FNV-1a, 64 bits (Fowler, Noll, Vo): finds damage and tells things apart; no
 * protection against somebody who wants two things to look the same. */
#ifndef JT_BASE_HASH_H
#define JT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define JT_HASH_START 0xcbf29ce484222325u

/* Go on from `h`, JT_HASH_START at first. */
static inline uint64_t jt_hash(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

#endif
