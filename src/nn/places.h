/* Where the tokens of a pass are, and what their contexts remember. */
#ifndef JT_PLACES_H
#define JT_PLACES_H

#include "nn/rope.h"

/* Keys and values of one layer: k [kv_heads, rows, k_dim], v likewise. The token at
 * place p lies in row p % rows; rows are all places, or a multiple of JT_ATTN_BLOCK
 * that has room for the window and a chunk; with keys in tiles always a multiple. */
typedef struct jt_kv_layer {
    void *k, *v;
    jt_dtype k_type, v_type; /* F32, F16, Q8_0 or Q4_0 */
    size_t rows;
    bool k_tiled; /* keys, which are F16 then, lie in tiles (jt_attn_key) */
} jt_kv_layer;

/* Keys and values of a pass that other layers read, too: with a tape they take them
 * from here, and their gradients go this way. */
typedef struct jt_lent {
    jt_tensor k, v; /* [tokens, heads * dim] */
} jt_lent;

/* Keys and values that tokens of a pass have in place of those that would be made of
 * them. */
typedef struct jt_given {
    jt_tensor k, v;     /* [rows, heads * dim], turned to their places */
    const int32_t *row; /* [tokens] which one a token has; negative: its own */
} jt_given;

/* Tokens of a pass that follow each other in one context, and where they are in it. */
typedef struct jt_places {
    size_t row, count; /* of the tokens of the pass: row .. row + count */
    size_t start;      /* place in the context of the first of them */
    jt_kv_layer kv;
    jt_lent *lent;            /* NULL: no other layer reads them, or there is no tape */
    const jt_given *given;    /* NULL: all tokens have their own */
    const jt_angles *angles;  /* [count] of the rotation; NULL: none */
    const int32_t *positions; /* [count] counted from the start of the document */
    const int32_t *first;     /* [count] place where a token's document begins (packed
                                 documents); NULL: 0 */
} jt_places;

/* The place where the document of token t begins. */
static inline size_t jt_places_first(const jt_places *places, size_t t)
{
    return places->first ? (size_t)places->first[t] : 0;
}

/* Whether token t is the first of its document. */
static inline bool jt_places_fresh(const jt_places *places, size_t t)
{
    return jt_places_first(places, t) == places->start + t;
}

/* A tape that keeps what it is given asks for n = 1 context, and all of it: otherwise
 * the computation fails. */
void jt_places_check(jt_context *ctx, const jt_places *places, size_t n);

#endif
