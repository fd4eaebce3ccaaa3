/* How much scratch memory a pass takes. */
#ifndef JT_MODEL_SCRATCH_H
#define JT_MODEL_SCRATCH_H

#include "model/model.h"

/* Bytes that a pass without a tape over `tokens` tokens of a context of `capacity`
 * takes at most in the context's arena, with logits of 16 tokens at most, the store
 * giving the experts in waves, and `threads` threads. Not exact, never too small:
 * tests/store/scratch_test.c holds it against all families. */
size_t jt_scratch_bytes(const jt_model *model, size_t tokens, size_t capacity,
                        int threads);

#endif
