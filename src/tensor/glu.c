/* The inside of an FFN, forward and back. */
#include "tensor/ops.h"
#include "tensor/tape.h"

/* Gate and up are tensors of their own, or halves of each row of one. */
typedef struct glu_rows {
    const jt_kernels *kernels;
    jt_activation f;
    jt_tensor y;
    const float *gate, *up; /* up NULL: none */
    float *gate_grad, *up_grad;
    size_t ld; /* floats from row to row of gate and up */
} glu_rows;

static void glu_row(void *arg, size_t i)
{
    const glu_rows *a = arg;
    a->kernels->glu(a->f, jt_row(&a->y, i), a->gate + i * a->ld,
                    a->up ? a->up + i * a->ld : NULL, jt_cols(&a->y));
}

static void glu_back_row(void *arg, size_t i)
{
    const glu_rows *a = arg;
    size_t at = i * a->ld;
    a->kernels->glu_back(a->f, a->gate_grad + at, a->up ? a->up_grad + at : NULL,
                         jt_grad_row(&a->y, i), a->gate + at, a->up ? a->up + at : NULL,
                         jt_cols(&a->y));
}

static void glu_backward(jt_context *ctx, void *saved)
{
    const glu_rows *a = saved;
    size_t rows = jt_rows(&a->y);
    jt_for_rows(ctx, rows, 8 * rows * jt_cols(&a->y), glu_back_row, saved);
}

static jt_tensor run(jt_context *ctx, glu_rows *a)
{
    if (jt_failed(ctx))
        return a->y;
    size_t rows = jt_rows(&a->y);
    /* an exponential costs as much as several additions */
    jt_for_rows(ctx, rows, 4 * rows * jt_cols(&a->y), glu_row, a);
    jt_tape_push(ctx, glu_backward, a, sizeof *a);
    return a->y;
}

jt_tensor jt_glu(jt_context *ctx, jt_activation f, const jt_tensor *gate,
                 const jt_tensor *up)
{
    size_t rows = jt_rows(gate), n = jt_cols(gate);
    bool two = jt_has(up);
    jt_tensor y = *gate;
    if (ctx->tape)
        y.data = jt_scratch(ctx, rows * n, sizeof(float));
    glu_rows a = {
        ctx->kernels,          f, y, gate->data, two ? up->data : NULL, gate->grad,
        two ? up->grad : NULL, n};
    return run(ctx, &a);
}

jt_tensor jt_glu_halves(jt_context *ctx, jt_activation f, const jt_tensor *both)
{
    size_t n = jt_cols(both) / 2;
    const float *gate = both->data;
    glu_rows a = {ctx->kernels, f,          jt_new_fresh(ctx, jt_rows(both), n), gate,
                  gate + n,     both->grad, both->grad ? both->grad + n : NULL,  2 * n};
    return run(ctx, &a);
}
