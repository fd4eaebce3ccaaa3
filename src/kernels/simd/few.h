/* Matrix products of few tokens, which is what decoding is: codes go from the tile into
 * the product without a panel between. What a panel saves, decoding for every token, is
 * less here than what it costs, writing and reading it. The order of sums is that of
 * simd/matmul.h.
 *
 * MEASURED (Zen 5, one thread, AVX-512, weights in the cache, ns for 32 rows of 256
 * values, with 1, 2, 3, 4 tokens): Q4_K 62, 91, 118, 140, with panels 120, 139, 179,
 * 188; Q6_K 106, 138, 187, 231, with panels 166, 190, 233, 232; Q8_0 75, 102, 125, 147,
 * with panels 113, 128, 164, 175. AVX2: Q4_K 135, 248, 308, 400, with panels 176, 288,
 * 377, 396; Q6_K 195, 292, 468, 642, with panels 253, 358, 441, 549. From memory, two
 * threads, AVX-512, GB/s of Q4_K, where plain reading gives 43: 43, 43, 42, 41, with
 * panels 42, 40, 38, 37. F32, AVX-512: 245, 260, 340, 308, with panels 482, 498, 695,
 * 522; AVX2: 246, 382, 523, with panels 845, 840, 1298. */
#ifndef JT_SIMD_FEW_H
#define JT_SIMD_FEW_H

#include "kernels/simd/matmul.h"

#define FEW 4 /* tokens at most; FEW_MOST(ways) is what pays */

/* The formats: X(enum suffix, lower case, groups of 32 whose codes share bytes, so that
 * they are decoded together). A part is such groups. */
#define FEW_LIST(X)      \
    X(Q8_0, q8_0, 1)     \
    X(Q4_0, q4_0, 1)     \
    X(Q4_1, q4_1, 1)     \
    X(Q2_K, q2_k, 4)     \
    X(Q3_K, q3_k, 4)     \
    X(Q4_K, q4_k, 2)     \
    X(Q5_K, q5_k, 2)     \
    X(Q6_K, q6_k, 4)     \
    X(IQ4_NL, iq4_nl, 1) \
    X(IQ4_XS, iq4_xs, 1) \
    X(MXFP4, mxfp4, 1)
#define MOST_WAYS  4
#define FLOAT_WAYS 2 /* floats take the registers of so many */

/* What is left to say of a format: as in JT_QUANT_LIST, and the bytes of a chunk. */
typedef struct few_form {
    enum few_name {
#define X(suffix, lower, ways) FEW_##lower,
        FEW_LIST(X)
#undef X
    } name;
    int ways, group, offset;
    bool bias;
    size_t block_values, block_bytes;
} few_form;

/* Dword i of the codes of each group of a part. */
#define DWORD(out, r, block, field) LOAD(&(out), 1, r, block, field)

ALWAYS_INLINE void codes_q8_0(vi *out, source r, size_t part, size_t i)
{
    DWORD(out[0], block_at(r, part, sizeof(jt_q8_0)), jt_q8_0, qs[4 * i]);
    out[0] = vi_int8_codes(out[0]);
}

/* The low or the high nibbles of one of four dwords. */
ALWAYS_INLINE vi nibbles_of(source r, size_t at, size_t i)
{
    vi packed;
    load_dwords(&packed, 1, r, at + i % 4 * 4, at + 16);
    return vi_and(vi_right(packed, (int)(i / 4 * 4)), 0x0f0f0f0f);
}

ALWAYS_INLINE void codes_q4_0(vi *out, source r, size_t part, size_t i)
{
    r = block_at(r, part, sizeof(jt_q4_0));
    out[0] = nibbles_of(r, offsetof(jt_q4_0, qs), i);
}

ALWAYS_INLINE void codes_q4_1(vi *out, source r, size_t part, size_t i)
{
    r = block_at(r, part, sizeof(jt_q4_1));
    out[0] = nibbles_of(r, offsetof(jt_q4_1, qs), i);
}

ALWAYS_INLINE void codes_iq4_nl(vi *out, source r, size_t part, size_t i)
{
    const vi table = vi_int8_codes(vi_table(table_iq4));
    codes_q4_0(out, r, part, i);
    out[0] = vi_look_up(table, out[0]);
}

