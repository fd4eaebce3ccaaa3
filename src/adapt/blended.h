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
    struct jt_bank_factors *factors; /* [banks]; NULL while it trains */
    char *factor_memory;
    size_t factor_bytes;
    struct jt_lora_ffn *ffn;    /* [layers] JT_BY_LAYER */
    const jt_mixture **instead; /* [layers] mixtures in place of dense FFNs, or NULL */
    const jt_route_term *term;  /* looks at what is decided; or NULL */
} jt_blended;

/* The parts of a bank, as decoding reads them. */
typedef struct jt_bank_factors {
    jt_factor a, b, gate; /* no gate: its data is NULL */
    jt_piece then;        /* the gates of the next list, or nothing */
} jt_bank_factors;

/* What is decided for a sequence before its passes. */
typedef struct jt_decided {
    int chosen; /* by the rule; -1: none */
    /* Of the pass at hand, where it was decided before: for all banks, or for each. */
    const jt_route *route;
    size_t n_routes;
    size_t n_tokens;
} jt_decided;

/* JT_E_UNSUPPORTED (not for this model), JT_E_MEMORY. With `trains` it stays attached
 * where it is fresh. */
jt_status jt_blended_new(jt_blended **out, const jt_blend *blend, const jt_model *model,
                         float scale, const jt_context *ctx, bool trains, jt_err *err);
void jt_blended_free(jt_blended *blended); /* NULL is fine */

/* Make the factors of its banks, by the rule of the context. JT_E_MEMORY. */
jt_status jt_blended_factors(jt_blended *blended, const jt_context *ctx, jt_err *err);

/* Before a pass over `chunk`, the tokens of one sequence: what is decided for all of
 * it. */
void jt_blended_begin(jt_blended *blended, jt_decided *decided, jt_context *ctx,
                      const jt_chunk *chunk);

/* Does it decide by a pass before each pass (JT_BY_PASS)? */
bool jt_blended_looks_ahead(const jt_blended *blended);
/* That pass, over sequences with caches of their own for it: the hidden states [count,
 * d] of its tokens, and what the blend decides by those of a sequence. */
jt_tensor jt_blended_first_pass(jt_context *ctx, const jt_model *model,
                                const jt_chunk *chunk, const jt_store *store);
void jt_blended_hear(const jt_blended *blended, jt_decided *decided, jt_context *ctx,
                     const jt_tensor *h);

/* The bank of the weight that a product reads, or -1. */
static inline int32_t jt_blended_bank(const jt_blended *blended, const jt_product *p)
{
    return blended->bank && p->w.weight && p->tokens ? blended->bank[p->w.weight] : -1;
}

/* Ask for what a pass looks at of a bank: read next, and long ago last. */
static inline void jt_blended_ask(const jt_blended *blended, int32_t bank)
{
    if (!blended->factors)
        return;
    const struct {
        const void *data;
        size_t bytes;
    } part[] = {{&blended->router[bank], sizeof(jt_router)},
                {&blended->blend->bank[bank], sizeof(jt_adapter_bank)},
                {&blended->factors[bank], sizeof(jt_bank_factors)}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t at = 0; at < part[i].bytes; at += 64)
            __builtin_prefetch((const char *)part[i].data + at);
}

/* One product whose result a blend changes: of tokens of one sequence. */
typedef struct jt_blend_use {
    const jt_blended *by;
    const jt_decided *decided;
    jt_product p;
    size_t bank;
    jt_plan plan;
    jt_input low; /* [rows of the plan, rank] */
} jt_blend_use;

/* Decide for the uses, and put A x of the adapters that were chosen into `list`, which
 * has room for blend->n products of each. */
void jt_blended_before(jt_context *ctx, jt_blend_use *uses, size_t count,
                       jt_product *list, size_t *all);
/* After they ran: add B (A x) of `count` uses to what came out. */
void jt_blended_after(jt_context *ctx, jt_blend_use *uses, size_t count);

/* The second half of that without a tape. */
void jt_blended_add_up(jt_context *ctx, const jt_blend_use *uses, size_t count);

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
