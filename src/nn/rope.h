/* Rotary position embedding: Su et al. 2021, "RoFormer", with the scalings that open
 * models use: linear (Chen et al. 2023), YaRN (Peng et al. 2023) and per-pair factors
 * (Llama 3, stored by converters as the tensor rope_freqs.weight). */
#ifndef JT_ROPE_H
#define JT_ROPE_H

#include "tensor/ops.h"

typedef enum jt_rope_scaling {
    JT_ROPE_NONE,
    JT_ROPE_LINEAR,
    JT_ROPE_YARN
} jt_rope_scaling;

typedef struct jt_rope_params {
    size_t dims; /* rotated values of a head, even */
    float base;  /* 10000, 500000, ... */
    jt_rope_scaling scaling;
    float factor;               /* > 0; of linear and YaRN */
    float original_context;     /* YaRN: context before scaling, in tokens */
    float attention_factor;     /* YaRN: multiplies cos and sin; 0: the usual
                                   0.1 ln(factor) + 1 */
    float beta_fast, beta_slow; /* YaRN: 32 and 1 */
    const float *pair_factors;  /* [dims / 2] divisors of the frequencies, or NULL */
    bool neox;                  /* pairs are (i, i + dims/2); otherwise (2i, 2i + 1) */
} jt_rope_params;

typedef struct jt_rope {
    size_t pairs;
    bool neox;
    float magnitude;
    float *frequency; /* [pairs], radians per position; owned */
} jt_rope;

/* JT_E_MEMORY. Freed with free(rope.frequency). */
jt_status jt_rope_init(jt_rope *out, const jt_rope_params *params, jt_err *err);

/* Angles of the positions of a chunk: cos and sin, each F32 [positions, pairs]. */
typedef struct jt_angles {
    jt_tensor cos, sin;
} jt_angles;
jt_angles jt_rope_angles(jt_context *ctx, const jt_rope *rope, const int32_t *positions,
                         size_t count);

#endif