ALWAYS_INLINE void codes_iq4_xs(vi *out, source r, size_t part, size_t i)
{
    const vi table = vi_int8_codes(vi_table(table_iq4));
    out[0] = vi_look_up(table, nibbles_of(r, offsetof(jt_iq4_xs, qs) + 16 * part, i));
}

ALWAYS_INLINE void codes_mxfp4(vi *out, source r, size_t part, size_t i)
{
    const vi table = table_above(table_fp4, 16, 12);
    r = block_at(r, part, sizeof(jt_mxfp4));
    out[0] = vi_look_up(table, nibbles_of(r, offsetof(jt_mxfp4, qs), i));
}

ALWAYS_INLINE void codes_q4_k(vi *out, source r, size_t part, size_t i)
{
    vi packed;
    DWORD(packed, r, jt_q4_k, qs[32 * part + 4 * i]);
    split_nibbles(out, &packed, 1, 1);
}

ALWAYS_INLINE void codes_q5_k(vi *out, source r, size_t part, size_t i)
{
    vi packed, high;
    DWORD(packed, r, jt_q5_k, qs[32 * part + 4 * i]);
    DWORD(high, r, jt_q5_k, qh[4 * i]);
    high = vi_right(high, (int)(2 * part));
    split_nibbles(out, &packed, 1, 1);
    out[0] = vi_or(out[0], vi_and(vi_left(high, 4), 0x10101010));
    out[1] = vi_or(out[1], vi_and(vi_left(high, 3), 0x10101010));
}

/* The four two-bit planes of a dword. */
ALWAYS_INLINE void planes_of(vi out[4], vi packed)
{
    for (int plane = 0; plane < 4; plane++)
        out[plane] = vi_and(vi_right(packed, 2 * plane), 0x03030303);
}

ALWAYS_INLINE void codes_q2_k(vi *out, source r, size_t part, size_t i)
{
    vi packed;
    DWORD(packed, r, jt_q2_k, qs[32 * part + 4 * i]);
    planes_of(out, packed);
}

ALWAYS_INLINE void codes_q3_k(vi *out, source r, size_t part, size_t i)
{
    vi packed, mask;
    DWORD(packed, r, jt_q3_k, qs[32 * part + 4 * i]);
    DWORD(mask, r, jt_q3_k, hmask[4 * i]);
    planes_of(out, packed);
    for (int w = 0; w < 4; w++) {
        vi high = vi_and(vi_right(mask, (int)(4 * part) + w), 0x01010101);
        out[w] = vi_or(out[w], vi_left(high, 2));
    }
}

ALWAYS_INLINE void codes_q6_k(vi *out, source r, size_t part, size_t i)
{
    vi low[2], high;
    DWORD(low[0], r, jt_q6_k, ql[64 * part + 4 * i]);
    DWORD(low[1], r, jt_q6_k, ql[64 * part + 32 + 4 * i]);
    DWORD(high, r, jt_q6_k, qh[32 * part + 4 * i]);
    split_nibbles(out, low, 2, 2);
    out[0] = vi_or(out[0], vi_and(vi_left(high, 4), 0x30303030));
    out[1] = vi_or(out[1], vi_and(vi_left(high, 2), 0x30303030));
    out[2] = vi_or(out[2], vi_and(high, 0x30303030));
    out[3] = vi_or(out[3], vi_and(vi_right(high, 2), 0x30303030));
}

ALWAYS_INLINE void codes_of(enum few_name name, vi *out, source r, size_t part,
                            size_t i)
{
    switch (name) {
#define X(suffix, lower, ways)          \
    case FEW_##lower:                   \
        codes_##lower(out, r, part, i); \
        break;
        FEW_LIST(X)
#undef X
    }
}

#define scales_q5_k   scales_q4_k
#define scales_iq4_nl scales_q4_0

ALWAYS_INLINE void scales_of(enum few_name name, code_panel *p, source r, size_t count)
{
    switch (name) {
#define X(suffix, lower, ways)       \
    case FEW_##lower:                \
        scales_##lower(p, r, count); \
        break;
        FEW_LIST(X)
#undef X
    }
}

