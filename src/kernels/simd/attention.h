/* Attention by blocks of positions with an on-line softmax.
 *
 * Scores of a block are a product of the keys with the queries. Keys in tiles are read
 * as they lie; those in rows (F16 or F32; quantised ones are decoded, once per block
 * and tile) are turned into the panels of matmul.h. Positions that a query may not see
 * get weight zero, so what it gets does not depend on the other queries of the tile (as
 * long as the values that these see are finite).
 *
 * MEASURED (Zen 5, two threads, 8192 positions of 128 F16 values, 1, 4 and 8 queries,
 * of what plain reading reaches at 38 GB/s): 93, 90 and 87%; keys in rows 65, 62 and
 * 55%.
 */
#ifndef JT_SIMD_ATTENTION_H
#define JT_SIMD_ATTENTION_H

#include <math.h>

#include "kernels/simd/glu.h"
#include "kernels/simd/matmul.h"
#include "kernels/simd/vector.h"

/* Queries at once, and vectors of keys or values beside them: sums enough to keep the
 * multipliers busy, as many as there are registers for. */
#define ATTN_TILE (ATTN_SUMS / 2)
#define ATTN_WIDE 4
#define ATTN_WIDTH(tile) \
    (ATTN_SUMS / (tile) < ATTN_WIDE ? ATTN_SUMS / (tile) : ATTN_WIDE)

/* fn(s, j, .., tile) for all queries, ATTN_TILE, 4, 2 or 1 at a time. */
#define ATTN_EACH(fn, s, ...)                           \
    for (int j = 0, tile; j < (s)->a->n_q; j += tile) { \
        tile = attn_tile((s)->a->n_q - j);              \
        if (tile == ATTN_TILE)                          \
            fn(s, j, __VA_ARGS__, ATTN_TILE);           \
        else if (tile == 4)                             \
            fn(s, j, __VA_ARGS__, 4);                   \
        else if (tile == 2)                             \
            fn(s, j, __VA_ARGS__, 2);                   \
        else                                            \
            fn(s, j, __VA_ARGS__, 1);                   \
    }

static int attn_tile(int queries)
{
    if (queries >= ATTN_TILE)
        return ATTN_TILE;
    return queries >= 4 ? 4 : queries >= 2 ? 2 : 1;
}

/* The rows of a block. */
typedef struct attn_rows {
    const uint8_t *first;
    size_t stride; /* bytes */
    bool halves;   /* F16, otherwise F32 */
} attn_rows;

typedef struct attn_state {
    const jt_attn *a;
    attn_rows k, v;                        /* of the present block */
    ahead next;                            /* keys of the next one */
    float p[JT_ATTN_MAX_Q][JT_ATTN_BLOCK]; /* scores, then weights, of one block */
    float max[JT_ATTN_MAX_Q], sum[JT_ATTN_MAX_Q], shrink[JT_ATTN_MAX_Q];
    int from, to; /* positions that any query sees */
} attn_state;

/* Rows of the block at `base`: in place, or those that are seen decoded into `room`. */
static attn_rows attn_block_rows(const attn_state *s, int base, const void *kv,
                                 jt_dtype type, size_t stride, int dim, float *room)
{
    const size_t bytes = jt_dtype_row_bytes(type, stride), n = (size_t)dim;
    const uint8_t *first = (const uint8_t *)kv + (size_t)base % s->a->rows * bytes;
    if (type == JT_F32 || type == JT_F16)
        return (attn_rows){first, bytes, type == JT_F16};
    int from = s->from > base ? s->from - base : 0;
    int to = s->to - base < JT_ATTN_BLOCK ? s->to - base : JT_ATTN_BLOCK;
    for (size_t i = (size_t)from; i < (size_t)to; i++) {
        if (type == JT_Q8_0)
            dequant_q8_0(room + i * n, first + i * bytes, n);
        else
            dequant_q4_0(room + i * n, first + i * bytes, n);
    }
    return (attn_rows){(const uint8_t *)room, n * sizeof *room, false};
}

