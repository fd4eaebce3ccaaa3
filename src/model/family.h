/* Families as data: what a file of some architecture means where it does not say so
 * itself. A new open family is a row here and a golden test. Zeros are the usual: RMS
 * norms before attention and FFN, a gated FFN with SiLU, a softmax router. */
#ifndef JT_FAMILY_H
#define JT_FAMILY_H

#include "moe/router.h"
#include "nn/attention.h"
#include "nn/norm.h"

/* The norms of a layer. POST ones are over what a part adds to the residual stream. */
typedef enum jt_norm_place {
    JT_BEFORE_ATTENTION,
    JT_AFTER_ATTENTION,
    JT_BEFORE_FFN,
    JT_AFTER_FFN,
    JT_BEFORE_EXPERTS, /* this one and the three that follow: of experts that stand
                          beside an FFN (jt_beside) */
    JT_BEFORE_ROUTER,
    JT_AFTER_DENSE,
    JT_AFTER_EXPERTS,
    JT_AFTER_INPUT, /* of what the embeddings of a layer give (layer_input.h) */
    JT_NORM_PLACES
} jt_norm_place;

/* What a file calls them, without "blk.N." and ".weight"; NULL: there is none. */
typedef const char *jt_norm_names[JT_NORM_PLACES];

/* What stands beside the experts of a mixture layer, when it has a dense FFN, too. */
typedef enum jt_beside {
    JT_BESIDE_NOTHING,
    JT_BESIDE_SHARED, /* it is a shared expert; the sum is divided by sqrt(2) (Grok-2)
                       */
    JT_BESIDE_NORMED, /* it is one half of the FFN, experts the other: each has norms
                         before and after, and the router a norm of its own, whose
                         result is divided by the root of the width (Gemma 4) */
    JT_BESIDE_EXPERTS /* it is the FFN of the layer; the experts read what attention
                         read, through a norm of their own (Arctic) */
} jt_beside;

/* Which layers see a window only, and what else is different there. */
typedef struct jt_windows {
    int usual;           /* tokens, where the file does not say */
    int full_every;      /* of so many layers the last sees everything; 0: none does */
    bool chunked;        /* as in jt_attention */
    bool full_unrotated; /* layers that see everything are not rotated */
    float rope_base; /* of the rotation in windows, which is then not scaled; 0: as in
                        the other layers, unless the file has a key for it */
    bool unscaled;   /* the rotation in windows is not scaled, with either base */
} jt_windows;

/* What its models have. */
typedef enum jt_family_kind { JT_MIXTURES, JT_DENSE, JT_EITHER } jt_family_kind;

typedef struct jt_family {
    const char *arch;   /* general.architecture */
    const char *models; /* what else it is called: model types of Hugging Face, with
                           blanks between; NULL: the same */
    jt_family_kind kind;
    const char *upcycled; /* family of its sparse upcycling; NULL for none */

    /* Attention. */
    bool rope_neox;     /* rotation pairs halves; otherwise neighbours */
    bool yarn_exact;    /* YaRN's ramp begins and ends between pairs (gpt-oss) */
    bool yarn_scores;   /* the log multiplier of YaRN is of the scores (DeepSeek) */
    int rope_off_every; /* of so many layers the last is not rotated; 0: none */
    bool rope_switch;   /* rope.scaling.finetuned says whether any is (Granite 4) */
    jt_qk_norm qk_norm;
    bool qk_norm_optional; /* where the file has them */
    bool qk_norm_late;     /* after the rotation */
    bool qk_norm_plain;    /* without weights */
    bool qk_norm_rotated;  /* only in layers that are rotated */
    int qk_norm_not;       /* models of so many experts have none */
    bool v_norm;           /* values are normed; layers without attn_v take what keys
                              are made from */
    bool attention_gated;
    bool latent;               /* multi-head latent attention */
    float softcap;             /* of the scores, unless the file has a key for it */
    float attention_scale;     /* of the dot products, unless the file has a key for it;
                                  0: 1 / sqrt(k_dim) */
    int wide_scale_layers;     /* in a model of so many layers scores are divided by the
                                  square root of width / heads (Gemma 27B) */
    const jt_windows *windows; /* NULL: all layers see everything */
    jt_temperature temperature;
    bool temperature_unrotated; /* only in layers that are not rotated */

    /* The layer. */
    const jt_norm_names *norms;    /* NULL: attn_norm and ffn_norm, before the parts */
    const jt_norm_names *norms_or; /* other names that files have, too; or NULL */
    const char *norm_last;         /* before the output; NULL: output_norm */
    jt_norm_kind norm;
    bool norm_plain;     /* norms have no weights */
    bool parallel;       /* attention and FFN read the same hidden states, and are added
                            together */
    bool carries_normed; /* the residual stream goes on with what a part read, times
                            residual_scale, which other families take for the part
                            (MiniMax-Text-01) */
    bool untrained;      /* a part of it has no gradients */
    bool recurrent;      /* some layers carry a state, and are known by their tensors
                            (weights_recurrent.c) */
    bool abreast; /* those have attention, too: both read the same hidden states, and
                     are added together (Falcon-H1) */
    bool layer_inputs; /* of some models layers have embeddings of their own, and the
                          last layers no keys and values (Gemma 4) */
    bool single; /* a layer is a token mixer or an FFN, whichever it has tensors of,
                    and has one norm */
    jt_activation activation;
    bool ffn_fused; /* dense: ffn_up holds gate and up, one after the other */
    bool ffn_plain; /* no gate */
    jt_beside beside;

    /* Multipliers, unless the file has keys for them; 0: none. */
    float embedding_scale;
    bool embedding_root; /* the square root of the width */
    float logit_scale;
    bool logits_divided; /* by the logit scale */

    /* The router's form, unless the file has keys for it. */
    const char *select; /* NULL: topk, or group_limited when there are groups */
    jt_gating gating;
    bool gate_after;
    bool renormalise;
    float sum_eps;
    bool weigh_input;
    bool group_max; /* a group is as good as its best expert where the gate is a
                       softmax (DeepSeek-V2); otherwise as its two best */
} jt_family;

/* The i-th row; NULL past the last. */
const jt_family *jt_family_at(size_t i);

/* The names of its norms, the usual ones where it says nothing. */
const jt_norm_names *jt_family_norms(const jt_family *family);

/* The name of the norm before the output. */
const char *jt_family_last_norm(const jt_family *family);

/* NULL for an unknown architecture. */
const jt_family *jt_family_find(const char *arch, size_t len);

/* Whether all its parts have gradients. */
bool jt_family_trains(const jt_family *family);

/* Whether models of the family can be started afresh (model/blueprint.h): those whose
 * layers are of the usual form. */
bool jt_family_plain(const jt_family *family);

#endif
