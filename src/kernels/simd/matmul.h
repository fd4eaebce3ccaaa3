/* Matrix products over panels. The order of sums of quantised products is the one of
 * c/matmul.c, to the bit; plain products are summed in order with fma within each chunk
 * of values, and the chunks then in order.
 *
 * WIDTH panels side by side share the loads of activations, which are what a product of
 * many tokens waits for.
 *
 * MEASURED (Zen 5, 3.6 GHz, one thread, 64 tokens, AVX-512): 545 GFLOP/s for codes, 190
 * for floats, of 960 and 245 that the units could do without loads, scales and
 * decoding; 500 and 165 with one panel and twice the tokens in a tile. */
#ifndef JT_SIMD_MATMUL_H
#define JT_SIMD_MATMUL_H

#include "kernels/kernels.h"
#include "kernels/simd/ahead.h"
#include "kernels/simd/panel.h"
#include "kernels/simd/panel_table.h"

#define ROWS (WIDTH * LANES)

/* Rows of activations that share one decoding of a panel. */
#define TOKENS 64

/* sums[t * ld + row] += row of the panels . activations x[t], for a fixed number of t,
 * over `count` values from value `at` of rows of n. Meanwhile a step of `next` is asked
 * for DOT_STEPS times in a chunk. */
#define DOT_STEPS 8
typedef void dot_fn(float *sums, size_t ld, const panel *p, const uint8_t *const *x,
                    size_t n, size_t at, size_t count, ahead *next);

/* Panel v of rows that lie `stride` bytes apart; of those of a tile from row `lane`
 * on. */
typedef void unpack_rows_fn(panel *p, int v, const uint8_t *w, size_t stride,
                            size_t count);
typedef void unpack_tile_fn(panel *p, int v, const uint8_t *tile, size_t lane,
                            size_t count);

typedef struct format {
    unpack_rows_fn *rows;
    unpack_tile_fn *tile;
    dot_fn *dot[TILE_SIZES]; /* for 1, 2, 4 .. TILE rows of activations */
    size_t block_values, block_bytes, chunk;
} format;

/* What a product needs of one Q8 row for a chunk, beside its codes: sums of codes per
 * group of the weights, as integers times -offset or as floats for the bias. */
typedef struct q8_side {
    float d[CHUNK / 32];
    int32_t offset[CHUNK / 16];
    float sum[CHUNK / 16];
} q8_side;

typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));

ALWAYS_INLINE void load_sums32(q8_side *side, const uint8_t *sums, int offset)
{
    i32x8 pairs;
    memcpy(&pairs, sums, sizeof pairs);
    pairs = (pairs << 16 >> 16) + (pairs >> 16);
    f32x8 real = __builtin_convertvector(pairs, f32x8);
    pairs *= -offset;
    memcpy(side->offset, &pairs, sizeof pairs);
    memcpy(side->sum, &real, sizeof real);
}

ALWAYS_INLINE void load_sums16(q8_side *side, const uint8_t *sums, int offset)
{
    i16x16 small;
    memcpy(&small, sums, sizeof small);
    i32x16 each = __builtin_convertvector(small, i32x16);
    f32x16 real = __builtin_convertvector(each, f32x16);
    each *= -offset;
    memcpy(side->offset, &each, sizeof each);
    memcpy(side->sum, &real, sizeof real);
}

/* The sums of a short last chunk are read with the padding that follows them. */
ALWAYS_INLINE void load_side(q8_side *side, const uint8_t *x, size_t n, size_t at,
                             size_t count, int group, int offset)
{
    const uint8_t *d = x + jt_pad64(n), *sums = d + jt_pad64(n / 8);
    if (count == CHUNK)
        memcpy(side->d, d + at / 8, sizeof side->d);
    else
        memcpy(side->d, d + at / 8, count / 8);
    if (group == 32)
        load_sums32(side, sums + at / 8, offset);
    else
        load_sums16(side, sums + at / 8, offset);
}

