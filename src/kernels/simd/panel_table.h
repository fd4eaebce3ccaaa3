/* Panels of the formats whose codes are looked up (c/codes_table.h): the 16 values of
 * IQ4 and FP4 with a shuffle, the points of the grids two in a lane.
 *
 * The codes of grids have an offset, so that a sign is a subtraction from twice it. */
#ifndef JT_PANEL_TABLE_H
#define JT_PANEL_TABLE_H

#include "kernels/c/codes_table.h"
#include "kernels/simd/panel.h"

/* A table of n values, each `offset` higher. */
ALWAYS_INLINE vi table_above(const int8_t *values, int n, int offset)
{
    int8_t higher[16] = {0};
    for (int i = 0; i < n; i++)
        higher[i] = (int8_t)(values[i] + offset);
    return vi_table(higher);
}

/* Values of the low nibbles of n dwords, then of the high ones. */
ALWAYS_INLINE void look_up_nibbles(vi *q, vi table, const vi *packed, int n)
{
    split_nibbles(q, packed, n, n);
    for (int i = 0; i < 2 * n; i++)
        q[i] = vi_look_up(table, q[i]);
}

ALWAYS_INLINE void panel_iq4_nl(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    const vi table = vi_int8_codes(vi_table(table_iq4));
    scales_q4_0(&p->code[v], r, count);
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_iq4_nl))) {
        LOAD(packed, 4, r, jt_iq4_nl, qs);
        look_up_nibbles(p->code[v].q + 8 * g, table, packed, 4);
    }
}

ALWAYS_INLINE void scales_iq4_xs(code_panel *p, source r, size_t count)
{
    (void)count;
    vi head[2];
    LOAD(head, 2, r, jt_iq4_xs, d);
    vf d = vf_from_half(head[0]);
    for (int g = 0; g < 8; g++) {
        vi low = vi_and(vi_right(head[1], 4 * g), 15);
        vi high = vi_and(vi_right(head[0], 16 + 2 * g), 3);
        vi scale = vi_sub(vi_or(low, vi_left(high, 4)), vi_set1(32));
        p->scale[g] = vf_mul(d, vf_from_vi(scale));
    }
}

ALWAYS_INLINE void panel_iq4_xs(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    const vi table = vi_int8_codes(vi_table(table_iq4));
    scales_iq4_xs(&p->code[v], r, count);
    for (int g = 0; g < 8; g++) {
        LOAD(packed, 4, r, jt_iq4_xs, qs[16 * (size_t)g]);
        look_up_nibbles(p->code[v].q + 8 * g, table, packed, 4);
    }
}

/* 2^(e - 128): a normal float has its exponent at bit 23; for e < 2 it has not, and
 * there the other term is the larger and right. */
ALWAYS_INLINE vf half_of_e8m0(vi e)
{
    vf normal = vf_cast(vi_left(vi_sub(e, vi_set1(1)), 23));
    return vf_max(normal, vf_cast(vi_left(vi_add(e, vi_set1(1)), 21)));
}

ALWAYS_INLINE void scales_mxfp4(code_panel *p, source r, size_t count)
{
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_mxfp4)))
        p->scale[g] = half_of_e8m0(load_byte(r, offsetof(jt_mxfp4, e)));
}

ALWAYS_INLINE void panel_mxfp4(panel *p, int v, source r, size_t count)
{
    vi packed[4];
    const vi table = table_above(table_fp4, 16, 12);
    scales_mxfp4(&p->code[v], r, count);
    for (size_t g = 0; g < count / 32; g++, next_block(&r, sizeof(jt_mxfp4))) {
        LOAD(packed, 4, r, jt_mxfp4, qs);
        look_up_nibbles(p->code[v].q + 8 * g, table, packed, 4);
    }
}

/* Half of an E4M3 without sign, whose bits are those of a half; 0x7f gives 0. */
ALWAYS_INLINE vf half_of_e4m3(vi x)
{
    vi is_nan = vi_right(vi_sub(vi_xor(x, vi_set1(0x7f)), vi_set1(1)), 31);
    vi bits = vi_left(vi_and(x, 0x7f), 7);
    bits = vi_sub(bits, vi_mul(is_nan, vi_set1(0x7f << 7)));
    return vf_mul(vf_from_half(bits), vf_set1(128));
}

