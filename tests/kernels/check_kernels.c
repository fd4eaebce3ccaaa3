/* Every entry of every kernel table that this processor has, against the scalar one and
 * against sums in double.
 *
 *     check_kernels [seed]     check (exit 1 when something differs)
 *     check_kernels --bench    speeds of matrix products */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"
#include "kernels/blocks.h"

#define MARGIN 192

void check(checker *c, bool good, const char *fmt, ...)
{
    c->checks++;
    if (good || c->failures++ >= 20)
        return;
    va_list args;
    va_start(args, fmt);
    printf("%s: ", c->level->name);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

static buffer new_buffer(size_t bytes, size_t misalign, size_t margin)
{
    size_t total = MARGIN + misalign + bytes + margin;
    unsigned char *block = malloc(total);
    if (!block) {
        fputs("out of memory\n", stderr);
        exit(2);
    }
    memset(block, 0xff, total);
    return (buffer){block, block + MARGIN + misalign, bytes, margin};
}

buffer buffer_in(size_t bytes, size_t misalign)
{
    return new_buffer(bytes, misalign, 0);
}

buffer buffer_out(size_t bytes, size_t misalign)
{
    return new_buffer(bytes, misalign, MARGIN);
}

void check_margins(checker *c, const buffer *b, const char *what)
{
    const unsigned char *first = b->data, *last = first + b->bytes;
    bool clean = true;
    for (const unsigned char *p = b->block; p < first; p++)
        clean = clean && *p == 0xff;
    for (size_t i = 0; i < b->margin; i++)
        clean = clean && last[i] == 0xff;
    check(c, clean, "%s wrote outside its output", what);
}

void buffer_free(buffer *b)
{
    free(b->block);
}

size_t pick(checker *c, size_t low, size_t high)
{
    return low + jt_rng_below(&c->rng, (uint32_t)(high - low + 1));
}

void fill_floats(checker *c, float *x, size_t n, fill how)
{
    for (size_t i = 0; i < n; i++)
        switch (how) {
        case FILL_HIGH:
            x[i] = 3.5f;
            break;
        case FILL_LOW:
            x[i] = -3.5f;
            break;
        case FILL_NORMAL:
            x[i] = jt_rng_normal(&c->rng);
            break;
        default:
            x[i] = 0;
        }
    if (how == FILL_SPIKE && n > 0)
        x[pick(c, 0, n - 1)] = 100;
}

static uint16_t random_half(checker *c)
{
    return jt_float_to_f16(0.02f * jt_rng_normal(&c->rng));
}

/* Where a block has its halves: up to two offsets, -1 for none. */
#define ONE_HALF(type)        \
    {                         \
        offsetof(type, d), -1 \
    }
static const int halves[JT_DTYPE_COUNT][2] = {
    [JT_Q8_0] = ONE_HALF(jt_q8_0),
    [JT_Q4_0] = ONE_HALF(jt_q4_0),
    [JT_Q5_0] = ONE_HALF(jt_q5_0),
    [JT_Q3_K] = ONE_HALF(jt_q3_k),
    [JT_Q6_K] = ONE_HALF(jt_q6_k),
    [JT_IQ4_NL] = ONE_HALF(jt_iq4_nl),
    [JT_IQ4_XS] = ONE_HALF(jt_iq4_xs),
    [JT_IQ2_XXS] = ONE_HALF(jt_iq2_xxs),
    [JT_IQ2_XS] = ONE_HALF(jt_iq2_xs),
    [JT_IQ2_S] = ONE_HALF(jt_iq2_s),
    [JT_IQ3_XXS] = ONE_HALF(jt_iq3_xxs),
    [JT_IQ3_S] = ONE_HALF(jt_iq3_s),
    [JT_IQ1_S] = ONE_HALF(jt_iq1_s),
    [JT_TQ1_0] = ONE_HALF(jt_tq1_0),
    [JT_TQ2_0] = ONE_HALF(jt_tq2_0),
    [JT_Q1_0] = ONE_HALF(jt_q1_0),
    [JT_Q2_0] = ONE_HALF(jt_q2_0),
    [JT_Q4_1] = {offsetof(jt_q4_1, d), offsetof(jt_q4_1, m)},
    [JT_Q5_1] = {offsetof(jt_q5_1, d), offsetof(jt_q5_1, m)},
    [JT_Q2_K] = {offsetof(jt_q2_k, d), offsetof(jt_q2_k, dmin)},
    [JT_N3] = {offsetof(jt_n3, base.d), offsetof(jt_n3, base.dmin)},
    [JT_N4] = {offsetof(jt_n4, base.d), offsetof(jt_n4, base.dmin)},
    [JT_N5] = {offsetof(jt_n5, base.d), offsetof(jt_n5, base.dmin)},
    [JT_N6] = {offsetof(jt_n6, base.d), offsetof(jt_n6, base.dmin)},
    [JT_Q4_K] = {offsetof(jt_q4_k, d), offsetof(jt_q4_k, dmin)},
    [JT_Q5_K] = {offsetof(jt_q5_k, d), offsetof(jt_q5_k, dmin)},
    [JT_MXFP4] = {-1, -1},
    [JT_NVFP4] = {-1, -1},
    [JT_IQ1_M] = {-1, -1},
};

/* Scales that are not halves. The lowest exponents of MXFP4 are floats without a
 * leading one. */
static void fill_scale(checker *c, jt_dtype dtype, unsigned char *block, fill how)
{
    if (dtype == JT_MXFP4)
        block[0] = (unsigned char)(how == FILL_LOW ? pick(c, 0, 2) : pick(c, 115, 125));
    uint16_t h = random_half(c);
    for (int i = 0; dtype == JT_IQ1_M && i < 4; i++) {
        unsigned char *high = &((jt_iq1_m *)block)->scales[2 * i + 1];
        *high = (unsigned char)((*high & 15) | (h >> 4 * i & 15) << 4);
    }
}

static void fill_quantised(checker *c, jt_dtype dtype, unsigned char *block, fill how)
{
    size_t bytes = jt_dtype_block_bytes(dtype);
    for (size_t i = 0; i < bytes; i++)
        block[i] = how == FILL_HIGH   ? 0xff
                   : how == FILL_LOW  ? 0x80 /* the lowest byte code */
                   : how == FILL_ZERO ? 0
                                      : (unsigned char)jt_rng_u32(&c->rng);
    for (int i = 0; i < 2; i++) {
        uint16_t h = random_half(c);
        if (halves[dtype][i] >= 0)
            memcpy(block + halves[dtype][i], &h, sizeof h);
    }
    fill_scale(c, dtype, block, how);
}

void fill_blocks(checker *c, jt_dtype dtype, void *blocks, size_t count, fill how)
{
    size_t values = jt_dtype_block_values(dtype), bytes = jt_dtype_block_bytes(dtype);
    for (size_t i = 0; i < count; i++) {
        unsigned char *block = (unsigned char *)blocks + i * bytes;
        float x[256];
        if (values > 1 && (how != FILL_SPIKE || !jt_dtype_can_quantize(dtype))) {
            fill_quantised(c, dtype, block, how);
            continue;
        }
        fill_floats(c, x, values, values > 1 ? FILL_NORMAL : how);
        jt_quantize(dtype, block, x, values);
    }
}

static int check_all(uint64_t seed)
{
    long failures = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < JT_CPU_COUNT; i++) {
        checker c = {.rng = {.seed = seed, .stream = (uint64_t)i}};
        c.level = jt_kernels_level((jt_cpu_level)i);
        c.scalar = jt_kernels_level(JT_CPU_SCALAR);
        if (!c.level)
            continue;
        check_conversions(&c);
        check_vectors(&c);
        check_matmuls(&c);
        check_attention(&c);
        check_gemm(&c);
        check_backward(&c);
        check_attention_back(&c);
        check_recur(&c);
        check_recur_back(&c);
        check_thin(&c);
        printf("%s: %ld checks, %ld failures\n", c.level->name, c.checks, c.failures);
        failures += c.failures;
    }
    return failures > 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        const char *part = argc > 2 ? argv[2] : "";
        if (!*part || strcmp(part, "matmul") == 0)
            bench();
        if (!*part || strcmp(part, "gemm") == 0)
            bench_gemm();
        if (!*part || strcmp(part, "attention") == 0)
            bench_attention();
        if (!*part || strcmp(part, "recur") == 0)
            bench_recur();
        return 0;
    }
    return check_all(argc > 1 ? strtoull(argv[1], NULL, 0) : 1);
}