/* Part of total for 32 activations: codes, scales, bias of one or two groups. */
ALWAYS_INLINE void dot_group(vf total[WIDTH][TILE], const panel *p,
                             const int8_t *const x[TILE], const q8_side *side,
                             size_t at, size_t g, const int tile, const int group,
                             const bool bias, const int offset, const int top)
{
    const size_t parts = 32 / (size_t)group, steps = (size_t)group / 4;
    vf part[WIDTH][TILE];
    for (size_t j = 0, k = g * parts; j < parts; j++, k++) {
        vi isum[WIDTH][TILE];
        const vi *w[WIDTH];
        for (int v = 0; v < WIDTH; v++) {
            w[v] = p->code[v].q + k * steps;
            for (int t = 0; t < tile; t++)
                isum[v][t] = vi_set1(offset ? side[t].offset[k] : 0);
        }
        dot_codes(isum, w, x, at + 4 * k * steps, tile, (int)steps, top);
        for (int v = 0; v < WIDTH; v++)
            for (int t = 0; t < tile; t++) {
                vf scaled = vf_mul(vf_from_vi(isum[v][t]), p->code[v].scale[k]);
                part[v][t] = j == 0 ? scaled : vf_add(part[v][t], scaled);
            }
    }
    for (size_t j = 0, k = g * parts; bias && j < parts; j++, k++)
        for (int v = 0; v < WIDTH; v++)
            for (int t = 0; t < tile; t++) {
                vf shift = vf_mul(p->code[v].bias[k], vf_set1(side[t].sum[k]));
                part[v][t] = vf_add(part[v][t], shift);
            }
    for (int v = 0; v < WIDTH; v++)
        for (int t = 0; t < tile; t++) {
            vf scaled = vf_mul(part[v][t], vf_set1(side[t].d[g]));
            total[v][t] = vf_add(total[v][t], scaled);
        }
}

ALWAYS_INLINE void dot_quant(float *sums, size_t ld, const panel *p,
                             const uint8_t *const *x, size_t n, size_t at, size_t count,
                             ahead *next, const int tile, const int group,
                             const bool bias, const int offset, const int top)
{
    const int8_t *q[TILE];
    q8_side side[TILE];
    vf total[WIDTH][TILE];
    for (int t = 0; t < tile; t++) {
        q[t] = (const int8_t *)x[t];
        load_side(&side[t], x[t], n, at, count, group, offset);
        for (int v = 0; v < WIDTH; v++)
            total[v][t] = vf_load(sums + (size_t)t * ld + v * LANES);
    }
    for (size_t g = 0; g < count / 32; g++) {
        ask(next, 1);
        dot_group(total, p, q, side, at, g, tile, group, bias, offset, top);
    }
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < WIDTH; v++)
            vf_store(sums + (size_t)t * ld + v * LANES, total[v][t]);
}

ALWAYS_INLINE void dot_real(float *sums, size_t ld, const panel *p,
                            const uint8_t *const *x, size_t at, size_t count,
                            ahead *next, const int tile)
{
    vf part[WIDTH][TILE];
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < WIDTH; v++)
            part[v][t] = vf_set1(0);
    for (size_t i = 0; i < count; i++) {
        if (i % (CHUNK_REAL / DOT_STEPS) == 0)
            ask(next, 1);
        for (int t = 0; t < tile; t++) {
            float value;
            memcpy(&value, x[t] + (at + i) * sizeof value, sizeof value);
            for (int v = 0; v < WIDTH; v++)
                part[v][t] = vf_fma(p->real[v].w[i], vf_set1(value), part[v][t]);
        }
    }
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < WIDTH; v++) {
            float *sum = sums + (size_t)t * ld + v * LANES;
            vf_store(sum, vf_add(vf_load(sum), part[v][t]));
        }
}

