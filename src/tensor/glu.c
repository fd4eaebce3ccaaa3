/* The inside of an FFN, forward and back. */
#include "tensor/ops.h"
#include "tensor/tape.h"

/* Gate and up are tensors of their own, or columns of some. */
typedef struct glu_rows {
    const jt_kernels *kernels;
    jt_activation f;
    jt_tensor y;
    jt_columns gate, up; /* up.n 0: none */
} glu_rows;

static void glu_row(void *arg, size_t i)
{
    const glu_rows *a = arg;
    a->kernels->glu(a->f, jt_row(&a->y, i), jt_columns_row(&a->gate, i),
                    a->up.n ? jt_columns_row(&a->up, i) : NULL, jt_cols(&a->y));
}

static void glu_back_row(void *arg, size_t i)
{
    const glu_rows *a = arg;
    bool two = a->up.n;
    a->kernels->glu_back(a->f, jt_columns_grad_row(&a->gate, i),
                         two ? jt_columns_grad_row(&a->up, i) : NULL,
                         jt_grad_row(&a->y, i), jt_columns_row(&a->gate, i),
                         two ? jt_columns_row(&a->up, i) : NULL, jt_cols(&a->y));
}

static void glu_backward(jt_context *ctx, void *saved)
{
    const glu_rows *a = saved;
    size_t rows = jt_rows(&a->y);
    jt_for_rows(ctx, rows, 8 * rows * jt_cols(&a->y), glu_back_row, saved);
}

static jt_tensor run(jt_context *ctx, jt_activation f, jt_tensor y, jt_columns gate,
                     jt_columns up)
{
    glu_rows a = {ctx->kernels, f, y, gate, up};
    if (jt_failed(ctx))
        return y;
    size_t rows = jt_rows(&y);
    /* an exponential costs as much as several additions */
    jt_for_rows(ctx, rows, 4 * rows * jt_cols(&y), glu_row, &a);
    jt_tape_push(ctx, glu_backward, &a, sizeof a);
    return y;
}

/* `x` for a result: with a tape only its gradient, and other values. */
static jt_tensor in_place_of(jt_context *ctx, const jt_tensor *x)
{
    jt_tensor y = *x;
    if (ctx->tape)
        y.data = jt_scratch(ctx, jt_rows(x) * jt_cols(x), sizeof(float));
    return y;
}

jt_tensor jt_glu(jt_context *ctx, jt_activation f, const jt_tensor *gate,
                 const jt_tensor *up)
{
    size_t n = jt_cols(gate);
    return run(ctx, f, in_place_of(ctx, gate), (jt_columns){*gate, 0, n},
               (jt_columns){*up, 0, jt_has(up) ? n : 0});
}

jt_tensor jt_glu_halves(jt_context *ctx, jt_activation f, const jt_tensor *both)
{
    size_t n = jt_cols(both) / 2;
    return run(ctx, f, jt_new_fresh(ctx, jt_rows(both), n), (jt_columns){*both, 0, n},
               (jt_columns){*both, n, n});
}

jt_tensor jt_glu_columns(jt_context *ctx, jt_activation f, const jt_columns *gate,
                         const jt_tensor *up)
{
    return run(ctx, f, in_place_of(ctx, up), *gate, (jt_columns){*up, 0, jt_cols(up)});
}
