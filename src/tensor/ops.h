/* Eager operations on tensors. Results are fresh tensors in the context's scratch,
 * unless the name says that they change an argument. In a failed context they do
 * nothing and return empty tensors. */
#ifndef JT_OPS_H
#define JT_OPS_H

#include "tensor/context.h"

/* An activation that feeds matrix products. Each weight type wants its input in one of
 * a few packed forms; a form is made once, when first needed, and used by every weight
 * that reads this input. */
typedef struct jt_input {
    jt_tensor x; /* F32 [rows, n] */
    struct {
        const void *data;
        size_t row_bytes;
    } packed[JT_ACT_COUNT];
} jt_input;

jt_input jt_input_of(jt_tensor x);
/* Make the form that products with weights of type `w` want now, in the scratch of now,
 * instead of when the first of them comes. */
void jt_input_pack(jt_context *ctx, jt_input *in, jt_dtype w);

/* Rows of an input in another order, some of them several times or not at all: what the
 * tokens of a plan are to its experts. */
typedef struct jt_gathering {
    const int32_t *token; /* [rows] of the input */
    const int32_t *row;   /* [rows of the input, k]: who reads it, -1 for nobody; only
                             gradients look */
    size_t rows, k;
} jt_gathering;

/* One matrix product among several that run in one parallel region:
 *   y[t, r] = sum_i w[r, i] * x[row(first + t), i],  row(r) = r, or via->token[r]
 * With a tape, the products of a list have different weights, and those that read x
 * `via` the same gathering, or an x with a fresh gradient, read all of its rows
 * together, and any two of them the same rows or none in common. */
typedef struct jt_product {
    float *y;      /* [tokens] rows, ldy floats apart */
    float *y_grad; /* the same of its gradient; NULL without a tape */
    size_t ldy;
    jt_tensor w; /* [rows, n] */
    jt_input *x;
    size_t first;
    const jt_gathering *via; /* or NULL; with a tape, it lives as long */
    size_t tokens;
    const int32_t *token; /* [tokens + first] which token of the pass a row (counted as
                             in x, or in via) belongs to; NULL: row r is token r */
    size_t thin; /* bytes of w, where the kernels for thin products read it (kernels.h);
                    0: those for any. Not with a tape */
    jt_piece then; /* what is read after a list with thin ones; or nothing */
} jt_product;

/* The product that fills rows first .. first + tokens of `y` from the same rows of x.
 */
jt_product jt_product_rows(const jt_tensor *y, const jt_tensor *w, jt_input *x,
                           size_t first, size_t tokens);

/* Run `count` products over the pool, the work split by what each costs, with no
 * barrier between them. A value does not depend on what else is in the list. */
void jt_products(jt_context *ctx, jt_product *products, size_t count);

/* x w^T + bias, [rows of x, rows of w]; an empty bias is none. */
jt_tensor jt_linear(jt_context *ctx, jt_input *x, const jt_tensor *w,
                    const jt_tensor *bias);

/* x / rms(x) * w over rows of length jt_cols(w) (so a row of x may hold several heads,
 * each normalised by itself, and w as many rows, one for each); an empty w is ones, and
 * the rows are those of x. Where w has a gradient, so has x. */
jt_tensor jt_rms_norm(jt_context *ctx, const jt_tensor *x, const jt_tensor *w,
                      float eps);

/* x * factor, value by value. The factors, of the shape of x and alive as long as the
 * tape, are constants: gradients reach x alone. */
jt_tensor jt_times(jt_context *ctx, const jt_tensor *x, const float *factor);

/* y += x (whose gradient may be fresh); y += bias on every row (nothing for an empty
 * bias). The old value of y is
 * gone; what read it before has kept what it needs. */
void jt_add_to(jt_context *ctx, jt_tensor *y, const jt_tensor *x);
void jt_add_bias(jt_context *ctx, jt_tensor *y, const jt_tensor *bias);

/* y = x, which keeps its own place. The old value of y is gone, as above. */
void jt_assign(jt_context *ctx, jt_tensor *y, const jt_tensor *x);

/* Row i of y becomes row from[i] of x, where that is not negative; the numbers live as
 * long as the tape. What these rows were is gone, as above. */
void jt_put_rows(jt_context *ctx, jt_tensor *y, const jt_tensor *x,
                 const int32_t *from);

/* x, to be kept while x itself changes. */
jt_tensor jt_copy(jt_context *ctx, const jt_tensor *x);

/* Of every `dim` values in the rows of x the `n` from `at` on:
 * [rows, cols / dim * n]. */
jt_tensor jt_take(jt_context *ctx, const jt_tensor *x, size_t dim, size_t at, size_t n);

/* x minus the mean of its row. */
jt_tensor jt_center(jt_context *ctx, const jt_tensor *x);

/* y *= factor; y = cap * tanh(y / cap), or y clamped to +-limit, nothing for a cap or
 * limit of 0. What read the old value before must have kept what it needs. */
void jt_scale(jt_context *ctx, jt_tensor *y, float factor);
void jt_softcap(jt_context *ctx, jt_tensor *y, float cap);
void jt_clamp(jt_context *ctx, jt_tensor *y, float limit);

/* f(gate) * up; f(gate) where up is empty. Of gradients that nothing else adds to. The
 * result takes the place of `gate`; with a tape only its gradient does. */
jt_tensor jt_glu(jt_context *ctx, jt_activation f, const jt_tensor *gate,
                 const jt_tensor *up);
/* The same for rows that hold gate and up side by side; the result is a tensor of its
 * own. */
jt_tensor jt_glu_halves(jt_context *ctx, jt_activation f, const jt_tensor *both);
/* The same for a gate that is columns of something; the result takes the place of `up`.
 */
jt_tensor jt_glu_columns(jt_context *ctx, jt_activation f, const jt_columns *gate,
                         const jt_tensor *up);

/* a * b, value by value. */
jt_tensor jt_multiply(jt_context *ctx, const jt_columns *a, const jt_columns *b);

/* y = log(1 + exp(y)); y = 1 / (1 + exp(-y)); y = max(y, 0). With a tape the new
 * values must stay. */
void jt_softplus(jt_context *ctx, jt_tensor *y);
void jt_sigmoid(jt_context *ctx, jt_tensor *y);
void jt_relu(jt_context *ctx, jt_tensor *y);

/* Rows `ids` of an embedding table, decoded to F32. */
jt_tensor jt_embed(jt_context *ctx, const jt_tensor *table, const int32_t *ids,
                   size_t count);

#endif
