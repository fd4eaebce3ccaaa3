/* The inside of an attention pass, for its forward and its backward half. */
#ifndef JT_ATTENTION_PASS_H
#define JT_ATTENTION_PASS_H

#include "nn/attention.h"

/* What the loops of one pass share. Queries are regrouped to
 * [kv_heads, tokens, group, k_dim], so that a tile of attention (some tokens of the
 * heads that read the same keys) is contiguous; outputs come in the same order. */
typedef struct jt_attention_pass {
    const jt_kernels *kernels;
    const jt_attention *a;
    const jt_rope *rope;
    const jt_angles *angles;
    jt_kv_layer *kv;
    const int32_t *first; /* as in jt_attention_forward */
    size_t start, tokens, group;
    jt_tensor q, k, v;    /* [tokens, heads * dim], before the rotation */
    float *grouped;       /* [kv_heads, tokens, group, k_dim] */
    float *rotated;       /* [tokens, kv_heads, k_dim] keys */
    float *out;           /* [kv_heads, tokens, group, v_dim] */
    float *lse;           /* [kv_heads, tokens, group]; NULL without a tape */
    jt_tensor joined;     /* [tokens, heads * v_dim] */
    size_t tile, n_tiles; /* tokens per tile, tiles per kv head */
} jt_attention_pass;

/* Call `fn` with each part, of at most JT_ATTN_MAX_Q queries, of tile `i` of a head;
 * `row` is the place of its first query in [kv_heads, tokens, group]. */
typedef void jt_attention_tile_fn(void *user, const jt_attn *call, size_t kv_head,
                                  size_t row);
void jt_attention_each_tile(const jt_attention_pass *pass, size_t kv_head, size_t i,
                            jt_attention_tile_fn *fn, void *user);

/* Put the pass on the tape: after its outputs were joined. */
void jt_attention_record(jt_context *ctx, const jt_attention_pass *pass);

#endif
