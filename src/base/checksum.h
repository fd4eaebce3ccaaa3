/* Checksums of large data: XXH3, 64 bits, without a seed (xxHash, https://xxhash.com),
 * of each piece of 256 KiB, and then of these sums, little-endian, one after the other.
 * So several threads can share the work. They find damage; they are no protection
 * against somebody who makes it on purpose. */
#ifndef JT_BASE_CHECKSUM_H
#define JT_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

enum { JT_CHECKSUM_PIECE = 256 << 10 };

/* Pieces of so many bytes; the sum of the i-th; and of all from theirs. */
size_t jt_checksum_pieces(size_t bytes);
uint64_t jt_checksum_piece(const void *data, size_t bytes, size_t i);
uint64_t jt_checksum_join(const uint64_t *sums, size_t pieces);

/* Of bytes that come in parts of any size, one after the other. */
typedef struct jt_summing {
    void *memory, *piece, *all;
    size_t filled; /* bytes of the piece */
} jt_summing;

jt_status jt_summing_init(jt_summing *s, jt_err *err);
void jt_summing_free(jt_summing *s); /* {0} is fine */
void jt_summing_start(jt_summing *s);
void jt_summing_add(jt_summing *s, const void *data, size_t bytes);
uint64_t jt_summing_end(jt_summing *s);

#endif
