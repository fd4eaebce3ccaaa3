#include "learn/loss.h"

#include <math.h>

#include "tensor/tape.h"

typedef struct saved_loss {
    const jt_kernels *kernels;
    jt_tensor logits;
    const int32_t *targets;
    float scale; /* over the rows that count */
    double *nll; /* [rows] */
    float *room; /* [rows, vocab], probabilities */
} saved_loss;

static void loss_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    size_t n = jt_cols(&s->logits);
    const float *row = jt_row(&s->logits, t);
    s->nll[t] = 0.0;
    if (s->targets[t] < 0)
        return;
    float best = row[0];
    for (size_t i = 1; i < n; i++)
        best = row[i] > best ? row[i] : best;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += expf(row[i] - best);
    s->nll[t] = best + log(sum) - row[s->targets[t]];
}

/* softmax - one at the target */
static void back_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    size_t n = jt_cols(&s->logits);
    if (s->targets[t] < 0)
        return;
    float *p = s->room + t * n, *grad = jt_grad_row(&s->logits, t);
    s->kernels->softmax(p, jt_row(&s->logits, t), n);
    p[s->targets[t]] -= 1.0f;
    s->kernels->axpy(grad, s->scale, p, n);
}

static void loss_backward(jt_context *ctx, void *saved)
{
    saved_loss s = *(const saved_loss *)saved;
    size_t rows = jt_rows(&s.logits), n = jt_cols(&s.logits);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    s.room = jt_scratch(ctx, rows * n, sizeof *s.room);
    if (!jt_failed(ctx))
        jt_for_rows(ctx, rows, 8 * rows * n, back_row, &s);
    jt_arena_rewind(&ctx->scratch, mark);
}

double jt_cross_entropy(jt_context *ctx, const jt_tensor *logits,
                        const int32_t *targets, float scale, size_t *counted)
{
    size_t rows = jt_rows(logits), count = 0;
    saved_loss s = {
        ctx->kernels, *logits, targets, 0.0f, jt_scratch(ctx, rows, sizeof(double)),
        NULL};
    if (jt_failed(ctx))
        return NAN;
    jt_for_rows(ctx, rows, 8 * rows * jt_cols(logits), loss_row, &s);
    double sum = 0.0;
    for (size_t t = 0; t < rows; t++) {
        sum += s.nll[t];
        count += targets[t] >= 0;
    }
    if (counted)
        *counted = count;
    if (count == 0)
        return 0.0;
    s.scale = scale / (float)count;
    jt_tape_push(ctx, loss_backward, &s, sizeof s);
    return sum / (double)count;
}
