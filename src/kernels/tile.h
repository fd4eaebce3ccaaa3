/* Tiles: 16 rows of a weight side by side, the form in which products read fastest.
 *
 * Row after row, as files have them, a vector of one value from each of 16 rows takes
 * some 20 instructions to put together, for every product again. In a tile it is one
 * load, and 16 rows are one stretch of memory.
 *
 * A tile has the bytes of its rows, block by block. Of each block it has the bytes
 * before the first dword for all 16 rows, then each dword for all 16, then the bytes
 * after the last: what is at byte `at` of the block stands at byte 16 at of the tile's
 * block. Dwords begin at byte 0 or, where a scale of 1 or 2 bytes comes first, behind
 * it. Rows that a last tile does not have are zeros. */
#ifndef JT_TILE_H
#define JT_TILE_H

#include "junto/dtype.h"

#define JT_TILE_ROWS 16

/* Can rows of n values be put in tiles? Not those of floats that are no multiple of 16
 * bytes. */
bool jt_tile_can(jt_dtype dtype, size_t n);

/* Bytes of the tiles of `rows` rows of row_bytes each. */
static inline size_t jt_tile_bytes(size_t rows, size_t row_bytes)
{
    return (rows + JT_TILE_ROWS - 1) / JT_TILE_ROWS * JT_TILE_ROWS * row_bytes;
}

/* Make one tile of `rows` (1 .. 16) rows, which lie one after the other. */
void jt_tile_fill(void *tile, const void *w, size_t row_bytes, size_t rows,
                  jt_dtype dtype);

#endif
