#include "tensor/loss.h"

#include <math.h>

#include "tensor/tape.h"

typedef struct saved_loss {
    const jt_kernels *kernels;
    jt_tensor logits;
    const int32_t *targets;
    float scale; /* over the rows that count */
    double *nll; /* [rows] */
    float *room; /* [threads, vocab], probabilities of a row */
} saved_loss;

/* The probabilities of a row, in this thread's room. They are computed once for the
 * loss and once more for its gradient: that costs less than to keep them all. */
static float *probabilities(const saved_loss *s, size_t t)
{
    size_t n = jt_cols(&s->logits);
    float *p = s->room + (size_t)jt_pool_self() * n;
    s->kernels->softmax(p, jt_row(&s->logits, t), n);
    return p;
}

/* log p[target], where p is too small for a float, by way of the likeliest token. */
static double log_of_small(const float *row, const float *p, size_t n, int32_t target)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return (double)row[target] - row[best] + log((double)p[best]);
}

static void loss_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    int32_t target = s->targets[t];
    s->nll[t] = 0.0;
    if (target < 0)
        return;
    const float *p = probabilities(s, t), *row = jt_row(&s->logits, t);
    s->nll[t] = p[target] < 1e-30f ? -log_of_small(row, p, jt_cols(&s->logits), target)
                                   : -log((double)p[target]);
}

/* softmax - one at the target */
static void back_row(void *arg, size_t t)
{
    const saved_loss *s = arg;
    if (s->targets[t] < 0)
        return;
    float *p = probabilities(s, t);
    p[s->targets[t]] -= 1.0f;
    s->kernels->axpy(jt_grad_row(&s->logits, t), s->scale, p, jt_cols(&s->logits));
}

static void loss_backward(jt_context *ctx, void *saved)
{
    const saved_loss *s = saved;
    size_t rows = jt_rows(&s->logits);
    jt_for_rows(ctx, rows, 8 * rows * jt_cols(&s->logits), back_row, saved);
}

double jt_cross_entropy(jt_context *ctx, const jt_tensor *logits,
                        const int32_t *targets, float scale, size_t *counted)
{
    size_t rows = jt_rows(logits), n = jt_cols(logits), count = 0;
    size_t threads = (size_t)jt_pool_threads(ctx->pool);
    saved_loss s = {
        .kernels = ctx->kernels,
        .logits = *logits,
        .targets = targets,
        .nll = jt_scratch(ctx, rows, sizeof(double)),
        .room = jt_scratch(ctx, threads, n * sizeof(float)),
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
