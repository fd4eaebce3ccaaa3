/* Thin products with panels: B of an adapter, and A too where it has 8 bits.
 *
 * A value of 8 bits costs as much to widen as one of 16, and half as much to read. It
 * is summed in four chains, as one would wait for itself; the order is the same for any
 * number of tokens.
 *
 * MEASURED (Zen 5, one thread, GB/s from the first cache, the second, the third and
 * from memory): B of rank 16 in F16 118, 115, 94, 38. */
#ifndef JT_SIMD_THIN_PANELS_H
#define JT_SIMD_THIN_PANELS_H

#include "kernels/kernels.h"
#include "kernels/simd/vector.h"

/* Tokens that share a weight that was read. */
#define THIN_TOKENS 4

#define THIN_PARTS  (JT_PANEL_ROWS / LANES) /* vectors in a row of a panel */
#define PANEL_SUMS  (THIN_PARTS * THIN_TOKENS)
#define PANEL_CHAIN 4

/* How far ahead panels are asked for. */
#define THIN_AHEAD 8192

ALWAYS_INLINE vf thin_load(const uint8_t *w, const jt_dtype type)
{
    if (type == JT_Q8_0)
        return vf_from_vi(vi_load_signed(w));
    if (type == JT_F16)
        return vf_load_half((const void *)w);
    if (type == JT_BF16)
        return vf_cast(vi_left(vi_load_words(w), 16));
    return vf_load((const void *)w);
}

ALWAYS_INLINE size_t thin_bytes(const jt_dtype type)
{
    return type == JT_Q8_0 ? 1 : type == JT_F32 ? 4 : 2;
}

/* Rows row .. end of a matrix in panels at w, and what is read after it. */
typedef struct panel_rows {
    const uint8_t *w, *next;
    size_t row, end, n;
} panel_rows;

/* Some tokens: what they bring, and where its product goes. */
typedef struct panel_tokens {
    const float *x[THIN_TOKENS];
    float *y[THIN_TOKENS]; /* for the first of the rows */
    float factor[THIN_TOKENS];
} panel_tokens;

/* Some panels, one after the other. */
typedef struct panel_run {
    const uint8_t *w, *ahead;
    size_t n;
} panel_run;

/* While a row of each of `panels` is multiplied, as much that comes later. */
ALWAYS_INLINE void ask_panels(panel_run *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p->ahead + i, 0, 3);
    p->ahead += bytes;
}

/* sum += row k of panels `apart` bytes from each other, for some tokens. */
ALWAYS_INLINE void panel_row(vf sum[PANEL_SUMS], const uint8_t *w, size_t apart,
                             const panel_tokens *some, size_t k, const int panels,
                             const int tokens, const jt_dtype type)
{
    for (int v = 0; v < panels * THIN_PARTS; v++) {
        const size_t nth = (size_t)(v / THIN_PARTS), part = (size_t)(v % THIN_PARTS);
        vf weight = thin_load(w + nth * apart + part * LANES * thin_bytes(type), type);
        for (int t = 0; t < tokens; t++)
            sum[v * tokens + t] =
                vf_fma(weight, vf_set1(some->x[t][k]), sum[v * tokens + t]);
    }
}

ALWAYS_INLINE void panel_floats(vf sum[PANEL_SUMS], panel_run p,
                                const panel_tokens *some, const int panels,
                                const int tokens, const jt_dtype type)
{
    const size_t row = JT_PANEL_ROWS * thin_bytes(type);
    const uint8_t *w = p.w;
    for (size_t k = 0; k < p.n; k++, w += row) {
        ask_panels(&p, (size_t)panels * row);
        panel_row(sum, w, p.n * row, some, k, panels, tokens, type);
    }
}

