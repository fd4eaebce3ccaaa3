/* Panels: a piece of LANES weight rows, decoded and turned so that a lane is a row.
 *
 * Four code bytes of each row make one vector, so a product is one instruction with
 * four activation bytes that all lanes share, and sums never cross lanes: a value
 * depends on its own row and activations only. Decoding is the same few shifts for all
 * rows at once, scales too. A panel is decoded once and used for every token.
 *
 * WIDTH panels of LANES rows lie side by side; each unpack function fills number v
 * with `count` values (whole blocks, at most a chunk) of its rows. Written over the
 * words of simd_avx512.h and its like; the formats are defined in c/codes.h. */
#ifndef JT_PANEL_H
#define JT_PANEL_H

#include <stddef.h>

#include "kernels/blocks.h"
#include "kernels/tile.h"

#define CHUNK      256 /* values of a row at a time: codes, */
#define CHUNK_REAL 128 /* and floats, whose panels are larger */

/* w = scale (q - offset) + bias, the offset belongs to the format. Scales and biases
 * per group of 16 or 32. */
typedef struct code_panel {
    vi q[CHUNK / 4];
    vf scale[CHUNK / 16], bias[CHUNK / 16];
} code_panel;

typedef struct float_panel {
    vf w[CHUNK_REAL];
} float_panel;

/* Two consecutive bfloat16 of each row in a dword (x86/avx512_bf16.h). */
typedef struct pair_panel {
    vi w[CHUNK_REAL / 2];
} pair_panel;

typedef union panel {
    code_panel code[WIDTH];
    float_panel real[WIDTH];
    pair_panel pairs[WIDTH];
} panel;

/* Where the rows of a panel are: as they lie in the file, or in a tile
 * (kernels/tile.h). Each unpack function is compiled for both. */
typedef struct source {
    const uint8_t *at; /* block of the first row; of 16 rows of the tile */
    size_t stride;     /* bytes between rows */
    size_t lane;       /* tiles: which of the 16 rows is the first */
    bool tiled;
} source;

/* Block i from this one on. */
ALWAYS_INLINE source block_at(source r, size_t i, size_t bytes)
{
    r.at += i * (r.tiled ? JT_TILE_ROWS * bytes : bytes);
    return r;
}

ALWAYS_INLINE void next_block(source *r, size_t bytes)
{
    *r = block_at(*r, 1, bytes);
}

/* Dwords from byte `at` of a block of `size` bytes on. Rows are read 16 bytes at a
 * time, where the block ends before that with those before. */
ALWAYS_INLINE void load_dwords(vi *out, size_t n, source r, size_t at, size_t size)
{
    const uint8_t *tile = r.at + JT_TILE_LANES * at + 4 * r.lane;
    for (size_t i = 0; r.tiled && i < n; i++)
        out[i] = vi_load(tile + 4 * JT_TILE_LANES * i);
    for (size_t i = 0; !r.tiled && i < n; i += 4, at += 16) {
        size_t some = n - i < 4 ? n - i : 4;
        size_t from = at + 16 <= size ? at : at + 4 * some - 16;
        vi four[4];
        vi_load_rows(four, r.at + from, r.stride);
        for (size_t j = 0; j < some; j++)
            out[i + j] = four[(at - from) / 4 + j];
    }
}

/* The word at byte `at`, before or after all dwords of the block, in the low bits. */
ALWAYS_INLINE vi load_word(source r, size_t at, size_t size)
{
    if (r.tiled)
        return vi_load_words(r.at + JT_TILE_LANES * at + 2 * r.lane);
    vi four[4];
    size_t from = at + 16 <= size ? at : size - 16;
    vi_load_rows(four, r.at + from, r.stride);
    return vi_right(four[(at - from) / 4], 8 * (int)((at - from) % 4));
}

/* The byte there. */
ALWAYS_INLINE vi load_byte(source r, size_t at)
{
    if (r.tiled)
        return vi_load_bytes(r.at + JT_TILE_LANES * at + r.lane);
    vi four[4];
    vi_load_rows(four, r.at + at, r.stride);
    return vi_and(four[0], 255);
}

/* n dwords, or the half, that a field of a block is. */
#define LOAD(out, n, r, block, field) \
    load_dwords(out, n, r, offsetof(block, field), sizeof(block))
#define LOAD_HALF(r, block, field) \
    vf_from_half(load_word(r, offsetof(block, field), sizeof(block)))

