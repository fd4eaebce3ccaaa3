#include "learn/loss.h"

#include <math.h>

#include "tensor/tape.h"

typedef struct saved_loss {
    const jt_kernels *kernels;
    jt_tensor logits;
    const int32_t *targets;
    float scale; /* over the rows that count */
    double *nll; /* [rows] */
    float *p;    /* probabilities: [rows, vocab] with a tape, else [threads, vocab] */
    bool keeps;  /* the first of them */
} saved_loss;

/* log p[target], where p is too small for a float, by way of the likeliest token. */
static double log_of_small(const float *row, const float *p, size_t n, int32_t target)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return (double)row[target] - row[best] + log(p[best]);
}

static void loss_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    size_t n = jt_cols(&s->logits);
    const float *row = jt_row(&s->logits, t);
    float *p = s->p + (s->keeps ? t : (size_t)jt_pool_self()) * n;
    s->nll[t] = 0.0;
    if (s->targets[t] < 0)
        return;
    s->kernels->softmax(p, row, n);
    float chance = p[s->targets[t]];
    s->nll[t] = chance < 1e-30f ? -log_of_small(row, p, n, s->targets[t])
                                : -log((double)chance);
}

/* softmax - one at the target */
static void back_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    size_t n = jt_cols(&s->logits);
    float *grad = jt_grad_row(&s->logits, t);
    if (s->targets[t] < 0)
        return;
    s->kernels->axpy(grad, s->scale, s->p + t * n, n);
    grad[s->targets[t]] -= s->scale;
}

static void loss_backward(jt_context *ctx, void *saved)
{
    const saved_loss *s = saved;
    size_t rows = jt_rows(&s->logits);
    jt_for_rows(ctx, rows, rows * jt_cols(&s->logits), back_row, saved);
}

double jt_cross_entropy(jt_context *ctx, const jt_tensor *logits,
                        const int32_t *targets, float scale, size_t *counted)
{
    size_t rows = jt_rows(logits), n = jt_cols(logits), count = 0;
    size_t kept = ctx->tape ? rows : (size_t)jt_pool_threads(ctx->pool);
    saved_loss s = {
        .kernels = ctx->kernels,
        .logits = *logits,
        .targets = targets,
        .nll = jt_scratch(ctx, rows, sizeof(double)),
        .p = jt_scratch(ctx, kept, n * sizeof(float)),
        .keeps = ctx->tape != NULL,
    };
    if (jt_failed(ctx))
        return NAN;
    jt_for_rows(ctx, rows, 8 * rows * n, loss_row, &s);
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
