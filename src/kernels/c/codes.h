/* What a quantised block says, in plain C: signed codes, and a scale (and for some
 * formats a bias) per group of 16 or 32. The definition of each format; decoding and
 * the scalar products are made from it. Static, so that each level compiles its own. */
#ifndef JT_CODES_H
#define JT_CODES_H

#include "base/half.h"
#include "kernels/blocks.h"

/* x[i] = scale[i / group] * q[i] + bias[i / group] */
typedef struct codes {
    int8_t q[256];
    float scale[16], bias[16];
} codes;

static inline void unpack_q8_0(codes *c, const jt_q8_0 *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    memcpy(c->q, b->qs, sizeof b->qs);
}

/* 32 nibbles, low ones first, minus `offset`. */
static inline void unpack_nibbles(int8_t q[32], const uint8_t qs[16], int offset)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((qs[j] & 15) - offset);
        q[j + 16] = (int8_t)((qs[j] >> 4) - offset);
    }
}

/* Add 16 where the bit of the value is set. */
static inline void unpack_fifth_bits(int8_t q[32], const uint8_t qh[4])
{
    for (int j = 0; j < 32; j++)
        q[j] = (int8_t)(q[j] + ((qh[j / 8] >> (j % 8) & 1) << 4));
}

static inline void unpack_q4_0(codes *c, const jt_q4_0 *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    unpack_nibbles(c->q, b->qs, 8);
}

static inline void unpack_q4_1(codes *c, const jt_q4_1 *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    c->bias[0] = jt_f16_to_float(b->m);
    unpack_nibbles(c->q, b->qs, 0);
}

static inline void unpack_q5_0(codes *c, const jt_q5_0 *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    unpack_nibbles(c->q, b->qs, 16);
    unpack_fifth_bits(c->q, b->qh);
}

static inline void unpack_q5_1(codes *c, const jt_q5_1 *b)
{
    c->scale[0] = jt_f16_to_float(b->d);
    c->bias[0] = jt_f16_to_float(b->m);
    unpack_nibbles(c->q, b->qs, 0);
    unpack_fifth_bits(c->q, b->qh);
}

/* The two-bit codes of Q2_K and Q3_K: four planes in each half of qs. */
static inline void unpack_planes(int8_t q[256], const uint8_t qs[64])
{
    for (int plane = 0; plane < 8; plane++)
        for (int l = 0; l < 32; l++)
            q[32 * plane + l] = qs[32 * (plane / 4) + l] >> 2 * (plane % 4) & 3;
}

static inline void unpack_q2_k(codes *c, const jt_q2_k *b)
{
    float d = jt_f16_to_float(b->d), dmin = jt_f16_to_float(b->dmin);
    for (int g = 0; g < 16; g++) {
        c->scale[g] = d * (float)(b->scales[g] & 15);
        c->bias[g] = -(dmin * (float)(b->scales[g] >> 4));
    }
    unpack_planes(c->q, b->qs);
}

/* Q2_K with halved cells. */
static inline void unpack_nested(codes *c, const jt_q2_k *base,
                                 const uint8_t plane[][32], int planes)
{
    float part = 1.0f / (float)(1 << planes), middle = 0.5f - 0.5f * part;
    unpack_q2_k(c, base);
    for (int g = 0; g < 16; g++) {
        c->bias[g] -= c->scale[g] * middle;
        c->scale[g] *= part;
    }
    for (int k = 0; k < planes; k++)
        for (int j = 0; j < 8; j++)
            for (int l = 0; l < 32; l++) {
                int more = plane[k][l] >> j & 1;
                c->q[32 * j + l] = (int8_t)(2 * c->q[32 * j + l] + more);
            }
}

#define UNPACK_NESTED(lower, planes)                                        \
    static inline void unpack_##lower(codes *c, const jt_##lower *b)        \
    {                                                                       \
        unpack_nested(c, &b->base, (const uint8_t(*)[32])b->plane, planes); \
    }
UNPACK_NESTED(n3, 1)
UNPACK_NESTED(n4, 2)
UNPACK_NESTED(n5, 3)
UNPACK_NESTED(n6, 4)
#undef UNPACK_NESTED

static inline void unpack_q3_k(codes *c, const jt_q3_k *b)
{
    float d = jt_f16_to_float(b->d);
    const uint8_t *a = b->scales;
    for (int g = 0; g < 16; g++) {
        int low = a[g % 8] >> 4 * (g / 8) & 15;
        int high = a[8 + g % 4] >> 2 * (g / 4) & 3;
        c->scale[g] = d * (float)((low | high << 4) - 32);
    }
    unpack_planes(c->q, b->qs);
    for (int plane = 0; plane < 8; plane++)
        for (int l = 0; l < 32; l++) {
            int high = b->hmask[l] >> plane & 1;
            c->q[32 * plane + l] = (int8_t)(c->q[32 * plane + l] + 4 * high - 4);
        }
}