/* Low nibbles of `n` dwords, then the high ones `apart` vectors later. */
ALWAYS_INLINE void split_nibbles(vi *q, const vi *packed, int n, int apart)
{
    for (int i = 0; i < n; i++) {
        q[i] = vi_and(packed[i], 0x0f0f0f0f);
        q[i + apart] = vi_and(vi_right(packed[i], 4), 0x0f0f0f0f);
    }
}

/* Bit 4 of eight dwords of codes from the 32 bits of each row. */
ALWAYS_INLINE void add_fifth_bits(vi q[8], vi bits)
{
    for (int i = 0; i < 8; i++) {
        vi four = vi_and(vi_right(bits, 4 * i), 15);
        vi spread = vi_and(vi_mul(four, vi_set1(0x02040810)), 0x10101010);
        q[i] = vi_or(q[i], spread);
    }
}

ALWAYS_INLINE void scales_q8_0(code_panel *p, source r, size_t count)
{
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q8_0)))
        p->scale[g] = LOAD_HALF(r, jt_q8_0, d);
}

ALWAYS_INLINE void panel_q8_0(panel *p, int v, source r, size_t count)
{
    vi *q = p->code[v].q;
    scales_q8_0(&p->code[v], r, count);
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q8_0)), q += 8) {
        LOAD(q, 8, r, jt_q8_0, qs);
        for (int i = 0; i < 8; i++)
            q[i] = vi_int8_codes(q[i]);
    }
}

/* Those of Q4_0 and IQ4_NL, which differ in what their codes mean. */
ALWAYS_INLINE void scales_q4_0(code_panel *p, source r, size_t count)
{
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q4_0)))
        p->scale[g] = LOAD_HALF(r, jt_q4_0, d);
}

ALWAYS_INLINE void panel_q4_0(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    scales_q4_0(&p->code[v], r, count);
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q4_0))) {
        LOAD(packed, 4, r, jt_q4_0, qs);
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
    }
}

ALWAYS_INLINE void scales_q4_1(code_panel *p, source r, size_t count)
{
    vi both;
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q4_1))) {
        LOAD(&both, 1, r, jt_q4_1, d);
        p->scale[g] = vf_from_half(both);
        p->bias[g] = vf_from_half(vi_right(both, 16));
    }
}

ALWAYS_INLINE void panel_q4_1(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    scales_q4_1(&p->code[v], r, count);
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q4_1))) {
        LOAD(packed, 4, r, jt_q4_1, qs);
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
    }
}

ALWAYS_INLINE void panel_q5_0(panel *p, int v, source r, size_t count)
{
    vi bits, packed[4];
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q5_0))) {
        p->code[v].scale[g] = LOAD_HALF(r, jt_q5_0, d);
        LOAD(&bits, 1, r, jt_q5_0, qh);
        LOAD(packed, 4, r, jt_q5_0, qs);
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
        add_fifth_bits(p->code[v].q + 8 * g, bits);
    }
}

ALWAYS_INLINE void panel_q5_1(panel *p, int v, source r, size_t count)
{
    vi head[2], packed[4];
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_q5_1))) {
        LOAD(head, 2, r, jt_q5_1, d);
        LOAD(packed, 4, r, jt_q5_1, qs);
        p->code[v].scale[g] = vf_from_half(head[0]);
        p->code[v].bias[g] = vf_from_half(vi_right(head[0], 16));
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
        add_fifth_bits(p->code[v].q + 8 * g, head[1]);
    }
}

/* The four two-bit planes of 8 dwords: 32 dwords of codes. */
ALWAYS_INLINE void split_planes(vi q[32], const vi packed[8])
{
    for (int plane = 0; plane < 4; plane++)
        for (int i = 0; i < 8; i++)
            q[8 * plane + i] = vi_and(vi_right(packed[i], 2 * plane), 0x03030303);
}

/* Byte b of each lane. */
ALWAYS_INLINE vi byte_of(vi x, int b)
{
    return vi_and(vi_right(x, 8 * b), 255);
}

ALWAYS_INLINE void scales_q2_k(code_panel *p, source r, size_t count)
{
    (void)count;
    vi scales[4], both_d;
    LOAD(scales, 4, r, jt_q2_k, scales);
    LOAD(&both_d, 1, r, jt_q2_k, d);
    vf d = vf_from_half(both_d), dmin = vf_from_half(vi_right(both_d, 16));
    vf minus_dmin = vf_sub(vf_set1(0), dmin);
    for (int g = 0; g < 16; g++) {
        vi both = byte_of(scales[g / 4], g % 4);
        p->scale[g] = vf_mul(d, vf_from_vi(vi_and(both, 15)));
        p->bias[g] = vf_mul(minus_dmin, vf_from_vi(vi_right(both, 4)));
    }
}

