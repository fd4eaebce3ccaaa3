#include "nn/lstm.h"

#include <math.h>
#include <string.h>

#include "tensor/tape.h"

typedef struct lstm {
    jt_tensor pre[2], w[2], y;
    const jt_sequence *sequence;
    size_t count, n;
    float *gate[2]; /* [rows, 4 n] after their functions */
    float *cell[2]; /* [rows, n] */
    float *dpre[2]; /* [rows, 4 n] on the way back: gradients of the gates */
    float *room;    /* [2 count, 6 n] */
} lstm;

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* The row that direction `way` reads as its t-th, of a sequence. */
static size_t row_at(const jt_sequence *s, int way, size_t t)
{
    return s->start + (way ? s->count - 1 - t : t);
}

/* ---- forward ---- */

static void step(const lstm *l, int way, size_t row, const float *h, const float *c)
{
    size_t n = l->n;
    float *gate = l->gate[way] + row * 4 * n, *cell = l->cell[way] + row * n;
    float *y = jt_row(&l->y, row) + (size_t)way * n;
    const float *pre = jt_row(&l->pre[way], row);
    for (size_t r = 0; r < 4 * n; r++) {
        const float *w = jt_row(&l->w[way], r);
        float sum = pre[r];
        for (size_t k = 0; k < n && h; k++)
            sum += w[k] * h[k];
        gate[r] = r >= 2 * n && r < 3 * n ? tanhf(sum) : sigmoid(sum);
    }
    for (size_t k = 0; k < n; k++) {
        cell[k] = gate[k] * gate[2 * n + k] + (c ? gate[n + k] * c[k] : 0.0f);
        y[k] = gate[3 * n + k] * tanhf(cell[k]);
    }
}

/* One direction of one sequence. */
static void run(void *arg, size_t item)
{
    const lstm *l = arg;
    const jt_sequence *s = &l->sequence[item / 2];
    int way = (int)(item % 2);
    const float *h = NULL, *c = NULL;
    for (size_t t = 0; t < s->count; t++) {
        size_t row = row_at(s, way, t);
        step(l, way, row, h, c);
        h = jt_row(&l->y, row) + (size_t)way * l->n;
        c = l->cell[way] + row * l->n;
    }
}

/* ---- back ---- */

/* dh, dc [n] of this step become those of the one before. */
static void step_back(const lstm *l, int way, size_t row, const float *c, float *dh,
                      float *dc)
{
    size_t n = l->n;
    const float *gate = l->gate[way] + row * 4 * n, *cell = l->cell[way] + row * n;
    const float *dy = jt_grad_row(&l->y, row) + (size_t)way * n;
    float *d = l->dpre[way] + row * 4 * n;
    for (size_t k = 0; k < n; k++) {
        float i = gate[k], f = gate[n + k], g = gate[2 * n + k], o = gate[3 * n + k];
        float now = tanhf(cell[k]), dhk = dh[k] + dy[k];
        float dck = dc[k] + dhk * o * (1.0f - now * now);
        d[k] = dck * g * i * (1.0f - i);
        d[n + k] = c ? dck * c[k] * f * (1.0f - f) : 0.0f;
        d[2 * n + k] = dck * i * (1.0f - g * g);
        d[3 * n + k] = dhk * now * o * (1.0f - o);
        dc[k] = dck * f;
    }
    memset(dh, 0, n * sizeof *dh);
    for (size_t r = 0; r < 4 * n; r++) {
        const float *w = jt_row(&l->w[way], r);
        for (size_t k = 0; k < n; k++)
            dh[k] += d[r] * w[k];
    }
}

static void run_back(void *arg, size_t item)
{
    const lstm *l = arg;
    const jt_sequence *s = &l->sequence[item / 2];
    int way = (int)(item % 2);
    size_t n = l->n;
    float *dh = l->room + item * 2 * n, *dc = dh + n;
    memset(dh, 0, 2 * n * sizeof *dh);
    for (size_t t = s->count; t-- > 0;) {
        const float *c = t ? l->cell[way] + row_at(s, way, t - 1) * n : NULL;
        step_back(l, way, row_at(s, way, t), c, dh, dc);
    }
}

/* Row r of both W_hh: dW += dpre h of the step before, in the order of rows. */
static void weight_row(void *arg, size_t item)
{
    const lstm *l = arg;
    int way = (int)(item % 2);
    size_t r = item / 2, n = l->n;
    float *dw = jt_grad_row(&l->w[way], r);
    for (size_t i = 0; i < l->count; i++) {
        const jt_sequence *s = &l->sequence[i];
        for (size_t t = 1; t < s->count; t++) {
            const float *h = jt_row(&l->y, row_at(s, way, t - 1)) + (size_t)way * n;
            float d = l->dpre[way][row_at(s, way, t) * 4 * n + r];
            for (size_t k = 0; k < n; k++)
                dw[k] += d * h[k];
        }
    }
}

static void lstm_backward(jt_context *ctx, void *saved)
{
    lstm *l = saved;
    size_t rows = jt_rows(&l->y), n = l->n;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    for (int way = 0; way < 2; way++)
        l->dpre[way] = jt_scratch(ctx, rows * 4 * n, sizeof(float));
    l->room = jt_scratch(ctx, 4 * l->count * n, sizeof(float));
    if (!jt_failed(ctx)) {
        jt_pool_run(ctx->pool, run_back, l, 2 * l->count);
        for (int way = 0; way < 2; way++)
            ctx->kernels->add(l->pre[way].grad, l->dpre[way], rows * 4 * n);
        if (l->w[0].grad && l->w[1].grad)
            jt_pool_run(ctx->pool, weight_row, l, 2 * 4 * n);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

jt_tensor jt_lstm_forward(jt_context *ctx, const jt_tensor pre[2],
                          const jt_tensor w_hh[2], const jt_sequence *sequences,
                          size_t count)
{
    size_t rows = jt_rows(&pre[0]), n = jt_cols(&w_hh[0]);
    lstm l = {.pre = {pre[0], pre[1]},
              .w = {w_hh[0], w_hh[1]},
              .y = jt_new(ctx, rows, 2 * n),
              .sequence = sequences,
              .count = count,
              .n = n};
    for (int way = 0; way < 2; way++) {
        l.gate[way] = jt_scratch(ctx, rows * 4 * n, sizeof(float));
        l.cell[way] = jt_scratch(ctx, rows * n, sizeof(float));
    }
    if (jt_failed(ctx))
        return l.y;
    jt_pool_run(ctx->pool, run, &l, 2 * count);
    jt_tape_push(ctx, lstm_backward, &l, sizeof l);
    return l.y;
}
