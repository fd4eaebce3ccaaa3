/* Which values of the weights a SHiRA changes (Bhardwaj et al. 2024, "Sparse high rank
 * adapters", section 3.1), the same number of each matrix:
 *
 *   magnitude  those where |W| is largest (SHiRA-WM)
 *   random     any (SHiRA-Rand)
 *   struct     the diagonal and, evenly spread, as many rows as are left (SHiRA-Struct)
 *   gradient   where the sum over batches of |dW| is largest (SHiRA-Grad)
 *   snip       where |W| times that is largest (SHiRA-SNIP)
 *
 * For the last two dW is found as the gradient of a SHiRA of all values, which changes
 * nothing: weights of any type will do. */
#ifndef JT_LEARN_SHIRA_MASK_H
#define JT_LEARN_SHIRA_MASK_H

#include "adapt/adapter.h"
#include "format/gguf_file.h"
#include "learn/train.h"

/* `per` places in each matrix of a slot whose weight is t, by magnitude, by place or at
 * random (masks by gradients begin by magnitude); values 0. JT_E_MEMORY. */
jt_status jt_shira_start(jt_adapter_slot *slot, const jt_gguf_tensor *t, size_t per,
                         const char *mask, uint64_t seed, uint64_t stream, jt_err *err);

/* With a mask by gradients: the places of the trainer's adapter anew, by the first
 * adapter.mask_batches batches of training. While it looks it takes 16 bytes for each
 * value of the weights. JT_E_MEMORY, errors of a pass. */
jt_status jt_shira_choose(jt_trainer *trainer, jt_err *err);

#endif
