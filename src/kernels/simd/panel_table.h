/* Panels of the formats whose codes are looked up (c/codes_table.h): the 16 values of
 * IQ4 and FP4 with a shuffle, the points of the grids with a gather.
 *
 * The codes of grids have an offset, so that a sign is a subtraction from twice it. */
#ifndef JT_PANEL_TABLE_H
#define JT_PANEL_TABLE_H

#include "kernels/c/codes_table.h"
#include "kernels/simd/panel.h"

/* 16 values, each `offset` higher. */
ALWAYS_INLINE vi table_above(const int8_t values[16], int offset)
{
    int8_t higher[16];
    for (int i = 0; i < 16; i++)
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

static void panel_iq4_nl(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    const vi table = vi_int8_codes(vi_table(table_iq4));
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_iq4_nl)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_iq4_nl, qs), stride);
        p->code[v].scale[g] = vf_from_half(head[0]);
        look_up_nibbles(p->code[v].q + 8 * g, table, packed, 4);
    }
}

static void panel_iq4_xs(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi head[4], packed[4];
    const vi table = vi_int8_codes(vi_table(table_iq4));
    vi_load_rows(head, w, stride);
    vf d = vf_from_half(head[0]);
    for (int g = 0; g < 8; g++) {
        vi low = vi_and(vi_right(head[1], 4 * g), 15);
        vi high = vi_and(vi_right(head[0], 16 + 2 * g), 3);
        vi scale = vi_sub(vi_or(low, vi_left(high, 4)), vi_set1(32));
        p->code[v].scale[g] = vf_mul(d, vf_from_vi(scale));
        vi_load_rows(packed, w + offsetof(jt_iq4_xs, qs) + 16 * g, stride);
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

static void panel_mxfp4(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[4];
    const vi table = table_above(table_fp4, 12);
    for (size_t g = 0; g < count / 32; g++, w += sizeof(jt_mxfp4)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_mxfp4, qs), stride);
        p->code[v].scale[g] = half_of_e8m0(byte_of(head[0], 0));
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

static void panel_nvfp4(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    vi head[4], packed[8], *q = p->code[v].q;
    vf *scale = p->code[v].scale;
    const vi table = table_above(table_fp4, 12);
    for (size_t i = 0; i < count / 64; i++, w += sizeof(jt_nvfp4)) {
        vi_load_rows(head, w, stride);
        vi_load_rows(packed, w + offsetof(jt_nvfp4, qs), stride);
        vi_load_rows(packed + 4, w + offsetof(jt_nvfp4, qs) + 16, stride);
        for (int g = 0; g < 4; g++, q += 4) {
            *scale++ = half_of_e4m3(byte_of(head[0], g));
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

/* Point k of 4 with eight values, whose signs are byte k of `signs`. */
ALWAYS_INLINE void put_point_iq2(vi q[2], const uint32_t *grid, vi index, vi signs,
                                 int k)
{
    static const int8_t sizes[16] = {43 + 8, 43 + 25, 43 + 43};
    const vi table = vi_table(sizes);
    vi point = vi_gather(grid, index);
    vi low = vi_look_up(table, vi_and(point, 0x0f0f0f0f));
    vi high = vi_look_up(table, vi_and(vi_right(point, 4), 0x0f0f0f0f));
    q[0] = vi_turn(low, signs, 2 * k, 2 * 43);
    q[1] = vi_turn(high, signs, 2 * k + 1, 2 * 43);
}

static void panel_iq2_xxs(panel *p, int v, const uint8_t *w, size_t stride,
                          size_t count)
{
    (void)count;
    vi head[4], packed[16], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vf d = vf_mul(vf_from_half(head[0]), vf_set1(0.125f));
    for (int i = 0; i < 4; i++)
        vi_load_rows(packed + 4 * i, w + offsetof(jt_iq2_xxs, qs) + 16 * i, stride);
    for (int g = 0; g < 8; g++) {
        vi word = packed[2 * g + 1], signs = signs_of_28(word);
        p->code[v].scale[g] = odd_scale_lanes(d, vi_right(word, 28));
        for (int k = 0; k < 4; k++, q += 2)
            put_point_iq2(q, jt_grid_iq2_xxs, byte_of(packed[2 * g], k), signs, k);
    }
}

static void panel_iq2_xs(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi head[4], tail[4], packed[16], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vi_load_rows(tail, w + sizeof(jt_iq2_xs) - 16, stride); /* ends with the scales */
    vf d = vf_mul(vf_from_half(head[0]), vf_set1(0.125f));
    odd_scales_16(p->code[v].scale, d, tail + 2);
    for (int i = 0; i < 4; i++)
        vi_load_rows(packed + 4 * i, w + offsetof(jt_iq2_xs, qs) + 16 * i, stride);
    for (int g = 0; g < 16; g++, q += 4) {
        vi seven = vi_or(vi_and(vi_right(packed[g], 9), 0x7f),
                         vi_and(vi_right(packed[g], 17), 0x7f00));
        vi signs = add_eighth_signs(seven);
        vi first = vi_and(packed[g], 511),
           second = vi_and(vi_right(packed[g], 16), 511);
        put_point_iq2(q, jt_grid_iq2_xs, first, signs, 0);
        put_point_iq2(q + 2, jt_grid_iq2_xs, second, signs, 1);
    }
}

static void panel_iq2_s(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi head[4], tail[4], low[8], signs[8], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vi_load_rows(tail, w + offsetof(jt_iq2_s, qh), stride); /* qh, then the scales */
    vf d = vf_mul(vf_from_half(head[0]), vf_set1(0.125f));
    odd_scales_16(p->code[v].scale, d, tail + 2);
    for (int i = 0; i < 2; i++) {
        vi_load_rows(low + 4 * i, w + offsetof(jt_iq2_s, qs) + 16 * i, stride);
        vi_load_rows(signs + 4 * i, w + offsetof(jt_iq2_s, signs) + 16 * i, stride);
    }
    for (int g = 0; g < 8; g++)
        for (int k = 0; k < 4; k++, q += 2) {
            vi high = vi_and(vi_right(tail[g / 4], g % 4 * 8 + 2 * k), 3);
            vi index = vi_or(byte_of(low[g], k), vi_left(high, 8));
            put_point_iq2(q, jt_grid_iq2_s, index, signs[g], k);
        }
}

/* Point k of 8 with four values and the offset `top`, whose signs are nibble k. */
ALWAYS_INLINE vi point_iq3(const uint32_t *grid, vi index, vi signs, int k, int top)
{
    vi point = vi_add(vi_gather(grid, index), vi_set1(top * 0x01010101));
    return vi_turn(point, signs, k, 2 * top);
}

static void panel_iq3_xxs(panel *p, int v, const uint8_t *w, size_t stride,
                          size_t count)
{
    (void)count;
    vi head[4], low[16], words[8], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vf d = vf_mul(vf_from_half(head[0]), vf_set1(0.25f));
    for (int i = 0; i < 4; i++)
        vi_load_rows(low + 4 * i, w + offsetof(jt_iq3_xxs, qs) + 16 * i, stride);
    for (int i = 0; i < 2; i++)
        vi_load_rows(words + 4 * i, w + offsetof(jt_iq3_xxs, signs) + 16 * i, stride);
    for (int g = 0; g < 8; g++) {
        vi signs = signs_of_28(words[g]);
        p->code[v].scale[g] = odd_scale_lanes(d, vi_right(words[g], 28));
        for (int k = 0; k < 8; k++) {
            vi index = byte_of(low[2 * g + k / 4], k % 4);
            *q++ = point_iq3(jt_grid_iq3_xxs, index, signs, k, 62);
        }
    }
}

static void panel_iq3_s(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi head[4], high[4], tail[4], low[16], signs[8], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vi_load_rows(high, w + offsetof(jt_iq3_s, qh), stride);
    vi_load_rows(tail, w + sizeof(jt_iq3_s) - 16, stride); /* ends with the scales */
    vf d = vf_from_half(head[0]);
    for (int i = 0; i < 4; i++)
        vi_load_rows(low + 4 * i, w + offsetof(jt_iq3_s, qs) + 16 * i, stride);
    for (int i = 0; i < 2; i++)
        vi_load_rows(signs + 4 * i, w + offsetof(jt_iq3_s, signs) + 16 * i, stride);
    for (int g = 0; g < 8; g++) {
        p->code[v].scale[g] = odd_scale_lanes(d, vi_and(vi_right(tail[3], 4 * g), 15));
        for (int k = 0; k < 8; k++) {
            vi bit = vi_and(vi_right(high[g / 4], g % 4 * 8 + k), 1);
            vi index = vi_or(byte_of(low[2 * g + k / 4], k % 4), vi_left(bit, 8));
            *q++ = point_iq3(jt_grid_iq3_s, index, signs[g], k, 15);
        }
    }
}

/* A point of eight values -1, 0, 1, with 1/8 more or (bit `less`) less; times 8, plus
 * 9. */
ALWAYS_INLINE void put_point_iq1(vi q[2], vi index, vi less)
{
    vi point = vi_gather(jt_grid_iq1, index);
    vi more = vi_sub(vi_set1(0x02020202), vi_mul(less, vi_set1(0x02020202)));
    q[0] = vi_add(vi_left(vi_and(point, 0x03030303), 3), more);
    q[1] = vi_add(vi_right(vi_and(point, 0x30303030), 1), more);
}

static void panel_iq1_s(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi head[4], low[8], high[4], *q = p->code[v].q;
    vi_load_rows(head, w, stride);
    vi_load_rows(high, w + offsetof(jt_iq1_s, qh), stride);
    vf d = vf_mul(vf_from_half(head[0]), vf_set1(0.125f));
    for (int i = 0; i < 2; i++)
        vi_load_rows(low + 4 * i, w + offsetof(jt_iq1_s, qs) + 16 * i, stride);
    for (int g = 0; g < 8; g++) {
        vi word = vi_and(vi_right(high[g / 2], g % 2 * 16), 0xffff);
        p->code[v].scale[g] = odd_scale_lanes(d, vi_and(vi_right(word, 12), 7));
        for (int k = 0; k < 4; k++, q += 2) {
            vi three = vi_and(vi_right(word, 3 * k), 7);
            vi index = vi_or(byte_of(low[g], k), vi_left(three, 8));
            put_point_iq1(q, index, vi_right(word, 15));
        }
    }
}

static void panel_iq1_m(panel *p, int v, const uint8_t *w, size_t stride, size_t count)
{
    (void)count;
    vi tail[4], low[8], high[4], *q = p->code[v].q;
    vi_load_rows(tail, w + sizeof(jt_iq1_m) - 16, stride); /* ends with the scales */
    vi_load_rows(high, w + offsetof(jt_iq1_m, qh), stride);
    vi d_low =
        vi_or(vi_and(vi_right(tail[2], 12), 0x0f), vi_and(vi_right(tail[2], 24), 0xf0));
    vi d_high = vi_or(vi_and(vi_right(tail[3], 4), 0x0f00),
                      vi_and(vi_right(tail[3], 16), 0xf000));
    vf d = vf_mul(vf_from_half(vi_or(d_low, d_high)), vf_set1(0.125f));
    for (int g = 0; g < 16; g++) {
        vi s = vi_and(vi_right(tail[2 + g / 8], g / 4 % 2 * 16 + g % 4 * 3), 7);
        p->code[v].scale[g] = odd_scale_lanes(d, s);
    }
    for (int i = 0; i < 2; i++)
        vi_load_rows(low + 4 * i, w + 16 * i, stride);
    for (int k = 0; k < 32; k++, q += 2) {
        vi four = vi_and(vi_right(high[k / 8], k % 8 * 4), 15);
        vi index = vi_or(byte_of(low[k / 4], k % 4), vi_left(vi_and(four, 7), 8));
        put_point_iq1(q, index, vi_right(four, 3));
    }
}

#endif