/* For one number of tokens, whose activations are x. */
typedef void few_fn(const jt_matmul_args *m, const uint8_t *const *x);

/* What to ask for while a tile is multiplied, in `steps` steps: as much behind it, and
 * its share of what is read later. */
ALWAYS_INLINE ahead few_ahead(const jt_matmul_args *m, const uint8_t *tile,
                              jt_later *later, size_t *due, size_t steps)
{
    const size_t share = m->later.bytes * JT_TILE_ROWS / m->rows + 1;
    return (ahead){
        .near = stretch_of(tile + TILES_AHEAD, JT_TILE_ROWS * m->row_bytes, steps),
        .far = take_due(later, due, share, steps)};
}

/* A chunk of the activations of few tokens. */
typedef struct few_chunk {
    const int8_t *q[FEW];
    q8_side side[FEW];
} few_chunk;

/* Group k of 16 or 32 of each group of 32 of a part, scaled: of all tokens. */
ALWAYS_INLINE void few_groups(vf scaled[MOST_WAYS][FEW], const few_form f,
                              const code_panel *p, source r, const few_chunk *x,
                              size_t part, size_t k, const int tokens)
{
    const size_t steps = (size_t)f.group / 4, all = 32 / (size_t)f.group;
    const size_t first = part * (size_t)f.ways;
    vi isum[MOST_WAYS][FEW];
    for (int w = 0; w < f.ways; w++)
        for (int t = 0; t < tokens; t++) {
            int32_t offset = x->side[t].offset[(first + (size_t)w) * all + k];
            isum[w][t] = vi_set1(f.offset ? offset : 0);
        }
    for (size_t i = k * steps; i < (k + 1) * steps; i++) {
        vi code[MOST_WAYS];
        codes_of(f.name, code, r, part, i);
        for (int w = 0; w < f.ways; w++)
            for (int t = 0; t < tokens; t++) {
                int dword;
                memcpy(&dword, x->q[t] + 32 * (first + (size_t)w) + 4 * i,
                       sizeof dword);
                isum[w][t] = vi_dot(isum[w][t], code[w], vi_set1(dword));
            }
    }
    for (int w = 0; w < f.ways; w++)
        for (int t = 0; t < tokens; t++) {
            vf scale = p->scale[(first + (size_t)w) * all + k];
            scaled[w][t] = vf_mul(vf_from_vi(isum[w][t]), scale);
        }
}

/* total += a part, group after group. */
ALWAYS_INLINE void few_part(vf total[FEW], const few_form f, const code_panel *p,
                            source r, const few_chunk *x, size_t part, const int tokens)
{
    const size_t all = 32 / (size_t)f.group;
    vf sum[MOST_WAYS][FEW], other[MOST_WAYS][FEW];
    few_groups(sum, f, p, r, x, part, 0, tokens);
    if (all == 2)
        few_groups(other, f, p, r, x, part, 1, tokens);
    for (int w = 0; w < f.ways; w++)
        for (int t = 0; t < tokens; t++) {
            const size_t g = part * (size_t)f.ways + (size_t)w;
            if (all == 2)
                sum[w][t] = vf_add(sum[w][t], other[w][t]);
            for (size_t k = g * all; f.bias && k < (g + 1) * all; k++) {
                vf shift = vf_mul(p->bias[k], vf_set1(x->side[t].sum[k]));
                sum[w][t] = vf_add(sum[w][t], shift);
            }
            vf scaled = vf_mul(sum[w][t], vf_set1(x->side[t].d[g]));
            total[t] = vf_add(total[t], scaled);
        }
}