/* A block of panels of 8 bits: values k .. k + count of each row. */
ALWAYS_INLINE void panel_block(vf sum[PANEL_SUMS], panel_run *p, size_t apart,
                               const panel_tokens *some, size_t k, size_t count,
                               const int panels, const int tokens)
{
    const int sums = panels * THIN_PARTS * tokens;
    const uint8_t *code = p->w + JT_PANEL_ROWS * sizeof(float);
    vf chain[PANEL_CHAIN][PANEL_SUMS];
    size_t i = 0;
    for (int c = 0; c < PANEL_CHAIN; c++)
        for (int s = 0; s < sums; s++)
            chain[c][s] = vf_set1(0);
    for (; i + PANEL_CHAIN <= count; i += PANEL_CHAIN) {
        ask_panels(p, (size_t)panels * PANEL_CHAIN * JT_PANEL_ROWS);
        for (size_t c = 0; c < PANEL_CHAIN; c++)
            panel_row(chain[c], code + (i + c) * JT_PANEL_ROWS, apart, some, k + i + c,
                      panels, tokens, JT_Q8_0);
    }
    for (; i < count; i++)
        panel_row(chain[0], code + i * JT_PANEL_ROWS, apart, some, k + i, panels,
                  tokens, JT_Q8_0);
    for (int s = 0; s < sums; s++) {
        const size_t v = (size_t)(s / tokens), nth = v / THIN_PARTS;
        const uint8_t *scales = p->w + nth * apart + v % THIN_PARTS * LANES * 4;
        vf low = vf_add(chain[0][s], chain[1][s]),
           high = vf_add(chain[2][s], chain[3][s]);
        sum[s] = vf_fma(vf_load((const void *)scales), vf_add(low, high), sum[s]);
    }
}

ALWAYS_INLINE void panel_codes(vf sum[PANEL_SUMS], panel_run p,
                               const panel_tokens *some, const int panels,
                               const int tokens)
{
    const size_t apart = jt_panel8_bytes(JT_PANEL_ROWS, p.n);
    size_t k = 0;
    for (; k + JT_PANEL_BLOCK <= p.n; k += JT_PANEL_BLOCK) {
        panel_block(sum, &p, apart, some, k, JT_PANEL_BLOCK, panels, tokens);
        p.w += jt_panel8_bytes(JT_PANEL_ROWS, JT_PANEL_BLOCK);
    }
    if (k < p.n)
        panel_block(sum, &p, apart, some, k, p.n - k, panels, tokens);
}

ALWAYS_INLINE void panel_sums(vf sum[PANEL_SUMS], const panel_run *p,
                              const panel_tokens *some, const int panels,
                              const int tokens, const jt_dtype type)
{
    for (int i = 0; i < panels * THIN_PARTS * tokens; i++)
        sum[i] = vf_set1(0);
    if (type == JT_Q8_0)
        panel_codes(sum, *p, some, panels, tokens);
    else
        panel_floats(sum, *p, some, panels, tokens, type);
}

/* All rows of some panels; their first is row `row` of y. */
ALWAYS_INLINE void panels_whole(const panel_tokens *some, const panel_run *p,
                                size_t row, const int panels, const int tokens,
                                const jt_dtype type)
{
    vf sum[PANEL_SUMS];
    panel_sums(sum, p, some, panels, tokens, type);
    for (int t = 0; t < tokens; t++) {
        for (int v = 0; v < panels * THIN_PARTS; v++) {
            float *at = some->y[t] + row + v * LANES;
            vf factor = vf_set1(some->factor[t]);
            vf_store(at, vf_fma(factor, sum[v * tokens + t], vf_load(at)));
        }
    }
}

/* `rows` rows of a panel, from its row `lane` on. */
ALWAYS_INLINE void panel_some(const panel_tokens *some, const panel_run *p, size_t row,
                              size_t lane, size_t rows, const int tokens,
                              const jt_dtype type)
{
    vf sum[PANEL_SUMS];
    panel_sums(sum, p, some, 1, tokens, type);
    for (int t = 0; t < tokens; t++) {
        float y[JT_PANEL_ROWS] = {0};
        memcpy(y + lane, some->y[t] + row, rows * sizeof *y);
        for (int v = 0; v < THIN_PARTS; v++) {
            vf factor = vf_set1(some->factor[t]), old = vf_load(y + v * LANES);
            vf_store(y + v * LANES, vf_fma(factor, sum[v * tokens + t], old));
        }
        memcpy(some->y[t] + row, y + lane, rows * sizeof *y);
    }
}

