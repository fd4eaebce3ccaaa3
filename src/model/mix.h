/* The first half of a layer: tokens learn of each other. One function calls the mixer
 * that the layer has. */
#ifndef JT_MIX_H
#define JT_MIX_H

#include "model/cache.h"
#include "model/transformer.h"

/* Usual and local rotations of the positions of a span. */
typedef struct jt_mix_angles {
    jt_angles use[JT_ROPE_LONG];
} jt_mix_angles;

/* What the mixers of all layers of a pass share. */
typedef struct jt_mix {
    const jt_model *model;
    jt_mix_angles *angles; /* [n_spans] */
    jt_places *places;     /* [n_spans]; cache and angles are those of the layer */
    jt_lent
        *lent; /* [n_layers] with a tape, in models whose layers share keys; or NULL */
    jt_given *given; /* of the layer, to virtual tokens; NULL: nothing ever is */
} jt_mix;

/* Before the layers: angles of the chunk's positions, in scratch. */
jt_mix jt_mix_begin(jt_context *ctx, const jt_model *model, const jt_chunk *chunk);

/* What layer `index` makes of x [tokens, d], the normalised hidden states: [tokens, d].
 */
jt_tensor jt_mix_forward(jt_context *ctx, const jt_mix *mix, const jt_chunk *chunk,
                         int index, jt_input *x);

#endif
