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

/* The rotations of a model. */
typedef enum jt_rope_use {
    JT_ROPE_USUAL,
    JT_ROPE_LOCAL, /* of layers with a window, where it differs */
    JT_ROPE_LONG, /* instead of USUAL in contexts longer than the original one, where it
                     differs */
    JT_ROPE_USES,
    JT_ROPE_OFF = JT_ROPE_USES /* a layer without rotation */
} jt_rope_use;

typedef struct jt_rope_params {
    size_t dims; /* rotated values of a head, even */
    float base;  /* 10000, 500000, ... */
    jt_rope_scaling scaling;
    float factor;               /* > 0; of linear and YaRN */
    float original_context;     /* before scaling, in tokens */
    float magnitude;            /* multiplies cos and sin */
    float yarn_magnitude;       /* the same; 0: 1 + ln(factor) / 10, divided by
                                   1 + log_multiplier * ln(factor) / 10 */
    float log_multiplier;       /* YaRN's mscale_all_dim */
    float beta_fast, beta_slow; /* YaRN: 32 and 1 */
    bool exact_ramp; /* YaRN: the ramp between kept and divided frequencies begins and
                        ends between pairs, otherwise at whole ones */
    const float *pair_factors; /* [dims / 2] divisors of the frequencies, or NULL */
    bool neox;                 /* pairs are (i, i + dims/2); otherwise (2i, 2i + 1) */
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
    bool neox;
} jt_angles;
jt_angles jt_rope_angles(jt_context *ctx, const jt_rope *rope, const int32_t *positions,
                         size_t count);

/* Rotate in place: row t of x holds heads of `dim` values, and of each the first
 * 2 * pairs from `at` on are turned by the angles of token t. */
void jt_rope_rotate(jt_context *ctx, jt_tensor *x, size_t dim, size_t at,
                    const jt_angles *angles);

#endif
