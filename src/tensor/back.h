/* The other half of the operations: what each puts on the tape. Called by the operation
 * itself at its end; without a tape they do nothing. */
#ifndef JT_BACK_H
#define JT_BACK_H

#include "tensor/ops.h"

/* The products themselves, too: for many rows at once there is a faster way than that
 * of jt_products, with sums in another order. Weights that are not F32 take that of
 * jt_products, jt_products_run; they have no gradient, but their inputs do. */
void jt_products_train(jt_context *ctx, const jt_product *products, size_t count);
void jt_products_run(jt_context *ctx, const jt_product *products, size_t count);
enum { JT_DECODED_VALUES = 4 << 20 }; /* at a time */
/* jt_gemms, the second factor of gemm i being the weight of product from[i], which is
 * decoded if it is not F32. */
void jt_gemms_decoded(jt_context *ctx, const jt_gemm *list,
                      const jt_product *const *from, size_t count);
/* `copy` is x as it was, for the residual stream changes it in place; NULL when no
 * gradient is wanted. */
void jt_rms_norm_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                        const float *copy, const jt_tensor *w, size_t n, float eps);
void jt_times_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                     const float *factor);
void jt_add_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x);
void jt_bias_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *bias);
/* x.grad[ids[i]] += y.grad[i] */
void jt_embed_record(jt_context *ctx, const jt_tensor *y, const jt_tensor *x,
                     const int32_t *ids, size_t count);

#endif
