/* Thin products.
 *
 * MEASURED (Zen 5, one thread, GB/s of plain reading, where 33 is the most): pieces of
 * 18 KB, which is A of a rank of 16, in any order 10 to 18; asked for 4 KB ahead,
 * across pieces, 21, 8 KB ahead 23; pieces of 55 KB 17, 27, 27. */
#ifndef JT_SIMD_THIN_H
#define JT_SIMD_THIN_H

#include "kernels/kernels.h"
#include "kernels/simd/ahead.h"
#include "kernels/simd/vector.h"

/* Tokens that share a weight that was read. */
#define THIN_TOKENS 4

/* Sums in registers. */
#define THIN_SUMS (LANES == 16 ? 16 : 8)

ALWAYS_INLINE vf thin_load(const uint8_t *w, const jt_dtype type)
{
    if (type == JT_F16)
        return vf_load_half((const void *)w);
    if (type == JT_BF16)
        return vf_cast(vi_left(vi_load_words(w), 16));
    return vf_load((const void *)w);
}

/* ---- rows of many values ---- */

/* The last `count` values of a row, fewer than LANES; zeros behind them. */
ALWAYS_INLINE vf thin_load_end(const uint8_t *w, size_t count, const jt_dtype type)
{
    uint8_t some[LANES * sizeof(float)] = {0};
    memcpy(some, w, count * (type == JT_F32 ? 4 : 2));
    return thin_load(some, type);
}

