/* Mixes: which type each kind of tensor gets. docs/quantize.md explains the table. */
#ifndef JT_SHRINK_MIX_H
#define JT_SHRINK_MIX_H

#include "junto/shrink.h"

/* What a matrix does. */
typedef enum jt_role {
    JT_ROLE_PLAIN, /* no matrix to quantise: norms, biases, routers, .. */
    JT_ROLE_EMBEDDING,
    JT_ROLE_OUTPUT,
    JT_ROLE_VALUE,     /* attention: v, small where heads share it */
    JT_ROLE_ATTENTION, /* the rest of it */
    JT_ROLE_DOWN,      /* of the FFN of dense layers or of shared experts */
    JT_ROLE_FFN,       /* gate and up of those */
    JT_ROLE_EXPERT_DOWN,
    JT_ROLE_EXPERT, /* routed */
    JT_ROLE_OTHER
} jt_role;

typedef struct jt_mix {
    const char *name, *summary;
    int file_type; /* general.file_type: enum llama_ftype of llama.cpp */
    jt_dtype bulk; /* of routed experts, and of all layers without experts */
    jt_dtype more; /* of down in layers that matter more (jt_mix_choose), and of v */
    jt_dtype side; /* in mixtures: attention, shared experts, FFN of dense layers */
    jt_dtype embedding, output;
} jt_mix;

/* A mix by name, or made of a type; JT_E_ARG lists the mixes. */
jt_status jt_mix_find(jt_mix *out, const char *name, jt_err *err);

/* Where a tensor stands in its model. */
typedef struct jt_mix_place {
    int layer, n_layers; /* layer -1: none */
    bool mixture;        /* the model has routed experts */
    bool tied;           /* the embedding is the output, too */
} jt_mix_place;

jt_role jt_mix_role(const char *name, int n_dims);
jt_dtype jt_mix_choose(const jt_mix *mix, jt_role role, const jt_mix_place *place);

/* `dtype`, or, when rows of n values are no whole blocks of it, the nearest one of
 * blocks of 32, or F16. */
jt_dtype jt_mix_fit(jt_dtype dtype, uint64_t n);

#endif
