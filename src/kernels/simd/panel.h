/* Panels: a piece of LANES weight rows, decoded and turned so that a lane is a row.
 *
 * Four code bytes of each row make one vector, so a product is one instruction with
 * four activation bytes that all lanes share, and sums never cross lanes: a value
 * depends on its own row and activations only. Decoding is the same few shifts for all
 * rows at once, scales too. A panel is decoded once and used for every token.
 *
 * WIDTH panels of LANES rows lie side by side; each unpack function fills number v
 * with `count` values (whole blocks, at most a chunk) of rows that lie `stride` bytes
 * apart. Written over the words of simd_avx512.h and its like; the formats are defined
 * in c/codes.h. */
#ifndef JT_PANEL_H
#define JT_PANEL_H

#include <stddef.h>

#include "kernels/blocks.h"

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

typedef void unpack_fn(panel *p, int v, const uint8_t *w, size_t stride, size_t count);

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

static void panel_q8_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], *q = p->code[v].q;
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_q8_0), q += 8) {
        vi_load_rows(head, w, stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        vi_load_rows(q, w + offsetof(jt_q8_0, qs), stride);
        vi_load_rows(q + 4, w + offsetof(jt_q8_0, qs) + 16, stride);
        for (int i = 0; i < 8; i++)
            q[i] = vi_int8_codes(q[i]);
    }
}

static void panel_q4_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_q4_0)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_q4_0, qs), stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
    }
}

static void panel_q4_1(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_q4_1)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_q4_1, qs), stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        p->code[v].bias[g] = vf_from_half(vi_right(head[0], 16));
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
    }
}

static void panel_q5_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_q5_0)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_q5_0, qs), stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
        vi bits = vi_or(vi_right(head[0], 16), vi_left(head[1], 16));
        add_fifth_bits(p->code[v].q + 8 * g, bits);
    }
}

static void panel_q5_1(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_q5_1)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_q5_1, qs), stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        p->code[v].bias[g] = vf_from_half(vi_right(head[0], 16));
        split_nibbles(p->code[v].q + 8 * g, packed, 4, 4);
        add_fifth_bits(p->code[v].q + 8 * g, head[1]);
    }
}

/* The four two-bit planes of 32 bytes: 32 dwords of codes. */
ALWAYS_INLINE void split_planes(vi q[32], const uint8_t *qs, size_t stride)
{
    vi packed[8];
    vi_load_rows(packed, qs, stride);
    vi_load_rows(packed + 4, qs + 16, stride);
    for (int plane = 0; plane < 4; plane++)
        for (int i = 0; i < 8; i++)
            q[8 * plane + i] = vi_and(vi_right(packed[i], 2 * plane), 0x03030303);
}

/* Byte b of each lane. */
ALWAYS_INLINE vi byte_of(vi x, int b)
{
    return vi_and(vi_right(x, 8 * b), 255);
}

static void panel_q2_k(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi scales[4], tail[4];
    vi_load_rows(scales, w, stride);
    vi_load_rows(tail, w + sizeof(jt_q2_k) - 16, stride); /* ends with d, dmin */
    vf d = vf_from_half(tail[3]), dmin = vf_from_half(vi_right(tail[3], 16));
    vf minus_dmin = vf_sub(vf_set1(0), dmin);
    for (int g = 0; g < 16; g++) {
        vi both = byte_of(scales[g / 4], g % 4);
        p->code[v].scale[g] = vf_mul(d, vf_from_vi(vi_and(both, 15)));
        p->code[v].bias[g] = vf_mul(minus_dmin, vf_from_vi(vi_right(both, 4)));
    }
    const uint8_t *qs = w + offsetof(jt_q2_k, qs);
    split_planes(p->code[v].q, qs, stride);
    split_planes(p->code[v].q + 32, qs + 32, stride);
}