ALWAYS_INLINE void panel_nvfp4(panel *p, int v, source r, size_t count)
{
    vi head, packed[8], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    const vi table = table_above(table_fp4, 16, 12);
    for (size_t i = 0; i < count / 64; i++, next_block(&r, sizeof(jt_nvfp4))) {
        LOAD(&head, 1, r, jt_nvfp4, d);
        LOAD(packed, 8, r, jt_nvfp4, qs);
        for (int g = 0; g < 4; g++, q += 4) {
            *scale++ = half_of_e4m3(byte_of(head, g));
            look_up_nibbles(q, table, packed + 2 * g, 2);
        }
    }
}

/* ---- grids ---------------------------------------------------------------------- */

/* The scale of all IQ1 to IQ3: an odd multiple of a part of d. */
ALWAYS_INLINE vf odd_scale_lanes(vf d, vi s)
{
    return vf_mul(d, vf_from_vi(vi_add(vi_add(s, s), vi_set1(1))));
}

/* The 16 scales of IQ2_XS and IQ2_S: nibbles in two dwords. */
ALWAYS_INLINE void odd_scales_16(vf scale[16], vf d, const vi nibbles[2])
{
    for (int g = 0; g < 16; g++)
        scale[g] = odd_scale_lanes(d, vi_and(vi_right(nibbles[g / 8], g % 8 * 4), 15));
}

/* The eighth sign of each byte, which makes their number even. */
ALWAYS_INLINE vi add_eighth_signs(vi seven)
{
    vi odd = vi_xor(seven, vi_right(seven, 4));
    odd = vi_xor(odd, vi_right(odd, 2));
    odd = vi_xor(odd, vi_right(odd, 1));
    return vi_or(seven, vi_left(vi_and(odd, 0x01010101), 7));
}

/* The 32 signs in the low 28 bits of IQ2_XXS and IQ3_XXS. */
ALWAYS_INLINE vi signs_of_28(vi x)
{
    vi low = vi_or(vi_and(x, 0x7f), vi_and(vi_left(x, 1), 0x7f00));
    vi high = vi_or(vi_and(vi_left(x, 2), 0x7f0000), vi_and(vi_left(x, 3), 0x7f000000));
    return add_eighth_signs(vi_or(low, high));
}

/* Indices of four points, the low bytes of a dword: even ones and odd ones, with
 * higher bits that lie where they belong. */
ALWAYS_INLINE void pair_indices(vi index[2], vi low, vi even_high, vi odd_high)
{
    index[0] = vi_or(vi_and(low, 0x00ff00ff), even_high);
    index[1] = vi_or(vi_and(vi_right(low, 8), 0x00ff00ff), odd_high);
}

/* Point k of the four whose even ones are points[0] and whose odd ones points[1]. */
ALWAYS_INLINE vi point_of(const vi points[2], int k)
{
    return k < 2 ? vi_and(points[k], 0xffff) : vi_right(points[k - 2], 16);
}

/* Codes of a point of eight: values 0 to 3 in the low nibbles, 4 to 7 in the high. */
ALWAYS_INLINE vi spread_eight(vi point)
{
    return vi_and(vi_or(point, vi_left(point, 14)), 0x33333333);
}

/* Four points of eight values with their 32 signs. */
ALWAYS_INLINE void put_lanes_iq2(vi q[8], const uint16_t *grid, int size,
                                 const vi index[2], vi signs)
{
    const vi table = table_above(sizes_iq2, 3, 43);
    const vi points[2] = {vi_pick(grid, size, index[0]), vi_pick(grid, size, index[1])};
    for (int k = 0; k < 4; k++) {
        vi codes8 = spread_eight(point_of(points, k));
        vi first = vi_look_up(table, vi_and(codes8, 0x03030303));
        vi last = vi_look_up(table, vi_and(vi_right(codes8, 4), 0x03030303));
        q[2 * k] = vi_turn(first, signs, 2 * k, 2 * 43);
        q[2 * k + 1] = vi_turn(last, signs, 2 * k + 1, 2 * 43);
    }
}

ALWAYS_INLINE void panel_iq2_xxs(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi packed[16], index[2], *q = p->code[v].q;
    vf d = vf_mul(LOAD_HALF(r, jt_iq2_xxs, d), vf_set1(0.125f));
    LOAD(packed, 16, r, jt_iq2_xxs, qs);
    for (int g = 0; g < 8; g++) {
        vi word = packed[2 * g + 1];
        p->code[v].scale[g] = odd_scale_lanes(d, vi_right(word, 28));
        pair_indices(index, packed[2 * g], vi_set1(0), vi_set1(0));
        put_lanes_iq2(q + 8 * g, jt_grid_iq2_xxs, 256, index, signs_of_28(word));
    }
}