ALWAYS_INLINE void panel_q2_k(panel *p, int v, source r, size_t count)
{
    vi packed[16];
    scales_q2_k(&p->code[v], r, count);
    LOAD(packed, 16, r, jt_q2_k, qs);
    split_planes(p->code[v].q, packed);
    split_planes(p->code[v].q + 32, packed + 8);
}

/* Q2_K with halved cells, and one more bit from each plane. */
ALWAYS_INLINE void panel_nested(panel *p, int v, source r, const int planes)
{
    const size_t block = sizeof(jt_q2_k) + 32 * (size_t)planes;
    const float part = 1.0f / (float)(1 << planes);
    const vf middle = vf_set1(0.5f - 0.5f * part), parts = vf_set1(part);
    vi scales[4], packed[16], both_d, bits[8], *q = p->code[v].q;
    load_dwords(scales, 4, r, offsetof(jt_q2_k, scales), block);
    load_dwords(&both_d, 1, r, offsetof(jt_q2_k, d), block);
    vf d = vf_from_half(both_d), dmin = vf_from_half(vi_right(both_d, 16));
    vf minus_dmin = vf_sub(vf_set1(0), dmin);
    for (int g = 0; g < 16; g++) {
        vi both = byte_of(scales[g / 4], g % 4);
        vf scale = vf_mul(d, vf_from_vi(vi_and(both, 15)));
        vf bias = vf_mul(minus_dmin, vf_from_vi(vi_right(both, 4)));
        p->code[v].bias[g] = vf_sub(bias, vf_mul(scale, middle));
        p->code[v].scale[g] = vf_mul(scale, parts);
    }
    load_dwords(packed, 16, r, offsetof(jt_q2_k, qs), block);
    split_planes(q, packed);
    split_planes(q + 32, packed + 8);
    for (size_t k = 0; k < (size_t)planes; k++) {
        load_dwords(bits, 8, r, sizeof(jt_q2_k) + 32 * k, block);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 8; i++) {
                vi bit = vi_and(vi_right(bits[i], j), 0x01010101);
                q[8 * j + i] = vi_or(vi_left(q[8 * j + i], 1), bit);
            }
    }
}

#define PANEL_NESTED(lower, planes)                                           \
    ALWAYS_INLINE void panel_##lower(panel *p, int v, source r, size_t count) \
    {                                                                         \
        (void)count;                                                          \
        panel_nested(p, v, r, planes);                                        \
    }
PANEL_NESTED(n3, 1)
PANEL_NESTED(n4, 2)
PANEL_NESTED(n5, 3)
PANEL_NESTED(n6, 4)
#undef PANEL_NESTED

ALWAYS_INLINE void scales_q3_k(code_panel *p, source r, size_t count)
{
    (void)count;
    vi a[3];
    LOAD(a, 3, r, jt_q3_k, scales);
    vf d = LOAD_HALF(r, jt_q3_k, d);
    for (int four = 0; four < 4; four++) {
        vi low = vi_and(vi_right(a[four % 2], 4 * (four / 2)), 0x0f0f0f0f);
        vi high = vi_left(vi_and(vi_right(a[2], 2 * four), 0x03030303), 4);
        vi six = vi_or(low, high);
        for (int b = 0; b < 4; b++) {
            vi sc = vi_sub(byte_of(six, b), vi_set1(32));
            p->scale[4 * four + b] = vf_mul(d, vf_from_vi(sc));
        }
    }
}

ALWAYS_INLINE void panel_q3_k(panel *p, int v, source r, size_t count)
{
    vi mask[8], packed[16], *q = p->code[v].q;
    scales_q3_k(&p->code[v], r, count);
    LOAD(packed, 16, r, jt_q3_k, qs);
    split_planes(q, packed);
    split_planes(q + 32, packed + 8);
    LOAD(mask, 8, r, jt_q3_k, hmask);
    for (int plane = 0; plane < 8; plane++)
        for (int i = 0; i < 8; i++) {
            vi high = vi_and(vi_right(mask[i], plane), 0x01010101);
            q[8 * plane + i] = vi_or(q[8 * plane + i], vi_left(high, 2));
        }
}

