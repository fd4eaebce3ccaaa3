/* The quantised blocks whose codes are looked up: in a table of 16 values (IQ4, FP4) or
 * in a grid of points of several values (IQ1 to IQ3). Continues codes.h. */
#ifndef JT_CODES_TABLE_H
#define JT_CODES_TABLE_H

#include <stdbool.h>

#include "kernels/c/codes.h"
#include "kernels/c/grids.h"

/* What the 4-bit codes of IQ4_NL and IQ4_XS stand for, */
static const int8_t table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
/* and twice what those of FP4 E2M1 do. */
static const int8_t table_fp4[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                     0, -1, -2, -3, -4, -6, -8, -12};

/* 2n codes, the low nibbles first. */
static inline void look_up(int8_t *q, const uint8_t *qs, int n, const int8_t *table)
{
    for (int j = 0; j < n; j++) {
        q[j] = table[qs[j] & 15];
        q[j + n] = table[qs[j] >> 4];
    }
}

static inline void unpack_iq4_nl(codes *c, const jt_iq4_nl *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    look_up(c->q, b->qs, 16, table_iq4);
}

static inline void unpack_iq4_xs(codes *c, const jt_iq4_xs *b)
{
    float d = jt_f16_to_float(b->d);
    for (int g = 0; g < 8; g++) {
        int low = b->scales_l[g / 2] >> 4 * (g % 2) & 15;
        int high = b->scales_h >> 2 * g & 3;
        c->scale[g] = d * (float)((low | high << 4) - 32);
        look_up(c->q + 32 * g, b->qs + 16 * g, 16, table_iq4);
    }
}

/* Half of 2^(e - 127), as the table has twice the values. Like ggml, and unlike
 * jt_e8m0_to_f32, e = 255 is a number. */
static inline void unpack_mxfp4(codes *c, const jt_mxfp4 *b)
{
    c->scale[0] = jt_bits_float(b->e < 2 ? 0x200000u << b->e : (b->e - 1u) << 23);
    look_up(c->q, b->qs, 16, table_fp4);
}

/* Half of an E4M3 without sign; like ggml, the NaN counts as 0. */
static inline void unpack_nvfp4(codes *c, const jt_nvfp4 *b)
{
    for (int g = 0; g < 4; g++) {
        float d =
            b->d[g] == 0x7f ? 0 : jt_f16_to_float((uint16_t)((b->d[g] & 127) << 7));
        c->scale[g] = d * 128;
        look_up(c->q + 16 * g, b->qs + 8 * g, 8, table_fp4);
    }
}

static inline uint32_t load_u16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | load_u16(p + 2) << 16;
}

/* Nibble i of a row of bytes. */
static inline int nibble(const uint8_t *p, int i)
{
    return p[i / 2] >> 4 * (i % 2) & 15;
}

/* Eight signs of which seven are stored: an even number is negative. */
static inline unsigned even_signs(uint32_t seven)
{
    unsigned low = seven & 127;
    return low | (unsigned)__builtin_parity(low) << 7;
}

/* The code of value i of a point of `values`. */
static inline int point_code(uint16_t point, int i, int values)
{
    return point >> (8 * (i % 2) + i / 2 * (16 / values)) & (values == 8 ? 3 : 7);
}

/* What the codes of points stand for. */
static const int8_t sizes_iq2[4] = {8, 25, 43};
static const int8_t sizes_iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const int8_t sizes_iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* A point with its signs. */
static inline void put_signed(int8_t *q, uint16_t point, int values, const int8_t *size,
                              unsigned signs)
{
    for (int i = 0; i < values; i++) {
        int8_t x = size[point_code(point, i, values)];
        q[i] = (int8_t)(signs >> i & 1 ? -x : x);
    }
}

/* Eight times the values: -1, 0 or 1, and 1/8 more or less. */
static inline void put_iq1(int8_t q[8], uint32_t index, bool less)
{
    for (int i = 0; i < 8; i++) {
        int code = point_code(jt_grid_iq1[index], i, 8);
        q[i] = (int8_t)(8 * (code - 1) + (less ? -1 : 1));
    }
}

/* The scale of all IQ1 to IQ3: an odd multiple of a part of d. */
static inline float odd_scale(float d, uint32_t s)
{
    return d * (float)(2 * s + 1);
}