/* Dwords of two words with 9 bits of an index and 7 of signs. */
ALWAYS_INLINE void panel_iq2_xs(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi scales[2], packed[16], index[2], *q = p->code[v].q;
    LOAD(scales, 2, r, jt_iq2_xs, scales);
    vf d = vf_mul(LOAD_HALF(r, jt_iq2_xs, d), vf_set1(0.125f));
    odd_scales_16(p->code[v].scale, d, scales);
    LOAD(packed, 16, r, jt_iq2_xs, qs);
    for (int g = 0; g < 8; g++) {
        vi a = packed[2 * g], b = packed[2 * g + 1];
        index[0] = vi_or(vi_and(a, 511), vi_and(vi_left(b, 16), 511 << 16));
        index[1] = vi_or(vi_and(vi_right(a, 16), 511), vi_and(b, 511 << 16));
        vi low = vi_or(vi_and(vi_right(a, 9), 0x7f), vi_and(vi_right(a, 17), 0x7f00));
        vi high =
            vi_or(vi_and(vi_left(b, 7), 0x7f0000), vi_and(vi_right(b, 1), 0x7f000000));
        vi signs = add_eighth_signs(vi_or(low, high));
        put_lanes_iq2(q + 8 * g, jt_grid_iq2_xs, 512, index, signs);
    }
}

ALWAYS_INLINE void panel_iq2_s(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi tail[4], low[8], signs[8], index[2], *q = p->code[v].q;
    LOAD(tail, 4, r, jt_iq2_s, qh); /* and the scales */
    vf d = vf_mul(LOAD_HALF(r, jt_iq2_s, d), vf_set1(0.125f));
    odd_scales_16(p->code[v].scale, d, tail + 2);
    LOAD(low, 8, r, jt_iq2_s, qs);
    LOAD(signs, 8, r, jt_iq2_s, signs);
    for (int g = 0; g < 8; g++) {
        vi twos = byte_of(tail[g / 4], g % 4); /* bits 8 and 9 of four indices */
        vi even =
            vi_or(vi_and(vi_left(twos, 8), 3 << 8), vi_and(vi_left(twos, 20), 3 << 24));
        vi odd =
            vi_or(vi_and(vi_left(twos, 6), 3 << 8), vi_and(vi_left(twos, 18), 3 << 24));
        pair_indices(index, low[g], even, odd);
        put_lanes_iq2(q + 8 * g, jt_grid_iq2_s, 1024, index, signs[g]);
    }
}

/* Four points of four values, `top` the largest of their sizes and their offset; their
 * signs are the nibbles from number `first`. */
ALWAYS_INLINE void put_lanes_iq3(vi q[4], const uint16_t *grid, int size, vi table,
                                 const vi index[2], vi signs, int first, int top)
{
    const vi points[2] = {vi_pick(grid, size, index[0]), vi_pick(grid, size, index[1])};
    for (int k = 0; k < 4; k++) {
        vi point = point_of(points, k);
        vi codes4 = vi_and(vi_or(point, vi_left(point, 12)), 0x07070707);
        q[k] = vi_turn(vi_look_up(table, codes4), signs, first + k, 2 * top);
    }
}

ALWAYS_INLINE void panel_iq3_xxs(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi low[16], words[8], index[2], *q = p->code[v].q;
    const vi table = table_above(sizes_iq3_xxs, 8, 62);
    vf d = vf_mul(LOAD_HALF(r, jt_iq3_xxs, d), vf_set1(0.25f));
    LOAD(low, 16, r, jt_iq3_xxs, qs);
    LOAD(words, 8, r, jt_iq3_xxs, signs);
    for (int g = 0; g < 8; g++) {
        vi signs = signs_of_28(words[g]);
        p->code[v].scale[g] = odd_scale_lanes(d, vi_right(words[g], 28));
        for (int j = 0; j < 2; j++, q += 4) {
            pair_indices(index, low[2 * g + j], vi_set1(0), vi_set1(0));
            put_lanes_iq3(q, jt_grid_iq3_xxs, 256, table, index, signs, 4 * j, 62);
        }
    }
}

