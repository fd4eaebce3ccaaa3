/* Made-up models and routes for tests of traces. */
#ifndef TEST_ROUTES_H
#define TEST_ROUTES_H

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "watch/trace.h"

/* A head of `n` layers with `experts` experts and `k` slots each. */
static inline jt_trace_head even_head(int n, int experts, int k, int block_tokens)
{
    jt_trace_head head = {.fingerprint = 0x123456789abcdef0u,
                          .family = "made-up",
                          .name = "routes",
                          .columns = TRACE_BASE,
                          .block_tokens = block_tokens,
                          .n_layers = n};
    head.layers = jt_calloc((size_t)n, sizeof *head.layers);
    for (int i = 0; head.layers && i < n; i++)
        head.layers[i] = (jt_trace_layer){
            .layer = i, .n_experts = experts, .n_rows = experts, .k = k};
    return head;
}

/* One layer's route of one token: a softmax over logits that drift from token to token
 * (`memory` near 1: slowly), and the k largest. `logits` keeps the state. */
static inline void drift(jt_rng *rng, float *logits, float *scores, int n, float memory,
                         float spread)
{
    float sum = 0.0f, fresh = __builtin_sqrtf(1.0f - memory * memory) * spread;
    for (int i = 0; i < n; i++) {
        logits[i] = memory * logits[i] + fresh * jt_rng_normal(rng);
        scores[i] = __builtin_expf(logits[i]);
        sum += scores[i];
    }
    for (int i = 0; i < n; i++)
        scores[i] /= sum;
}

static inline void take_largest(const float *scores, int n, int32_t *expert,
                                float *weight, int k)
{
    float sum = 0.0f;
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int e = 0; e < n; e++) {
            int taken = 0;
            for (int i = 0; i < j; i++)
                taken |= expert[i] == e;
            if (!taken && (best < 0 || scores[e] > scores[best]))
                best = e;
        }
        expert[j] = best;
        weight[j] = scores[best];
        sum += weight[j];
    }
    for (int j = 0; j < k; j++)
        weight[j] /= sum;
}

#endif