/* A tile, or its first `rows` rows. */
ALWAYS_INLINE void few_tile(float *y, size_t ldy, const uint8_t *tile, size_t rows,
                            const uint8_t *const *x, size_t n, ahead *next,
                            const few_form f, const int tokens)
{
    enum { PANELS = JT_TILE_ROWS / LANES };
    vf total[PANELS][FEW];
    code_panel p;
    few_chunk chunk;
    for (int v = 0; v < PANELS; v++)
        for (int t = 0; t < tokens; t++)
            total[v][t] = vf_set1(0);
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t count = n - at < CHUNK ? n - at : CHUNK;
        for (int t = 0; t < tokens; t++) {
            chunk.q[t] = (const int8_t *)x[t] + at;
            load_side(&chunk.side[t], x[t], n, at, count, f.group, f.offset);
        }
        for (size_t v = 0; v < PANELS; v++) {
            const size_t row = v * LANES, lane = row % JT_TILE_LANES;
            source r = {tile + (row - lane) * f.block_bytes, 0, lane, true};
            scales_of(f.name, &p, r, count);
            for (size_t part = 0; part < count / 32 / (size_t)f.ways; part++) {
                ask(next, (size_t)f.ways);
                few_part(total[v], f, &p, r, &chunk, part, tokens);
            }
        }
        tile += count / f.block_values * f.block_bytes * JT_TILE_ROWS;
    }
    for (size_t v = 0; v < PANELS && v * LANES < rows; v++)
        for (int t = 0; t < tokens; t++)
            vf_store_n(y + (size_t)t * ldy + v * LANES, total[v][t], rows - v * LANES);
}

ALWAYS_INLINE void few_tiles(const jt_matmul_args *m, const uint8_t *const *x,
                             const few_form f, const int tokens)
{
    const size_t steps = m->n / 32 * (JT_TILE_ROWS / LANES);
    const uint8_t *w = m->w;
    jt_later later = m->later;
    size_t due = 0;
    for (size_t r = 0; r < m->rows; r += JT_TILE_ROWS) {
        ahead next = few_ahead(m, w, &later, &due, steps);
        few_tile(m->y + r, m->ldy, w, m->rows - r, x, m->n, &next, f, tokens);
        w += JT_TILE_ROWS * m->row_bytes;
    }
}

