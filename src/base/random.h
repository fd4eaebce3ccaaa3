/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). A number is a function of (seed, stream, counter): no
 * hidden state, the same on any machine, any order, any thread. */
#ifndef JT_BASE_RANDOM_H
#define JT_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* One stream. {seed, stream, 0} starts it; distinct streams of a seed never meet. */
typedef struct jt_rng {
    uint64_t seed;
    uint64_t stream;
    uint64_t counter; /* numbers drawn so far */
} jt_rng;

/* The block function: 4 words from a 128-bit counter and a 64-bit key. */
void jt_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

uint32_t jt_rng_u32(jt_rng *rng);
/* Uniform in [0, 1), 24 bits (float) and 53 bits (double). */
float jt_rng_float(jt_rng *rng);
double jt_rng_double(jt_rng *rng);
/* Uniform in [0, n), n > 0, without bias. */
uint32_t jt_rng_below(jt_rng *rng, uint32_t n);
/* Standard normal (Box-Muller). The second form fills `n` values with whole blocks of
 * words, several times as fast; it starts at the next multiple of four numbers. */
float jt_rng_normal(jt_rng *rng);
void jt_rng_normals(jt_rng *rng, float *out, size_t n);

#endif