/* The rows first .. first + count, to be asked for in `steps` steps. */
static ahead attn_ahead(const attn_rows *rows, size_t first, size_t count, size_t steps)
{
    return ahead_of(rows->first + first * rows->stride, count * rows->stride, steps);
}

/* Ask for the keys of the block at `base`, if there is one, while the first queries sum
 * values. */
static ahead attn_next_keys(const attn_state *s, int base)
{
    const jt_attn *a = s->a;
    size_t passes = (size_t)a->v_dim / (ATTN_WIDE * LANES) + 1;
    if (base >= s->to || (a->k_type != JT_F16 && a->k_type != JT_F32))
        return (ahead){0};
    attn_rows keys =
        attn_block_rows(s, base, a->k, a->k_type, a->k_stride, a->k_dim, NULL);
    return attn_ahead(&keys, 0, JT_ATTN_BLOCK, passes * JT_ATTN_BLOCK);
}

/* Scores of queries j .. j + tile with `wide` vectors of keys that lie in a tile, from
 * row i of the block on. */
ALWAYS_INLINE void attn_tile_scores(attn_state *s, int j, size_t i, const int tile,
                                    const int wide)
{
    const jt_attn *a = s->a;
    const size_t dim = (size_t)a->k_dim, rows = (size_t)(wide * LANES);
    const uint16_t *k = (const uint16_t *)s->k.first + jt_attn_key(i, 0, dim);
    const float *q = a->q + (size_t)j * a->q_stride;
    ahead values = j == 0 ? attn_ahead(&s->v, i, rows, dim) : (ahead){0};
    vf sum[ATTN_TILE][ATTN_WIDE];
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < wide; v++)
            sum[t][v] = vf_set1(0);
    for (size_t e = 0; e < dim; e++, k += JT_ATTN_KEYS) {
        vf key[ATTN_WIDE];
        for (int v = 0; v < wide; v++)
            key[v] = vf_load_half(k + v * LANES);
        for (int t = 0; t < tile; t++) {
            vf value = vf_set1(q[(size_t)t * a->q_stride + e]);
            for (int v = 0; v < wide; v++)
                sum[t][v] = vf_fma(key[v], value, sum[t][v]);
        }
        ask(&values, 1);
    }
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < wide; v++)
            vf_store(&s->p[j + t][i + (size_t)(v * LANES)], sum[t][v]);
}

/* The same for all positions of a block that some query sees. */
ALWAYS_INLINE void attn_tiles_scores(attn_state *s, int j, int base, const int tile)
{
    enum { MOST = JT_ATTN_KEYS / LANES };
    const int wide = ATTN_WIDTH(tile) < MOST ? ATTN_WIDTH(tile) : MOST;
    for (int i = 0; i < JT_ATTN_BLOCK; i += wide * LANES)
        if (s->from < base + i + wide * LANES && s->to > base + i)
            attn_tile_scores(s, j, (size_t)i, tile, wide);
}

/* The same for keys in rows. */
static void attn_rows_scores(attn_state *s, int base)
{
    const jt_attn *a = s->a;
    const format *f = s->k.halves ? &format_f16 : &format_f32;
    const size_t dim = (size_t)a->k_dim, stride = s->k.stride;
    const uint8_t *q[JT_ATTN_MAX_Q];
    panel keys;
    for (int j = 0; j < a->n_q; j++)
        q[j] = (const uint8_t *)(a->q + (size_t)j * a->q_stride);
    for (int i = 0; i < JT_ATTN_BLOCK; i += ROWS) {
        int from = s->from > base + i ? s->from : base + i;
        int to = s->to < base + i + ROWS ? s->to : base + i + ROWS;
        if (from >= to)
            continue;
        const uint8_t *row = s->k.first + (size_t)i * stride;
        const size_t steps = steps_of(f, (size_t)a->n_q, dim);
        ahead values = attn_ahead(&s->v, (size_t)i, ROWS, steps);
        for (size_t at = 0; at < dim; at += CHUNK_REAL) {
            size_t count = dim - at < CHUNK_REAL ? dim - at : CHUNK_REAL;
            for (int v = 0; v < WIDTH; v++) {
                ask(&values, unpack_steps((size_t)a->n_q));
                unpack_rows(f, &keys, v, row + at * f->block_bytes, stride,
                            (size_t)(from - base - i), (size_t)(to - base - i), count);
            }
            dot_tokens(f, &s->p[0][i], JT_ATTN_BLOCK, &keys, q, (size_t)a->n_q, dim, at,
                       count, &values);
        }
    }
}

