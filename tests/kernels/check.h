/* Shared by the parts of check_kernels: buffers with poisoned margins, random fills,
 * and the count of what went wrong. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"
#include "kernels/kernels.h"

typedef struct checker {
    jt_rng rng;
    const jt_kernels *level, *scalar;
    long checks, failures;
} checker;

/* Count one comparison; the first failures are printed with the level. */
void check(checker *c, bool good, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Bytes at any address. What is only read ends where its heap block ends, for the
 * sanitizer to see; what is written has margins that check_margins looks at. All bytes
 * start as 0xff (NaN as float, half and bfloat16). */
typedef struct buffer {
    unsigned char *block;
    void *data;
    size_t bytes, margin;
} buffer;

buffer buffer_in(size_t bytes, size_t misalign);
buffer buffer_out(size_t bytes, size_t misalign);
void check_margins(checker *c, const buffer *b, const char *what);
void buffer_free(buffer *b);

/* How a vector or a weight is filled. */
typedef enum fill { FILL_NORMAL, FILL_HIGH, FILL_LOW, FILL_ZERO, FILL_SPIKE } fill;
#define FILLS 5
void fill_floats(checker *c, float *x, size_t n, fill how);
/* `count` blocks: random codes, all bits set, all clear, or (FILL_SPIKE) what
 * jt_quantize makes of normal values, where it can; the scales are moderate and finite.
 */
void fill_blocks(checker *c, jt_dtype dtype, void *blocks, size_t count, fill how);

/* Uniform in low .. high. */
size_t pick(checker *c, size_t low, size_t high);

/* Parts. */
void check_matmuls(checker *c);
void check_conversions(checker *c); /* dequant, pack, f32_to_f16 */
void check_vectors(checker *c);
void check_attention(checker *c);
void check_gemm(checker *c);
void check_backward(checker *c); /* gradients of the vector functions; dot */
void check_attention_back(checker *c);
void check_recur(checker *c); /* recurrences, their convolution, softplus */
void check_recur_back(checker *c);
void check_thin(checker *c);
void bench(void);
void bench_gemm(void);
void bench_attention(void);
void bench_recur(void);
double bench_now(void); /* seconds of this thread */
/* Some milliseconds of float multiply-adds that wait for nothing; how many operations.
 */
double bench_spin(jt_cpu_level level);

#endif
