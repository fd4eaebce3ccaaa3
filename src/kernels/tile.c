#include "kernels/tile.h"

#include <string.h>

#include "base/half.h"

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

size_t jt_tile_block(jt_dtype dtype)
{
    return is_float(dtype) ? 16 : jt_dtype_block_bytes(dtype);
}

/* `bytes` of each of the rows, side by side. */
static char *put_edges(char *to, const char *const *row, size_t at, size_t bytes)
{
    for (int r = 0; r < JT_TILE_LANES && bytes; r++, to += bytes)
        memcpy(to, row[r] + at, bytes);
    return to;
}

static char *put_dwords(char *to, const char *const *row, size_t at, size_t end)
{
    for (; at < end; at += 4)
        for (int r = 0; r < JT_TILE_LANES; r++, to += 4)
            memcpy(to, row[r] + at, 4);
    return to;
}

/* Half of a tile, each block of which is followed by one of the other half. Rows that
 * are not there are read from a block of zeros, again and again. */
static void fill_half(char *to, const char *w, size_t row_bytes, size_t rows,
                      jt_dtype dtype)
{
    static const char zeros[256];
    size_t block = jt_tile_block(dtype);
    size_t lead = ends_with_scale(dtype) ? 0 : block % 4, tail = (block - lead) % 4;
    const char *row[JT_TILE_LANES];
    for (size_t r = 0; r < JT_TILE_LANES; r++)
        row[r] = r < rows ? w + r * row_bytes : zeros;
    for (size_t at = 0; at < row_bytes; at += block) {
        to = put_edges(to, row, 0, lead);
        to = put_dwords(to, row, lead, block - tail);
        to = put_edges(to, row, block - tail, tail);
        to += JT_TILE_LANES * block;
        for (size_t r = 0; r < JT_TILE_LANES; r++)
            row[r] += r < rows ? block : 0;
    }
}

void jt_tile_fill(void *tile, const void *w, size_t row_bytes, size_t rows,
                  jt_dtype dtype)
{
    size_t upper = rows < JT_TILE_LANES ? rows : JT_TILE_LANES;
    fill_half(tile, w, row_bytes, upper, dtype);
    fill_half((char *)tile + JT_TILE_LANES * jt_tile_block(dtype),
              (const char *)w + JT_TILE_LANES * row_bytes, row_bytes, rows - upper,
              dtype);
}

void jt_tile_fill_halves(void *tile, const float *w, size_t n, size_t rows)
{
    enum { SOME = 128 };
    uint16_t half[JT_TILE_ROWS * SOME];
    for (size_t at = 0, count; at < n; at += count) {
        count = n - at < SOME ? n - at : SOME;
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < count; i++)
                half[r * count + i] = jt_float_to_bf16(w[r * n + at + i]);
        jt_tile_fill((char *)tile + at * sizeof *half * JT_TILE_ROWS, half,
                     count * sizeof *half, rows, JT_BF16);
    }
}
