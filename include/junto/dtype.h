/* Data types of tensors: plain numbers and the quantised block formats of GGUF.
 *
 * A quantised row is a sequence of blocks; a block holds a fixed number of values in a
 * fixed number of bytes. Byte layouts: docs/formats.md and src/kernels/blocks.h.
 */
#ifndef JUNTO_DTYPE_H
#define JUNTO_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enum suffix, name, GGUF id, values per block, bytes per block) */
#define JT_DTYPE_LIST(X)               \
    X(F32, "F32", 0, 1, 4)             \
    X(F16, "F16", 1, 1, 2)             \
    X(BF16, "BF16", 30, 1, 2)          \
    X(Q8_0, "Q8_0", 8, 32, 34)         \
    X(Q4_0, "Q4_0", 2, 32, 18)         \
    X(Q4_1, "Q4_1", 3, 32, 20)         \
    X(Q5_0, "Q5_0", 6, 32, 22)         \
    X(Q5_1, "Q5_1", 7, 32, 24)         \
    X(Q2_K, "Q2_K", 10, 256, 84)       \
    X(Q3_K, "Q3_K", 11, 256, 110)      \
    X(Q4_K, "Q4_K", 12, 256, 144)      \
    X(Q5_K, "Q5_K", 13, 256, 176)      \
    X(Q6_K, "Q6_K", 14, 256, 210)      \
    X(IQ4_NL, "IQ4_NL", 20, 32, 18)    \
    X(IQ4_XS, "IQ4_XS", 23, 256, 136)  \
    X(MXFP4, "MXFP4", 39, 32, 17)      \
    X(NVFP4, "NVFP4", 40, 64, 36)      \
    X(IQ3_S, "IQ3_S", 21, 256, 110)    \
    X(IQ3_XXS, "IQ3_XXS", 18, 256, 98) \
    X(IQ2_S, "IQ2_S", 22, 256, 82)     \
    X(IQ2_XS, "IQ2_XS", 17, 256, 74)   \
    X(IQ2_XXS, "IQ2_XXS", 16, 256, 66) \
    X(IQ1_M, "IQ1_M", 29, 256, 56)     \
    X(IQ1_S, "IQ1_S", 19, 256, 50)     \
    X(TQ1_0, "TQ1_0", 34, 256, 54)     \
    X(TQ2_0, "TQ2_0", 35, 256, 66)     \
    X(Q1_0, "Q1_0", 41, 128, 18)       \
    X(Q2_0, "Q2_0", 42, 64, 18)        \
    X(N3, "N3", 0x4e03, 256, 116)      \
    X(N4, "N4", 0x4e04, 256, 148)      \
    X(N5, "N5", 0x4e05, 256, 180)      \
    X(N6, "N6", 0x4e06, 256, 212)      \
    X(F64, "F64", 28, 1, 8)            \
    X(I8, "I8", 24, 1, 1)              \
    X(I16, "I16", 25, 1, 2)            \
    X(I32, "I32", 26, 1, 4)            \
    X(I64, "I64", 27, 1, 8)

typedef enum jt_dtype {
#define X(suffix, name, id, values, bytes) JT_##suffix,
    JT_DTYPE_LIST(X)
#undef X
        JT_DTYPE_COUNT
} jt_dtype;

/* "Q4_K" for JT_Q4_K; "?" for a value outside the enum. */
JT_API const char *jt_dtype_name(jt_dtype dtype);

/* Values per block (1 for plain types) and bytes per block. */
JT_API size_t jt_dtype_block_values(jt_dtype dtype);
JT_API size_t jt_dtype_block_bytes(jt_dtype dtype);

/* Bytes of a row of `n` values; 0 when `n` is not a multiple of the block or the size
 * overflows. */
JT_API size_t jt_dtype_row_bytes(jt_dtype dtype, size_t n);

/* Find a type by its GGUF id or by its name (any case). false: not known here. */
JT_API bool jt_dtype_from_gguf(uint32_t id, jt_dtype *dtype);
JT_API bool jt_dtype_from_name(const char *name, jt_dtype *dtype);
JT_API uint32_t jt_dtype_gguf_id(jt_dtype dtype);

/* Whether matrices can be of this type: all but JT_F64 and the integers. */
JT_API bool jt_dtype_is_weight(jt_dtype dtype);

/* Whether jt_quantize makes this type: all but IQ1_S, IQ1_M and N3 to N6. */
JT_API bool jt_dtype_can_quantize(jt_dtype dtype);

/* Decode `n` values of a row to floats. `n` must be a multiple of the block. Integers
 * and JT_F64 are rounded to float. `src` needs no alignment. */
JT_API void jt_dequantize(jt_dtype dtype, float *dst, const void *src, size_t n);

/* Encode `n` floats as a row, so that the squared error is small: scales are searched
 * for and fitted by least squares; large values count a little more than small ones.
 * `n` must be a multiple of the block. Not finite values give undefined codes but never
 * an out-of-bounds access. Does nothing for a type that jt_dtype_can_quantize denies.
 */
JT_API void jt_quantize(jt_dtype dtype, void *dst, const float *src, size_t n);

/* The same, the error of each value counted `weights` [n] times (how much its input
 * matters: junto/shrink.h); NULL: as jt_quantize. Weights must be finite and at least
 * 0.
 */
JT_API void jt_quantize_weighted(jt_dtype dtype, void *dst, const float *src,
                                 const float *weights, size_t n);

#ifdef __cplusplus
}
#endif
#endif