/* Some rows and tokens: lane i of a sum has the values i, i + LANES, .. in order. */
ALWAYS_INLINE void thin_tile(float *y, size_t ldy, const uint8_t *w, size_t row_bytes,
                             const float *const *x, size_t n, ahead next,
                             const int rows, const int tokens, const jt_dtype type)
{
    const size_t bytes = type == JT_F32 ? 4 : 2, whole = n / LANES * LANES;
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
ALWAYS_INLINE ahead thin_ahead(const jt_thin *p, size_t row, size_t rows)
{
    const uint8_t *w = (const uint8_t *)p->w + (row + rows) * p->row_bytes;
    const void *next = row + rows < p->rows ? w : p->next;
    return ahead_of(next, next ? rows * p->row_bytes : 0, p->n / LANES + 1);
}

ALWAYS_INLINE void thin_rows(const jt_thin *p, float *y, const float *const *x,
                             const int tokens, const jt_dtype type)
{
    const size_t most = tokens == 1 ? 8 : THIN_SUMS / (size_t)tokens;
    const uint8_t *w = p->w;
    size_t r = 0;
    for (; r + most <= p->rows; r += most)
        thin_tile(y + r, p->y_stride, w + r * p->row_bytes, p->row_bytes, x, p->n,
                  thin_ahead(p, r, most), (int)most, tokens, type);
    for (; r < p->rows; r++)
        thin_tile(y + r, p->y_stride, w + r * p->row_bytes, p->row_bytes, x, p->n,
                  thin_ahead(p, r, 1), 1, tokens, type);
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

/* ---- rows of a few values, in panels ---- */

#define THIN_PARTS (JT_PANEL_ROWS / LANES)    /* vectors in a row of a panel */
#define UP_SUMS    (THIN_PARTS * THIN_TOKENS) /* for two panels of two tokens too */

/* How far ahead panels are asked for. */
#define THIN_AHEAD 8192

/* While panels of `bytes` at `w` are multiplied. */
ALWAYS_INLINE void ask_panels(const jt_thin_up *u, const uint8_t *w, const uint8_t *end,
                              size_t bytes)
{
    uintptr_t at = (uintptr_t)w + THIN_AHEAD, past = at - (uintptr_t)end;
    if (at >= (uintptr_t)end)
        at = u->next ? (uintptr_t)u->next + past : (uintptr_t)w;
    ahead next = ahead_of((const void *)at, bytes, 1);
    ask(&next, 1);
}

/* What some panels, one after the other, give to some tokens. */
ALWAYS_INLINE void thin_panels(vf sum[UP_SUMS], const uint8_t *w, size_t rank,
                               const float *const *low, const int panels,
                               const int tokens, const jt_dtype type)
{
    const size_t bytes = type == JT_F32 ? 4 : 2, row = JT_PANEL_ROWS * bytes;
    for (int i = 0; i < panels * THIN_PARTS * tokens; i++)
        sum[i] = vf_set1(0);
    for (size_t k = 0; k < rank; k++, w += row)
        for (int v = 0; v < panels * THIN_PARTS; v++) {
            const size_t nth = (size_t)(v / THIN_PARTS),
                         part = (size_t)(v % THIN_PARTS);
            vf weight = thin_load(w + nth * rank * row + part * LANES * bytes, type);
            for (int t = 0; t < tokens; t++)
                sum[v * tokens + t] =
                    vf_fma(weight, vf_set1(low[t][k]), sum[v * tokens + t]);
        }
}

/* y += factor times the lanes `lane` .. `lane` + rows of a panel. */
ALWAYS_INLINE void thin_add(float *y, float factor, const vf *sum, size_t step,
                            size_t lane, size_t rows)
{
    if (rows == JT_PANEL_ROWS) {
        for (size_t v = 0; v < THIN_PARTS; v++) {
            float *at = y + v * LANES;
            vf_store(at, vf_fma(vf_set1(factor), sum[v * step], vf_load(at)));
        }
        return;
    }
    float some[JT_PANEL_ROWS] = {0};
    memcpy(some + lane, y, rows * sizeof *y);
    for (size_t v = 0; v < THIN_PARTS; v++) {
        float *at = some + v * LANES;
        vf_store(at, vf_fma(vf_set1(factor), sum[v * step], vf_load(at)));
    }
    memcpy(y, some + lane, rows * sizeof *y);
}

/* The rows from `row` on in some panels; where they end. */
ALWAYS_INLINE size_t thin_up_panels(const jt_thin_up *u, size_t row, size_t token,
                                    const int panels, const int tokens,
                                    const jt_dtype type)
{
    const size_t bytes = type == JT_F32 ? 4 : 2, end = u->row + u->rows;
    const size_t panel_bytes = JT_PANEL_ROWS * u->rank * bytes;
    const uint8_t *b = u->b, *last = b + end / JT_PANEL_ROWS * panel_bytes;
    const uint8_t *w = b + row / JT_PANEL_ROWS * panel_bytes;
    const float *low[THIN_TOKENS];
    vf sum[UP_SUMS];
    for (int t = 0; t < tokens; t++)
        low[t] = u->low + (token + (size_t)t) * u->low_stride;
    ask_panels(u, w, last, (size_t)panels * panel_bytes);
    thin_panels(sum, w, u->rank, low, panels, tokens, type);
    for (int i = 0; i < panels; i++) {
        size_t lane = row % JT_PANEL_ROWS, next = row - lane + JT_PANEL_ROWS;
        next = next < end ? next : end;
        for (int t = 0; t < tokens; t++) {
            size_t at = token + (size_t)t;
            float factor = u->weight ? u->weight[at] * u->scale : u->scale;
            size_t y_row = u->index ? (size_t)u->index[at] : at;
            thin_add(u->y + y_row * u->y_stride + row - u->row, factor,
                     sum + i * THIN_PARTS * tokens + t, (size_t)tokens, lane,
                     next - row);
        }
        row = next;
    }
    return row;
}

ALWAYS_INLINE void thin_up_tokens(const jt_thin_up *u, size_t token, const int tokens,
                                  const jt_dtype type)
{
    const size_t end = u->row + u->rows, pair = 2 * JT_PANEL_ROWS;
    size_t row = u->row;
    while (row < end) {
        if (tokens <= 2 && row % JT_PANEL_ROWS == 0 && row + pair <= end)
            row = thin_up_panels(u, row, token, 2, tokens, type);
        else
            row = thin_up_panels(u, row, token, 1, tokens, type);
    }
}

ALWAYS_INLINE void thin_up_all(const jt_thin_up *u, const jt_dtype type)
{
    size_t t = 0;
    for (; t + THIN_TOKENS <= u->tokens; t += THIN_TOKENS)
        thin_up_tokens(u, t, THIN_TOKENS, type);
    for (; t + 2 <= u->tokens; t += 2)
        thin_up_tokens(u, t, 2, type);
    for (; t < u->tokens; t++)
        thin_up_tokens(u, t, 1, type);
}

/* ---- the table ---- */

#define THIN(lower, type)                            \
    static void thin_##lower(const jt_thin *p)       \
    {                                                \
        thin_all(p, type);                           \
    }                                                \
    static void thin_up_##lower(const jt_thin_up *u) \
    {                                                \
        thin_up_all(u, type);                        \
    }
THIN(f32, JT_F32)
THIN(f16, JT_F16)
THIN(bf16, JT_BF16)
#undef THIN

static void set_thin(jt_kernels *table)
{
    table->thin[JT_F32] = thin_f32;
    table->thin[JT_F16] = thin_f16;
    table->thin[JT_BF16] = thin_bf16;
    table->thin_up[JT_F32] = thin_up_f32;
    table->thin_up[JT_F16] = thin_up_f16;
    table->thin_up[JT_BF16] = thin_up_bf16;
}

#endif
