/* Byte layouts of the quantised blocks of GGUF, little-endian. The structs are packed:
 * blocks lie at any byte of a mapped file. Halves are IEEE binary16 bits.
 *
 * Blocks of 32 values: the low nibble of qs[j] is value j, the high nibble j + 16.
 * Larger blocks: see unpack in c/codes.h and c/codes_table.h for the order. */
#ifndef JT_BLOCKS_H
#define JT_BLOCKS_H

#include <stdint.h>

#define JT_PACKED __attribute__((packed))

/* x = d q */
typedef struct JT_PACKED jt_q8_0 {
    uint16_t d;
    int8_t qs[32];
} jt_q8_0;

/* x = d (q - 8) */
typedef struct JT_PACKED jt_q4_0 {
    uint16_t d;
    uint8_t qs[16];
} jt_q4_0;

/* x = d q + m */
typedef struct JT_PACKED jt_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
} jt_q4_1;

/* x = d (q - 16); the fifth bit of value j is bit j of qh */
typedef struct JT_PACKED jt_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
} jt_q5_0;

/* x = d q + m, bits as in Q5_0 */
typedef struct JT_PACKED jt_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
} jt_q5_1;

/* Groups of 16: x = d (scale & 15) q - dmin (scale >> 4) */
typedef struct JT_PACKED jt_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
} jt_q2_k;

/* Groups of 16: x = d (scale - 32) (q - 4), 6-bit scales, third bit of q in hmask */
typedef struct JT_PACKED jt_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
} jt_q3_k;

/* Groups of 32: x = d scale q - dmin min, 6-bit scales and minima */
typedef struct JT_PACKED jt_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
} jt_q4_k;

/* As Q4_K; the fifth bit of value l of group j is bit j of qh[l] */
typedef struct JT_PACKED jt_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} jt_q5_k;

/* Groups of 16: x = d scale (q - 32); low 4 bits in ql, high 2 in qh */
typedef struct JT_PACKED jt_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} jt_q6_k;

/* x = d v[q]: 4-bit codes of 16 values (see c/codes_table.h) */
typedef struct JT_PACKED jt_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
} jt_iq4_nl;

/* Groups of 32: x = d (scale - 32) v[q], 6-bit scales */
typedef struct JT_PACKED jt_iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
} jt_iq4_xs;

/* x = 2^(e - 127) E2M1[q] (OCP Microscaling Formats 1.0) */
typedef struct JT_PACKED jt_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
} jt_mxfp4;

/* Groups of 16, low nibbles before high ones in each: x = d E2M1[q], d is an E4M3
 * without sign */
typedef struct JT_PACKED jt_nvfp4 {
    uint8_t d[4];
    uint8_t qs[32];
} jt_nvfp4;

/* Points of 8 values with the sign bits of 7 of them; scales per 32. Each 8 bytes of qs
 * are 4 indices, then 4 times 7 bits of signs and 4 of the scale */
typedef struct JT_PACKED jt_iq2_xxs {
    uint16_t d;
    uint8_t qs[64];
} jt_iq2_xxs;

/* Scales per 16. Each 16 bits of qs are 9 of an index and 7 of signs */
typedef struct JT_PACKED jt_iq2_xs {
    uint16_t d;
    uint8_t qs[64];
    uint8_t scales[8];
} jt_iq2_xs;

/* Scales per 16, 10-bit indices with the high bits in qh, all 8 signs */
typedef struct JT_PACKED jt_iq2_s {
    uint16_t d;
    uint8_t qs[32], signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
} jt_iq2_s;

/* Points of 4 values; signs and scales per 32 as in IQ2_XXS */
typedef struct JT_PACKED jt_iq3_xxs {
    uint16_t d;
    uint8_t qs[64];
    uint8_t signs[32];
} jt_iq3_xxs;

/* 9-bit indices with the high bit in qh, all signs, scales per 32 */
typedef struct JT_PACKED jt_iq3_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
} jt_iq3_s;

/* Points of 8 values of -1, 0, 1, 11-bit indices. Each 16 bits of qh are 4 times 3 high
 * bits, 3 bits of the scale of 32 values, and the sign of 1/8 that all get */
typedef struct JT_PACKED jt_iq1_s {
    uint16_t d;
    uint8_t qs[32];
    uint8_t qh[16];
} jt_iq1_s;

/* As IQ1_S with 3-bit scales per 16 and, in the nibbles of qh, the sign of 1/8 per 8
 * values. The high nibbles of the four 16-bit words of scales are the half d */