/* One function per format and number of activation rows. */
#define DOT_REAL(tile, lower)                                                      \
    static void dot_##lower##_##tile(float *sums, size_t ld, const panel *p,       \
                                     const uint8_t *const *x, size_t n, size_t at, \
                                     size_t count, ahead *next)                    \
    {                                                                              \
        (void)n;                                                                   \
        dot_real(sums, ld, p, x, at, count, next, tile);                           \
    }
EACH_TILE(DOT_REAL, real)

#define DOT_QUANT(tile, lower, group, bias, offset, top)                             \
    static void dot_##lower##_##tile(float *sums, size_t ld, const panel *p,         \
                                     const uint8_t *const *x, size_t n, size_t at,   \
                                     size_t count, ahead *next)                      \
    {                                                                                \
        const int some = (tile) < WIDEST(group, top) ? (tile) : WIDEST(group, top);  \
        for (int t = 0; t < (tile); t += some)                                       \
            dot_quant(sums + (size_t)t * ld, ld, p, x + t, n, at, count, next, some, \
                      group, bias, (top) == 128 ? INT8_OFFSET : (offset), top);      \
    }
#define X(suffix, lower, values, group, bias, offset, top) \
    EACH_TILE(DOT_QUANT, lower, group, bias, offset, top)
JT_QUANT_LIST(X)
#undef X

#define UNPACK(lower)                                                           \
    static void rows_##lower(panel *p, int v, const uint8_t *w, size_t stride,  \
                             size_t count)                                      \
    {                                                                           \
        panel_##lower(p, v, (source){w, stride, 0, false}, count);              \
    }                                                                           \
    static void tile_##lower(panel *p, int v, const uint8_t *tile, size_t lane, \
                             size_t count)                                      \
    {                                                                           \
        panel_##lower(p, v, (source){tile, 0, lane, true}, count);              \
    }
#define X(suffix, lower, values, group, bias, offset, top) UNPACK(lower)
UNPACK(f32)
UNPACK(f16)
UNPACK(bf16)
JT_QUANT_LIST(X)
#undef X

#define DOT_NAME(tile, lower) dot_##lower##_##tile,
static const format format_f32 = {rows_f32, tile_f32, {EACH_TILE(DOT_NAME, real)},
                                  1,        4,        CHUNK_REAL};
static const format format_f16 = {rows_f16, tile_f16, {EACH_TILE(DOT_NAME, real)},
                                  1,        2,        CHUNK_REAL};
static const format format_bf16 = {rows_bf16, tile_bf16, {EACH_TILE(DOT_NAME, real)},
                                   1,         2,         CHUNK_REAL};