/* Scales and minima of Q4_K and Q5_K, whose first 16 bytes are the same. */
ALWAYS_INLINE void scales_q4_k(code_panel *p, source r, size_t count)
{
    (void)count;
    vi head[4], scale[2], min[2];
    LOAD(head, 4, r, jt_q4_k, d);
    vf d = vf_from_half(head[0]), dmin = vf_from_half(vi_right(head[0], 16));
    vf minus_dmin = vf_sub(vf_set1(0), dmin);
    scale[0] = vi_and(head[1], 0x3f3f3f3f);
    min[0] = vi_and(head[2], 0x3f3f3f3f);
    scale[1] =
        vi_or(vi_and(head[3], 0x0f0f0f0f), vi_and(vi_right(head[1], 2), 0x30303030));
    min[1] = vi_or(vi_and(vi_right(head[3], 4), 0x0f0f0f0f),
                   vi_and(vi_right(head[2], 2), 0x30303030));
    for (int j = 0; j < 8; j++) {
        p->scale[j] = vf_mul(d, vf_from_vi(byte_of(scale[j / 4], j % 4)));
        p->bias[j] = vf_mul(minus_dmin, vf_from_vi(byte_of(min[j / 4], j % 4)));
    }
}

ALWAYS_INLINE void panel_q4_k(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    scales_q4_k(&p->code[v], r, count);
    for (size_t i = 0; i < 8; i++) {
        LOAD(packed, 4, r, jt_q4_k, qs[16 * i]);
        split_nibbles(p->code[v].q + 16 * (i / 2) + 4 * (i % 2), packed, 4, 8);
    }
}

ALWAYS_INLINE void panel_q5_k(panel *p, int v, source r, size_t count)
{
    vi packed[4], high[8], *q = p->code[v].q;
    scales_q4_k(&p->code[v], r, count);
    for (size_t i = 0; i < 8; i++) {
        LOAD(packed, 4, r, jt_q5_k, qs[16 * i]);
        split_nibbles(q + 16 * (i / 2) + 4 * (i % 2), packed, 4, 8);
    }
    LOAD(high, 8, r, jt_q5_k, qh);
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 8; i++) {
            vi bit = vi_and(vi_right(high[i], j), 0x01010101);
            q[8 * j + i] = vi_or(q[8 * j + i], vi_left(bit, 4));
        }
}

/* Values 128 `half` and on: low nibbles of 64 bytes are the first 64, high ones the
 * rest. */
ALWAYS_INLINE void half_q6_k(vi q[32], source r, size_t half)
{
    vi low[4], high[4];
    for (size_t i = 0; i < 4; i++) {
        LOAD(low, 4, r, jt_q6_k, ql[64 * half + 16 * i]);
        split_nibbles(q + 4 * i, low, 4, 16);
    }
    for (size_t i = 0; i < 2; i++) {
        LOAD(high, 4, r, jt_q6_k, qh[32 * half + 16 * i]);
        for (size_t j = 0; j < 16; j++) {
            vi *code = &q[8 * (j / 4) + 4 * i + j % 4];
            vi two = vi_and(vi_right(high[j % 4], (int)j / 4 * 2), 0x03030303);
            *code = vi_or(*code, vi_left(two, 4));
        }
    }
}

ALWAYS_INLINE void scales_q6_k(code_panel *p, source r, size_t count)
{
    (void)count;
    vi scales[4];
    LOAD(scales, 4, r, jt_q6_k, scales);
    vf d = LOAD_HALF(r, jt_q6_k, d);
    for (int g = 0; g < 16; g++) {
        vi top = vi_left(scales[g / 4], 24 - 8 * (g % 4));
        p->scale[g] = vf_mul(d, vf_from_vi(vi_shift_down(top, 24)));
    }
}

ALWAYS_INLINE void panel_q6_k(panel *p, int v, source r, size_t count)
{
    scales_q6_k(&p->code[v], r, count);
    half_q6_k(p->code[v].q, r, 0);
    half_q6_k(p->code[v].q + 32, r, 1);
}

/* One scale for `groups` groups of 32. */
ALWAYS_INLINE void repeat_scale_lanes(vf *scale, vf d, int groups)
{
    for (int g = 0; g < groups; g++)
        scale[g] = d;
}

ALWAYS_INLINE void panel_tq2_0(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi packed[16];
    repeat_scale_lanes(p->code[v].scale, LOAD_HALF(r, jt_tq2_0, d), 8);
    LOAD(packed, 16, r, jt_tq2_0, qs);
    split_planes(p->code[v].q, packed);
    split_planes(p->code[v].q + 32, packed + 8);
}

/* Four base-3 fractions in each lane: `digits` vectors of codes, `apart` vectors
 * between them. Bytes 0 and 2 and bytes 1 and 3 are multiplied in 16 bits each. */