/* p = keys . queries for the positions of the block that starts at `base`. */
static void attn_scores(attn_state *s, int base)
{
    memset(s->p, 0, (size_t)s->a->n_q * sizeof s->p[0]);
    if (!s->a->k_tiled) {
        attn_rows_scores(s, base);
        return;
    }
    ATTN_EACH(attn_tiles_scores, s, base)
}

/* Scores of query j to weights, with the new maximum. */
static void attn_weights(attn_state *s, int j, int base)
{
    const jt_attn *a = s->a;
    float *p = s->p[j];
    int first = a->from[j] > base ? a->from[j] - base : 0;
    int last = a->to[j] - base < JT_ATTN_BLOCK ? a->to[j] - base : JT_ATTN_BLOCK;
    s->shrink[j] = 1;
    if (first >= last) {
        memset(p, 0, sizeof s->p[j]);
        return;
    }
    scale(p, a->scale, p, JT_ATTN_BLOCK);
    if (a->softcap > 0)
        softcap(p, p, a->softcap, JT_ATTN_BLOCK);
    for (int i = 0; i < first; i++)
        p[i] = -INFINITY;
    for (int i = last; i < JT_ATTN_BLOCK; i++)
        p[i] = -INFINITY;
    vf top = vf_set1(s->max[j]), sum = vf_set1(0);
    for (int i = 0; i < JT_ATTN_BLOCK; i += LANES)
        top = vf_max(vf_load(p + i), top);
    float max = vf_top(top), shrink[LANES];
    vf_store(shrink, vf_exp(vf_set1(s->max[j] - max)));
    for (int i = 0; i < JT_ATTN_BLOCK; i += LANES) {
        vf e = vf_exp(vf_sub(vf_load(p + i), vf_set1(max)));
        vf_store(p + i, e);
        sum = vf_add(sum, e);
    }
    s->shrink[j] = shrink[0];
    s->max[j] = max;
    s->sum[j] = s->sum[j] * shrink[0] + vf_sum(sum);
}

/* Up to LANES values from `v` on, of which there are n; `full`: at least LANES. */
ALWAYS_INLINE vf load_values(const void *v, size_t n, const bool full,
                             const bool halves)
{
    if (full)
        return halves ? vf_load_half(v) : vf_load(v);
    if (!halves)
        return vf_load_n(v, n);
    uint16_t some[LANES] = {0};
    memcpy(some, v, n * sizeof *some);
    return vf_load_half(some);
}

/* out = out * shrink + weights . values for queries j .. j + tile and `wide` vectors
 * from value e on: enough sums at once to keep the multipliers busy. */