/* What to ask for while the panels at w are multiplied; they all end at `end`. */
ALWAYS_INLINE const uint8_t *panels_ahead(const uint8_t *w, const uint8_t *end,
                                          const uint8_t *next)
{
    size_t left = (size_t)(end - w);
    if (left > THIN_AHEAD || !next)
        return w + THIN_AHEAD;
    return next + (THIN_AHEAD - left);
}

/* As many panels at once as there are sums for. */
ALWAYS_INLINE void panels_add(const panel_rows *p, const panel_tokens *some,
                              const int panels, const int tokens, const jt_dtype type)
{
    const size_t many = (size_t)panels * JT_PANEL_ROWS;
    const size_t bytes = type == JT_Q8_0 ? jt_panel8_bytes(JT_PANEL_ROWS, p->n)
                                         : JT_PANEL_ROWS * p->n * thin_bytes(type);
    const uint8_t *end = p->w + (p->end + JT_PANEL_ROWS - 1) / JT_PANEL_ROWS * bytes;
    for (size_t row = p->row, rows; row < p->end; row += rows) {
        const uint8_t *w = p->w + row / JT_PANEL_ROWS * bytes;
        panel_run run = {w, panels_ahead(w, end, p->next), p->n};
        size_t lane = row % JT_PANEL_ROWS, left = p->end - row, whole = JT_PANEL_ROWS;
        if (lane == 0 && left >= many) {
            rows = many;
            panels_whole(some, &run, row - p->row, panels, tokens, type);
        } else if (lane == 0 && left >= whole) {
            rows = whole;
            panels_whole(some, &run, row - p->row, 1, tokens, type);
        } else {
            rows = whole - lane < left ? whole - lane : left;
            panel_some(some, &run, row - p->row, lane, rows, tokens, type);
        }
    }
}

/* ---- B ---- */

ALWAYS_INLINE void thin_up_tokens(const jt_thin_up *u, size_t token, const int most,
                                  const int tokens, const jt_dtype type)
{
    const panel_rows rows = {u->b, u->next, u->row, u->row + u->rows, u->rank};
    panel_tokens some;
    for (int t = 0; t < tokens; t++) {
        size_t at = token + (size_t)t, row = u->index ? (size_t)u->index[at] : at;
        some.x[t] = u->low + at * u->low_stride;
        some.y[t] = u->y + row * u->y_stride;
        some.factor[t] = u->weight ? u->weight[at] * u->scale : u->scale;
    }
    panels_add(&rows, &some, most / tokens, tokens, type);
}

/* ---- A of 8 bits ---- */

ALWAYS_INLINE void thin_codes_tokens(const jt_thin *p, size_t token, const int most,
                                     const int tokens, const jt_dtype type)
{
    const panel_rows rows = {p->w, p->next, p->row, p->row + p->rows, p->n};
    panel_tokens some;
    for (int t = 0; t < tokens; t++) {
        size_t at = token + (size_t)t, row = p->index ? (size_t)p->index[at] : at;
        some.x[t] = (const void *)((const uint8_t *)p->x + row * p->x_bytes);
        some.y[t] = p->y + at * p->y_stride;
        some.factor[t] = 1.0f;
        memset(some.y[t], 0, p->rows * sizeof(float));
    }
    panels_add(&rows, &some, most / tokens, tokens, type);
}

/* All tokens, as many at once as there are registers for. */
#define EACH_TOKENS(one, p, type)                                          \
    do {                                                                   \
        enum { MOST = (type) == JT_Q8_0 && LANES < 16 ? 1 : THIN_TOKENS }; \
        size_t t = 0;                                                      \
        for (; MOST == 4 && t + 4 <= (p)->tokens; t += 4)                  \
            one(p, t, MOST, 4, type);                                      \
        for (; MOST == 4 && t + 2 <= (p)->tokens; t += 2)                  \
            one(p, t, MOST, 2, type);                                      \
        for (; t < (p)->tokens; t++)                                       \
            one(p, t, MOST, 1, type);                                      \
    } while (0)

#endif
