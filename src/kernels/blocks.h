/* Byte layouts of the quantised blocks of GGUF, little-endian. The structs are packed:
 * blocks lie at any byte of a mapped file. Halves are IEEE binary16 bits.
 *
 * Blocks of 32 values: the low nibble of qs[j] is value j, the high nibble j + 16.
 * Blocks of 256 values: see unpack in c/codes.h for the order of the values. */
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

/* The quantised formats.
 * X(enum suffix, lower case, values per block, values per scale, has a bias,
 *   offset and largest value of the codes as they are stored; 128 = signed bytes) */
#define JT_QUANT_LIST(X)             \
    X(Q8_0, q8_0, 32, 32, 0, 0, 128) \
    X(Q4_0, q4_0, 32, 32, 0, 8, 15)  \
    X(Q4_1, q4_1, 32, 32, 1, 0, 15)  \
    X(Q5_0, q5_0, 32, 32, 0, 16, 31) \
    X(Q5_1, q5_1, 32, 32, 1, 0, 31)  \
    X(Q2_K, q2_k, 256, 16, 1, 0, 3)  \
    X(Q3_K, q3_k, 256, 16, 0, 4, 7)  \
    X(Q4_K, q4_k, 256, 32, 1, 0, 15) \
    X(Q5_K, q5_k, 256, 32, 1, 0, 31) \
    X(Q6_K, q6_k, 256, 16, 0, 32, 63)

#endif