static inline void unpack_iq2_xxs(codes *c, const jt_iq2_xxs *b)
{
    float d = jt_f16_to_float(b->d) / 8;
    for (int g = 0; g < 8; g++) {
        uint32_t word = load_u32(b->qs + 8 * g + 4);
        c->scale[g] = odd_scale(d, word >> 28);
        for (int k = 0; k < 4; k++)
            put_signed(c->q + 32 * g + 8 * k, jt_grid_iq2_xxs[b->qs[8 * g + k]], 8,
                       sizes_iq2, even_signs(word >> 7 * k));
    }
}

static inline void unpack_iq2_xs(codes *c, const jt_iq2_xs *b)
{
    float d = jt_f16_to_float(b->d) / 8;
    for (int g = 0; g < 16; g++)
        c->scale[g] = odd_scale(d, (uint32_t)nibble(b->scales, g));
    for (int k = 0; k < 32; k++) {
        uint32_t word = load_u16(b->qs + 2 * k);
        put_signed(c->q + 8 * k, jt_grid_iq2_xs[word & 511], 8, sizes_iq2,
                   even_signs(word >> 9));
    }
}

static inline void unpack_iq2_s(codes *c, const jt_iq2_s *b)
{
    float d = jt_f16_to_float(b->d) / 8;
    for (int g = 0; g < 16; g++)
        c->scale[g] = odd_scale(d, (uint32_t)nibble(b->scales, g));
    for (int k = 0; k < 32; k++) {
        int high = b->qh[k / 4] >> 2 * (k % 4) & 3;
        put_signed(c->q + 8 * k, jt_grid_iq2_s[b->qs[k] | high << 8], 8, sizes_iq2,
                   b->signs[k]);
    }
}

static inline void unpack_iq3_xxs(codes *c, const jt_iq3_xxs *b)
{
    float d = jt_f16_to_float(b->d) / 4;
    for (int g = 0; g < 8; g++) {
        uint32_t word = load_u32(b->signs + 4 * g);
        c->scale[g] = odd_scale(d, word >> 28);
        for (int k = 0; k < 8; k++)
            put_signed(c->q + 32 * g + 4 * k, jt_grid_iq3_xxs[b->qs[8 * g + k]], 4,
                       sizes_iq3_xxs, even_signs(word >> 7 * (k / 2)) >> 4 * (k % 2));
    }
}

static inline void unpack_iq3_s(codes *c, const jt_iq3_s *b)
{
    float d = jt_f16_to_float(b->d);
    for (int g = 0; g < 8; g++)
        c->scale[g] = odd_scale(d, (uint32_t)nibble(b->scales, g));
    for (int k = 0; k < 64; k++) {
        int high = b->qh[k / 8] >> k % 8 & 1;
        put_signed(c->q + 4 * k, jt_grid_iq3_s[b->qs[k] | high << 8], 4, sizes_iq3_s,
                   (unsigned)nibble(b->signs, k));
    }
}

static inline void unpack_iq1_s(codes *c, const jt_iq1_s *b)
{
    float d = jt_f16_to_float(b->d) / 8;
    for (int g = 0; g < 8; g++) {
        uint32_t word = load_u16(b->qh + 2 * g);
        c->scale[g] = odd_scale(d, word >> 12 & 7);
        for (int k = 0; k < 4; k++)
            put_iq1(c->q + 32 * g + 8 * k, b->qs[4 * g + k] | (word >> 3 * k & 7) << 8,
                    word >> 15);
    }
}

static inline void unpack_iq1_m(codes *c, const jt_iq1_m *b)
{
    uint32_t d_bits = 0;
    for (int i = 0; i < 4; i++)
        d_bits |= load_u16(b->scales + 2 * i) >> 12 << 4 * i;
    float d = jt_f16_to_float((uint16_t)d_bits) / 8;
    for (int g = 0; g < 16; g++)
        c->scale[g] =
            odd_scale(d, load_u16(b->scales + 2 * (g / 4)) >> 3 * (g % 4) & 7);
    for (int k = 0; k < 32; k++) {
        uint32_t high = (uint32_t)nibble(b->qh, k);
        put_iq1(c->q + 8 * k, b->qs[k] | (high & 7) << 8, high >> 3);
    }
}

#endif
