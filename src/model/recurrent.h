/* Layers that carry a state from token to token: their sizes in the file, their tensors
 * by name. */
#ifndef JT_RECURRENT_H
#define JT_RECURRENT_H

#include <stddef.h>

#include "nn/delta_net.h"
#include "nn/kimi_delta.h"
#include "nn/lightning.h"
#include "nn/mamba.h"
#include "nn/mamba2.h"
#include "nn/short_conv.h"

/* Keys "ssm.*", "shortconv.l_cache" and "kda.head_dim"; 0 where the file has none. */
typedef struct jt_recurrent_params {
    int conv_width; /* ssm.conv_kernel, or shortconv.l_cache */
    int inner;      /* ssm.inner_size */
    int state;      /* ssm.state_size; of a delta net the length of a key */
    int rank;       /* ssm.time_step_rank; heads of Mamba-2, of a delta net's values */
    int groups;     /* ssm.group_count; heads of a delta net's keys */
    int head_dim;   /* kda.head_dim */
} jt_recurrent_params;

typedef enum jt_recurrent_kind {
    JT_RECURRENT_NONE,
    JT_SHORT_CONV,
    JT_MAMBA,
    JT_MAMBA2,
    JT_DELTA_NET,
    JT_KIMI_DELTA,
    JT_LIGHTNING
} jt_recurrent_kind;

typedef struct jt_recurrent {
    jt_recurrent_kind kind; /* which of these it is */
    union {
        jt_short_conv short_conv;
        jt_mamba mamba;
        jt_mamba2 mamba2;
        jt_delta_net delta_net;
        jt_kimi_delta kimi_delta;
        jt_lightning lightning;
    };
} jt_recurrent;

/* A tensor of a layer: its name after "blk.N.", its place in jt_recurrent. */
typedef struct jt_recurrent_part {
    const char *name;
    size_t offset;
} jt_recurrent_part;

/* Those of a kind of layer, in the order of the forward pass. */
const jt_recurrent_part *jt_recurrent_parts(jt_recurrent_kind kind, size_t *count);

/* Floats that the layer remembers. */
size_t jt_recurrent_state(const jt_recurrent *layer);

/* What the layer makes of x [tokens, d]; as jt_short_conv_forward. */
jt_tensor jt_recurrent_forward(jt_context *ctx, const jt_recurrent *layer, jt_input *x,
                               float *state, const jt_places *places);

#endif