/* The 12 bytes of scales and d are the last 14 of the block. */
ALWAYS_INLINE void scales_q3_k(code_panel *p, const uint8_t *w, size_t stride)
{
    vi tail[4], a[3];
    vi_load_rows(tail, w + sizeof(jt_q3_k) - 16, stride);
    for (int i = 0; i < 3; i++)
        a[i] = vi_or(vi_right(tail[i], 16), vi_left(tail[i + 1], 16));
    vf d = vf_from_half(vi_right(tail[3], 16));
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

static void panel_q3_k(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi mask[8], *q = p->code[v].q;
    scales_q3_k(&p->code[v], w, stride);
    const uint8_t *qs = w + offsetof(jt_q3_k, qs);
    split_planes(q, qs, stride);
    split_planes(q + 32, qs + 32, stride);
    vi_load_rows(mask, w, stride);
    vi_load_rows(mask + 4, w + 16, stride);
    for (int plane = 0; plane < 8; plane++)
        for (int i = 0; i < 8; i++) {
            vi high = vi_and(vi_right(mask[i], plane), 0x01010101);
            q[8 * plane + i] = vi_or(q[8 * plane + i], vi_left(high, 2));
        }
}

/* Scales and minima of Q4_K and Q5_K, whose first 16 bytes are the same. */
ALWAYS_INLINE void scales_affine(code_panel *p, const uint8_t *w, size_t stride)
{
    vi head[4], scale[2], min[2];
    vi_load_rows(head, w, stride);
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

static void panel_q4_k(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi packed[4];
    scales_affine(&p->code[v], w, stride);
    const uint8_t *qs = w + offsetof(jt_q4_k, qs);
    for (int i = 0; i < 8; i++) {
        vi_load_rows(packed, qs + 16 * i, stride);
        split_nibbles(p->code[v].q + 16 * (i / 2) + 4 * (i % 2), packed, 4, 8);
    }
}

static void panel_q5_k(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi packed[4], high[8], *q = p->code[v].q;
    scales_affine(&p->code[v], w, stride);
    const uint8_t *qs = w + offsetof(jt_q5_k, qs), *qh = w + offsetof(jt_q5_k, qh);
    for (int i = 0; i < 8; i++) {
        vi_load_rows(packed, qs + 16 * i, stride);
        split_nibbles(q + 16 * (i / 2) + 4 * (i % 2), packed, 4, 8);
    }
    vi_load_rows(high, qh, stride);
    vi_load_rows(high + 4, qh + 16, stride);
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 8; i++) {
            vi bit = vi_and(vi_right(high[i], j), 0x01010101);
            q[8 * j + i] = vi_or(q[8 * j + i], vi_left(bit, 4));
        }
}

/* 128 values: low nibbles of 64 bytes are the first 64 values, high ones the rest. */
ALWAYS_INLINE void half_q6_k(vi q[32], const uint8_t *ql, const uint8_t *qh,
                             size_t stride)
{
    vi low[4], high[4];
    for (int i = 0; i < 4; i++) {
        vi_load_rows(low, ql + 16 * i, stride);
        split_nibbles(q + 4 * i, low, 4, 16);
    }
    for (int i = 0; i < 2; i++) {
        vi_load_rows(high, qh + 16 * i, stride);
        for (int j = 0; j < 16; j++) {
            vi *code = &q[8 * (j / 4) + 4 * i + j % 4];
            vi two = vi_and(vi_right(high[j % 4], j / 4 * 2), 0x03030303);
            *code = vi_or(*code, vi_left(two, 4));
        }
    }
}

static void panel_q6_k(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi scales[4], tail[4];
    vi_load_rows(scales, w + offsetof(jt_q6_k, scales), stride);
    vi_load_rows(tail, w + sizeof(jt_q6_k) - 16, stride); /* ends with d */
    vf d = vf_from_half(vi_right(tail[3], 16));
    for (int g = 0; g < 16; g++) {
        vi top = vi_left(scales[g / 4], 24 - 8 * (g % 4));
        p->code[v].scale[g] = vf_mul(d, vf_from_vi(vi_shift_down(top, 24)));
    }
    half_q6_k(p->code[v].q, w, w + offsetof(jt_q6_k, qh), stride);
    half_q6_k(p->code[v].q + 32, w + 64, w + offsetof(jt_q6_k, qh) + 32, stride);
}

/* One scale for `groups` groups of 32. */
ALWAYS_INLINE void repeat_scale_lanes(vf *scale, vf d, int groups)
{
    for (int g = 0; g < groups; g++)
        scale[g] = d;
}

static void panel_tq2_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi tail[4];
    vi_load_rows(tail, w + sizeof(jt_tq2_0) - 16, stride); /* ends with d */
    repeat_scale_lanes(p->code[v].scale, vf_from_half(vi_right(tail[3], 16)), 8);
    split_planes(p->code[v].q, w, stride);
    split_planes(p->code[v].q + 32, w + 32, stride);
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

static void panel_tq1_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi packed[12], tail[4], *q = p->code[v].q;
    vi_load_rows(tail, w + sizeof(jt_tq1_0) - 16, stride); /* ends with qh and d */
    repeat_scale_lanes(p->code[v].scale, vf_from_half(vi_right(tail[3], 16)), 8);
    for (int i = 0; i < 3; i++)
        vi_load_rows(packed + 4 * i, w + 16 * i, stride);
    for (int i = 0; i < 8; i++)
        split_trits(q + i, packed[i], 5, 8);
    for (int i = 0; i < 4; i++)
        split_trits(q + 40 + i, packed[8 + i], 5, 4);
    split_trits(q + 60, vi_or(vi_right(tail[2], 16), vi_left(tail[3], 16)), 4, 1);
}

static void panel_q1_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], bits[4], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    for (size_t i = 0; i < count / 128; i++, w += sizeof(jt_q1_0), q += 32) {
        vi_load_rows(head, w, stride);
        vi_load_rows(bits, w + offsetof(jt_q1_0, qs), stride);
        repeat_scale_lanes(scale + 4 * i, vf_from_half(head[0]), 4);
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

static void panel_q2_0(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    for (size_t i = 0; i < count / 64; i++, w += sizeof(jt_q2_0), q += 16) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_q2_0, qs), stride);
        repeat_scale_lanes(scale + 2 * i, vf_from_half(head[0]), 2);
        for (int j = 0; j < 16; j++)
            q[j] = split_byte(packed[j / 4], j % 4);
    }
}

static void panel_f32(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi four[4];
    for (size_t i = 0; i < count; i += 4) {
        vi_load_rows(four, w + 4 * i, stride);
        for (int j = 0; j < 4; j++)
            p->real[v].w[i + (size_t)j] = vf_cast(four[j]);
    }
}

static void panel_f16(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi pairs[4];
    for (size_t i = 0; i < count; i += 8) {
        vi_load_rows(pairs, w + 2 * i, stride);
        vf *out = p->real[v].w + i;
        for (int j = 0; j < 4; j++) {
            out[2 * j] = vf_from_half(pairs[j]);
            out[2 * j + 1] = vf_from_half(vi_right(pairs[j], 16));
        }
    }
}

static void panel_bf16(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi pairs[4];
    for (size_t i = 0; i < count; i += 8) {
        vi_load_rows(pairs, w + 2 * i, stride);
        vf *out = p->real[v].w + i;
        for (int j = 0; j < 4; j++) {
            out[2 * j] = vf_cast(vi_left(pairs[j], 16));
            out[2 * j + 1] = vf_cast(vi_and(pairs[j], (int)0xffff0000));
        }
    }
}

#endif
