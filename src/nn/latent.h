/* Multi-head latent attention (DeepSeek-V2, section 2.1): keys and values of all heads
 * are made from one compressed row per token, which is all that the cache holds.
 *
 *   c = norm(kv_a x)[rank], k' = rotated(kv_a x)[rope]          kept: [c, k']
 *   q = q_b norm(q_a x)  (or q_b x): for each head [q_n, q_r], q_r rotated
 *   score = (q_n . k_b c + q_r . k') * scale,  out = v_b (sum of weights * c)
 *
 * It is computed in two forms with the same result but for rounding. The expanded one
 * makes keys k_b c and values v_b c of every position and is then usual attention. The
 * absorbed one moves k_b to the queries, k_b^T q_n, and attends to the rows themselves:
 * one head of keys for all queries. A token costs more there, a position nothing. With
 * a tape it is the expanded one, whose keys and values are made again for the
 * gradients: what is kept of a token does not grow with the heads' keys. */
#ifndef JT_LATENT_H
#define JT_LATENT_H

#include "nn/attention.h"

typedef enum jt_latent_form {
    JT_LATENT_CHEAPER, /* the one with fewer operations for this chunk */
    JT_LATENT_ABSORBED,
    JT_LATENT_EXPANDED
} jt_latent_form;

typedef struct jt_latent {
    jt_tensor q_a, q_a_norm; /* [q_rank, d], [q_rank]; empty: q_b reads x itself */
    jt_tensor q_b;           /* [heads * (nope + rope), q_rank or d] */
    jt_tensor kv_a;          /* [rank + rope, d] */
    jt_tensor kv_a_norm;     /* [rank] */
    jt_tensor kv_b;          /* [heads * (nope + v_dim), rank]: for each head k_b, then
                                v_b; or empty, and these: */
    jt_tensor k_b;           /* [heads, rank, nope], turned */
    jt_tensor v_b;           /* [heads, v_dim, rank] */
    jt_tensor o;             /* [d, heads * v_dim] */
    jt_attention
        attention; /* its absorbed form: one key head, k_dim = rank + rope, v_dim
                      = rank; scale and temperature are those of both forms */
    int rank, nope, rope, v_dim; /* nope: values of a head that are not rotated */
    jt_latent_form form;
} jt_latent;

/* As jt_attention_forward; the cache holds keys only, rows [rank + rope]. */
jt_tensor jt_latent_forward(jt_context *ctx, const jt_latent *latent, jt_input *x,
                            const jt_places *places, size_t n);

#endif
