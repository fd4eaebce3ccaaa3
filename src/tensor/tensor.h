/* Tensors: a view of values somewhere, in PyTorch's order (last index contiguous).
 *
 * A tensor owns nothing. Weights point into the mapped file, activations (always F32)
 * into the scratch arena of the context that made them. */
#ifndef JT_TENSOR_H
#define JT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    /* Weights that do not lie in one piece: where each index of the first dimension
     * is; `data` is NULL then. They are read through jt_slice and jt_weight_row. */
    const void *const *pieces;
    const jt_dtype *types; /* of each piece, where they differ; NULL: all are `dtype` */
    /* Which weight of its model this is or is cut from (from 1 on; 0: none), and which
     * of that weight's rows the first one here is: the same wherever a store brings it.
     */
    uint32_t weight;
    size_t first_row;
    /* What every value of a weight is times: one factor for a matrix, one for each of a
     * stack (three dimensions); NULL: 1. Products apply it (NVFP4 has it). */
    const float *factor;
    /* Of a weight that is lent: whose data says where it lies when gradients are made,
     * which may be elsewhere by then (moe/bank.c); NULL: it stays where it is. */
    const struct jt_tensor *lent;
} jt_tensor;

static inline bool jt_has(const jt_tensor *t)
{
    return t->data != NULL || t->pieces != NULL;
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
    jt_tensor part = {.dtype = t->types ? t->types[i] : t->dtype,
                      .n_dims = t->n_dims - 1};
    for (int d = 0; d < part.n_dims; d++)
        part.shape[d] = t->shape[d + 1];
    size_t bytes = jt_rows(&part) * jt_dtype_row_bytes(part.dtype, jt_cols(&part));
    part.data =
        t->pieces ? (void *)(uintptr_t)t->pieces[i] : (char *)t->data + i * bytes;
    if (t->grad)
        part.grad = t->grad + i * jt_rows(&part) * jt_cols(&part);
    part.grad_fresh = t->grad_fresh;
    part.weight = t->weight;
    part.first_row = t->first_row + i * jt_rows(&part);
    part.factor = t->factor ? t->factor + (t->n_dims == 3 ? i : 0) : NULL;
    return part;
}

/* Rows first .. first + count of a matrix; of a vector (F32), values. */
static inline jt_tensor jt_some_rows(const jt_tensor *t, size_t first, size_t count)
{
    size_t cols = t->n_dims == 1 ? 1 : jt_cols(t);
    jt_tensor part = *t;
    part.shape[0] = count;
    part.data = (char *)t->data + first * jt_dtype_row_bytes(t->dtype, cols);
    part.grad = t->grad ? t->grad + first * cols : NULL;
    part.first_row += first;
    return part;
}

/* Columns at .. at + n of an F32 tensor. */
typedef struct jt_columns {
    jt_tensor of;
    size_t at, n;
} jt_columns;

/* Row `i` of them, and of their gradient; NULL where there is none. */
static inline float *jt_columns_row(const jt_columns *c, size_t i)
{
    return jt_row(&c->of, i) + c->at;
}

static inline float *jt_columns_grad_row(const jt_columns *c, size_t i)
{
    return c->of.grad ? jt_grad_row(&c->of, i) + c->at : NULL;
}

/* Row `i` of a weight of any type, counted over all dimensions but the last. */
static inline const void *jt_weight_row(const jt_tensor *t, size_t i)
{
    if (!t->pieces)
        return (const char *)t->data + i * jt_dtype_row_bytes(t->dtype, jt_cols(t));
    size_t rows = jt_rows(t) / t->shape[0]; /* of a piece */
    jt_dtype dtype = t->types ? t->types[i / rows] : t->dtype;
    return (const char *)t->pieces[i / rows] +
           i % rows * jt_dtype_row_bytes(dtype, jt_cols(t));
}

#endif
