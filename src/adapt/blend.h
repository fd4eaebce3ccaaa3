/* Blends: routed mixtures of low-rank adapters.
 *
 * A blend changes what a weight W gives by a weighted sum over its adapters e,
 *
 *     y = W x + s sum_e w_e B_e (A_e x),
 *
 * where w is "which adapters, and how much of each, for this token": one object, a
 * jt_route (junto/moe.h) whose experts are the adapters. What makes it is a producer;
 * what uses it, a grouped product over a jt_plan, is the same for all. The methods:
 *
 *   name         who decides        where                      source
 *   mixlora      a gate per layer   inside FFNs: an expert is  Li et al. 2024
 *                                   the FFN with its adapters
 *   meteora      a gate per weight  any linear weight          Xu et al. 2024
 *   lora-mixer   a gate per weight  weights of attention       Li et al. 2025
 *   x-lora       a head on the hidden states of a pass         Buehler & Buehler 2024
 *                without adapters
 *   k-shot       a gate per weight      any linear weight          Yang et al. 2024
 *   phi-4        a rule on the text of the sequence            Abouelenin et al. 2025
 *
 * Gates and heads are weights of the blend and lie in its file. */
#ifndef JT_ADAPT_BLEND_H
#define JT_ADAPT_BLEND_H

#include "adapt/adapter.h"
#include "moe/mixture.h"

/* Who decides. */
typedef enum jt_producer {
    JT_BY_RULE,  /* once for a sequence */
    JT_BY_GATE,  /* each weight, by a gate on its own input */
    JT_BY_LAYER, /* each FFN, by a gate on its input */
    JT_BY_PASS   /* another pass without adapters, for all weights at once */
} jt_producer;

typedef struct jt_blend_method {
    const char *name, *what;
    jt_producer producer;
    int k;            /* adapters of a token, usually; 0: all */
    bool gate_after;  /* as in jt_router */
    bool renormalise; /* likewise */
    bool learns_all;  /* while it trains, a token gets all adapters */
    bool trains_all;  /* adapters of others are trained, too */
    bool fresh;       /* begins with adapters of its own, not with those of others */
} jt_blend_method;
const jt_blend_method *jt_blend_method_find(const char *name, size_t len);

/* The adapters of one weight [rows, cols], a matrix. */
typedef struct jt_adapter_bank {
    char *target;
    size_t rows, cols, rank;
    jt_tensor a, b; /* [n, rank, cols], [n, rows, rank] */
    jt_tensor gate; /* [n, cols], or empty */
} jt_adapter_bank;

enum { JT_BLEND_MOST = 256, JT_HEAD_LAYERS = 8, JT_BLEND_NAME = 64 };

struct jt_blend {
    const jt_blend_method *method;
    size_t n; /* adapters */
    int k;
    bool gate_after;             /* as the method has it, or as a file says */
    float scale;                 /* of all changes */
    float temperature;           /* logits are divided by it */
    char (*name)[JT_BLEND_NAME]; /* [n] of the adapters; "" for none */
    jt_adapter_bank *bank;
    size_t n_banks, room;
    /* JT_BY_PASS: layers with a ReLU between them; the last one has n rows for all
     * banks together, or for each. */
    jt_tensor head_weight[JT_HEAD_LAYERS], head_bias[JT_HEAD_LAYERS];
    int depth;
    /* JT_BY_RULE: the first adapter whose marker stands in the text works on all of it.
     * Others: while they learn, where its tokens begin in texts of several tasks. That
     * of adapter i are tokens marker[start[i]] .. [start[i + 1]]. */
    int32_t *marker;
    size_t *marker_start; /* [n + 1] */
};

/* k 0: that of the method. JT_E_ARG (a number of adapters or k out of range),
 * JT_E_MEMORY. */
jt_status jt_blend_new(jt_blend **out, const jt_blend_method *method, size_t n, int k,
                       jt_err *err);
void jt_blend_free(jt_blend *blend); /* NULL is fine */

/* Room for the adapters of a weight [rows, cols], all zeros, with a gate where the
 * method has them; *bank is valid until the next is added. JT_E_FORMAT (sizes out of
 * range, twice the same target), JT_E_MEMORY. */
jt_status jt_blend_add(jt_blend *blend, jt_adapter_bank **bank, jt_str target,
                       size_t rows, size_t cols, size_t rank, jt_err *err);
jt_adapter_bank *jt_blend_find(const jt_blend *blend, jt_str target);

/* Layers of a head from hidden states of `d` values over `width` inner ones. */
jt_status jt_blend_add_head(jt_blend *blend, size_t d, int depth, size_t width,
                            bool layerwise, jt_err *err);
/* Does it say something for each bank? */
bool jt_blend_layerwise(const jt_blend *blend);

/* Markers of adapter i (in order of i). JT_E_MEMORY. */
jt_status jt_blend_set_markers(jt_blend *blend, size_t i, const int32_t *ids,
                               size_t count, jt_err *err);
/* Whose marker do these tokens begin with? -1: nobody's. */
int jt_blend_marker_at(const jt_blend *blend, const int32_t *ids, size_t count);
/* Which adapter the rule gives to a text; -1: none. */
int jt_blend_rule(const jt_blend *blend, const int32_t *ids, size_t count);

/* Does it change nothing, whatever is decided? */
bool jt_blend_is_fresh(const jt_blend *blend);

/* All of its tensors, in order: "TARGET.mix_a", .. and "mix.head.0.weight", .. */
typedef struct jt_blend_part {
    char name[160];
    jt_tensor *tensor;
    bool decides; /* of a gate or a head */
} jt_blend_part;
size_t jt_blend_parts(const jt_blend *blend);
jt_blend_part jt_blend_part_at(const jt_blend *blend, size_t i);

/* Are all values finite, do the banks fit the model? Errors as jt_adapter_fits. */
jt_status jt_blend_check(const jt_blend *blend, jt_err *err);
jt_status jt_blend_fits(const jt_blend *blend, const jt_gguf *file, jt_err *err);

#endif
