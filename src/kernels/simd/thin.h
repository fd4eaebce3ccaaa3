/* Thin products with rows of many values as they are, and the table of all.
 *
 * MEASURED (Zen 5, one thread, GB/s of plain reading, where 33 is the most): pieces of
 * 18 KB, which is A of a rank of 16, in any order 10 to 18; asked for 4 KB ahead,
 * across pieces, 21, 8 KB ahead 23; pieces of 55 KB 17, 27, 27. */
#ifndef JT_SIMD_THIN_H
#define JT_SIMD_THIN_H

#include "kernels/kernels.h"
#include "kernels/simd/ahead.h"
#include "kernels/simd/thin_panels.h"
#include "kernels/simd/vector.h"

/* Sums in registers. */
#define THIN_SUMS (LANES == 16 ? 16 : 8)

/* The last `count` values of a row, fewer than LANES; zeros behind them. */
ALWAYS_INLINE vf thin_load_end(const uint8_t *w, size_t count, const jt_dtype type)
{
    uint8_t some[LANES * sizeof(float)] = {0};
    memcpy(some, w, count * thin_bytes(type));
    return thin_load(some, type);
}

/* Some rows and tokens: lane i of a sum has the values i, i + LANES, .. in order. */
ALWAYS_INLINE void thin_tile(float *y, size_t ldy, const uint8_t *w, size_t row_bytes,
                             const float *const *x, size_t n, ahead next,
                             const int rows, const int tokens, const jt_dtype type)
{
    const size_t bytes = thin_bytes(type), whole = n / LANES * LANES;
    vf sum[THIN_SUMS];
    for (int i = 0; i < rows * tokens; i++)
        sum[i] = vf_set1(0);
    for (size_t i = 0; i < whole; i += LANES) {
        vf some[THIN_TOKENS];
        ask(&next, 1);
        for (int t = 0; t < tokens; t++)
            some[t] = vf_load(x[t] + i);
        for (int r = 0; r < rows; r++) {
            vf weight = thin_load(w + (size_t)r * row_bytes + i * bytes, type);
            for (int t = 0; t < tokens; t++)
                sum[r * tokens + t] = vf_fma(weight, some[t], sum[r * tokens + t]);
        }
    }
    for (int r = 0; r < rows && whole < n; r++) {
        const uint8_t *end = w + (size_t)r * row_bytes + whole * bytes;
        vf weight = thin_load_end(end, n - whole, type);
        for (int t = 0; t < tokens; t++)
            sum[r * tokens + t] =
                vf_fma(weight, vf_load_n(x[t] + whole, n - whole), sum[r * tokens + t]);
    }
    for (int t = 0; t < tokens; t++)
        for (int r = 0; r < rows; r++)
            y[(size_t)t * ldy + (size_t)r] = vf_sum(sum[r * tokens + t]);
}

/* While rows are multiplied, as many behind them or of what comes next. */
ALWAYS_INLINE ahead thin_ahead(const jt_thin *p, const uint8_t *w, size_t row,
                               size_t rows, size_t row_bytes)
{
    const void *next = row + rows < p->rows ? w + rows * row_bytes : p->next;
    return ahead_of(next, next ? rows * row_bytes : 0, p->n / LANES + 1);
}

ALWAYS_INLINE void thin_rows(const jt_thin *p, float *y, const float *const *x,
                             const int tokens, const jt_dtype type)
{
    const size_t most = tokens == 1 ? 8 : THIN_SUMS / (size_t)tokens;
    const size_t row_bytes = p->n * thin_bytes(type);
    const uint8_t *w = (const uint8_t *)p->w + p->row * row_bytes;
    size_t r = 0;
    for (; r + most <= p->rows; r += most, w += most * row_bytes)
        thin_tile(y + r, p->y_stride, w, row_bytes, x, p->n,
                  thin_ahead(p, w, r, most, row_bytes), (int)most, tokens, type);
    for (; r < p->rows; r++, w += row_bytes)
        thin_tile(y + r, p->y_stride, w, row_bytes, x, p->n,
                  thin_ahead(p, w, r, 1, row_bytes), 1, tokens, type);
}

ALWAYS_INLINE void thin_all(const jt_thin *p, const jt_dtype type)
{
    const float *x[THIN_TOKENS];
    for (size_t first = 0; first < p->tokens; first += THIN_TOKENS) {
        size_t left = p->tokens - first;
        for (size_t t = 0; t < THIN_TOKENS && t < left; t++) {
            size_t j = p->index ? (size_t)p->index[first + t] : first + t;
            x[t] = (const void *)((const uint8_t *)p->x + j * p->x_bytes);
        }
        float *y = p->y + first * p->y_stride;
        if (left >= THIN_TOKENS)
            thin_rows(p, y, x, THIN_TOKENS, type);
        for (size_t t = 0; left < THIN_TOKENS && t < left; t++)
            thin_rows(p, y + t * p->y_stride, x + t, 1, type);
    }
}

/* ---- the table ---- */

#define THIN_A(lower, type)                    \
    static void thin_##lower(const jt_thin *p) \
    {                                          \
        thin_all(p, type);                     \
    }
#define THIN_B(lower, type)                          \
    static void thin_up_##lower(const jt_thin_up *u) \
    {                                                \
        EACH_TOKENS(thin_up_tokens, u, type);        \
    }
THIN_A(f32, JT_F32)
THIN_A(f16, JT_F16)
THIN_A(bf16, JT_BF16)
THIN_B(f32, JT_F32)
THIN_B(f16, JT_F16)
THIN_B(bf16, JT_BF16)
THIN_B(codes, JT_Q8_0)
#undef THIN_A
#undef THIN_B

static void thin_codes(const jt_thin *p)
{
    EACH_TOKENS(thin_codes_tokens, p, JT_Q8_0);
}

static void set_thin(jt_kernels *table)
{
    table->thin[JT_F32] = thin_f32;
    table->thin[JT_F16] = thin_f16;
    table->thin[JT_BF16] = thin_bf16;
    table->thin[JT_Q8_0] = thin_codes;
    table->thin_up[JT_F32] = thin_up_f32;
    table->thin_up[JT_F16] = thin_up_f16;
    table->thin_up[JT_BF16] = thin_up_bf16;
    table->thin_up[JT_Q8_0] = thin_up_codes;
}

#endif