ALWAYS_INLINE void panel_iq3_s(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi high[2], scales, low[16], signs[8], index[2], *q = p->code[v].q;
    const vi table = table_above(sizes_iq3_s, 8, 15);
    vf d = LOAD_HALF(r, jt_iq3_s, d);
    LOAD(high, 2, r, jt_iq3_s, qh);
    LOAD(&scales, 1, r, jt_iq3_s, scales);
    LOAD(low, 16, r, jt_iq3_s, qs);
    LOAD(signs, 8, r, jt_iq3_s, signs);
    for (int g = 0; g < 8; g++)
        p->code[v].scale[g] = odd_scale_lanes(d, vi_and(vi_right(scales, 4 * g), 15));
    for (int i = 0; i < 16; i++) {
        vi ones = vi_right(high[i / 8], i % 8 * 4); /* bit 8 of four indices */
        vi even =
            vi_or(vi_and(vi_left(ones, 8), 1 << 8), vi_and(vi_left(ones, 22), 1 << 24));
        vi odd =
            vi_or(vi_and(vi_left(ones, 7), 1 << 8), vi_and(vi_left(ones, 21), 1 << 24));
        pair_indices(index, low[i], even, odd);
        put_lanes_iq3(q + 4 * i, jt_grid_iq3_s, 512, table, index, signs[i / 2],
                      i % 2 * 4, 15);
    }
}

/* Four points of eight values -1, 0, 1. The nibbles have the high bits of the indices
 * and, as bit 3, whether all values get 1/8 less or more. The codes are 8 times that,
 * plus 9. */
ALWAYS_INLINE void put_lanes_iq1(vi q[8], vi low, vi nibbles)
{
    vi index[2], points[2];
    pair_indices(index, low,
                 vi_or(vi_and(vi_left(nibbles, 8), 7 << 8),
                       vi_and(vi_left(nibbles, 16), 7 << 24)),
                 vi_or(vi_and(vi_left(nibbles, 4), 7 << 8),
                       vi_and(vi_left(nibbles, 12), 7 << 24)));
    for (int i = 0; i < 2; i++)
        points[i] = vi_pick(jt_grid_iq1, 2048, index[i]);
    for (int k = 0; k < 4; k++) {
        vi codes8 = spread_eight(point_of(points, k));
        vi less = vi_and(vi_shift_down(vi_left(nibbles, 28 - 4 * k), 31), 0x02020202);
        vi more = vi_sub(vi_set1(0x02020202), less);
        q[2 * k] = vi_add(vi_left(vi_and(codes8, 0x03030303), 3), more);
        q[2 * k + 1] = vi_add(vi_right(vi_and(codes8, 0x30303030), 1), more);
    }
}

ALWAYS_INLINE void panel_iq1_s(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi low[8], high[4], *q = p->code[v].q;
    vf d = vf_mul(LOAD_HALF(r, jt_iq1_s, d), vf_set1(0.125f));
    LOAD(low, 8, r, jt_iq1_s, qs);
    LOAD(high, 4, r, jt_iq1_s, qh);
    for (int g = 0; g < 8; g++) {
        vi word = vi_and(vi_right(high[g / 2], g % 2 * 16), 0xffff);
        p->code[v].scale[g] = odd_scale_lanes(d, vi_and(vi_right(word, 12), 7));
        vi threes = vi_or(
            vi_or(vi_and(word, 0x7), vi_and(vi_left(word, 1), 0x70)),
            vi_or(vi_and(vi_left(word, 2), 0x700), vi_and(vi_left(word, 3), 0x7000)));
        vi less = vi_and(vi_shift_down(vi_left(word, 16), 31), 0x8888);
        put_lanes_iq1(q + 8 * g, low[g], vi_or(threes, less));
    }
}

ALWAYS_INLINE void panel_iq1_m(panel *p, int v, source r, size_t count)
{
    (void)count;
    vi scales[2], low[8], high[4], *q = p->code[v].q;
    LOAD(scales, 2, r, jt_iq1_m, scales);
    LOAD(high, 4, r, jt_iq1_m, qh);
    vi d_low = vi_or(vi_and(vi_right(scales[0], 12), 15),
                     vi_and(vi_right(scales[0], 24), 15 << 4));
    vi d_high = vi_or(vi_and(vi_right(scales[1], 4), 15 << 8),
                      vi_and(vi_right(scales[1], 16), 15 << 12));
    vf d = vf_mul(vf_from_half(vi_or(d_low, d_high)), vf_set1(0.125f));
    for (int g = 0; g < 16; g++) {
        vi s = vi_and(vi_right(scales[g / 8], g / 4 % 2 * 16 + g % 4 * 3), 7);
        p->code[v].scale[g] = odd_scale_lanes(d, s);
    }
    LOAD(low, 8, r, jt_iq1_m, qs);
    for (int g = 0; g < 8; g++)
        put_lanes_iq1(q + 8 * g, low[g], vi_right(high[g / 2], g % 2 * 16));
}

#endif
