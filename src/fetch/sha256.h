/* SHA-256 (FIPS 180-4, section 6.2). */
#ifndef JT_SHA256_H
#define JT_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct jt_sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} jt_sha256;

enum { JT_SHA256_TEXT = 65 }; /* 64 digits and a NUL */

void jt_sha256_start(jt_sha256 *s);
void jt_sha256_add(jt_sha256 *s, const void *data, size_t bytes);
/* The sum of all that was added, in hexadecimal. */
void jt_sha256_end(jt_sha256 *s, char text[JT_SHA256_TEXT]);

#endif
