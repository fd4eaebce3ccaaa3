#include "base/random.h"

#include <math.h>
#include <string.h>

void jt_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Words 4 * block .. 4 * block + 3 of a stream. */
static void stream_block(const jt_rng *rng, uint64_t block, uint32_t words[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32),
                           (uint32_t)rng->stream, (uint32_t)(rng->stream >> 32)};
    uint32_t key[2] = {(uint32_t)rng->seed, (uint32_t)(rng->seed >> 32)};
    jt_philox4x32(words, counter, key);
}

uint32_t jt_rng_u32(jt_rng *rng)
{
    uint32_t words[4];
    stream_block(rng, rng->counter / 4, words);
    return words[rng->counter++ % 4];
}

float jt_rng_float(jt_rng *rng)
{
    return (float)(jt_rng_u32(rng) >> 8) * 0x1p-24f;
}

double jt_rng_double(jt_rng *rng)
{
    uint64_t high = jt_rng_u32(rng);
    uint64_t bits = high << 32 | jt_rng_u32(rng);
    return (double)(bits >> 11) * 0x1p-53;
}

uint32_t jt_rng_below(jt_rng *rng, uint32_t n)
{
    /* Reject the low words that would favour small results (Lemire 2019). */
    uint32_t reject = (0u - n) % n;
    for (;;) {
        uint64_t product = (uint64_t)jt_rng_u32(rng) * n;
        if ((uint32_t)product >= reject)
            return (uint32_t)(product >> 32);
    }
}

/* Two words to two normals. */
static void box_muller(uint32_t a, uint32_t b, float out[2])
{
    float u = ((float)(a >> 8) + 1.0f) * 0x1p-24f; /* (0, 1]: a finite logarithm */
    float angle = (float)(b >> 8) * (0x1p-24f * 6.2831853f);
    float radius = sqrtf(-2.0f * logf(u));
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

float jt_rng_normal(jt_rng *rng)
{
    float pair[2];
    uint32_t a = jt_rng_u32(rng);
    box_muller(a, jt_rng_u32(rng), pair);
    return pair[0];
}

void jt_rng_normals(jt_rng *rng, float *out, size_t n)
{
    uint64_t block = (rng->counter + 3) / 4;
    for (size_t done = 0; done < n; done += 4, block++) {
        uint32_t words[4];
        float four[4];
        stream_block(rng, block, words);
        box_muller(words[0], words[1], four);
        box_muller(words[2], words[3], four + 2);
        memcpy(out + done, four, (n - done < 4 ? n - done : 4) * sizeof(float));
    }
    rng->counter = 4 * block;
}