ALWAYS_INLINE void attn_values_at(attn_state *s, int j, int base, size_t e,
                                  const int tile, const int wide, const bool full,
                                  const bool halves)
{
    const jt_attn *a = s->a;
    const size_t value_bytes = halves ? sizeof(uint16_t) : sizeof(float);
    const size_t rest = (size_t)a->v_dim - e, stride = s->v.stride;
    int first = s->from > base ? s->from - base : 0;
    int last = s->to - base < JT_ATTN_BLOCK ? s->to - base : JT_ATTN_BLOCK;
    float *out = a->out + (size_t)j * a->out_stride + e;
    const uint8_t *v = s->v.first + e * value_bytes;
    ahead next = j == 0 ? s->next : (ahead){0};
    vf total[ATTN_TILE][ATTN_WIDE];
    for (int t = 0; t < tile; t++)
        for (int w = 0; w < wide; w++) {
            size_t at = (size_t)w * LANES;
            total[t][w] =
                vf_mul(vf_load_n(out + (size_t)t * a->out_stride + at, rest - at),
                       vf_set1(s->shrink[j + t]));
        }
    for (int i = first; i < last; i++) {
        vf value[ATTN_WIDE];
        for (int w = 0; w < wide; w++)
            value[w] =
                load_values(v + (size_t)i * stride + (size_t)w * LANES * value_bytes,
                            rest - (size_t)w * LANES, full, halves);
        for (int t = 0; t < tile; t++) {
            vf weight = vf_set1(s->p[j + t][i]);
            for (int w = 0; w < wide; w++)
                total[t][w] = vf_fma(weight, value[w], total[t][w]);
        }
        ask(&next, 1);
    }
    if (j == 0)
        s->next = next;
    for (int t = 0; t < tile; t++)
        for (int w = 0; w < wide; w++)
            vf_store_n(out + (size_t)t * a->out_stride + w * LANES, total[t][w],
                       rest - (size_t)w * LANES);
}

ALWAYS_INLINE void attn_some_values(attn_state *s, int j, int base, const bool halves,
                                    const int tile)
{
    const int wide = ATTN_WIDTH(tile);
    const size_t step = (size_t)wide * LANES;
    size_t e = 0, dim = (size_t)s->a->v_dim;
    for (; e + step <= dim; e += step)
        attn_values_at(s, j, base, e, tile, wide, true, halves);
    for (; e < dim; e += LANES)
        attn_values_at(s, j, base, e, tile, 1, e + LANES <= dim, halves);
}

static void attn_values(attn_state *s, int base)
{
    if (s->v.halves) {
        ATTN_EACH(attn_some_values, s, base, true)
    } else {
        ATTN_EACH(attn_some_values, s, base, false)
    }
}

static void attn_block(attn_state *s, int base)
{
    const jt_attn *a = s->a;
    float *room = a->scratch;
    s->k = attn_block_rows(s, base, a->k, a->k_type, a->k_stride, a->k_dim, room);
    if (room)
        room += JT_ATTN_BLOCK * (size_t)a->k_dim;
    s->v = attn_block_rows(s, base, a->v, a->v_type, a->v_stride, a->v_dim, room);
    attn_scores(s, base);
    s->next = attn_next_keys(s, base + JT_ATTN_BLOCK);
    for (int i = 0; i < a->n_q; i++)
        attn_weights(s, i, base);
    attn_values(s, base);
}

static void attention(const jt_attn *a)
{
    attn_state s;
    s.a = a;
    s.from = INT32_MAX;
    s.to = 0;
    for (int j = 0; j < a->n_q; j++) {
        memset(a->out + (size_t)j * a->out_stride, 0,
               (size_t)a->v_dim * sizeof *a->out);
        s.max[j] = a->sink ? a->sink[j] : -INFINITY;
        s.sum[j] = a->sink ? 1 : 0;
        if (a->from[j] >= a->to[j])
            continue;
        s.from = a->from[j] < s.from ? a->from[j] : s.from;
        s.to = a->to[j] > s.to ? a->to[j] : s.to;
    }
    for (int base = s.from / JT_ATTN_BLOCK * JT_ATTN_BLOCK; base < s.to;
         base += JT_ATTN_BLOCK)
        attn_block(&s, base);
    for (int j = 0; j < a->n_q; j++) {
        float *out = a->out + (size_t)j * a->out_stride;
        if (s.sum[j] > 0)
            scale(out, 1 / s.sum[j], out, (size_t)a->v_dim);
        if (a->lse)
            a->lse[j] = s.max[j] + logf(s.sum[j]);
    }
}

#endif
