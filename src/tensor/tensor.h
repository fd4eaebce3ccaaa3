/* Tensors: a view of values somewhere, in PyTorch's order (last index contiguous).
 *
 * A tensor owns nothing. Weights point into the mapped file, activations (always F32)
 * into the scratch arena of the context that made them. */
#ifndef JT_TENSOR_H
#define JT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/dtype.h"
#include "junto/gguf.h"

typedef struct jt_tensor {
    void *data; /* NULL: no such tensor; weights are never written through it */
    jt_dtype dtype;
    int n_dims;
    size_t shape[JT_MAX_DIMS];
    float *grad;     /* of the same shape; NULL: not wanted */
    bool grad_fresh; /* it holds nothing yet: the one operation that reads the tensor
                        sets it */
} jt_tensor;

static inline bool jt_has(const jt_tensor *t)
{
    return t->data != NULL;
}

/* Length of a row (last index), and number of rows (all others together). */
static inline size_t jt_cols(const jt_tensor *t)
{
    return t->n_dims ? t->shape[t->n_dims - 1] : 1;
}

static inline size_t jt_rows(const jt_tensor *t)
{
    size_t rows = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        rows *= t->shape[i];
    return rows;
}

/* Row `i` of an F32 tensor. */
static inline float *jt_row(const jt_tensor *t, size_t i)
{
    return (float *)t->data + i * jt_cols(t);
}

/* Row `i` of its gradient; NULL where there is none. */
static inline float *jt_grad_row(const jt_tensor *t, size_t i)
{
    return t->grad ? t->grad + i * jt_cols(t) : NULL;
}

/* Sub-tensor `i` of the first dimension: expert i of [experts, out, in]. */
static inline jt_tensor jt_slice(const jt_tensor *t, size_t i)
{
    jt_tensor part = {.dtype = t->dtype, .n_dims = t->n_dims - 1};
    for (int d = 0; d < part.n_dims; d++)
        part.shape[d] = t->shape[d + 1];
    size_t bytes = jt_rows(&part) * jt_dtype_row_bytes(t->dtype, jt_cols(&part));
    part.data = (char *)t->data + i * bytes;
    if (t->grad)
        part.grad = t->grad + i * jt_rows(&part) * jt_cols(&part);
    part.grad_fresh = t->grad_fresh;
    return part;
}

#endif