ALWAYS_INLINE void split_trits(vi *q, vi packed, int digits, int apart)
{
    vi even = vi_and(packed, 0x00ff00ff), odd = vi_and(vi_right(packed, 8), 0x00ff00ff);
    for (int j = 0; j < digits; j++) {
        even = vi_add(even, vi_left(even, 1));
        odd = vi_add(odd, vi_left(odd, 1));
        q[j * apart] =
            vi_or(vi_and(vi_right(even, 8), 0x00030003), vi_and(odd, 0x03000300));
        even = vi_and(even, 0x00ff00ff);
        odd = vi_and(odd, 0x00ff00ff);
    }
}

ALWAYS_INLINE void panel_tq1_0(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi packed[12], last, *q = p->code[v].q;
    repeat_scale_lanes(p->code[v].scale, LOAD_HALF(r, jt_tq1_0, d), 8);
    LOAD(packed, 12, r, jt_tq1_0, qs);
    LOAD(&last, 1, r, jt_tq1_0, qh);
    for (int i = 0; i < 8; i++)
        split_trits(q + i, packed[i], 5, 8);
    for (int i = 0; i < 4; i++)
        split_trits(q + 40 + i, packed[8 + i], 5, 4);
    split_trits(q + 60, last, 4, 1);
}

ALWAYS_INLINE void panel_q1_0(panel *p, int v, source r, size_t count)
{
    vi bits[4], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    for (size_t i = 0; i < count / 128; i++, next_block(&r, sizeof(jt_q1_0)), q += 32) {
        LOAD(bits, 4, r, jt_q1_0, qs);
        repeat_scale_lanes(scale + 4 * i, LOAD_HALF(r, jt_q1_0, d), 4);
        for (int j = 0; j < 32; j++)
            q[j] = vi_turn(vi_set1(0), bits[j / 8], j % 8, 2);
    }
}

/* The four pairs of bits of byte b of each lane, a byte each. */
ALWAYS_INLINE vi split_byte(vi x, int b)
{
    vi byte = byte_of(x, b);
    vi halves = vi_and(vi_or(byte, vi_left(byte, 12)), 0x000f000f);
    return vi_and(vi_or(halves, vi_left(halves, 6)), 0x03030303);
}

ALWAYS_INLINE void panel_q2_0(panel *p, int v, source r, size_t count)
{
    vi packed[4], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    for (size_t i = 0; i < count / 64; i++, next_block(&r, sizeof(jt_q2_0)), q += 16) {
        LOAD(packed, 4, r, jt_q2_0, qs);
        repeat_scale_lanes(scale + 2 * i, LOAD_HALF(r, jt_q2_0, d), 2);
        for (int j = 0; j < 16; j++)
            q[j] = split_byte(packed[j / 4], j % 4);
    }
}

/* Floats: the values of a block of 16 bytes of each row. */

ALWAYS_INLINE void floats_f32(vf *out, source r)
{
    vi four[4];
    load_dwords(four, 4, r, 0, 16);
    for (int j = 0; j < 4; j++)
        out[j] = vf_cast(four[j]);
}

ALWAYS_INLINE void floats_f16(vf *out, source r)
{
    vi pairs[4];
    load_dwords(pairs, 4, r, 0, 16);
    for (int j = 0; j < 4; j++) {
        out[2 * j] = vf_from_half(pairs[j]);
        out[2 * j + 1] = vf_from_half(vi_right(pairs[j], 16));
    }
}

ALWAYS_INLINE void floats_bf16(vf *out, source r)
{
    vi pairs[4];
    load_dwords(pairs, 4, r, 0, 16);
    for (int j = 0; j < 4; j++) {
        out[2 * j] = vf_cast(vi_left(pairs[j], 16));
        out[2 * j + 1] = vf_cast(vi_and(pairs[j], (int)0xffff0000));
    }
}

/* X(enum suffix, lower case, values of a block) */
#define JT_FLOAT_LIST(X) \
    X(F32, f32, 4)       \
    X(F16, f16, 8)       \
    X(BF16, bf16, 8)

#define X(suffix, lower, values)                                              \
    ALWAYS_INLINE void panel_##lower(panel *p, int v, source r, size_t count) \
    {                                                                         \
        vf *out = p->real[v].w;                                               \
        for (size_t i = 0; i < count; i += values, next_block(&r, 16))        \
            floats_##lower(out + i, r);                                       \
    }
JT_FLOAT_LIST(X)
#undef X

#endif