#define X(suffix, lower, values, group, bias, offset, top)              \
    static const format format_##lower = {                              \
        rows_##lower, tile_##lower,       {EACH_TILE(DOT_NAME, lower)}, \
        values,       sizeof(jt_##lower), CHUNK};
JT_QUANT_LIST(X)
#undef X

/* A copy of the rows of a panel that cannot be read in place, with zeros where the
 * panel has no row or no value. */
typedef struct edge {
    uint8_t rows[LANES][CHUNK_REAL * sizeof(float)];
} edge;

static void fill_edge(edge *e, const uint8_t *w, size_t stride, size_t first,
                      size_t last, size_t bytes)
{
    size_t padded = (bytes + 15) / 16 * 16;
    for (size_t r = 0; r < LANES; r++) {
        size_t used = r >= first && r < last ? bytes : 0;
        if (used)
            memcpy(e->rows[r], w + r * stride, bytes);
        memset(e->rows[r] + used, 0, padded - used);
    }
}

/* Decode panel v of ROWS rows of which only first .. last exist; row 0 is at `w`. */
static void unpack_rows(const format *f, panel *p, int v, const uint8_t *w,
                        size_t stride, size_t first, size_t last, size_t count)
{
    size_t bytes = count / f->block_values * f->block_bytes, skip = (size_t)v * LANES;
    size_t from = first > skip ? first - skip : 0;
    size_t to = last < skip ? 0 : last - skip < LANES ? last - skip : LANES;
    bool whole = from == 0 && to == LANES;
    if (whole && (f->block_values > 1 || bytes % 16 == 0)) {
        f->rows(p, v, w + skip * stride, stride, count);
        return;
    }
    edge e;
    fill_edge(&e, w + skip * stride, stride, from, to, bytes);
    f->rows(p, v, e.rows[0], sizeof e.rows[0], count);
}

/* Decode panel v of the rows from `row` on, `last` in all, from tiles at `w`, where the
 * block is `at` bytes into the rows. */
static void unpack_tile(const format *f, panel *p, int v, const uint8_t *w,
                        size_t row_bytes, size_t row, size_t last, size_t at,
                        size_t count)
{
    if (row + (size_t)v * LANES < last) /* otherwise any rows will do */
        row += (size_t)v * LANES;
    size_t in_tile = row % JT_TILE_ROWS, lane = row % JT_TILE_LANES;
    size_t block = f->block_values > 1 ? f->block_bytes : 16;
    const uint8_t *tile = w + (row - in_tile) * row_bytes + at * JT_TILE_ROWS;
    f->tile(p, v, tile + (in_tile - lane) * block, lane, count);
}

/* All activation rows x[0 .. tokens): the largest tiles first. */
static void dot_tokens(const format *f, float *sums, size_t ld, const panel *p,
                       const uint8_t *const *x, size_t tokens, size_t n, size_t at,
                       size_t count, ahead *next)
{
    size_t t = 0;
    for (int i = TILE_SIZES - 1; i >= 0; i--)
        for (size_t tile = (size_t)1 << i; t + tile <= tokens; t += tile)
            f->dot[i](sums + t * ld, ld, p, x + t, n, at, count, next);
}

/* Weights are asked for in the order of memory, in small pieces between products.
 * Behind the last rows lies what the thread will mostly do next.
 *
 * MEASURED (Zen 5, one token from memory, GB/s of Q4_K, Q6_K, Q8_0): rows with one
 * thread 7, 6, 10 without; 20, 11, 18 into the second cache and before each panel only;
 * 22, 23, 28 like this. Tiles with two threads, where plain reading gives 43: 18, 19,
 * 29 without; 39, 37, 40 a tile ahead, 43, 43, 43 like this, 8 KiB. Of Q4_K with two
 * and four tokens: 36, 33 with one piece before the products of a chunk, 40, 38 so.
 * What is read later comes beside it: what an adapter adds to a pass is in
 * bench/README.md. */
#define TILES_AHEAD 8192

/* While a panel is unpacked, beside DOT_STEPS of each product: it takes a large part of
 * the time where it has few products. */
static size_t unpack_steps(size_t tokens)
{
    return tokens > TILE ? 1 : 4;
}

/* Of `count` values, and of a row. */
static size_t steps_of(const format *f, size_t tokens, size_t count)
{
    const int left = __builtin_popcountll(tokens % TILE);
    const size_t products = tokens / TILE + (size_t)left;
    return (count + f->chunk - 1) / f->chunk * WIDTH * unpack_steps(tokens) +
           products * DOT_STEPS * count / f->chunk;
}

/* While rows r .. r + last are multiplied, in `steps` steps: of rows the next group, of
 * tiles what the first group that reads a tile will come to. */
static ahead weights_ahead(bool tiled, const uint8_t *w, size_t row_bytes, size_t r,
                           size_t last, size_t steps)
{
    const uint8_t *at = w + r * row_bytes;
    if (!tiled)
        return ahead_of(at + last * row_bytes, ROWS * row_bytes, steps);
    bool first = r % JT_TILE_ROWS == 0;
    return ahead_of(at + TILES_AHEAD, first ? JT_TILE_ROWS * row_bytes : 0, steps);
}

/* For rows of activations x[0 .. tokens), whose results begin at y. */
static void matmul(const format *f, bool tiled, const jt_matmul_args *m, float *y,
                   const uint8_t *const *x, size_t tokens, jt_later *later)
{
    const size_t chunk_bytes = f->chunk / f->block_values * f->block_bytes;
    const size_t steps = steps_of(f, tokens, m->n), rows = m->rows;
    const double share = /* of what is read later, for each row and value */
        (double)later->bytes / (double)(rows * m->n);
    const uint8_t *w = m->w;
    float sums[TOKENS][ROWS];
    size_t due = 0;
    panel p;
    for (size_t r = 0; r < rows; r += ROWS) {
        size_t last = rows - r < ROWS ? rows - r : ROWS;
        ahead next = weights_ahead(tiled, w, m->row_bytes, r, last, steps);
        memset(sums, 0, tokens * sizeof sums[0]);
        for (size_t at = 0; at < m->n; at += f->chunk) {
            size_t count = m->n - at < f->chunk ? m->n - at : f->chunk;
            size_t piece = at / f->chunk * chunk_bytes;
            next.far = take_due(later, &due, (size_t)(share * (double)(last * count)),
                                steps_of(f, tokens, count));
            for (int v = 0; v < WIDTH; v++) {
                ask(&next, unpack_steps(tokens));
                if (tiled)
                    unpack_tile(f, &p, v, w, m->row_bytes, r, rows, piece, count);
                else
                    unpack_rows(f, &p, v, w + r * m->row_bytes + piece, m->row_bytes, 0,
                                last, count);
            }
            dot_tokens(f, sums[0], ROWS, &p, x, tokens, m->n, at, count, &next);
        }
        for (size_t t = 0; t < tokens; t++)
            memcpy(y + t * m->ldy + r, sums[t], last * sizeof *y);
    }
}

/* Where rows first .. first + count of the activations are. */
static void gather(const uint8_t **act, const jt_matmul_args *m, size_t first,
                   size_t count)
{
    for (size_t t = first; t < first + count; t++) {
        size_t row = m->index ? (size_t)m->index[t] : t;
        *act++ = (const uint8_t *)m->x + row * m->x_bytes;
    }
}

/* The functions of the table: TOKENS rows of activations at a time. */
static void matmul_tokens(const format *f, bool tiled, const jt_matmul_args *m)
{
    const uint8_t *act[TOKENS];
    jt_later later = m->later;
    for (size_t first = 0; first < m->tokens; first += TOKENS) {
        size_t some = m->tokens - first < TOKENS ? m->tokens - first : TOKENS;
        gather(act, m, first, some);
        matmul(f, tiled, m, m->y + first * m->ldy, act, some, &later);
    }
}

#define MATMUL_FN(name, lower, tiled)                   \
    static void name##_##lower(const jt_matmul_args *m) \
    {                                                   \
        matmul_tokens(&format_##lower, tiled, m);       \
    }
#define MATMUL(lower)               \
    MATMUL_FN(matmul, lower, false) \
    MATMUL_FN(tiled, lower, true)
#define X(suffix, lower, values, group, bias, offset, top) MATMUL(lower)
MATMUL(f32)
MATMUL(f16)
MATMUL(bf16)
JT_QUANT_LIST(X)
#undef X

static void set_matmuls(jt_kernels *table)
{
    table->matmul[JT_F32] =
        (jt_matmul){.act = JT_ACT_F32, .fn = matmul_f32, .tiled = tiled_f32};
    table->matmul[JT_F16] =
        (jt_matmul){.act = JT_ACT_F32, .fn = matmul_f16, .tiled = tiled_f16};
    table->matmul[JT_BF16] =
        (jt_matmul){.act = JT_ACT_F32, .fn = matmul_bf16, .tiled = tiled_bf16};
#define X(suffix, lower, values, group, bias, offset, top) \
    table->matmul[JT_##suffix] =                           \
        (jt_matmul){.act = JT_ACT_Q8, .fn = matmul_##lower, .tiled = tiled_##lower};
    JT_QUANT_LIST(X)
#undef X
}

#endif
