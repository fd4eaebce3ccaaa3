/* The inside of an attention pass, for its forward and its backward half and for latent
 * attention. */
#ifndef JT_ATTENTION_PASS_H
#define JT_ATTENTION_PASS_H

#include "nn/attention.h"

/* What the loops over the tokens of one context share. Queries are regrouped to
 * [kv_heads, tokens, group, k_dim], so that a tile of attention (some tokens of the
 * heads that read the same keys) is contiguous; outputs come in the same order. */
typedef struct jt_attention_pass {
    const jt_kernels *kernels;
    const jt_attention *a;
    jt_places at;
    size_t tokens, group;        /* at.count; queries of a key head */
    size_t q_stride, out_stride; /* floats from a row of grouped (out) to the next */
    size_t v_stride;   /* values from one row of the cache's values to the next */
    jt_tensor q, k, v; /* [tokens, heads * dim] */
    jt_tensor gate;    /* [tokens, heads * v_dim]; empty unless gated */
    float *grouped;    /* [kv_heads, tokens, group, k_dim] */
    float *out;        /* [kv_heads, tokens, group, v_dim] */
    float *lse;        /* [kv_heads, tokens, group]; NULL without a tape */
    jt_tensor joined;  /* [tokens, heads * v_dim] */
    char *scratch;     /* of the kernel, scratch_bytes for each thread */
    size_t scratch_bytes;
    size_t tile, n_tiles; /* queries per tile (whole tokens, or a part of one), tiles
                             per kv head */
} jt_attention_pass;

/* A pass with memory for queries and outputs. */
jt_attention_pass jt_attention_begin(jt_context *ctx, const jt_attention *attention,
                                     const jt_places *places);

/* Softmax and sums of the grouped queries of n passes with what is in their caches:
 * fills out, lse. */
void jt_attention_attend(jt_context *ctx, const jt_attention_pass *pass, size_t n);

/* Multiply the queries of the tokens at `at` by the factors of their positions, in
 * place. */
void jt_attention_sharpen(jt_context *ctx, const jt_attention *attention, jt_tensor *q,
                          const jt_places *at);

/* Put the n values of row `row` into keys or values of the cache. */
void jt_attention_keep(const jt_kernels *kernels, void *kv, jt_dtype type, size_t row,
                       const float *x, size_t n);

/* Call `fn` with tile `i` of a head; `row` is the place of its first query in
 * [kv_heads, tokens, group]. */
typedef void jt_attention_tile_fn(const jt_attention_pass *pass, const jt_attn *call,
                                  void *user, size_t kv_head, size_t row);
void jt_attention_tile(const jt_attention_pass *pass, size_t kv_head, size_t i,
                       jt_attention_tile_fn *fn, void *user);

/* A tape asks for F32 keys and values of one whole context: otherwise the computation
 * fails. */
void jt_attention_check(jt_context *ctx, const jt_places *places, size_t n);

/* Put the passes on the tape, of which there may be one: after outputs were joined. */
void jt_attention_record(jt_context *ctx, const jt_attention_pass *pass, size_t n);

#endif
