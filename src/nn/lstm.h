/* A long short-term memory (Hochreiter & Schmidhuber 1997) that reads sequences both
 * ways; gates in PyTorch's order: input, forget, cell, output. In each direction, with
 * p = W_ih x + b made before,
 *
 *   i, f, o = sigmoid(p + W_hh h),  g = tanh(p + W_hh h)
 *   c = f c + i g,  h = o tanh(c)
 *
 * h and c begin as 0 in each sequence. */
#ifndef JT_NN_LSTM_H
#define JT_NN_LSTM_H

#include "tensor/context.h"

/* Rows of a sequence: `start` .. `start` + `count` - 1. */
typedef struct jt_sequence {
    size_t start, count;
} jt_sequence;

/* y [rows, 2 n]: h of both directions side by side. pre[0] (forward) and pre[1] [rows,
 * 4 n]; w_hh[0], w_hh[1] [4 n, n], F32. The sequences cover all rows, each once, and
 * live as long as a tape; with a tape gradients reach pre and w_hh. */
jt_tensor jt_lstm_forward(jt_context *ctx, const jt_tensor pre[2],
                          const jt_tensor w_hh[2], const jt_sequence *sequences,
                          size_t count);

#endif
