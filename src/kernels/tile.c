#include "kernels/tile.h"

#include <string.h>

/* Blocks whose scale of 1 or 2 bytes comes last; where it comes first, dwords begin
 * behind it. */
static bool ends_with_scale(jt_dtype dtype)
{
    return dtype == JT_Q3_K || dtype == JT_Q6_K || dtype == JT_TQ1_0 ||
           dtype == JT_TQ2_0;
}

static bool is_float(jt_dtype dtype)
{
    return dtype == JT_F32 || dtype == JT_F16 || dtype == JT_BF16;
}

bool jt_tile_can(jt_dtype dtype, size_t n)
{
    return jt_dtype_is_weight(dtype) &&
           (!is_float(dtype) || jt_dtype_row_bytes(dtype, n) % 16 == 0);
}

/* `bytes` of each of the rows, side by side. */
static char *put_edges(char *to, const char *const *row, size_t at, size_t bytes)
{
    for (int r = 0; r < JT_TILE_ROWS && bytes; r++, to += bytes)
        memcpy(to, row[r] + at, bytes);
    return to;
}

static char *put_dwords(char *to, const char *const *row, size_t at, size_t end)
{
    for (; at < end; at += 4)
        for (int r = 0; r < JT_TILE_ROWS; r++, to += 4)
            memcpy(to, row[r] + at, 4);
    return to;
}

/* Rows that are not there are read from a block of zeros, again and again. */
void jt_tile_fill(void *tile, const void *w, size_t row_bytes, size_t rows,
                  jt_dtype dtype)
{
    static const char zeros[256];
    size_t block = is_float(dtype) ? 16 : jt_dtype_block_bytes(dtype);
    size_t lead = ends_with_scale(dtype) ? 0 : block % 4, tail = (block - lead) % 4;
    const char *row[JT_TILE_ROWS];
    for (size_t r = 0; r < JT_TILE_ROWS; r++)
        row[r] = r < rows ? (const char *)w + r * row_bytes : zeros;
    char *to = tile;
    for (size_t at = 0; at < row_bytes; at += block) {
        to = put_edges(to, row, 0, lead);
        to = put_dwords(to, row, lead, block - tail);
        to = put_edges(to, row, block - tail, tail);
        for (size_t r = 0; r < rows; r++)
            row[r] += block;
    }
}