typedef struct JT_PACKED jt_iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];
    uint8_t scales[8];
} jt_iq1_m;

/* x = d (q - 1), five q 0..2 in a byte, four in those of qh */
typedef struct JT_PACKED jt_tq1_0 {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
} jt_tq1_0;

/* x = d (q - 1), 2-bit planes as in Q2_K */
typedef struct JT_PACKED jt_tq2_0 {
    uint8_t qs[64];
    uint16_t d;
} jt_tq2_0;

/* 128 values, bits in order: x = d or -d */
typedef struct JT_PACKED jt_q1_0 {
    uint16_t d;
    uint8_t qs[16];
} jt_q1_0;

/* 64 values, pairs of bits in order: x = d (q - 1) */
typedef struct JT_PACKED jt_q2_0 {
    uint16_t d;
    uint8_t qs[16];
} jt_q2_0;

/* Q2_K and `planes` more bits of each code: bit j of plane[k][l] is bit k after the
 * first two of value 32 j + l, the highest first. Each halves the cells of the codes
 * before: x = d (scale & 15) ((q + 1/2) / 2^planes - 1/2) - dmin (scale >> 4) So what
 * is left without the last planes is a block of fewer bits. Junto's own; in memory only
 * (docs/formats.md, "Nested experts"). */
#define JT_NESTED(lower, planes)     \
    typedef struct JT_PACKED lower { \
        jt_q2_k base;                \
        uint8_t plane[planes][32];   \
    } lower;
JT_NESTED(jt_n3, 1)
JT_NESTED(jt_n4, 2)
JT_NESTED(jt_n5, 3)
JT_NESTED(jt_n6, 4)
#undef JT_NESTED

/* The quantised formats: those that jt_quantize makes, and those that are only read.
 * X(enum suffix, lower case, values per block, values per scale, has a bias,
 *   offset and largest value of the codes as products take them; 128 = signed bytes) */
#define JT_ENCODED_LIST(X)                   \
    X(Q8_0, q8_0, 32, 32, 0, 0, 128)         \
    X(Q4_0, q4_0, 32, 32, 0, 8, 15)          \
    X(Q4_1, q4_1, 32, 32, 1, 0, 15)          \
    X(Q5_0, q5_0, 32, 32, 0, 16, 31)         \
    X(Q5_1, q5_1, 32, 32, 1, 0, 31)          \
    X(Q2_K, q2_k, 256, 16, 1, 0, 3)          \
    X(Q3_K, q3_k, 256, 16, 0, 4, 7)          \
    X(Q4_K, q4_k, 256, 32, 1, 0, 15)         \
    X(Q5_K, q5_k, 256, 32, 1, 0, 31)         \
    X(Q6_K, q6_k, 256, 16, 0, 32, 63)        \
    X(IQ4_NL, iq4_nl, 32, 32, 0, 0, 128)     \
    X(IQ4_XS, iq4_xs, 256, 32, 0, 0, 128)    \
    X(MXFP4, mxfp4, 32, 32, 0, 12, 24)       \
    X(NVFP4, nvfp4, 64, 16, 0, 12, 24)       \
    X(IQ2_XXS, iq2_xxs, 256, 32, 0, 43, 86)  \
    X(IQ2_XS, iq2_xs, 256, 16, 0, 43, 86)    \
    X(IQ2_S, iq2_s, 256, 16, 0, 43, 86)      \
    X(IQ3_XXS, iq3_xxs, 256, 32, 0, 62, 124) \
    X(IQ3_S, iq3_s, 256, 32, 0, 15, 30)      \
    X(TQ1_0, tq1_0, 256, 32, 0, 1, 2)        \
    X(TQ2_0, tq2_0, 256, 32, 0, 1, 3)        \
    X(Q1_0, q1_0, 128, 32, 0, 1, 2)          \
    X(Q2_0, q2_0, 64, 32, 0, 1, 3)
#define JT_DECODED_LIST(X)             \
    X(IQ1_S, iq1_s, 256, 32, 0, 9, 18) \
    X(IQ1_M, iq1_m, 256, 16, 0, 9, 18) \
    X(N3, n3, 256, 16, 1, 0, 7)        \
    X(N4, n4, 256, 16, 1, 0, 15)       \
    X(N5, n5, 256, 16, 1, 0, 31)       \
    X(N6, n6, 256, 16, 1, 0, 63)
#define JT_QUANT_LIST(X) JT_ENCODED_LIST(X) JT_DECODED_LIST(X)

#endif