/* Eight scales and eight minima of 6 bits in 12 bytes (Q4_K, Q5_K). */
static inline void unpack_six_bits(uint8_t scale[8], uint8_t min[8],
                                   const uint8_t a[12])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = a[j] & 63;
        min[j] = a[j + 4] & 63;
        scale[j + 4] = (uint8_t)((a[j + 8] & 15) | a[j] >> 6 << 4);
        min[j + 4] = (uint8_t)(a[j + 8] >> 4 | a[j + 4] >> 6 << 4);
    }
}

static inline void unpack_scales_k(codes *c, uint16_t d_bits, uint16_t dmin_bits,
                                   const uint8_t a[12])
{
    float d = jt_f16_to_float(d_bits), dmin = jt_f16_to_float(dmin_bits);
    uint8_t scale[8], min[8];
    unpack_six_bits(scale, min, a);
    for (int j = 0; j < 8; j++) {
        c->scale[j] = d * (float)scale[j];
        c->bias[j] = -(dmin * (float)min[j]);
    }
}

static inline void unpack_q4_k(codes *c, const jt_q4_k *b)
{
    unpack_scales_k(c, b->d, b->dmin, b->scales);
    for (int pair = 0; pair < 4; pair++)
        for (int l = 0; l < 32; l++) {
            c->q[64 * pair + l] = b->qs[32 * pair + l] & 15;
            c->q[64 * pair + 32 + l] = (int8_t)(b->qs[32 * pair + l] >> 4);
        }
}

static inline void unpack_q5_k(codes *c, const jt_q5_k *b)
{
    unpack_scales_k(c, b->d, b->dmin, b->scales);
    for (int j = 0; j < 8; j++)
        for (int l = 0; l < 32; l++) {
            int low = b->qs[32 * (j / 2) + l] >> 4 * (j % 2) & 15;
            c->q[32 * j + l] = (int8_t)(low | (b->qh[l] >> j & 1) << 4);
        }
}

static inline void unpack_q6_k(codes *c, const jt_q6_k *b)
{
    float d = jt_f16_to_float(b->d);
    for (int g = 0; g < 16; g++)
        c->scale[g] = d * (float)b->scales[g];
    for (int j = 0; j < 8; j++) /* half j / 4, and 32 values of it */
        for (int l = 0; l < 32; l++) {
            int low = b->ql[64 * (j / 4) + 32 * (j % 2) + l] >> 4 * (j / 2 % 2) & 15;
            int high = b->qh[32 * (j / 4) + l] >> 2 * (j % 4) & 3;
            c->q[32 * j + l] = (int8_t)((low | high << 4) - 32);
        }
}

/* One scale for the `groups` groups of a block. */
static inline void repeat_scale(codes *c, uint16_t d, int groups)
{
    for (int g = 0; g < groups; g++)
        c->scale[g] = jt_f16_to_float(d);
}

static inline void unpack_tq2_0(codes *c, const jt_tq2_0 *b)
{
    repeat_scale(c, b->d, 8);
    unpack_planes(c->q, b->qs);
    for (int i = 0; i < 256; i++)
        c->q[i]--;
}

/* Base-3 fractions: `digits` of each of n bytes, the first digits of all before the
 * second. What three times a byte has above 8 bits is the digit, below them the rest.
 */
static inline void unpack_trits(int8_t *q, const uint8_t *bytes, int n, int digits)
{
    for (int i = 0; i < n; i++) {
        unsigned rest = bytes[i];
        for (int j = 0; j < digits; j++) {
            q[n * j + i] = (int8_t)((int)(3 * rest >> 8) - 1);
            rest = 3 * rest & 255;
        }
    }
}

static inline void unpack_tq1_0(codes *c, const jt_tq1_0 *b)
{
    repeat_scale(c, b->d, 8);
    unpack_trits(c->q, b->qs, 32, 5);
    unpack_trits(c->q + 160, b->qs + 32, 16, 5);
    unpack_trits(c->q + 240, b->qh, 4, 4);
}

static inline void unpack_q1_0(codes *c, const jt_q1_0 *b)
{
    repeat_scale(c, b->d, 4);
    for (int i = 0; i < 128; i++)
        c->q[i] = b->qs[i / 8] >> i % 8 & 1 ? 1 : -1;
}

static inline void unpack_q2_0(codes *c, const jt_q2_0 *b)
{
    repeat_scale(c, b->d, 2);
    for (int i = 0; i < 64; i++)
        c->q[i] = (int8_t)((b->qs[i / 4] >> 2 * (i % 4) & 3) - 1);
}

#endif
