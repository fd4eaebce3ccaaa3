/* A linear recurrence over the tokens of a text, the heart of state space models and of
 * linear attention. Each head has a state [rows, n], zeros before the first token of a
 * document; of each token it takes a key k and a query q [n] and values v [rows]:
 *     h = exp(step rate) h                   forget
 *     h = h + step v k^T                     or, with beta, the delta rule:
 *     h = h + beta (v - h k) k^T
 *     y = h q                                [rows]
 * Heads may share keys and queries. Without steps all are 1, and the rates constants.
 *
 * The gradients go through the text in pieces, from the last to the first: the tape
 * keeps the state at the start of each, and its tokens run again from there. */
#ifndef JT_SCAN_H
#define JT_SCAN_H

#include "nn/places.h"
#include "tensor/ops.h"

enum { JT_SCAN_PIECE = 64 }; /* tokens */

typedef struct jt_scan {
    size_t heads, rows, n;
    size_t k_heads;  /* as many keys and queries a token; a divisor of heads */
    bool tiled;      /* head i reads key i % k_heads; otherwise neighbours share */
    jt_columns k, q; /* [tokens, k_heads * n] */
    jt_columns v;    /* [tokens, heads * rows] */
    jt_tensor step;  /* [tokens, heads], or empty */
    jt_tensor rate;  /* [heads] */
    jt_tensor beta;  /* [tokens, heads], or empty */
    bool by_value;   /* each row has a step, [tokens, heads * rows], each value of the
                        state a rate, [heads * rows, n] */
    bool by_key; /* with beta: each value of the key has a step, [tokens, heads * n] */
} jt_scan;

/* A chunk after those of `state` [heads, rows, n], which moves on: y [tokens, heads *
 * rows]. With a tape the chunk is all there is: start 0. */
jt_tensor jt_scan_forward(jt_context *ctx, const jt_scan *scan, const jt_places *places,
                          float *state);

/* y += d v: a factor d for each head of values, [heads]. */
void jt_scan_skip(jt_context *ctx, jt_tensor *y, const jt_tensor *d,
                  const jt_columns *v);

#endif