/* One function per format and number of tokens. */
#define X(suffix, lower, values, group, bias, offset, top)                        \
    enum { GROUP_##lower = group, BIAS_##lower = bias, VALUES_##lower = values }; \
    enum { OFFSET_##lower = (top) == 128 ? INT8_OFFSET : (offset) };              \
    enum { IS_FEW_##lower = (top) != 128 || FEW_SIGNED };
JT_QUANT_LIST(X)
#undef X

#define FEW_FN(tokens, lower, ways)                                             \
    static void few_##lower##_##tokens(const jt_matmul_args *m,                 \
                                       const uint8_t *const *x)                 \
    {                                                                           \
        few_tiles(m, x,                                                         \
                  (few_form){FEW_##lower, ways, GROUP_##lower, OFFSET_##lower,  \
                             BIAS_##lower, VALUES_##lower, sizeof(jt_##lower)}, \
                  tokens);                                                      \
    }
#define FEW_OR_MANY(lower, ways)                                           \
    static void few_##lower(const jt_matmul_args *m)                       \
    {                                                                      \
        static few_fn *const fn[FEW] = {few_##lower##_1, few_##lower##_2,  \
                                        few_##lower##_3, few_##lower##_4}; \
        const uint8_t *act[FEW];                                           \
        if (m->tokens == 0 || m->tokens > FEW_MOST(ways)) {                \
            tiled_##lower(m);                                              \
            return;                                                        \
        }                                                                  \
        gather(act, m, 0, m->tokens);                                      \
        fn[m->tokens - 1](m, act);                                         \
    }
#define X(suffix, lower, ways) \
    FEW_FN(1, lower, ways)     \
    FEW_FN(2, lower, ways)     \
    FEW_FN(3, lower, ways)     \
    FEW_FN(4, lower, ways)     \
    FEW_OR_MANY(lower, ways)
FEW_LIST(X)
#undef X

/* ---- floats ---- */

enum float_name {
#define X(suffix, lower, values) FEW_##lower,
    JT_FLOAT_LIST(X)
#undef X
};

ALWAYS_INLINE void floats_of(enum float_name name, vf *out, source r)
{
    switch (name) {
#define X(suffix, lower, values) \
    case FEW_##lower:            \
        floats_##lower(out, r);  \
        break;
        JT_FLOAT_LIST(X)
#undef X
    }
}

/* part += `count` values of a tile, from value `at` of the activations on. */
ALWAYS_INLINE void few_floats(vf part[][FEW], const uint8_t *tile,
                              const uint8_t *const *x, size_t at, size_t count,
                              ahead *next, const enum float_name name,
                              const size_t values, const int tokens)
{
    vf w[8];
    for (size_t i = 0; i < count; i += values, tile += 16 * JT_TILE_ROWS) {
        ask(next, 1);
        for (size_t v = 0; v < JT_TILE_ROWS / LANES; v++) {
            const size_t row = v * LANES, lane = row % JT_TILE_LANES;
            floats_of(name, w, (source){tile + (row - lane) * 16, 0, lane, true});
            for (size_t j = 0; j < values; j++)
                for (int t = 0; t < tokens; t++) {
                    float value;
                    memcpy(&value, x[t] + (at + i + j) * sizeof value, sizeof value);
                    part[v][t] = vf_fma(w[j], vf_set1(value), part[v][t]);
                }
        }
    }
}

/* As few_tile. */
ALWAYS_INLINE void few_float_tile(float *y, size_t ldy, const uint8_t *tile,
                                  size_t rows, const uint8_t *const *x, size_t n,
                                  ahead *next, const enum float_name name,
                                  const size_t values, const int tokens)
{
    enum { PANELS = JT_TILE_ROWS / LANES };
    vf total[PANELS][FEW], part[PANELS][FEW];
    for (int v = 0; v < PANELS; v++)
        for (int t = 0; t < tokens; t++)
            total[v][t] = vf_set1(0);
    for (size_t at = 0; at < n; at += CHUNK_REAL) {
        const size_t count = n - at < CHUNK_REAL ? n - at : CHUNK_REAL;
        for (int v = 0; v < PANELS; v++)
            for (int t = 0; t < tokens; t++)
                part[v][t] = vf_set1(0);
        few_floats(part, tile + at / values * 16 * JT_TILE_ROWS, x, at, count, next,
                   name, values, tokens);
        for (int v = 0; v < PANELS; v++)
            for (int t = 0; t < tokens; t++)
                total[v][t] = vf_add(total[v][t], part[v][t]);
    }
    for (size_t v = 0; v < PANELS && v * LANES < rows; v++)
        for (int t = 0; t < tokens; t++)
            vf_store_n(y + (size_t)t * ldy + v * LANES, total[v][t], rows - v * LANES);
}

/* As few_tiles. */
ALWAYS_INLINE void few_float_tiles(const jt_matmul_args *m, const uint8_t *const *x,
                                   const enum float_name name, const size_t values,
                                   const int tokens)
{
    const uint8_t *w = m->w;
    jt_later later = m->later;
    size_t due = 0;
    for (size_t r = 0; r < m->rows; r += JT_TILE_ROWS) {
        ahead next = few_ahead(m, w, &later, &due, m->n / values);
        few_float_tile(m->y + r, m->ldy, w, m->rows - r, x, m->n, &next, name, values,
                       tokens);
        w += JT_TILE_ROWS * m->row_bytes;
    }
}

#define FEW_FLOATS_FN(tokens, lower, values)                    \
    static void few_##lower##_##tokens(const jt_matmul_args *m, \
                                       const uint8_t *const *x) \
    {                                                           \
        few_float_tiles(m, x, FEW_##lower, values, tokens);     \
    }
#define X(suffix, lower, values)    \
    FEW_FLOATS_FN(1, lower, values) \
    FEW_FLOATS_FN(2, lower, values) \
    FEW_FLOATS_FN(3, lower, values) \
    FEW_FLOATS_FN(4, lower, values) \
    FEW_OR_MANY(lower, FLOAT_WAYS)
JT_FLOAT_LIST(X)
#undef X

static void set_few(jt_kernels *table)
{
#define X(suffix, lower, ways) \
    if (IS_FEW_##lower)        \
        table->matmul[JT_##suffix].tiled = few_##lower;
    FEW_LIST(X)
#undef X
#define X(suffix, lower, values) table->matmul[JT_##suffix].tiled = few_##lower;
    JT_FLOAT_LIST(X)
#undef X
    table->matmul[JT_F32].halves = few_bf16;
}

#endif
