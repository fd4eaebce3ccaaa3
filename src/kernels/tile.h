/* Tiles: rows of a weight side by side, the form in which products read fastest.
 *
 * Row after row, as files have them, a vector of one value from each of 16 rows takes
 * some 20 instructions to put together, for every product again. In a tile it is one
 * load, and a product reads memory straight on: MEASURED (Zen 5, two threads, Q4_K,
 * Q6_K, Q8_0) at 0.97 of what the machine reads at most or more.
 *
 * A tile has the bytes of 32 rows, block by block, and in each block first the upper 16
 * rows and then the lower: the bytes before the first dword of all 16, each dword of
 * all 16, the bytes after the last, so that what is at byte `at` of the block in a row
 * stands at byte 16 at here. Dwords begin at byte 0 or, where a scale of 1 or 2 bytes
 * comes first, behind it. Floats are cut into blocks of 16 bytes. Rows that a last tile
 * does not have are zeros. */
#ifndef JT_TILE_H
#define JT_TILE_H

#include "junto/dtype.h"

#define JT_TILE_ROWS  32
#define JT_TILE_LANES 16 /* rows side by side */

/* Can rows of n values be put in tiles? Not those of floats that are no multiple of 16
 * bytes. */
bool jt_tile_can(jt_dtype dtype, size_t n);

/* Bytes of the tiles of `rows` rows of row_bytes each. */
static inline size_t jt_tile_bytes(size_t rows, size_t row_bytes)
{
    return (rows + JT_TILE_ROWS - 1) / JT_TILE_ROWS * JT_TILE_ROWS * row_bytes;
}

/* Bytes of a block, as tiles have them. */
size_t jt_tile_block(jt_dtype dtype);

/* Make one tile of `rows` (1 .. 32) rows, which lie one after the other. */
void jt_tile_fill(void *tile, const void *w, size_t row_bytes, size_t rows,
                  jt_dtype dtype);

/* The same of floats that bfloat16 says exactly, n a multiple of 8, as bfloat16. */
void jt_tile_fill_halves(void *tile, const float *w, size_t n, size_t rows);

#endif
