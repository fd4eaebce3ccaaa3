/* Blends at work: attached to a context, for the passes of one model. */
#ifndef JT_ADAPT_BLENDED_H
#define JT_ADAPT_BLENDED_H

#include "adapt/blend.h"
#include "model/transformer.h"

/* The layer of a site that a term sees is the number of the bank, but for JT_BY_LAYER.
 */
typedef struct jt_blended {
    const jt_blend *blend;
    const jt_model *model;
    float scale;
    int32_t *bank;     /* by number of the weight: which bank, or -1 */
    jt_router *router; /* [banks] how each decides; one more for all together */
    float **up; /* [banks] B of all adapters, transposed: [n, rank, rows]; NULL while
                   it trains */
    struct jt_lora_ffn *ffn;    /* [layers] JT_BY_LAYER */
    const jt_mixture **instead; /* [layers] mixtures in place of dense FFNs, or NULL */
    const jt_route_term *term;  /* looks at what is decided; or NULL */
    int chosen;                 /* by the rule; -1: none */
    /* Of the pass at hand, where it was decided before: for all banks, or for each. */
    const jt_route *route;
    size_t n_routes;
    size_t n_tokens;
} jt_blended;

/* JT_E_UNSUPPORTED (not for this model), JT_E_MEMORY. With `trains` it stays attached
 * where it is fresh. */
jt_status jt_blended_new(jt_blended **out, const jt_blend *blend, const jt_model *model,
                         float scale, bool trains, jt_err *err);
void jt_blended_free(jt_blended *blended); /* NULL is fine */

/* Before a pass over `chunk`: what is decided for all of it. A first pass goes through
 * the layers with `first` as its cache (NULL: the chunk's own, in training). */
void jt_blended_begin(jt_blended *blended, jt_context *ctx, const jt_chunk *chunk,
                      const jt_store *store, jt_cache *first);

/* Does one of these products read a weight of a bank? */
size_t jt_blended_count(const jt_blended *blended, const jt_product *products,
                        size_t count);

/* One product whose result a blend changes. */
typedef struct jt_blend_use {
    const jt_blended *by;
    jt_product p;
    size_t bank;
    jt_plan plan;
    jt_input low; /* [rows of the plan, rank] */
} jt_blend_use;

/* Decide for the products, and put A x of the adapters that were chosen into `list`,
 * which has room; the number of uses. */
size_t jt_blended_before(const jt_blended *blended, jt_context *ctx,
                         const jt_product *products, size_t count, jt_blend_use *uses,
                         jt_product *list, size_t *all);
/* After they ran: add B (A x) of `count` uses to what came out. */
void jt_blended_after(jt_context *ctx, jt_blend_use *uses, size_t count);

/* The second half of that without a tape. */
void jt_blended_add_up(jt_context *ctx, const jt_blend_use *uses, size_t count);

/* The routes of a pass by its hidden states (JT_BY_PASS). */
void jt_blended_look_ahead(jt_blended *blended, jt_context *ctx, const jt_chunk *chunk,
                           const jt_store *store, jt_cache *first);

/* An expert of MixLoRA: the FFN of a layer with the adapters of its weights. */
typedef struct jt_lora_ffn {
    jt_mixture mixture;
    const jt_bank *base;
    const jt_adapter_bank *part[JT_PARTS]; /* NULL: none for this one */
    const jt_adapter_bank *gate;           /* the one that has the gate */
    float scale;
} jt_lora_ffn;
extern const jt_expert_kind jt_expert_lora_ffn;

#endif
